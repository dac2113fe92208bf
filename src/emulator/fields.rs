//! `fields`: Google's partial responses, such as `items(metadata/name,status),metadata/continue`.
//!
//! Commas separate paths, `/` or `.` go one level down, parentheses hold several paths below one, `*` is any field,
//! and lists are looked through. A path that names no field is refused, as Google does: what is misspelt here would
//! be refused there.

use serde_json::{Map, Value};

use crate::schema::{FieldType, MessageSchema};

/// A parsed mask: which fields stay, and what of each. Without children a field stays as a whole.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Mask(Vec<(String, Mask)>);

impl Mask {
    /// Reads a mask; the error says what could not be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim(), depth: 0 };
        let mask = parser.paths()?;
        if parser.rest.is_empty() { Ok(mask) } else { Err(format!("unexpected '{}'", parser.rest)) }
    }

    /// The first path that no field of `message` matches.
    pub(super) fn unknown(&self, message: &MessageSchema) -> Option<String> {
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
            FieldType::TextMap => None,
            FieldType::Text | FieldType::Bool | FieldType::Int32 | FieldType::Int64 => {
                self.0.first().map(|(name, _)| name.clone())
            }
        }
    }

    /// What the mask leaves of `value`; messages of which nothing stays are left out, items of lists are not.
    pub(super) fn apply(&self, value: Value) -> Value {
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

    /// Adds a path's first name with what is below it: `a/b,a/c` is `a(b,c)`, and `a,a/b` is `a`.
    fn insert(&mut self, name: String, below: Mask) {
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            None => self.0.push((name, below)),
            Some((_, present)) if present.0.is_empty() || below.0.is_empty() => present.0.clear(),
            Some((_, present)) => below.0.into_iter().for_each(|(name, below)| present.insert(name, below)),
        }
    }
}

/// Deeper than any message of the API; a limit, because the parser calls itself.
const DEEPEST: usize = 32;

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn paths(&mut self) -> Result<Mask, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("the mask is nested too deeply".to_owned());
        }
        let mut mask = Mask::default();
        loop {
            let (name, below) = self.path()?;
            mask.insert(name, below);
            if !self.take(',') {
                self.depth -= 1;
                return Ok(mask);
            }
        }
    }

    fn path(&mut self) -> Result<(String, Mask), String> {
        let name = self.name()?;
        let below = if self.take('/') || self.take('.') {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err("the mask is nested too deeply".to_owned());
            }
            let (name, below) = self.path()?;
            self.depth -= 1;
            Mask(vec![(name, below)])
        } else if self.take('(') {
            let below = self.paths()?;
            if !self.take(')') {
                return Err("')' is missing".to_owned());
            }
            below
        } else {
            Mask::default()
        };
        Ok((name, below))
    }

    /// A field's name; keys of mappings with other characters stand in backticks.
    fn name(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('`') {
            let (name, rest) = quoted.split_once('`').ok_or("a backtick is missing")?;
            self.rest = rest.trim_start();
            return Ok(name.to_owned());
        }
        let end = self
            .rest
            .find(|character: char| !(character.is_ascii_alphanumeric() || "_-*".contains(character)))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if name.is_empty() { Err(format!("a field's name is missing before '{rest}'")) } else { Ok(name.to_owned()) }
    }

    fn take(&mut self, token: char) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
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
        let mask = Mask::parse(mask).unwrap();
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
    fn a_whole_field_beats_a_part_of_it() {
        assert_eq!(masked("metadata,metadata/continue"), json!({"metadata": page()["metadata"]}));
        assert_eq!(masked("metadata/continue,metadata"), json!({"metadata": page()["metadata"]}));
    }

    #[test]
    fn keys_of_mappings_stand_in_backticks() {
        let labels = json!({"items": [{"metadata": {"labels": {"run.googleapis.com/job": "a"}}}, {}]});
        assert_eq!(masked("items/metadata/labels/`run.googleapis.com/job`"), labels);
    }

    #[test]
    fn a_name_that_no_field_has_is_found() {
        let unknown = |mask: &str| Mask::parse(mask).unwrap().unknown(&EXECUTION_LIST);
        assert_eq!(unknown("items(metadata/nam)").as_deref(), Some("items/metadata/nam"));
        assert_eq!(unknown("kind/deeper").as_deref(), Some("kind/deeper"));
        assert_eq!(unknown("metadata/continue,item").as_deref(), Some("item"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for mask in ["", "a(", "a(b", "a/", "a,,b", "a)", "a b", &"a/".repeat(5000), &"a(".repeat(5000)] {
            assert!(Mask::parse(mask).is_err(), "{}", &mask[..mask.len().min(20)]);
        }
    }
}
