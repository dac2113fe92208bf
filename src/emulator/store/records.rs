//! Records of jobs and executions: the API's resource, and the emulator's own data about it.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{clock::now, history::JobLife};
use crate::api::types::{CompletionStatus, ConditionStatus, Execution, ExecutionReference, Job};

/// Whether a job can be run. Executions that were started early watch it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JobReadiness {
    Unknown,
    Ready,
    NotReady,
}

/// How urgently an execution has to stop, in rising order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum StopRequest {
    /// It goes on.
    None,
    /// It was cancelled or deleted: its tasks get SIGTERM, and SIGKILL after the configured grace period.
    Cancel,
    /// The emulator stops: the same with a short grace period.
    Shutdown,
}

#[derive(Debug)]
pub(crate) struct JobRecord {
    pub(crate) job: Job,
    pub(crate) life: JobLife,
    pub(crate) readiness: watch::Sender<JobReadiness>,
}

impl JobRecord {
    /// The job's uid, which tells it from other jobs of the same name.
    pub(crate) fn uid(&self) -> &str {
        &self.life.uid
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.job.metadata.deletion_timestamp.is_some()
    }
}

#[derive(Debug)]
pub(crate) struct ExecutionRecord {
    pub(crate) execution: Execution,
    pub(crate) job: String,
    pub(crate) job_uid: String,
    pub(crate) stop: watch::Sender<StopRequest>,
    pub(crate) created: DateTime<Utc>,
}

impl ExecutionRecord {
    pub(crate) fn is_finished(&self) -> bool {
        self.execution.completed().is_some()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.execution.metadata.deletion_timestamp.is_some()
    }

    /// Tells the execution to stop. A request that is not more urgent than an earlier one changes nothing.
    pub(crate) fn request_stop(&self, request: StopRequest) {
        self.stop.send_if_modified(|current| {
            let is_more_urgent = request > *current;
            *current = request.max(*current);
            is_more_urgent
        });
    }

    /// Marks the execution as deleted, and tells it to stop.
    pub(super) fn mark_deleted(&mut self) {
        self.execution.metadata.deletion_timestamp.get_or_insert_with(now);
        self.request_stop(StopRequest::Cancel);
    }

    /// The form in which the job's status shows its latest execution.
    pub(super) fn reference(&self) -> ExecutionReference {
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
