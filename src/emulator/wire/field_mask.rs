//! The query parameter `fields`: Google's partial responses, such as `items(metadata/name,status),metadata/continue`.
//!
//! Commas separate paths, `/` or `.` goes one level down, parentheses hold several paths below one, and `*` matches
//! every field. A path applies to each item of a list. Google refuses a path that matches no field, and so does the
//! emulator, so that tests find misspelt names.

use serde_json::{Map, Value};

use super::scanner::Scanner;
use crate::schema::{FieldType, MessageSchema};

/// A parsed mask: the fields to keep, each with the mask of its value. An empty mask keeps everything.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct FieldMask(Vec<(String, FieldMask)>);

impl FieldMask {
    /// Parses a mask. The error says what is wrong, in a phrase.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = FieldMaskParser { scanner: Scanner::new(text), depth: 0 };
        let mask = parser.paths()?;
        match parser.scanner.rest() {
            "" => Ok(mask),
            rest => Err(format!("unexpected '{rest}'")),
        }
    }

    /// The first path of the mask that matches no field of `message`.
    pub(crate) fn unknown(&self, message: &MessageSchema) -> Option<String> {
        self.0.iter().find_map(|(name, below)| {
            if name == "*" {
                return None;
            }
            match message.field(name) {
                None => Some(name.clone()),
                Some(kind) => below.unknown_in(kind).map(|path| format!("{name}/{path}")),
            }
        })
    }

    fn unknown_in(&self, kind: &FieldType) -> Option<String> {
        match kind {
            FieldType::Message(message) => self.unknown(message),
            FieldType::List(kind) => self.unknown_in(kind),
            FieldType::TextMap | FieldType::AnyMap => None,
            FieldType::Text | FieldType::Bool | FieldType::Int32 | FieldType::Int64 => {
                self.0.first().map(|(name, _)| name.clone())
            }
        }
    }

    /// Keeps the masked part of `value`. Drops messages that become empty, but keeps empty items of lists.
    pub(crate) fn apply(&self, value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.apply(item)).collect()),
            Value::Object(fields) => Value::Object(self.filter(fields)),
            other => other,
        }
    }

    fn filter(&self, fields: Map<String, Value>) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in fields {
            let exact = self.0.iter().find(|(wanted, _)| *wanted == name);
            let Some((_, below)) = exact.or_else(|| self.0.iter().find(|(wanted, _)| wanted == "*")) else { continue };
            let value = below.apply(value);
            if below.0.is_empty() || !matches!(&value, Value::Object(fields) if fields.is_empty()) {
                kept.insert(name, value);
            }
        }
        kept
    }

    /// Adds the first name of a path with the mask below it. `a/b,a/c` becomes `a(b,c)`, and `a,a/b` becomes `a`.
    fn insert(&mut self, name: String, below: FieldMask) {
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            None => self.0.push((name, below)),
            Some((_, present)) if present.0.is_empty() || below.0.is_empty() => present.0.clear(),
            Some((_, present)) => below.0.into_iter().for_each(|(name, below)| present.insert(name, below)),
        }
    }
}

/// Deepest nesting of a mask, more than any message of the API has. The parser is recursive, so it needs a limit.
const MAX_DEPTH: usize = 32;

struct FieldMaskParser<'a> {
    scanner: Scanner<'a>,
    depth: usize,
}

