//! The messages of the API as tables: which fields each has and of which type.
//!
//! Google's front end refuses a body with a field that it does not know, or of another type, before Cloud Run sees it,
//! and a `fields` mask that names no field. Source: `schemas` of the discovery document `run.v1.json`.

use serde_json::Value;

use super::errors::Violation;

/// The type of a field.
pub(super) enum Kind {
    Text,
    Bool,
    /// In JSON a number or a string of digits.
    Int32,
    /// In JSON a string of digits; a number is accepted.
    Int64,
    /// A mapping of text to text.
    TextMap,
    /// An object whose inside the emulator has no use for.
    Object,
    Message(&'static Message),
    List(&'static Kind),
}

/// A message: its fields by name.
pub(super) struct Message(&'static [(&'static str, Kind)]);

use Kind::{Bool, Int32, Int64, List, Message as Sub, Object, Text, TextMap};

pub(super) static JOB: Message = Message(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("metadata", Sub(&OBJECT_META)),
    ("spec", Sub(&JOB_SPEC)),
    ("status", Sub(&JOB_STATUS)),
]);
pub(super) static EXECUTION: Message = Message(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("metadata", Sub(&OBJECT_META)),
    ("spec", Sub(&EXECUTION_SPEC)),
    ("status", Sub(&EXECUTION_STATUS)),
]);
pub(super) static JOB_LIST: Message = Message(&[
    ("apiVersion", Text),
    ("items", List(&Sub(&JOB))),
    ("kind", Text),
    ("metadata", Sub(&LIST_META)),
    ("unreachable", List(&Text)),
]);
pub(super) static EXECUTION_LIST: Message = Message(&[
    ("apiVersion", Text),
    ("items", List(&Sub(&EXECUTION))),
    ("kind", Text),
    ("metadata", Sub(&LIST_META)),
    ("unreachable", List(&Text)),
]);
pub(super) static STATUS: Message = Message(&[
    ("code", Int32),
    ("details", Object),
    ("message", Text),
    ("metadata", Sub(&LIST_META)),
    ("reason", Text),
    ("status", Text),
]);
pub(super) static RUN_JOB_REQUEST: Message = Message(&[("overrides", Sub(&OVERRIDES))]);
pub(super) static CANCEL_EXECUTION_REQUEST: Message = Message(&[]);

static OBJECT_META: Message = Message(&[
    ("annotations", TextMap),
    ("clusterName", Text),
    ("creationTimestamp", Text),
    ("deletionGracePeriodSeconds", Int32),
    ("deletionTimestamp", Text),
    ("finalizers", List(&Text)),
    ("generateName", Text),
    ("generation", Int32),
    ("labels", TextMap),
    ("name", Text),
    ("namespace", Text),
    ("ownerReferences", List(&Object)),
    ("resourceVersion", Text),
    ("selfLink", Text),
    ("uid", Text),
]);
static LIST_META: Message = Message(&[("continue", Text), ("resourceVersion", Text), ("selfLink", Text)]);
static JOB_SPEC: Message =
    Message(&[("runExecutionToken", Text), ("startExecutionToken", Text), ("template", Sub(&EXECUTION_TEMPLATE_SPEC))]);
static JOB_STATUS: Message = Message(&[
    ("conditions", List(&Sub(&CONDITION))),
    ("executionCount", Int32),
    ("latestCreatedExecution", Sub(&EXECUTION_REFERENCE)),
    ("observedGeneration", Int32),
]);
static EXECUTION_REFERENCE: Message = Message(&[
    ("completionStatus", Text),
    ("completionTimestamp", Text),
    ("creationTimestamp", Text),
    ("deletionTimestamp", Text),
    ("name", Text),
]);
static EXECUTION_TEMPLATE_SPEC: Message = Message(&[("metadata", Sub(&OBJECT_META)), ("spec", Sub(&EXECUTION_SPEC))]);
static EXECUTION_SPEC: Message = Message(&[
    ("delayExecution", Bool),
    ("parallelism", Int32),
    ("taskCount", Int32),
    ("template", Sub(&TASK_TEMPLATE_SPEC)),
]);
static EXECUTION_STATUS: Message = Message(&[
    ("cancelledCount", Int32),
    ("completionTime", Text),
    ("conditions", List(&Sub(&CONDITION))),
    ("failedCount", Int32),
    ("logUri", Text),
    ("observedGeneration", Int32),
    ("retriedCount", Int32),
    ("runningCount", Int32),
    ("startTime", Text),
    ("succeededCount", Int32),
]);
static CONDITION: Message = Message(&[
    ("lastTransitionTime", Text),
    ("message", Text),
    ("reason", Text),
    ("severity", Text),
    ("status", Text),
    ("type", Text),
]);
static TASK_TEMPLATE_SPEC: Message = Message(&[("spec", Sub(&TASK_SPEC))]);
static TASK_SPEC: Message = Message(&[
    ("containers", List(&Sub(&CONTAINER))),
    ("maxRetries", Int32),
    ("nodeSelector", TextMap),
    ("sandboxes", Object),
    ("serviceAccountName", Text),
    ("timeoutSeconds", Int64),
    ("volumes", List(&Object)),
]);
static CONTAINER: Message = Message(&[
    ("args", List(&Text)),
    ("command", List(&Text)),
    ("env", List(&Sub(&ENV_VAR))),
    ("envFrom", List(&Object)),
    ("image", Text),
    ("imagePullPolicy", Text),
    ("livenessProbe", Object),
    ("name", Text),
    ("ports", List(&Object)),
    ("readinessProbe", Object),
    ("resources", Sub(&RESOURCE_REQUIREMENTS)),
    ("sandboxLauncher", Bool),
    ("securityContext", Object),
    ("startupProbe", Object),
    ("terminationMessagePath", Text),
    ("terminationMessagePolicy", Text),
    ("volumeMounts", List(&Object)),
    ("workingDir", Text),
]);
static RESOURCE_REQUIREMENTS: Message = Message(&[("limits", TextMap), ("requests", TextMap)]);
static ENV_VAR: Message = Message(&[("name", Text), ("value", Text), ("valueFrom", Sub(&ENV_VAR_SOURCE))]);
static ENV_VAR_SOURCE: Message = Message(&[("configMapKeyRef", Object), ("secretKeyRef", Sub(&SECRET_KEY_SELECTOR))]);
static SECRET_KEY_SELECTOR: Message =
    Message(&[("key", Text), ("localObjectReference", Object), ("name", Text), ("optional", Bool)]);
