//! What Cloud Run checks in a job before it takes it, beyond names and types of fields (those are in `schema`).
//!
//! Limits: <https://cloud.google.com/run/quotas>; ranges of numbers: the discovery document's descriptions.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    config::Outcome,
    errors::{ApiError, Violation},
    project, resources, schema,
};
use crate::{
    api::types::{API_VERSION, Container, EnvVar, ExecutionSpec, Job},
    limits::{MAX_ARGS, MAX_LABEL_LENGTH, MAX_LABELS, MAX_VARIABLE_BYTES, MAX_VARIABLES},
    schema::{MessageSchema, run_v1},
};

/// Annotation of an execution template: how many seconds a simulated try of a task takes, as a decimal number.
pub const DURATION_ANNOTATION: &str = "cloud-run-emulator/duration-seconds";
/// Annotation of an execution template: how a simulated try of a task ends: `success`, `failure` or `timeout`.
pub const OUTCOME_ANNOTATION: &str = "cloud-run-emulator/outcome";

const TASKS: std::ops::RangeInclusive<i64> = 1..=10_000;
const RETRIES: std::ops::RangeInclusive<i64> = 0..=10;
const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 1..=604_800;

/// Reads a body of the given message's type: JSON, known fields only, the right types. Null fields are left out, as
/// protobuf's JSON means them. An empty body is an empty message.
pub(super) fn read_body(body: &[u8], message: &'static MessageSchema) -> Result<Value, ApiError> {
    let mut value = match body.trim_ascii() {
        [] => Value::Object(serde_json::Map::new()),
        body => serde_json::from_slice(body).map_err(|error| ApiError::not_json(&error))?,
    };
    let violations = schema::violations(message, &value);
    if !violations.is_empty() {
        return Err(ApiError::invalid(&violations));
    }
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads and checks the body of a create or replace call for this project (id or number).
pub(super) fn read_job(body: &[u8], project_id: &str) -> Result<Job, ApiError> {
    let value = read_body(body, &run_v1::JOB)?;
    let job: Job = serde_json::from_value(value).map_err(|error| ApiError::not_json(&error))?;
    let mut check = Check::default();
    check.job(&job, project_id);
    check.done()?;
    Ok(job)
}

/// Checks what an execution is to run, once overrides are applied.
pub(super) fn execution_spec(spec: &ExecutionSpec) -> Result<(), ApiError> {
    let mut check = Check::default();
    check.execution_spec(spec);
    check.done()
}

/// Whether a job may have this name: at most 63 characters of `[a-z]([-a-z0-9]*[a-z0-9])?`.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 63
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(inner)
        && !name.ends_with('-')
}

/// The simulated duration that an execution template's annotations ask for; the error says what is wrong.
pub(super) fn simulated_duration(annotations: &BTreeMap<String, String>) -> Result<Option<Duration>, String> {
    annotations.get(DURATION_ANNOTATION).map_or(Ok(None), |text| {
        let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(Some).ok_or_else(|| format!("'{text}' is not a number of seconds"))
    })
}

/// The simulated outcome that an execution template's annotations ask for; the error says what is wrong.
pub(super) fn simulated_outcome(annotations: &BTreeMap<String, String>) -> Result<Option<Outcome>, String> {
    annotations.get(OUTCOME_ANNOTATION).map(|text| text.parse()).transpose()
}

