//! Executions in the emulator's state: creation by `:run`, progress, end, and what their job's status says of them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    conditions,
    errors::ApiError,
    history::EventKind,
    store::{Place, Readiness, State, being_deleted, now, sign, touch},
    validate,
};
use crate::api::types::{
    API_VERSION, CompletionStatus, ConditionStatus, Container, EnvVar, Execution, ExecutionReference, ExecutionSpec,
    ExecutionStatus, JOB_LABEL, JOB_UID_LABEL, ObjectMeta, OwnerReference,
};

/// Label of executions that have not ended; gcloud looks for it before it deletes a job.
const SERVING_STATE_LABEL: &str = "run.googleapis.com/servingState";

/// How an execution is told to stop, from mild to hard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Stop {
    /// It goes on.
    No,
    /// It was cancelled or deleted: its tasks get SIGTERM, and SIGKILL after the grace.
    Cancelled,
    /// The emulator stops: the same, with less patience.
    Halt,
}

#[derive(Debug)]
pub(super) struct ExecutionRecord {
    pub(super) execution: Execution,
    pub(super) job: String,
    pub(super) job_uid: String,
    pub(super) stop: watch::Sender<Stop>,
    created: DateTime<Utc>,
}

/// What runs an execution needs to know: taken at its creation, later changes of the job are not its business.
pub(super) struct Started {
    pub(super) place: Place,
    pub(super) execution: Execution,
    pub(super) job: String,
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) readiness: watch::Receiver<Readiness>,
}

/// How an execution ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Succeeded,
    /// With a reason for programs, which a timeout has not, and a sentence.
    Failed(Option<&'static str>, String),
    /// With the number of tasks that did not come to their end.
    Cancelled(i64),
}

impl ExecutionRecord {
    pub(super) fn is_finished(&self) -> bool {
        self.execution.completed().is_some()
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.execution.metadata.deletion_timestamp.is_some()
    }

    /// Tells the execution to stop; a milder wish than the one before changes nothing.
    pub(super) fn request_stop(&self, wish: Stop) {
        self.stop.send_if_modified(|stop| {
            let harder = wish > *stop;
            *stop = wish.max(*stop);
            harder
        });
    }

    pub(super) fn mark_deleted(&mut self) {
        self.execution.metadata.deletion_timestamp.get_or_insert_with(now);
        self.request_stop(Stop::Cancelled);
    }

    fn reference(&self) -> ExecutionReference {
        let status = &self.execution.status;
        let completion = match self.execution.completed() {
            Some(condition) if condition.status == ConditionStatus::True => CompletionStatus::ExecutionSucceeded,
            Some(condition) if condition.reason.as_deref() == Some("Cancelled") => CompletionStatus::ExecutionCancelled,
            Some(_) => CompletionStatus::ExecutionFailed,
            None if status.start_time.is_some() => CompletionStatus::ExecutionRunning,
            None => CompletionStatus::ExecutionPending,
        };
        ExecutionReference {
            name: self.execution.metadata.name.clone(),
            creation_timestamp: self.execution.metadata.creation_timestamp.clone(),
            completion_timestamp: status.completion_time.clone(),
            deletion_timestamp: self.execution.metadata.deletion_timestamp.clone(),
            completion_status: Some(completion),
            ..ExecutionReference::default()
        }
    }
}

impl State {
    pub(super) fn execution(&mut self, place: &Place, name: &str) -> Result<&mut ExecutionRecord, ApiError> {
        self.at(place).executions.get_mut(name).ok_or_else(|| place.no_such_execution(name))
    }