impl FieldMaskParser<'_> {
    fn paths(&mut self) -> Result<FieldMask, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the mask is nested too deeply".to_owned());
        }
        let mut mask = FieldMask::default();
        loop {
            let (name, below) = self.path()?;
            mask.insert(name, below);
            if !self.scanner.take(",") {
                self.depth -= 1;
                return Ok(mask);
            }
        }
    }

    fn path(&mut self) -> Result<(String, FieldMask), String> {
        let name = self.name()?;
        let below = if self.scanner.take("/") || self.scanner.take(".") {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err("the mask is nested too deeply".to_owned());
            }
            let (name, below) = self.path()?;
            self.depth -= 1;
            FieldMask(vec![(name, below)])
        } else if self.scanner.take("(") {
            let below = self.paths()?;
            if !self.scanner.take(")") {
                return Err("')' is missing".to_owned());
            }
            below
        } else {
            FieldMask::default()
        };
        Ok((name, below))
    }

    /// Takes the name of a field. Backticks quote the key of a mapping that has other characters.
    fn name(&mut self) -> Result<String, String> {
        if self.scanner.take("`") {
            return self.scanner.take_until('`').map(str::to_owned).ok_or_else(|| "a backtick is missing".to_owned());
        }
        match self.scanner.word(|character| character.is_ascii_alphanumeric() || "_-*".contains(character)) {
            "" => Err(format!("the name of a field is missing before '{}'", self.scanner.rest())),
            name => Ok(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::run_v1::LIST_EXECUTIONS_RESPONSE as EXECUTION_LIST;

    fn page() -> Value {
        json!({
            "kind": "ExecutionList",
            "metadata": {"continue": "token", "resourceVersion": "7"},
            "items": [
                {"metadata": {"name": "a-1", "labels": {"run.googleapis.com/job": "a", "b": "c"}}, "status": {"runningCount": 1}},
                {"metadata": {"name": "a-2"}, "spec": {}},
            ],
        })
    }

    fn masked(mask: &str) -> Value {
        let mask = FieldMask::parse(mask).unwrap();
        assert_eq!(mask.unknown(&EXECUTION_LIST), None);
        mask.apply(page())
    }

    #[test]
    fn paths_groups_and_wildcards_select_fields() {
        let names = json!({"items": [{"metadata": {"name": "a-1"}}, {"metadata": {"name": "a-2"}}]});
        assert_eq!(masked("items/metadata/name"), names);
        assert_eq!(masked("items.metadata.name"), names);
        assert_eq!(masked("items(metadata(name))"), names);
        assert_eq!(masked("items/*/name"), names);
        let more = json!({"items": [{"metadata": {"name": "a-1"}, "status": {"runningCount": 1}}, {"metadata": {"name": "a-2"}}],
                          "metadata": {"continue": "token"}});
        assert_eq!(masked("items(metadata/name,status),metadata/continue"), more);
        assert_eq!(masked("items/metadata/name, items/status, metadata/continue"), more);
        assert_eq!(masked("*"), page());
    }

    #[test]
    fn a_whole_field_wins_over_a_part_of_it() {
        assert_eq!(masked("metadata,metadata/continue"), json!({"metadata": page()["metadata"]}));
        assert_eq!(masked("metadata/continue,metadata"), json!({"metadata": page()["metadata"]}));
    }

    #[test]
    fn backticks_quote_keys_of_mappings() {
        let labels = json!({"items": [{"metadata": {"labels": {"run.googleapis.com/job": "a"}}}, {}]});
        assert_eq!(masked("items/metadata/labels/`run.googleapis.com/job`"), labels);
    }

    #[test]
    fn an_unknown_field_is_found() {
        let unknown = |mask: &str| FieldMask::parse(mask).unwrap().unknown(&EXECUTION_LIST);
        assert_eq!(unknown("items(metadata/nam)").as_deref(), Some("items/metadata/nam"));
        assert_eq!(unknown("kind/deeper").as_deref(), Some("kind/deeper"));
        assert_eq!(unknown("metadata/continue,item").as_deref(), Some("item"));
    }

    #[test]
    fn a_malformed_mask_is_an_error() {
        for mask in ["", "a(", "a(b", "a/", "a,,b", "a)", "a b", &"a/".repeat(5000), &"a(".repeat(5000)] {
            assert!(FieldMask::parse(mask).is_err(), "{}", &mask[..mask.len().min(20)]);
        }
    }
}
