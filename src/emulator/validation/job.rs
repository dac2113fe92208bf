//! The checks of a job beyond names and types of fields, before Cloud Run accepts it: the documented limits, which
//! `src/limits/` has, and what only a server knows.

use serde_json::Value;

use super::body::read_body;
use crate::{
    api::types::{API_VERSION, Container, ExecutionSpec, Job},
    emulator::{
        simulation::{annotated_duration, annotated_outcome},
        wire::{ApiRefusal, Violation, project_number},
    },
    job::name,
    limits::Consequence,
    path::Path,
    schema::{Exceeded, MessageSchema, run_v1},
};

/// Reads and checks the body of a create or replace call. `project` is the id or number in the path of the request.
pub(crate) fn read_job(body: &[u8], project: &str) -> Result<Job, ApiRefusal> {
    let value = read_body(body, &run_v1::JOB)?;
    let mut check = JobCheck::default();
    check.limits(&run_v1::JOB, &value, Path::default());
    let job: Job = serde_json::from_value(value).map_err(|error| ApiRefusal::not_json(&error))?;
    check.job(&job, project);
    check.done()?;
    Ok(job)
}

/// Checks the specification of an execution after its overrides were applied.
pub(super) fn check_execution_spec(spec: &ExecutionSpec) -> Result<(), ApiRefusal> {
    let mut check = JobCheck::default();
    let value = serde_json::to_value(spec).map_err(|error| ApiRefusal::not_json(&error))?;
    let place = Path::default().below_key("spec").below_key("template").below_key("spec");
    check.limits(&run_v1::EXECUTION_SPEC, &value, place);
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

    /// Refuses what Cloud Run refuses or may refuse, so that a job that the emulator takes is likely to run there.
    fn limits(&mut self, message: &'static MessageSchema, value: &Value, place: Path) {
        for Exceeded { path, text, consequence } in message.exceeded(value, place) {
            self.require(consequence == Consequence::Ignores, &path.to_string(), &format!("{text}."));
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
        for token in ["startExecutionToken", "runExecutionToken"] {
            self.require(!job.spec.extra.contains_key(token), &format!("spec.{token}"), "is not emulated.");
        }
        let template = &job.spec.template;
        let annotations = &template.metadata.annotations;
        let malformed = [annotated_duration(annotations).err(), annotated_outcome(annotations).err()];
        for problem in malformed.into_iter().flatten() {
            self.require(false, "spec.template.metadata.annotations", &problem);
        }
        self.execution_spec(&template.spec);
    }

    fn execution_spec(&mut self, spec: &ExecutionSpec) {
        for (index, container) in spec.template.spec.containers.iter().enumerate() {
            self.image(container, &format!("spec.template.spec.template.spec.containers[{index}].image"));
        }
    }

    fn image(&mut self, Container { image, .. }: &Container, place: &str) {
        self.require(!image.contains(char::is_whitespace), place, "must name a container image.");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            (format!("{task}/containers/0/image"), json!("a b")),
            (format!("{task}/containers/0"), json!({"image": "busybox", "resources": {"limits": {"memory": "2GB"}}})),
            ("/metadata".to_owned(), json!({"name": "daily", "annotations": {"run.googleapis.com/secrets": "a:b"}})),
            (format!("{task}/containers/0/env/0"), json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}})),
        ] {
            let error = read(&job_with(&pointer, value.clone())).expect_err(&format!("{pointer} {value}"));
            assert_eq!(error.into_response().status(), 400, "{pointer}");
        }
    }

    #[test]
    fn what_cloud_run_only_ignores_is_accepted() {
        let mut body = job_with("", Value::Null);
        let env = "/spec/template/spec/template/spec/containers/0/env";
        *body.pointer_mut(env).unwrap() = json!([{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]);
        read(&body).unwrap();
    }

    #[test]
    fn an_execution_may_be_delayed() {
        let mut job = job_with("", Value::Null);
        job["spec"]["template"]["spec"]["delayExecution"] = json!(true);
        assert_eq!(read(&job).unwrap().spec.template.spec.extra["delayExecution"], true);
    }

    #[test]
    fn unsupported_fields_are_refused_and_not_ignored() {
        let mut job = job_with("", Value::Null);
        job["spec"]["startExecutionToken"] = json!("once");
        assert!(format!("{:?}", read(&job).unwrap_err()).contains("not emulated"));
    }
}