static OVERRIDES: Message = Message(&[
    ("containerOverrides", List(&Sub(&CONTAINER_OVERRIDE))),
    ("delayExecution", Bool),
    ("taskCount", Int32),
    ("timeoutSeconds", Int32),
]);
static CONTAINER_OVERRIDE: Message =
    Message(&[("args", List(&Text)), ("clearArgs", Bool), ("env", List(&Sub(&ENV_VAR))), ("name", Text)]);

impl Message {
    /// The type of a field, if the message has it.
    pub(super) fn field(&self, name: &str) -> Option<&'static Kind> {
        self.0.iter().find(|(field, _)| *field == name).map(|(_, kind)| kind)
    }

    /// What in `value` is not as this message says, in the words of Google's front end.
    pub(super) fn violations(&self, value: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.check(value, "", &mut violations);
        violations
    }

    fn check(&self, value: &Value, path: &str, violations: &mut Vec<Violation>) {
        let Value::Object(fields) = value else {
            violations.push(wrong_type(path, value));
            return;
        };
        for (name, value) in fields {
            match self.field(name) {
                Some(kind) => kind.check(value, &join(path, name), violations),
                None => {
                    let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
                    let words =
                        format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
                    violations.push(Violation::new(path, words));
                }
            }
        }
    }
}

impl Kind {
    fn check(&self, value: &Value, path: &str, violations: &mut Vec<Violation>) {
        let fits = match (self, value) {
            (_, Value::Null) | (Text, Value::String(_)) | (Bool, Value::Bool(_)) | (Object, Value::Object(_)) => true,
            (Int32, _) => integer(value).is_some_and(|number| i32::try_from(number).is_ok()),
            (Int64, _) => integer(value).is_some(),
            (TextMap, Value::Object(entries)) => {
                entries.iter().for_each(|(key, value)| Text.check(value, &join(path, key), violations));
                true
            }
            (List(kind), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let place = format!("{path}[{index}]");
                    // Null is no item: protobuf's JSON has it for a whole field only.
                    if item.is_null() {
                        violations.push(wrong_type(&place, item));
                    } else {
                        kind.check(item, &place, violations);
                    }
                }
                true
            }
            (Sub(message), _) => {
                message.check(value, path, violations);
                true
            }
            _ => false,
        };
        if !fits {
            violations.push(wrong_type(path, value));
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Says nothing of the value but its type: it may be a secret in an environment.
fn wrong_type(path: &str, value: &Value) -> Violation {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Violation::new(path, format!("Invalid value at '{path}': {kind} is not what this field takes."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Vec<String> {
        JOB.violations(value).into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place() {
        let body = json!({"spec": {"template": {"spec": {"tasks": 1}}}, "colour": "red"});
        let words: Vec<_> = JOB.violations(&body).into_iter().map(|violation| violation.description).collect();
        assert!(
            words.iter().any(|words| words.contains("Unknown name \"tasks\" at 'spec.template.spec'")),
            "{words:?}"
        );
        assert!(words.iter().any(|words| words.contains("Unknown name \"colour\":")), "{words:?}");
    }

    #[test]
    fn wrong_types_are_found_at_every_depth() {
        let container =
            json!({"image": 1, "args": ["a", 2, null], "env": [{"name": true}], "resources": {"limits": {"cpu": 1}}});
        let body = json!({"spec": {"template": {"spec": {"taskCount": "x", "template": {"spec": {"containers": [container]}}}}}});
        let place = "spec.template.spec.template.spec.containers[0]";
        let mut found = fields(&body);
        found.sort();
        let mut expected = ["args[1]", "args[2]", "env[0].name", "image", "resources.limits.cpu"]
            .map(|field| format!("{place}.{field}"))
            .to_vec();
        expected.insert(0, "spec.template.spec.taskCount".to_owned());
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn integers_may_be_strings_and_nulls_are_absent_fields() {
        let task = json!({"timeoutSeconds": "600", "maxRetries": 3, "containers": null});
        assert_eq!(fields(&json!({"spec": {"template": {"spec": {"template": {"spec": task}}}}})), [""; 0]);
        assert_eq!(fields(&json!({"metadata": {"generation": 3_000_000_000_i64}})), ["metadata.generation"]);
    }

    #[test]
    fn a_wrong_value_is_not_repeated_in_the_answer() {
        let body = json!({"metadata": {"labels": {"key": ["hunter2"]}}});
        assert!(!format!("{:?}", JOB.violations(&body)).contains("hunter2"));
    }
}
