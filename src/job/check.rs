//! The check of a finished job body, before the worker creates anything.
//!
//! A type that the API would reject is an error. An unknown field, or a value beyond a documented limit, is only a
//! warning: the API may have gained the field since, and Google can raise limits.
//!
//! # Guarantees
//!
//! The texts show no value of the body except its CPU and memory limits, because any other value may be a secret.

use serde_json::Value;

use crate::{
    limits::{MAX_ARGS, MAX_LABELS, MAX_VARIABLE_BYTES, MAX_VARIABLES, ResourceLimits, ResourceProblem},
    schema::{Finding, Problem, run_v1::JOB},
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
    check_limits(body, &mut report.warnings);
    report
}

fn check_limits(body: &Value, warnings: &mut Vec<String>) {
    for (pointer, place) in
        [("/metadata/labels", "metadata.labels"), ("/spec/template/metadata/labels", "spec.template.metadata.labels")]
    {
        let count = body.pointer(pointer).and_then(Value::as_object).map_or(0, |labels| labels.len());
        if count > MAX_LABELS {
            warnings.push(format!("{place}: {count} labels, but Cloud Run allows at most {MAX_LABELS}"));
        }
    }
    let containers = body.pointer("/spec/template/spec/template/spec/containers").and_then(Value::as_array);
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let place = format!("spec.template.spec.template.spec.containers[{index}]");
        check_container_limits(container, &place, warnings);
    }
}

fn check_container_limits(container: &Value, place: &str, warnings: &mut Vec<String>) {
    let items = |name: &str| container.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (name, max) in [("args", MAX_ARGS), ("env", MAX_VARIABLES)] {
        let count = items(name).len();
        if count > max {
            warnings.push(format!("{place}.{name}: {count} entries, but Cloud Run allows at most {max}"));
        }
    }
    for (index, variable) in items("env").iter().enumerate() {
        let bytes = variable.get("value").and_then(Value::as_str).map_or(0, str::len);
        if bytes > MAX_VARIABLE_BYTES {
            let text = format!("{bytes} bytes, but Cloud Run allows at most {MAX_VARIABLE_BYTES}");
            warnings.push(format!("{place}.env[{index}].value: {text}"));
        }
    }
    warnings.extend(memory_warning(container).map(|text| format!("{place}.resources.limits.memory: {text}")));
}

/// Warns of a memory limit that Cloud Run documents as too small or too large for the CPU limit. Stays silent about
/// quantities that it cannot read and CPU sizes that it does not know: the API decides about those.
fn memory_warning(container: &Value) -> Option<String> {
    let limits = container.pointer("/resources/limits").and_then(Value::as_object);
    let limits = ResourceLimits::of(limits);
    match limits.problem()? {
        ResourceProblem::MemoryOutOfRange(size) => Some(format!(
            "{} is outside the range that Cloud Run allows with a CPU limit of {}: {}",
            limits.memory,
            limits.cpu,
            size.memory_range()
        )),
        ResourceProblem::CpuNotANumber | ResourceProblem::MemoryNotANumber | ResourceProblem::UnknownCpuSize => None,
    }
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

    fn warned(container: Value) -> Vec<String> {
        let report = check(&with(container));
        assert_eq!(report.errors, [""; 0]);
        let place = "spec.template.spec.template.spec.containers[0].";
        report.warnings.iter().map(|warning| warning.strip_prefix(place).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_wrong_type_is_an_error_and_an_unknown_field_a_warning() {
        assert_eq!(check(&base_body()), BodyReport::default());
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
    fn memory_outside_the_range_of_its_cpu_limit_is_a_warning() {
        let sized = |cpu: &str, memory: &str| warned(json!({"resources": {"limits": {"cpu": cpu, "memory": memory}}}));
        for (cpu, memory) in [("1000m", "4Gi"), ("2", "8Gi"), ("8", "32Gi"), ("3", "64Gi"), ("x", "64Gi"), ("1", "x")] {
            assert_eq!(sized(cpu, memory), [""; 0], "{cpu} {memory}");
        }
        assert_eq!(
            sized("1000m", "8Gi"),
            [
                "resources.limits.memory: 8Gi is outside the range that Cloud Run allows with a CPU limit of 1000m: 512Mi to 4Gi"
            ]
        );
        assert_eq!(sized("4", "1Gi").len(), 1);
        assert_eq!(warned(json!({"resources": {"limits": {"memory": "5Gi"}}})).len(), 1);
        assert_eq!(warned(json!({})), [""; 0]);
    }

    #[test]
    fn too_many_and_too_large_entries_are_warnings() {
        let most =
            json!({"args": vec!["a"; 1000], "env": vec![json!({"name": "A", "value": "x".repeat(32 * 1024)}); 1000]});
        assert_eq!(warned(most), [""; 0]);
        let more = json!({"args": vec!["a"; 1001], "env": vec![json!({"name": "A"}); 1001]});
        assert_eq!(
            warned(more),
            [
                "args: 1001 entries, but Cloud Run allows at most 1000",
                "env: 1001 entries, but Cloud Run allows at most 1000"
            ]
        );
        let long = json!({"env": [{"name": "A"}, {"name": "B", "value": "s".repeat(32 * 1024 + 1)}]});
        assert_eq!(warned(long), ["env[1].value: 32769 bytes, but Cloud Run allows at most 32768"]);
    }

    #[test]
    fn more_labels_than_cloud_run_allows_are_a_warning() {
        let mut body = base_body();
        body["metadata"]["labels"] = (0..65).map(|n| (format!("k{n}"), json!(""))).collect();
        assert_eq!(check(&body).warnings, ["metadata.labels: 65 labels, but Cloud Run allows at most 64"]);
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
