//! The messages of the API as data: which fields each has, of which types.
//!
//! The worker checks a job body against them before anything is created, the emulator as Google's front end does.
//! Source: `schemas` of the discovery document `run.v1.json`.

pub mod run_v1;

use std::fmt;

use serde_json::Value;

use crate::path::Path;

/// The type of a field.
#[derive(Debug)]
pub enum Kind {
    /// A string, times included.
    Text,
    /// A boolean.
    Bool,
    /// In JSON a number or a string of digits.
    Int32,
    /// In JSON a string of digits; a number is accepted.
    Int64,
    /// A mapping of text to text.
    TextMap,
    /// A message of this type.
    Message(&'static Message),
    /// Any number of items of this type.
    List(&'static Kind),
}

/// A message: its name in the discovery document and its fields, sorted by name.
#[derive(Debug)]
pub struct Message {
    name: &'static str,
    fields: &'static [(&'static str, Kind)],
}

/// Where a value is not as its message says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Of the field that is meant.
    pub path: Path,
    /// What is the matter.
    pub problem: Problem,
}

/// What can be the matter with a field. Says nothing of the value but its type: it may be a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The message has no such field, but perhaps one of a name that is nearly the same.
    UnknownField(Option<&'static str>),
    /// The value is of another type than the field.
    WrongType {
        /// The field's type, in words.
        expected: String,
        /// The value's type, in words.
        found: &'static str,
    },
}

/// How alike two names must be, by Jaro's measure, for one to be offered in place of the other.
const ALIKE: f64 = 0.8;

impl Message {
    /// The type of a field, if the message has it.
    pub fn field(&self, name: &str) -> Option<&'static Kind> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, kind)| kind)
    }

    /// All that in `value` is not as this message says. Null is an absent field, as in protobuf's JSON.
    pub fn findings(&'static self, value: &Value) -> Vec<Finding> {
        let mut check = Check { path: Path::default(), findings: Vec::new() };
        check.message(self, value);
        check.findings
    }

    /// Rewrites every int64 field of `value` from a number to a string of digits, which is how JSON of protobuf messages
    /// writes an int64. Templates and job variables usually hold numbers.
    ///
    /// Leaves everything else as it is: unknown fields, values of a wrong type, and strings. Those are for
    /// [`Message::findings`] to report.
    pub fn int64s_to_strings(&'static self, value: &mut Value) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            if let Some(kind) = self.field(name) {
                kind.int64s_to_strings(value);
            }
        }
    }

    fn nearest(&self, name: &str) -> Option<&'static str> {
        let likeness = |field: &str| strsim::jaro(&field.to_lowercase(), &name.to_lowercase());
        let candidates = self.fields.iter().map(|(field, _)| (*field, likeness(field)));
        candidates.filter(|(_, likeness)| *likeness >= ALIKE).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(field, _)| field)
    }
}

impl Kind {
    fn int64s_to_strings(&self, value: &mut Value) {
        match (self, value) {
            (Kind::Int64, value) => {
                if let Some(number) = value.as_i64() {
                    *value = Value::String(number.to_string());
                }
            }
            (Kind::List(kind), Value::Array(items)) => items.iter_mut().for_each(|item| kind.int64s_to_strings(item)),
            (Kind::Message(message), value) => message.int64s_to_strings(value),
            _ => {}
        }
    }
}

struct Check {
    path: Path,
    findings: Vec<Finding>,
}

impl Check {
    fn message(&mut self, message: &'static Message, value: &Value) {
        let Value::Object(fields) = value else { return self.wrong_type(&Kind::Message(message), value) };
        for (name, value) in fields {
            self.path.push_key(name);
            match message.field(name) {
                Some(_) if value.is_null() => {}
                Some(kind) => self.kind(kind, value),
                None => self.found(Problem::UnknownField(message.nearest(name))),
            }
            self.path.pop();
        }
    }

    fn kind(&mut self, kind: &Kind, value: &Value) {
        match (kind, value) {
            (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => {}
            (Kind::Int32, _) if integer(value).is_some_and(|number| i32::try_from(number).is_ok()) => {}
            (Kind::Int64, _) if integer(value).is_some() => {}
            (Kind::TextMap, Value::Object(entries)) => {
                for (key, value) in entries {
                    self.path.push_key(key);
                    self.kind(&Kind::Text, value);
                    self.path.pop();
                }
            }
            (Kind::List(kind), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push_index(index);
                    self.kind(kind, item);
                    self.path.pop();
                }
            }
            (Kind::Message(message), _) => self.message(message, value),
            _ => self.wrong_type(kind, value),
        }
    }

    fn wrong_type(&mut self, kind: &Kind, value: &Value) {
        self.found(Problem::WrongType { expected: kind.to_string(), found: type_of(value) });
    }

