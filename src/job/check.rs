//! The check of a finished job body, before anything is created.
//!
//! What the API would refuse for its type is an error. What this release only does not know, or what is beyond a
//! documented limit, is a warning: the API may know more, and limits can be raised.

use serde_json::Value;

use crate::{
    limits::{DEFAULT_CPU, DEFAULT_MEMORY, MAX_ARGS, MAX_LABELS, MAX_VARIABLE_BYTES, MAX_VARIABLES, Size, quantity},
    schema::{Finding, Problem, run_v1::JOB},
};

/// What is the matter with a job body; each in a sentence that begins with the path.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Why the API can't take it.
    pub errors: Vec<String>,
    /// Why the API may not take it.
    pub warnings: Vec<String>,
}

/// Checks a job body against the API's schema and documented limits. No value of the body is repeated, but quantities
/// of CPU and memory.
pub fn check(body: &Value) -> Report {
    let mut report = Report::default();
    for Finding { path, problem } in JOB.findings(body) {
        let place = if path.is_root() { "the body".to_owned() } else { path.to_string() };
        match problem {
            Problem::WrongType { expected, found } => {
                report.errors.push(format!("{place}: expected {expected}, found {found}"));
            }
            Problem::UnknownField(nearest) => {
                let hint = nearest.map_or(String::new(), |name| format!("; did you mean '{name}'?"));
                let words = "not a field of the Cloud Run Admin API v1 that this worker knows";
                report.warnings.push(format!("{place}: {words}{hint}"));
            }
        }
    }
    limits(body, &mut report.warnings);
    report
}

fn limits(body: &Value, warnings: &mut Vec<String>) {
    for (pointer, place) in
        [("/metadata/labels", "metadata.labels"), ("/spec/template/metadata/labels", "spec.template.metadata.labels")]
    {
        let count = body.pointer(pointer).and_then(Value::as_object).map_or(0, |labels| labels.len());
        if count > MAX_LABELS {
            warnings.push(format!("{place}: {count} labels, Cloud Run takes {MAX_LABELS} at most"));
        }
    }
    let containers = body.pointer("/spec/template/spec/template/spec/containers").and_then(Value::as_array);
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let place = format!("spec.template.spec.template.spec.containers[{index}]");
        container_limits(container, &place, warnings);
    }
}

fn container_limits(container: &Value, place: &str, warnings: &mut Vec<String>) {
    let items = |name: &str| container.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (name, most) in [("args", MAX_ARGS), ("env", MAX_VARIABLES)] {
        let count = items(name).len();
        if count > most {
            warnings.push(format!("{place}.{name}: {count} entries, Cloud Run takes {most} at most"));
        }
    }
    for (index, variable) in items("env").iter().enumerate() {
        let bytes = variable.get("value").and_then(Value::as_str).map_or(0, str::len);
        if bytes > MAX_VARIABLE_BYTES {
            let words = format!("{bytes} bytes, Cloud Run takes {MAX_VARIABLE_BYTES} at most");
            warnings.push(format!("{place}.env[{index}].value: {words}"));
        }
    }
    warnings.extend(memory(container).map(|words| format!("{place}.resources.limits.memory: {words}")));
}

/// What is the matter with a container's memory, if its CPUs are of a size that Cloud Run documents.
fn memory(container: &Value) -> Option<String> {
    let limit = |name: &str, default: &'static str| {
        let limit = container.pointer("/resources/limits").and_then(|limits| limits.get(name));
        limit.and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let (cpu, memory) = (limit("cpu", DEFAULT_CPU), limit("memory", DEFAULT_MEMORY));
    let size = Size::of(quantity(&cpu)?)?;
    let takes = size.takes(quantity(&memory)?);
    (!takes).then(|| format!("{memory} does not go with {cpu} of CPU, which take {}", size.memory()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::skeleton::skeleton, *};

    fn with(container: Value) -> Value {
        let mut body = skeleton();
        body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = json!([container]);
        body
    }

    fn warned(container: Value) -> Vec<String> {
        let report = check(&with(container));
        assert_eq!(report.errors, [""; 0]);
        let place = "spec.template.spec.template.spec.containers[0].";
        report.warnings.iter().map(|warning| warning.strip_prefix(place).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_wrong_type_is_an_error_and_an_unknown_field_a_warning() {
        assert_eq!(check(&skeleton()), Report::default());
        let report = check(&with(json!({"image": 1, "resource": {}, "newField": 1})));
        let place = "spec.template.spec.template.spec.containers[0]";
        assert_eq!(report.errors, [format!("{place}.image: expected a string, found a number")]);
        let unknown = "not a field of the Cloud Run Admin API v1 that this worker knows";
        assert_eq!(
            report.warnings,
            [format!("{place}.newField: {unknown}"), format!("{place}.resource: {unknown}; did you mean 'resources'?")]
        );
        assert_eq!(check(&json!(1)).errors, ["the body: expected a mapping (Job), found a number"]);
    }

    #[test]
    fn memory_that_does_not_go_with_the_cpu_is_warned_about() {
        let sized = |cpu: &str, memory: &str| warned(json!({"resources": {"limits": {"cpu": cpu, "memory": memory}}}));
        for (cpu, memory) in [("1000m", "4Gi"), ("2", "8Gi"), ("8", "32Gi"), ("3", "64Gi"), ("x", "64Gi"), ("1", "x")] {
            assert_eq!(sized(cpu, memory), [""; 0], "{cpu} {memory}");
        }
        assert_eq!(
            sized("1000m", "8Gi"),
            ["resources.limits.memory: 8Gi does not go with 1000m of CPU, which take 512Mi to 4096Mi"]
        );
        assert_eq!(sized("4", "1Gi").len(), 1);
        assert_eq!(warned(json!({"resources": {"limits": {"memory": "5Gi"}}})).len(), 1);
        assert_eq!(warned(json!({})), [""; 0]);
    }

    #[test]
    fn too_many_and_too_large_entries_are_warned_about() {
        let most =
            json!({"args": vec!["a"; 1000], "env": vec![json!({"name": "A", "value": "x".repeat(32 * 1024)}); 1000]});
        assert_eq!(warned(most), [""; 0]);
        let more = json!({"args": vec!["a"; 1001], "env": vec![json!({"name": "A"}); 1001]});
        assert_eq!(
            warned(more),
            ["args: 1001 entries, Cloud Run takes 1000 at most", "env: 1001 entries, Cloud Run takes 1000 at most"]
        );
        let long = json!({"env": [{"name": "A"}, {"name": "B", "value": "s".repeat(32 * 1024 + 1)}]});
        assert_eq!(warned(long), ["env[1].value: 32769 bytes, Cloud Run takes 32768 at most"]);
    }

    #[test]
    fn more_labels_than_cloud_run_takes_are_warned_about() {
        let mut body = skeleton();
        body["metadata"]["labels"] = (0..65).map(|n| (format!("k{n}"), json!(""))).collect();
        assert_eq!(check(&body).warnings, ["metadata.labels: 65 labels, Cloud Run takes 64 at most"]);
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
        fn no_body_is_too_odd_to_be_checked(body in any_json()) {
            let report = check(&body);
            prop_assert!(body.is_object() || !report.errors.is_empty());
            super::super::skeleton::check(&body);
        }
    }
}