#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn done(self) -> Result<(), ApiError> {
        if self.violations.is_empty() { Ok(()) } else { Err(ApiError::invalid(&self.violations)) }
    }

    fn require(&mut self, holds: bool, field: &str, description: &str) {
        if !holds {
            self.violations.push(Violation::new(field, description));
        }
    }

    fn job(&mut self, job: &Job, project_id: &str) {
        self.require(job.api_version == API_VERSION, "apiVersion", "must be 'run.googleapis.com/v1'.");
        self.require(job.kind == "Job", "kind", "must be 'Job'.");
        self.require(
            is_name(&job.metadata.name),
            "metadata.name",
            "must have 1 to 63 lowercase letters, digits and hyphens, start with a letter and not end with a hyphen.",
        );
        let namespace = job.metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        self.require(
            namespace.is_none_or(|namespace| project::number(namespace) == project::number(project_id)),
            "metadata.namespace",
            "must be the project that the request is for.",
        );
        self.labels(&job.metadata.labels, "metadata.labels");
        for token in ["startExecutionToken", "runExecutionToken"] {
            self.require(!job.spec.extra.contains_key(token), &format!("spec.{token}"), "is not emulated.");
        }
        let template = &job.spec.template;
        self.labels(&template.metadata.labels, "spec.template.metadata.labels");
        let annotations = &template.metadata.annotations;
        for error in [simulated_duration(annotations).err(), simulated_outcome(annotations).err()].into_iter().flatten()
        {
            self.require(false, "spec.template.metadata.annotations", &error);
        }
        self.execution_spec(&template.spec);
    }

    /// The rules of <https://cloud.google.com/run/docs/configuring/jobs/labels>. Labels of Google's own
    /// (`run.googleapis.com/…`) come back in a replaced job and are not checked.
    fn labels(&mut self, labels: &BTreeMap<String, String>, field: &str) {
        self.require(labels.len() <= MAX_LABELS, field, "must not have more than 64 entries.");
        for (key, value) in labels.iter().filter(|(key, _)| !is_googles_own(key)) {
            let place = format!("{field}[{key}]");
            let fits = |text: &str| {
                text.chars().count() <= MAX_LABEL_LENGTH
                    && text.chars().all(|character| {
                        character == '-'
                            || character == '_'
                            || (character.is_alphanumeric() && !character.is_uppercase())
                    })
            };
            self.require(
                fits(key) && key.chars().next().is_some_and(char::is_alphabetic),
                &place,
                "a label's key must have 1 to 63 lowercase letters, digits, hyphens and underscores, and start with a letter.",
            );
            self.require(
                fits(value),
                &place,
                "a label's value must have at most 63 lowercase letters, digits, hyphens and underscores.",
            );
        }
    }

    fn execution_spec(&mut self, spec: &ExecutionSpec) {
        let place = "spec.template.spec";
        let tasks = spec.task_count.unwrap_or(1);
        self.require(TASKS.contains(&tasks), &format!("{place}.taskCount"), "must be between 1 and 10000.");
        self.require(
            spec.parallelism.is_none_or(|most| most >= 0),
            &format!("{place}.parallelism"),
            "must not be negative.",
        );
        self.require(
            !spec.extra.contains_key("delayExecution"),
            &format!("{place}.delayExecution"),
            "is not emulated.",
        );
        let task = &spec.template.spec;
        let place = "spec.template.spec.template.spec";
        let retries = task.max_retries.unwrap_or(3);
        self.require(RETRIES.contains(&retries), &format!("{place}.maxRetries"), "must be between 0 and 10.");
        let timeout = task.timeout_seconds.unwrap_or(600);
        self.require(
            TIMEOUT_SECONDS.contains(&timeout),
            &format!("{place}.timeoutSeconds"),
            "must be between 1 and 604800 seconds.",
        );
        self.require(!task.containers.is_empty(), &format!("{place}.containers"), "must have at least one container.");
        for (index, container) in task.containers.iter().enumerate() {
            self.container(container, &format!("{place}.containers[{index}]"));
        }
        // Several share what there is, and may have less each.
        if let [container] = task.containers.as_slice() {
            let limits = container.extra.get("resources").and_then(|resources| resources.get("limits"));
            if let Some((name, description)) = resources::violation(limits.and_then(Value::as_object)) {
                self.require(false, &format!("{place}.containers[0].resources.limits.{name}"), &description);
            }
        }
    }

    fn container(&mut self, container: &Container, place: &str) {
        let image = &container.image;
        self.require(
            !image.is_empty() && !image.contains(char::is_whitespace),
            &format!("{place}.image"),
            "must name a container image.",
        );
        self.require(container.args.len() <= MAX_ARGS, &format!("{place}.args"), "must not have more than 1000 items.");
        self.require(
            container.env.len() <= MAX_VARIABLES,
            &format!("{place}.env"),
            "must not have more than 1000 variables.",
        );
        for (index, variable) in container.env.iter().enumerate() {
            self.variable(variable, &format!("{place}.env[{index}]"));
        }
    }

    fn variable(&mut self, variable: &EnvVar, place: &str) {
        let EnvVar { name, value, extra } = variable;
        self.require(
            !name.is_empty() && !name.contains(['=', '\0']),
            &format!("{place}.name"),
            "must not be empty and not contain '='.",
        );
        let value = value.as_deref().unwrap_or_default();
        self.require(
            value.len() <= MAX_VARIABLE_BYTES && !value.contains('\0'),
            &format!("{place}.value"),
            "must not be longer than 32 KB or contain a null character.",
        );
        let source = extra.get("valueFrom");
        self.require(
            value.is_empty() || source.is_none(),
            &format!("{place}.valueFrom"),
            "must not be set together with a value.",
        );
        self.require(
            source.is_none_or(|source| secret_name(source).is_some()),
            &format!("{place}.valueFrom"),
            "must have a secretKeyRef with a name and a key.",
        );
    }
}

fn is_googles_own(label: &str) -> bool {
    label
        .split_once('/')
        .is_some_and(|(domain, _)| domain.ends_with(".googleapis.com") || domain.ends_with(".knative.dev"))
}