    /// Creates an execution of a job, with the `overrides` of the request's body. A job that is not ready *yet* is
    /// taken, and the execution waits for it; one that failed to become ready is refused. (What Cloud Run does in
    /// either case is not documented.)
    pub(super) fn run_job(
        &mut self,
        place: &Place,
        job_name: &str,
        request: &Value,
        log_base: &str,
    ) -> Result<Started, ApiError> {
        let serial = self.next_serial();
        let record = self.job(place, job_name)?;
        if record.is_deleted() {
            return Err(being_deleted(job_name));
        }
        if *record.readiness.borrow() == Readiness::NotReady {
            let words = record.job.ready().and_then(|ready| ready.message.clone()).unwrap_or_default();
            return Err(ApiError::failed_precondition(format!("Job '{job_name}' is not ready: {words}")));
        }
        let readiness = record.readiness.subscribe();
        let (job_meta, template) = (record.job.metadata.clone(), record.job.spec.template.clone());
        let job_uid = record.uid().to_owned();
        let mut spec = template.spec;
        if let Some(overrides) = request.get("overrides") {
            apply_overrides(&mut spec, overrides)?;
            validate::execution_spec(&spec)?;
        }
        let name = self.free_execution_name(place, job_name);
        let created = Utc::now();
        let mut metadata = ObjectMeta {
            name: name.clone(),
            namespace: Some(place.number.clone()),
            uid: Some(uuid::Uuid::new_v4().to_string()),
            generation: Some(1),
            self_link: Some(place.self_link("executions", &name)),
            creation_timestamp: Some(now()),
            labels: template.metadata.labels,
            annotations: template.metadata.annotations,
            owner_references: vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "Job".to_owned(),
                name: job_name.to_owned(),
                uid: job_uid.clone(),
                extra: json!({"blockOwnerDeletion": true, "controller": true}).as_object().cloned().unwrap_or_default(),
            }],
            ..ObjectMeta::default()
        };
        for (label, value) in [
            (JOB_LABEL, job_name),
            (JOB_UID_LABEL, &job_uid),
            ("run.googleapis.com/jobGeneration", &job_meta.generation.unwrap_or(1).to_string()),
            ("run.googleapis.com/jobResourceVersion", job_meta.resource_version.as_deref().unwrap_or_default()),
            (SERVING_STATE_LABEL, "Active"),
        ] {
            metadata.labels.insert(label.to_owned(), value.to_owned());
        }
        sign(&mut metadata, place, false);
        touch(&mut metadata, serial);
        let execution = Execution {
            api_version: API_VERSION.to_owned(),
            kind: "Execution".to_owned(),
            metadata,
            spec,
            status: ExecutionStatus {
                observed_generation: Some(1),
                conditions: conditions::of_new_execution(),
                log_uri: Some(format!("{log_base}/logs/{}/{}/{name}", place.project, place.region)),
                ..ExecutionStatus::default()
            },
            ..Execution::default()
        };
        let (stop, stop_receiver) = watch::channel(Stop::No);
        let record = ExecutionRecord { execution: execution.clone(), job: job_name.to_owned(), job_uid, stop, created };
        let reference = record.reference();
        self.at(place).executions.insert(serial, name.clone(), record);
        let job = self.job(place, job_name)?;
        job.job.status.execution_count = Some(job.job.status.execution_count.unwrap_or(0) + 1);
        job.job.status.latest_created_execution = Some(reference);
        job.life.push(EventKind::ExecutionCreated, Some(&name), None);
        Ok(Started { place: place.clone(), execution, job: job_name.to_owned(), stop: stop_receiver, readiness })
    }

    /// `{job}-{5 of [a-z0-9]}`. A long job name is cut, so that the name fits a label; what Cloud Run does is unknown.
    fn free_execution_name(&mut self, place: &Place, job: &str) -> String {
        let executions = &self.at(place).executions;
        loop {
            let suffix: String =
                (0..5).map(|_| fastrand::choice(SUFFIX).map_or('0', |byte| char::from(*byte))).collect();
            let name = format!("{}-{suffix}", job.get(..57).unwrap_or(job).trim_end_matches('-'));
            if !executions.contains(&name) {
                return name;
            }
        }
    }

    /// Asks an execution to stop; one that has ended can't be cancelled.
    pub(super) fn cancel_execution(&mut self, place: &Place, name: &str) -> Result<Execution, ApiError> {
        let record = self.execution(place, name)?;
        if record.is_finished() {
            let words = format!("Execution '{name}' has already completed and can't be cancelled.");
            return Err(ApiError::failed_precondition(words));
        }
        record.request_stop(Stop::Cancelled);
        Ok(record.execution.clone())
    }

    /// Marks an execution as deleted, and answers its identity. One that has ended is gone at once: gcloud would take
    /// the condition of a failed one that it can still read for the failure of the deletion.
    pub(super) fn delete_execution(&mut self, place: &Place, name: &str) -> Result<String, ApiError> {
        let record = self.execution(place, name)?;
        record.mark_deleted();
        let (uid, ended) = (record.execution.metadata.uid.clone().unwrap_or_default(), record.is_finished());
        self.written(place, name);
        if ended {
            self.at(place).executions.remove(name);
        }
        Ok(uid)
    }

    /// Marks an execution as begun.
    pub(super) fn start_execution(&mut self, place: &Place, name: &str) {
        let Ok(record) = self.execution(place, name) else { return };
        let waited = (Utc::now() - record.created).as_seconds_f64();
        record.execution.status.start_time = Some(now());
        conditions::start(&mut record.execution.status.conditions, waited);
        self.log_event(place, name, EventKind::ExecutionStarted, None);
        self.written(place, name);
    }

    /// Changes an execution's status: counters, conditions.
    pub(super) fn update_execution(&mut self, place: &Place, name: &str, change: impl FnOnce(&mut ExecutionStatus)) {
        let Ok(record) = self.execution(place, name) else { return };
        change(&mut record.execution.status);
        self.written(place, name);
    }

    /// Notes in the job's life that a task is tried again.
    pub(super) fn note_retry(&mut self, place: &Place, name: &str, why: String) {
        self.log_event(place, name, EventKind::TaskRetried, Some(why));
    }

    /// Decides an execution, and removes it if it is deleted. Answers the job's identity when the job is deleted and
    /// nothing of it runs any more.
    pub(super) fn finish_execution(&mut self, place: &Place, name: &str, ending: Ending) -> Option<String> {
        let record = self.execution(place, name).ok()?;
        let status = &mut record.execution.status;
        let took = (Utc::now() - record.created).as_seconds_f64();
        let (state, kind, reason, message) = match ending {
            Ending::Succeeded => {
                let message = format!("Execution completed successfully in {took:.2}s.");
                (ConditionStatus::True, EventKind::ExecutionSucceeded, None, message)
            }
            Ending::Failed(reason, message) => (ConditionStatus::False, EventKind::ExecutionFailed, reason, message),
            Ending::Cancelled(tasks) => {
                status.cancelled_count = Some(tasks);
                let message = "Execution was cancelled.".to_owned();
                (ConditionStatus::False, EventKind::ExecutionCancelled, Some("Cancelled"), message)
            }
        };
        status.completion_time = Some(now());
        status.running_count = None;
        conditions::set(&mut status.conditions, "Completed", state, reason, Some(message.clone()));
        record.execution.metadata.labels.remove(SERVING_STATE_LABEL);
        let (job, job_uid) = (record.job.clone(), record.job_uid.clone());
        self.log_event(place, name, kind, Some(message));
        self.written(place, name);
        let contents = self.at(place);
        if contents.executions.get(name).is_some_and(ExecutionRecord::is_deleted) {
            contents.executions.remove(name);
        }
        if !contents.jobs.get(&job).is_some_and(|job| job.uid() == job_uid && job.is_deleted()) {
            return None;
        }
        let idle = contents.executions.iter().all(|other| other.job_uid != job_uid || other.is_finished());
        idle.then_some(job_uid)
    }

    /// What follows from a change of an execution: its version, and its job's status when it is the youngest.
    fn written(&mut self, place: &Place, name: &str) {
        let serial = self.next_serial();
        let Ok(record) = self.execution(place, name) else { return };
        touch(&mut record.execution.metadata, serial);
        let (job, job_uid, reference) = (record.job.clone(), record.job_uid.clone(), record.reference());
        if let Ok(job) = self.job(place, &job)
            && job.uid() == job_uid
            && let Some(latest) = &mut job.job.status.latest_created_execution
            && latest.name == reference.name
        {
            *latest = reference;
            touch(&mut job.job.metadata, serial);
        }
    }

    fn log_event(&mut self, place: &Place, name: &str, kind: EventKind, message: Option<String>) {
        let Ok(record) = self.execution(place, name) else { return };
        let (job, job_uid) = (record.job.clone(), record.job_uid.clone());
        if let Ok(job) = self.job(place, &job)
            && job.uid() == job_uid
        {
            job.life.push(kind, Some(name), message);
        }
    }
}

