//! The checks of a job beyond names and types of fields, before Cloud Run accepts it.
//!
//! Limits: <https://cloud.google.com/run/quotas>; ranges of numbers: the discovery document's descriptions.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::Value;

use super::{body::read_body, resources::limits_violation};
use crate::{
    api::types::{API_VERSION, Container, EnvVar, ExecutionSpec, Job},
    emulator::{
        simulation::{annotated_duration, annotated_outcome},
        wire::{
            ApiRefusal, DEFAULT_MAX_RETRIES, DEFAULT_TASK_COUNT, DEFAULT_TIMEOUT_SECONDS, Violation, project_number,
            referenced_secret,
        },
    },
    job::name,
    limits::{MAX_ARGS, MAX_LABEL_LENGTH, MAX_LABELS, MAX_VARIABLE_BYTES, MAX_VARIABLES},
    schema::run_v1,
};

const TASKS: RangeInclusive<i64> = 1..=10_000;
const RETRIES: RangeInclusive<i64> = 0..=10;
/// Up to 168 hours.
const TIMEOUT_SECONDS: RangeInclusive<i64> = 1..=604_800;

/// Reads and checks the body of a create or replace call. `project` is the id or number in the path of the request.
pub(crate) fn read_job(body: &[u8], project: &str) -> Result<Job, ApiRefusal> {
    let value = read_body(body, &run_v1::JOB)?;
    let job: Job = serde_json::from_value(value).map_err(|error| ApiRefusal::not_json(&error))?;
    let mut check = JobCheck::default();
    check.job(&job, project);
    check.done()?;
    Ok(job)
}

/// Checks the specification of an execution after its overrides were applied.
pub(super) fn check_execution_spec(spec: &ExecutionSpec) -> Result<(), ApiRefusal> {
    let mut check = JobCheck::default();
    check.execution_spec(spec);
    check.done()
}

/// Collects all violations, so that one refusal lists them.
#[derive(Default)]
struct JobCheck {
    violations: Vec<Violation>,
}

impl JobCheck {
    fn done(self) -> Result<(), ApiRefusal> {
        if self.violations.is_empty() { Ok(()) } else { Err(ApiRefusal::invalid(&self.violations)) }
    }

    fn require(&mut self, holds: bool, field: &str, description: &str) {
        if !holds {
            self.violations.push(Violation::new(field, description));
        }
    }

    fn job(&mut self, job: &Job, project: &str) {
        self.require(job.api_version == API_VERSION, "apiVersion", "must be 'run.googleapis.com/v1'.");
        self.require(job.kind == "Job", "kind", "must be 'Job'.");
        self.require(
            name::is_legal(&job.metadata.name),
            "metadata.name",
            "must have 1 to 63 lowercase letters, digits and hyphens, start with a letter and not end with a hyphen.",
        );
        let namespace = job.metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        self.require(
            namespace.is_none_or(|namespace| project_number(namespace) == project_number(project)),
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
        let malformed = [annotated_duration(annotations).err(), annotated_outcome(annotations).err()];
        for problem in malformed.into_iter().flatten() {
            self.require(false, "spec.template.metadata.annotations", &problem);
        }
        self.execution_spec(&template.spec);
    }

    /// Checks labels by <https://cloud.google.com/run/docs/configuring/jobs/labels>. Skips Google's own labels
    /// (`run.googleapis.com/…`), which a replaced job has from its first version.
    fn labels(&mut self, labels: &BTreeMap<String, String>, field: &str) {
        self.require(labels.len() <= MAX_LABELS, field, &format!("must not have more than {MAX_LABELS} entries."));
        for (key, value) in labels.iter().filter(|(key, _)| !is_google_label(key)) {
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
                &format!(
                    "a label's key must have 1 to {MAX_LABEL_LENGTH} lowercase letters, digits, hyphens and \
                     underscores, and start with a letter."
                ),
            );
            self.require(
                fits(value),
                &place,
                &format!(
                    "a label's value must have at most {MAX_LABEL_LENGTH} lowercase letters, digits, hyphens and \
                     underscores."
                ),
            );
        }
    }

