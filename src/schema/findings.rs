//! The check of a JSON value against a message schema.

use serde_json::Value;

use super::message::{FieldType, MessageSchema};
use crate::path::Path;

/// One place where a value does not match its message schema.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The path of the field.
    pub path: Path,
    /// What is wrong with the field.
    pub problem: Problem,
}

/// What can be wrong with a field. Never holds the value itself, which may be a secret, but only its type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The message has no field of this name. Holds the most similar field name, if one is similar enough.
    UnknownField(Option<&'static str>),
    /// The value does not have the field's type.
    WrongType {
        /// The field's type, as an error message names it.
        expected: String,
        /// The value's type, as an error message names it.
        found: &'static str,
    },
}

/// Minimum Jaro similarity of two names for one to be suggested in place of the other.
const MIN_SIMILARITY: f64 = 0.8;

impl MessageSchema {
    /// Returns every place where `value` does not match this schema. A null counts as an absent field, as in the JSON
    /// form of protobuf.
    pub fn findings(&'static self, value: &Value) -> Vec<Finding> {
        let mut check = SchemaCheck { path: Path::default(), findings: Vec::new() };
        check.message(self, value);
        check.findings
    }

    fn most_similar_field(&self, name: &str) -> Option<&'static str> {
        let similarity = |field: &str| strsim::jaro(&field.to_lowercase(), &name.to_lowercase());
        let candidates = self.fields.iter().map(|(field, _)| (*field, similarity(field)));
        candidates
            .filter(|(_, similarity)| *similarity >= MIN_SIMILARITY)
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(field, _)| field)
    }
}

struct SchemaCheck {
    path: Path,
    findings: Vec<Finding>,
}

impl SchemaCheck {
    fn message(&mut self, message: &'static MessageSchema, value: &Value) {
        let Value::Object(fields) = value else { return self.wrong_type(&FieldType::Message(message), value) };
        for (name, value) in fields {
            self.path.push_key(name);
            match message.field(name) {
                Some(_) if value.is_null() => {}
                Some(field_type) => self.field(field_type, value),
                None => self.add(Problem::UnknownField(message.most_similar_field(name))),
            }
            self.path.pop();
        }
    }

    fn field(&mut self, field_type: &FieldType, value: &Value) {
        match (field_type, value) {
            (FieldType::Text, Value::String(_)) | (FieldType::Bool, Value::Bool(_)) => {}
            (FieldType::Int32, _) if integer(value).is_some_and(|number| i32::try_from(number).is_ok()) => {}
            (FieldType::Int64, _) if integer(value).is_some() => {}
            (FieldType::TextMap, Value::Object(entries)) => {
                for (key, value) in entries {
                    self.path.push_key(key);
                    self.field(&FieldType::Text, value);
                    self.path.pop();
                }
            }
            (FieldType::AnyMap, Value::Object(_)) => {}
            (FieldType::List(item_type), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push_index(index);
                    self.field(item_type, item);
                    self.path.pop();
                }
            }
            (FieldType::Message(message), _) => self.message(message, value),
            _ => self.wrong_type(field_type, value),
        }
    }

    fn wrong_type(&mut self, field_type: &FieldType, value: &Value) {
        self.add(Problem::WrongType { expected: field_type.to_string(), found: type_of(value) });
    }

    fn add(&mut self, problem: Problem) {
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

/// The type of a JSON value, as an error message names it.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::run_v1::JOB, *};

    fn found(value: &Value) -> Vec<(String, Problem)> {
        JOB.findings(value).into_iter().map(|finding| (finding.path.to_string(), finding.problem)).collect()
    }

    fn job_of(container: Value) -> Value {
        json!({"spec": {"template": {"spec": {"template": {"spec": {"containers": [container]}}}}}})
    }

    #[test]
    fn an_unknown_field_is_reported_with_the_most_similar_name() {
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
    fn a_wrong_type_is_reported_with_the_expected_and_the_found_type() {
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
    fn integers_may_be_strings_and_null_counts_as_absent() {
        let task = json!({"timeoutSeconds": "600", "maxRetries": 3, "containers": null});
        assert_eq!(found(&json!({"spec": {"template": {"spec": {"template": {"spec": task}}}}})), []);
        let wrong = json!({"metadata": {"generation": 3_000_000_000_i64, "deletionGracePeriodSeconds": 1.5}});
        let paths: Vec<_> = found(&wrong).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["metadata.deletionGracePeriodSeconds", "metadata.generation"]);
    }

    #[test]
    fn a_value_that_is_not_a_mapping_is_reported_at_the_root() {
        let Problem::WrongType { expected, found } = &JOB.findings(&json!([]))[0].problem else { unreachable!() };
        assert_eq!((expected.as_str(), *found), ("a mapping (Job)", "a list"));
    }

    #[test]
    fn a_finding_does_not_show_the_value() {
        let findings = JOB.findings(&json!({"metadata": {"labels": {"key": ["hunter2"]}, "name": {"x": "hunter2"}}}));
        assert_eq!(findings.len(), 2);
        assert!(!format!("{findings:?}").contains("hunter2"));
    }
}
