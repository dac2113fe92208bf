//! Executions in the store: creation by `jobs.run`, progress, end. A change of the latest execution of a job also updates
//! the job's status.

use chrono::Utc;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    clock::now,
    conditions::{new_execution_conditions, set_condition, set_started},
    history::EventKind,
    metadata::{set_resource_version, stamp_labels},
    records::{ExecutionRecord, JobReadiness, StopRequest},
    regions::Store,
};
use crate::{
    api::types::{
        API_VERSION, ConditionStatus, Execution, ExecutionStatus, JOB_LABEL, JOB_UID_LABEL, ObjectMeta, OwnerReference,
    },
    emulator::{
        validation::apply_overrides,
        wire::{ApiRefusal, ProjectRegion},
    },
    limits::MAX_LABEL_LENGTH,
};

/// Label of unfinished executions. gcloud selects them by it before it deletes a job.
const SERVING_STATE_LABEL: &str = "run.googleapis.com/servingState";
/// Characters of the random suffix in the name of an execution.
const SUFFIX_CHARACTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Length of the suffix.
const SUFFIX_LENGTH: usize = 5;
/// Maximum length of the job's name in the name of an execution, so that the latter fits a label.
const MAX_JOB_PREFIX: usize = MAX_LABEL_LENGTH - 1 - SUFFIX_LENGTH;

/// A new execution, for the scheduler. It is a copy: later changes of the job do not affect it.
pub(crate) struct StartedExecution {
    pub(crate) place: ProjectRegion,
    pub(crate) execution: Execution,
    pub(crate) job: String,
    pub(crate) stop: watch::Receiver<StopRequest>,
    pub(crate) readiness: watch::Receiver<JobReadiness>,
}

/// How an execution ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ExecutionEnd {
    Succeeded,
    /// With a machine-readable reason, which a timeout lacks, and a message.
    Failed(Option<&'static str>, String),
    /// With the number of tasks that did not end by themselves.
    Cancelled(i64),
}

impl Store {
    /// Creates an execution of a job, with the `overrides` in the request's body. `log_base` is the base URL of logs.
    ///
    /// The execution of a job whose readiness is still unknown waits for the job. (Cloud Run's behaviour is not
    /// documented, neither for this case nor for a job that is not ready.)
    ///
    /// # Errors
    /// When there is no such job, it is being deleted, it is not ready, or the overrides are invalid.
    pub(crate) fn run_job(
        &mut self,
        place: &ProjectRegion,
        job_name: &str,
        request: &Value,
        log_base: &str,
    ) -> Result<StartedExecution, ApiRefusal> {
        let serial = self.next_serial();
        let record = self.job(place, job_name)?;
        if record.is_deleted() {
            return Err(ApiRefusal::being_deleted(job_name));
        }
        if *record.readiness.borrow() == JobReadiness::NotReady {
            let why = record.job.ready().and_then(|ready| ready.message.clone()).unwrap_or_default();
            return Err(ApiRefusal::failed_precondition(format!("Job '{job_name}' is not ready: {why}")));
        }
        let readiness = record.readiness.subscribe();
        let (job_meta, template) = (record.job.metadata.clone(), record.job.spec.template.clone());
        let job_uid = record.uid().to_owned();
        let mut spec = template.spec;
        apply_overrides(&mut spec, request)?;
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
        stamp_labels(&mut metadata, place);
        set_resource_version(&mut metadata, serial);
        let execution = Execution {
            api_version: API_VERSION.to_owned(),
            kind: "Execution".to_owned(),
            metadata,
            spec,
            status: ExecutionStatus {
                observed_generation: Some(1),
                conditions: new_execution_conditions(),
                log_uri: Some(format!("{log_base}/logs/{}/{}/{name}", place.project, place.region)),
                ..ExecutionStatus::default()
            },
            ..Execution::default()
        };
        let (stop, stop_receiver) = watch::channel(StopRequest::None);
        let record = ExecutionRecord { execution: execution.clone(), job: job_name.to_owned(), job_uid, stop, created };
        let reference = record.reference();
        self.at(place).executions.insert(serial, name.clone(), record);
        self.create_tasks(place, &execution);
        let job = self.job(place, job_name)?;
        job.job.status.execution_count = Some(job.job.status.execution_count.unwrap_or(0) + 1);
        job.job.status.latest_created_execution = Some(reference);
        job.life.push(EventKind::ExecutionCreated, Some(&name), None);
        Ok(StartedExecution {
            place: place.clone(),
            execution,
            job: job_name.to_owned(),
            stop: stop_receiver,
            readiness,
        })
    }

    /// A free name `{job}-{5 of [a-z0-9]}`. Cuts a long name of a job; what Cloud Run does with one is not known.
    fn free_execution_name(&mut self, place: &ProjectRegion, job: &str) -> String {
        let executions = &self.at(place).executions;
        loop {
            let suffix: String = (0..SUFFIX_LENGTH)
                .map(|_| fastrand::choice(SUFFIX_CHARACTERS).map_or('0', |byte| char::from(*byte)))
                .collect();
            let name = format!("{}-{suffix}", job.get(..MAX_JOB_PREFIX).unwrap_or(job).trim_end_matches('-'));
            if !executions.contains(&name) {
                return name;
            }
        }
    }