    fn execution_spec(&mut self, spec: &ExecutionSpec) {
        let place = "spec.template.spec";
        let tasks = spec.task_count.unwrap_or(DEFAULT_TASK_COUNT);
        self.require(TASKS.contains(&tasks), &format!("{place}.taskCount"), &must_be_in(&TASKS));
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
        let retries = task.max_retries.unwrap_or(DEFAULT_MAX_RETRIES);
        self.require(RETRIES.contains(&retries), &format!("{place}.maxRetries"), &must_be_in(&RETRIES));
        let timeout = task.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        self.require(
            TIMEOUT_SECONDS.contains(&timeout),
            &format!("{place}.timeoutSeconds"),
            &format!("must be between {} and {} seconds.", TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end()),
        );
        self.require(!task.containers.is_empty(), &format!("{place}.containers"), "must have at least one container.");
        for (index, container) in task.containers.iter().enumerate() {
            self.container(container, &format!("{place}.containers[{index}]"));
        }
        // Several containers share the resources of a task, so each of them may have less than the minimum.
        if let [container] = task.containers.as_slice() {
            let limits = container.extra.get("resources").and_then(|resources| resources.get("limits"));
            if let Some((name, description)) = limits_violation(limits.and_then(Value::as_object)) {
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
        self.require(
            container.args.len() <= MAX_ARGS,
            &format!("{place}.args"),
            &format!("must not have more than {MAX_ARGS} items."),
        );
        self.require(
            container.env.len() <= MAX_VARIABLES,
            &format!("{place}.env"),
            &format!("must not have more than {MAX_VARIABLES} variables."),
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
            &format!("must not be longer than {} KB or contain a null character.", MAX_VARIABLE_BYTES / 1024),
        );
        let source = extra.get("valueFrom");
        self.require(
            value.is_empty() || source.is_none(),
            &format!("{place}.valueFrom"),
            "must not be set together with a value.",
        );
        self.require(
            source.is_none_or(|source| referenced_secret(source).is_some()),
            &format!("{place}.valueFrom"),
            "must have a secretKeyRef with a name and a key.",
        );
    }
}

fn is_google_label(label: &str) -> bool {
    label
        .split_once('/')
        .is_some_and(|(domain, _)| domain.ends_with(".googleapis.com") || domain.ends_with(".knative.dev"))
}

fn must_be_in(range: &RangeInclusive<i64>) -> String {
    format!("must be between {} and {}.", range.start(), range.end())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde_json::json;

    use super::*;
    use crate::emulator::simulation::{DURATION_ANNOTATION, OUTCOME_ANNOTATION};

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

    fn read(job: &Value) -> Result<Job, ApiRefusal> {
        read_job(job.to_string().as_bytes(), "demo")
    }

    #[test]
    fn a_valid_job_is_accepted_without_its_nulls() {
        let mut body = job_with("", Value::Null);
        body["spec"]["template"]["spec"]["template"]["spec"]["volumes"] = Value::Null;
        let job = read(&body).unwrap();
        assert_eq!(job.spec.template.spec.template.spec.timeout_seconds, Some(60));
        assert!(job.spec.template.spec.template.spec.extra.is_empty());
        body["metadata"]["labels"]["run.googleapis.com/lastUpdatedTime"] = json!("2026-01-01T00:00:00Z");
        body["metadata"]["namespace"] = json!(project_number("demo"));
        read(&body).unwrap();
    }

    #[test]
    fn every_limit_is_checked() {
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
    fn unsupported_fields_are_refused_and_not_ignored() {
        let mut job = job_with("", Value::Null);
        job["spec"]["startExecutionToken"] = json!("once");
        assert!(format!("{:?}", read(&job).unwrap_err()).contains("not emulated"));
    }
}