const SUFFIX: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Applies `RunJobRequest.overrides` (schema `Overrides`), whose types have been checked.
fn apply_overrides(spec: &mut ExecutionSpec, overrides: &Value) -> Result<(), ApiError> {
    if overrides.get("delayExecution").is_some() {
        return Err(ApiError::invalid_field("overrides.delayExecution", "is not emulated."));
    }
    let integer =
        |name: &str| overrides.get(name).and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
    spec.task_count = integer("taskCount").or(spec.task_count);
    let task = &mut spec.template.spec;
    task.timeout_seconds = integer("timeoutSeconds").or(task.timeout_seconds);
    let items = overrides.get("containerOverrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let container = match item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            None => task.containers.first_mut(),
            Some(name) => task.containers.iter_mut().find(|container| container_name(container) == Some(name)),
        };
        let Some(container) = container else {
            let field = format!("overrides.containerOverrides[{index}].name");
            return Err(ApiError::invalid_field(field, "names no container of the job."));
        };
        override_container(container, item);
    }
    Ok(())
}

fn container_name(container: &Container) -> Option<&str> {
    container.extra.get("name").and_then(Value::as_str)
}

fn override_container(container: &mut Container, item: &Value) {
    let args: Vec<String> =
        item.get("args").and_then(|args| serde_json::from_value(args.clone()).ok()).unwrap_or_default();
    if !args.is_empty() || item.get("clearArgs") == Some(&Value::Bool(true)) {
        container.args = args;
    }
    let env: Vec<EnvVar> = item.get("env").and_then(|env| serde_json::from_value(env.clone()).ok()).unwrap_or_default();
    for variable in env {
        match container.env.iter_mut().find(|present| present.name == variable.name) {
            Some(present) => *present = variable,
            None => container.env.push(variable),
        }
    }
}