    /// Tells an execution to stop.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub(crate) fn cancel_execution(&mut self, place: &ProjectRegion, name: &str) -> Result<Execution, ApiRefusal> {
        let record = self.execution(place, name)?;
        if record.is_finished() {
            let message = format!("Execution '{name}' has already completed and can't be cancelled.");
            return Err(ApiRefusal::failed_precondition(message));
        }
        record.request_stop(StopRequest::Cancel);
        Ok(record.execution.clone())
    }

    /// Marks an execution as deleted and returns its uid. Removes a finished execution at once: if gcloud could still
    /// read a failed one, it would take the failed condition for a failure of the deletion.
    pub(crate) fn delete_execution(&mut self, place: &ProjectRegion, name: &str) -> Result<String, ApiRefusal> {
        let record = self.execution(place, name)?;
        record.mark_deleted();
        let (uid, ended) = (record.execution.metadata.uid.clone().unwrap_or_default(), record.is_finished());
        self.execution_written(place, name);
        if ended {
            self.at(place).remove_execution(name);
        }
        Ok(uid)
    }

    /// Marks an execution as started.
    pub(crate) fn start_execution(&mut self, place: &ProjectRegion, name: &str) {
        let Ok(record) = self.execution(place, name) else { return };
        let waited = (Utc::now() - record.created).as_seconds_f64();
        record.execution.status.start_time = Some(now());
        set_started(&mut record.execution.status.conditions, waited);
        self.add_event(place, name, EventKind::ExecutionStarted, None);
        self.execution_written(place, name);
    }

    /// Changes the status of an execution: counters, conditions.
    pub(crate) fn update_execution(
        &mut self,
        place: &ProjectRegion,
        name: &str,
        change: impl FnOnce(&mut ExecutionStatus),
    ) {
        let Ok(record) = self.execution(place, name) else { return };
        change(&mut record.execution.status);
        self.execution_written(place, name);
    }

    /// Adds a retry of a task to the history of the job.
    pub(crate) fn record_retry(&mut self, place: &ProjectRegion, name: &str, why: String) {
        self.add_event(place, name, EventKind::TaskRetried, Some(why));
    }

    /// Ends an execution, and removes it if it was deleted. Returns the uid of the job when the job was deleted too and
    /// this was its last unfinished execution: the job can be removed now.
    pub(crate) fn finish_execution(&mut self, place: &ProjectRegion, name: &str, end: ExecutionEnd) -> Option<String> {
        let record = self.execution(place, name).ok()?;
        let status = &mut record.execution.status;
        let took = (Utc::now() - record.created).as_seconds_f64();
        let (status_of_completed, kind, reason, message) = match end {
            ExecutionEnd::Succeeded => {
                let message = format!("Execution completed successfully in {took:.2}s.");
                (ConditionStatus::True, EventKind::ExecutionSucceeded, None, message)
            }
            ExecutionEnd::Failed(reason, message) => {
                (ConditionStatus::False, EventKind::ExecutionFailed, reason, message)
            }
            ExecutionEnd::Cancelled(tasks) => {
                status.cancelled_count = Some(tasks);
                let message = "Execution was cancelled.".to_owned();
                (ConditionStatus::False, EventKind::ExecutionCancelled, Some("Cancelled"), message)
            }
        };
        status.completion_time = Some(now());
        status.running_count = None;
        set_condition(&mut status.conditions, "Completed", status_of_completed, reason, Some(message.clone()));
        record.execution.metadata.labels.remove(SERVING_STATE_LABEL);
        let (job, job_uid) = (record.job.clone(), record.job_uid.clone());
        self.cancel_unfinished_tasks(place, name);
        self.add_event(place, name, kind, Some(message));
        self.execution_written(place, name);
        let region = self.at(place);
        if region.executions.get(name).is_some_and(ExecutionRecord::is_deleted) {
            region.remove_execution(name);
        }
        if !region.jobs.get(&job).is_some_and(|job| job.uid() == job_uid && job.is_deleted()) {
            return None;
        }
        let is_idle = region.executions.iter().all(|other| other.job_uid != job_uid || other.is_finished());
        is_idle.then_some(job_uid)
    }

    /// Completes a change of an execution: gives it a new version, and updates the status of its job if the execution
    /// is the job's latest.
    pub(super) fn execution_written(&mut self, place: &ProjectRegion, name: &str) {
        let serial = self.next_serial();
        let Ok(record) = self.execution(place, name) else { return };
        set_resource_version(&mut record.execution.metadata, serial);
        let (job, job_uid, reference) = (record.job.clone(), record.job_uid.clone(), record.reference());
        if let Ok(job) = self.job(place, &job)
            && job.uid() == job_uid
            && let Some(latest) = &mut job.job.status.latest_created_execution
            && latest.name == reference.name
        {
            *latest = reference;
            set_resource_version(&mut job.job.metadata, serial);
        }
    }

    /// Adds an event of an execution to the history of its job.
    fn add_event(&mut self, place: &ProjectRegion, name: &str, kind: EventKind, message: Option<String>) {
        let Ok(record) = self.execution(place, name) else { return };
        let (job, job_uid) = (record.job.clone(), record.job_uid.clone());
        if let Ok(job) = self.job(place, &job)
            && job.uid() == job_uid
        {
            job.life.push(kind, Some(name), message);
        }
    }
}