/// The secret that an environment variable's `valueFrom` refers to. The key is its version, of which the emulator
/// knows but one.
pub(super) fn secret_name(value_from: &Value) -> Option<&str> {
    let reference = value_from.get("secretKeyRef")?;
    reference.get("key").and_then(Value::as_str).filter(|key| !key.is_empty())?;
    reference.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde_json::json;

    use super::*;

    fn job_with(pointer: &str, value: Value) -> Value {
        let mut job = json!({
            "apiVersion": "run.googleapis.com/v1",
            "kind": "Job",
            "metadata": {"name": "daily", "namespace": "demo", "labels": {"team": "data"}},
            "spec": {"template": {"metadata": {"annotations": {"a": "b"}, "labels": {"x": "y"}}, "spec": {"taskCount": 1, "template": {"spec": {
                "maxRetries": 0, "timeoutSeconds": "60",
                "containers": [{"image": "busybox", "env": [{"name": "A", "value": "b"}]}],
            }}}}},
        });
        if !pointer.is_empty() {
            *job.pointer_mut(pointer).unwrap() = value;
        }
        job
    }

    fn read(job: &Value) -> Result<Job, ApiError> {
        read_job(job.to_string().as_bytes(), "demo")
    }

    #[test]
    fn a_sound_job_passes_and_its_nulls_are_gone() {
        let mut body = job_with("", Value::Null);
        body["spec"]["template"]["spec"]["template"]["spec"]["volumes"] = Value::Null;
        let job = read(&body).unwrap();
        assert_eq!(job.spec.template.spec.template.spec.timeout_seconds, Some(60));
        assert!(job.spec.template.spec.template.spec.extra.is_empty());
        body["metadata"]["labels"]["run.googleapis.com/lastUpdatedTime"] = json!("2026-01-01T00:00:00Z");
        body["metadata"]["namespace"] = json!(project::number("demo"));
        read(&body).unwrap();
    }

    #[test]
    fn every_limit_is_kept() {
        let task = "/spec/template/spec/template/spec";
        let many_labels: BTreeMap<String, &str> = (0..65).map(|index| (format!("l{index}"), "v")).collect();
        for (pointer, value) in [
            ("/apiVersion".to_owned(), json!("v1")),
            ("/kind".to_owned(), json!("Service")),
            ("/metadata/name".to_owned(), json!("Daily")),
            ("/metadata/name".to_owned(), json!("a".repeat(64))),
            ("/metadata/name".to_owned(), json!("daily-")),
            ("/metadata/name".to_owned(), json!("1daily")),
            ("/metadata/name".to_owned(), Value::Null),
            ("/metadata/namespace".to_owned(), json!("other")),
            ("/metadata/labels".to_owned(), json!(many_labels)),
            ("/metadata/labels/team".to_owned(), json!("Data")),
            ("/metadata/labels/team".to_owned(), json!("d".repeat(64))),
            ("/metadata/labels".to_owned(), json!({"Team": "data"})),
            ("/metadata/labels".to_owned(), json!({"example.com/team": "data"})),
            ("/spec/template/metadata/labels".to_owned(), json!({"x": "a b"})),
            ("/spec/template/metadata/annotations".to_owned(), json!({DURATION_ANNOTATION: "soon"})),
            ("/spec/template/metadata/annotations".to_owned(), json!({OUTCOME_ANNOTATION: "luck"})),
            ("/spec/template/spec/taskCount".to_owned(), json!(0)),
            ("/spec/template/spec/taskCount".to_owned(), json!(10_001)),
            (format!("{task}/maxRetries"), json!(11)),
            (format!("{task}/maxRetries"), json!(-1)),
            (format!("{task}/timeoutSeconds"), json!(0)),
            (format!("{task}/timeoutSeconds"), json!("604801")),
            (format!("{task}/containers"), json!([])),
            (format!("{task}/containers/0/image"), json!("")),
            (format!("{task}/containers/0"), json!({"image": "busybox", "resources": {"limits": {"cpu": "3"}}})),
            (format!("{task}/containers/0/env/0/name"), json!("A=B")),
            (format!("{task}/containers/0/env/0/value"), json!("x".repeat(32 * 1024 + 1))),
            (format!("{task}/containers/0/env/0"), json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}})),
        ] {
            let error = read(&job_with(&pointer, value.clone())).expect_err(&format!("{pointer} {value}"));
            assert_eq!(error.into_response().status(), 400, "{pointer}");
        }
    }

    #[test]
    fn what_is_not_emulated_is_refused_rather_than_ignored() {
        let mut job = job_with("", Value::Null);
        job["spec"]["startExecutionToken"] = json!("once");
        assert!(format!("{:?}", read(&job).unwrap_err()).contains("not emulated"));
    }
}