    fn found(&mut self, problem: Problem) {
        self.findings.push(Finding { path: self.path.clone(), problem });
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The type of a JSON value, in words.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("a string"),
            Kind::Bool => f.write_str("a boolean"),
            Kind::Int32 => f.write_str("an integer of 32 bits"),
            Kind::Int64 => f.write_str("an integer"),
            Kind::TextMap => f.write_str("a mapping of strings"),
            Kind::Message(message) => write!(f, "a mapping ({})", message.name),
            Kind::List(_) => f.write_str("a list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{run_v1::JOB, *};

    fn found(value: &Value) -> Vec<(String, Problem)> {
        JOB.findings(value).into_iter().map(|finding| (finding.path.to_string(), finding.problem)).collect()
    }

    fn job_of(container: Value) -> Value {
        json!({"spec": {"template": {"spec": {"template": {"spec": {"containers": [container]}}}}}})
    }

    #[test]
    fn an_unknown_field_comes_with_the_nearest_name() {
        let mut job = job_of(json!({"resource": {}, "cmd": 1}));
        job["spec"]["template"]["spec"]["template"]["spec"]["timeoutSecond"] = json!(60);
        job["spec"]["Template"] = json!({});
        let task = "spec.template.spec.template.spec";
        assert_eq!(
            found(&job),
            [
                ("spec.Template".to_owned(), Problem::UnknownField(Some("template"))),
                (format!("{task}.containers[0].cmd"), Problem::UnknownField(None)),
                (format!("{task}.containers[0].resource"), Problem::UnknownField(Some("resources"))),
                (format!("{task}.timeoutSecond"), Problem::UnknownField(Some("timeoutSeconds"))),
            ]
        );
    }

    #[test]
    fn a_wrong_type_comes_with_what_was_expected_and_found() {
        let env = json!([{"name": true}, null, {"name": "A", "valueFrom": {"secretKeyRef": "s"}}]);
        let job = job_of(json!({"args": ["a", 2], "env": env, "resources": {"limits": {"cpu": 1}}, "image": ["x"]}));
        let wrong = |path: &str, expected: &str, found| {
            let path = format!("spec.template.spec.template.spec.containers[0].{path}");
            (path, Problem::WrongType { expected: expected.to_owned(), found })
        };
        assert_eq!(
            found(&job),
            [
                wrong("args[1]", "a string", "a number"),
                wrong("env[0].name", "a string", "a boolean"),
                wrong("env[1]", "a mapping (EnvVar)", "null"),
                wrong("env[2].valueFrom.secretKeyRef", "a mapping (SecretKeySelector)", "a string"),
                wrong("image", "a string", "a list"),
                wrong("resources.limits.cpu", "a string", "a number"),
            ]
        );
    }

    #[test]
    fn integers_may_be_strings_and_nulls_are_absent_fields() {
        let task = json!({"timeoutSeconds": "600", "maxRetries": 3, "containers": null});
        assert_eq!(found(&json!({"spec": {"template": {"spec": {"template": {"spec": task}}}}})), []);
        let wrong = json!({"metadata": {"generation": 3_000_000_000_i64, "deletionGracePeriodSeconds": 1.5}});
        let paths: Vec<_> = found(&wrong).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["metadata.deletionGracePeriodSeconds", "metadata.generation"]);
    }

    #[test]
    fn int64_fields_become_strings_and_nothing_else_changes() {
        let job = |timeout: Value| {
            let task = json!({"timeoutSeconds": timeout, "maxRetries": 3, "containers": [{"x": 1}], "unknown": 1});
            json!({"spec": {"template": {"spec": {"taskCount": 1, "template": {"spec": task}}}}, "timeoutSeconds": 1})
        };
        for (before, after) in [
            (json!(600), json!("600")),
            (json!("600"), json!("600")),
            (json!(1.5), json!(1.5)),
            (json!(null), json!(null)),
        ] {
            let mut body = job(before);
            JOB.int64s_to_strings(&mut body);
            assert_eq!(body, job(after));
        }
    }

    #[test]
    fn what_is_no_job_at_all_is_found_at_the_root() {
        let Problem::WrongType { expected, found } = &JOB.findings(&json!([]))[0].problem else { unreachable!() };
        assert_eq!((expected.as_str(), *found), ("a mapping (Job)", "a list"));
    }

    #[test]
    fn a_wrong_value_is_not_repeated() {
        let findings = JOB.findings(&json!({"metadata": {"labels": {"key": ["hunter2"]}, "name": {"x": "hunter2"}}}));
        assert_eq!(findings.len(), 2);
        assert!(!format!("{findings:?}").contains("hunter2"));
    }
}
