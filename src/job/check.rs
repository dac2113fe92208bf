//! The check of a finished job body, before the worker creates anything.
//!
//! A type or a value that the API would reject is an error. An unknown field, or a limit that depends on hardware, is only a
//! warning: the API may have changed since. So is what Cloud Run ignores.
//!
//! # Guarantees
//!
//! The texts show no value of the body except numbers, CPU and memory limits and names of variables, because any other
//! value may be a secret.

use serde_json::Value;

use crate::{
    limits::Consequence,
    path::Path,
    schema::{Exceeded, Finding, Problem, run_v1::JOB},
};

/// What is wrong with a job body. Each text is a sentence that starts with the path of the value.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct BodyReport {
    /// Why the API will reject the body.
    pub errors: Vec<String>,
    /// Why the API may reject the body.
    pub warnings: Vec<String>,
}

/// Checks a job body against the schema and the documented limits of the API.
pub fn check(body: &Value) -> BodyReport {
    let mut report = BodyReport::default();
    for Finding { path, problem } in JOB.findings(body) {
        let place = if path.is_root() { "the body".to_owned() } else { path.to_string() };
        match problem {
            Problem::WrongType { expected, found } => {
                report.errors.push(format!("{place}: expected {expected}, found {found}"));
            }
            Problem::UnknownField(similar) => {
                let hint = similar.map_or(String::new(), |name| format!("; did you mean '{name}'?"));
                report.warnings.push(format!("{place}: unknown field of the Cloud Run Admin API v1{hint}"));
            }
        }
    }
    for Exceeded { path, text, consequence } in JOB.exceeded(body, Path::default()) {
        let texts = if consequence == Consequence::Refuses { &mut report.errors } else { &mut report.warnings };
        texts.push(format!("{path}: {text}"));
    }
    report
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::base_body::base_body, *};

    fn with(container: Value) -> Value {
        let mut body = base_body();
        body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = json!([container]);
        body
    }

    #[test]
    fn a_wrong_type_is_an_error_and_an_unknown_field_a_warning() {
        assert_eq!(check(&with(json!({"image": "i"}))), BodyReport::default());
        let report = check(&with(json!({"image": 1, "resource": {}, "newField": 1})));
        let place = "spec.template.spec.template.spec.containers[0]";
        assert_eq!(report.errors, [format!("{place}.image: expected a string, found a number")]);
        let unknown = "unknown field of the Cloud Run Admin API v1";
        assert_eq!(
            report.warnings,
            [format!("{place}.newField: {unknown}"), format!("{place}.resource: {unknown}; did you mean 'resources'?")]
        );
        assert_eq!(check(&json!(1)).errors, ["the body: expected a mapping (Job), found a number"]);
    }

    #[test]
    fn what_cloud_run_refuses_is_an_error_and_other_limits_are_warnings() {
        let place = "spec.template.spec.template.spec.containers[0]";
        let env = json!([{"name": "A"}, {"name": "A"}, {"name": ""}]);
        let report = check(&with(json!({"image": "i", "env": env, "resources": {"limits": {"memory": "8Gi"}}})));
        assert_eq!(report.errors.len(), 1, "{report:?}");
        assert!(report.errors[0].starts_with(&format!("{place}.env[2].name: missing or empty, but required (see ")));
        assert_eq!(report.warnings.len(), 2, "{report:?}");
        let size = "8Gi is outside the range that Cloud Run allows with a CPU limit of 1000m, 512Mi to 4Gi: change the";
        assert!(report.warnings[0].starts_with(&format!("{place}.resources.limits.memory: {size}")));
        assert!(report.warnings[1].starts_with(&format!("{place}.env[1].name: 'A' stands in [0] too: the container")));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            "[a-z]{0,3}",
            Just("spec".to_owned()),
            Just("template".to_owned()),
            Just("metadata".to_owned()),
            Just("containers".to_owned()),
            Just("labels".to_owned()),
            Just("env".to_owned()),
            Just("resources".to_owned())
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from)
        ];
        leaf.prop_recursive(12, 64, 6, move |below| {
            prop_oneof![
                proptest::collection::vec(below.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name.clone(), below, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_value_can_be_checked(body in any_json()) {
            let report = check(&body);
            prop_assert!(body.is_object() || !report.errors.is_empty());
            super::super::base_body::check(&body);
        }
    }
}
