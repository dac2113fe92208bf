//! The shape that every job body must have, so that the worker finds the places that it fills.

use std::fmt::Write;

use serde_json::{Value, json};

/// The least that a job body holds.
pub fn skeleton() -> Value {
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"annotations": {"run.googleapis.com/launch-stage": "BETA"}},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [{}]}}}}},
    })
}

/// What a body lacks of the skeleton, in a sentence, or `None` when it has it all. More is always fine.
pub fn check(body: &Value) -> Option<String> {
    let (mut missing, mut incompatible) = (vec![], vec![]);
    compare(&skeleton(), body, "", &mut missing, &mut incompatible);
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

/// A value of the skeleton as Python writes it; the skeleton has no text that needs escaping.
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
    fn a_body_with_more_than_the_skeleton_is_fine() {
        let mut body = skeleton();
        body["metadata"]["name"] = json!("x");
        body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = json!([{"image": "i"}, {"image": "j"}]);
        assert_eq!(check(&body), None);
    }

    #[test]
    fn the_topmost_missing_paths_are_named() {
        assert_eq!(
            check(&json!({"apiVersion": "run.googleapis.com/v1", "metadata": {"annotations": {}}, "spec": {"template": {}}}))
                .as_deref(),
            Some(
                "Job is missing required attributes at the following paths: /kind, \
                 /metadata/annotations/run.googleapis.com~1launch-stage, /spec/template/spec"
            )
        );
        let mut body = skeleton();
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
    fn values_that_differ_are_named_when_nothing_is_missing() {
        let mut body = skeleton();
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
