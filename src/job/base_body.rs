//! The base body: the structure that every job body must have, so that the worker finds the places that it fills in.
//!
//! Python gets it as `_core.base_job_body()` and checks against it with `_core.check_base_job_body()`.

use std::fmt::Write;

use serde_json::{Value, json};

/// Returns the minimal job body.
pub fn base_body() -> Value {
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"annotations": {"run.googleapis.com/launch-stage": "BETA"}},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [{}]}}}}},
    })
}

/// Returns a sentence that says which parts of the base body are missing from `body` or have another value. Returns
/// `None` if all are there. Additional fields and list items are always allowed.
///
/// Alerts and tests of the upstream worker's users match the first words of both sentences.
pub fn check(body: &Value) -> Option<String> {
    let (mut missing, mut incompatible) = (vec![], vec![]);
    compare(&base_body(), body, "", &mut missing, &mut incompatible);
    missing.sort();
    incompatible.sort();
    if !missing.is_empty() {
        return Some(format!("Job is missing required attributes at the following paths: {}", missing.join(", ")));
    }
    (!incompatible.is_empty())
        .then(|| format!("Job has incompatible values for the following attributes: {}", incompatible.join(", ")))
}

fn compare(expected: &Value, found: &Value, path: &str, missing: &mut Vec<String>, incompatible: &mut Vec<String>) {
    let mut descend = |name: &str, expected: &Value, found: Option<&Value>| {
        // JSON pointers: RFC 6901, section 3.
        let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        match found {
            Some(found) => compare(expected, found, &path, missing, incompatible),
            None => missing.push(path),
        }
    };
    match (expected, found) {
        (Value::Object(fields), Value::Object(present)) => {
            fields.iter().for_each(|(name, field)| descend(name, field, present.get(name)));
        }
        (Value::Array(items), Value::Array(present)) => {
            items.iter().enumerate().for_each(|(n, item)| descend(&n.to_string(), item, present.get(n)));
        }
        _ if expected == found => {}
        _ => incompatible.push(format!("{path} must have value {}", python_repr(expected))),
    }
}

/// Returns the `repr` that Python has of a value of the base body, whose strings need no escaping.
fn python_repr(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("'{name}': {}", python_repr(value))).collect();
            _ = write!(text, "{{{}}}", fields.join(", "));
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(python_repr).collect();
            _ = write!(text, "[{}]", items.join(", "));
        }
        Value::String(string) => _ = write!(text, "'{string}'"),
        other => _ = write!(text, "{other}"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_with_more_than_the_base_body_is_accepted() {
        let mut body = base_body();
        body["metadata"]["name"] = json!("x");
        body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = json!([{"image": "i"}, {"image": "j"}]);
        assert_eq!(check(&body), None);
    }

    #[test]
    fn the_topmost_missing_path_of_each_branch_is_reported() {
        assert_eq!(
            check(&json!({"apiVersion": "run.googleapis.com/v1", "metadata": {"annotations": {}}, "spec": {"template": {}}}))
                .as_deref(),
            Some(
                "Job is missing required attributes at the following paths: /kind, \
                 /metadata/annotations/run.googleapis.com~1launch-stage, /spec/template/spec"
            )
        );
        let mut body = base_body();
        body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = json!([]);
        assert_eq!(
            check(&body).as_deref(),
            Some(
                "Job is missing required attributes at the following paths: \
                 /spec/template/spec/template/spec/containers/0"
            )
        );
    }

    #[test]
    fn different_values_are_reported_if_nothing_is_missing() {
        let mut body = base_body();
        body["kind"] = json!("Service");
        body["spec"]["template"] = Value::Null;
        assert_eq!(
            check(&body).as_deref(),
            Some(
                "Job has incompatible values for the following attributes: /kind must have value 'Job', /spec/template \
                 must have value {'spec': {'template': {'spec': {'containers': [{}]}}}}"
            )
        );
    }
}
