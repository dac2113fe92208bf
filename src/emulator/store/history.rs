//! The history of jobs: what happened to each job and when, also after the job was deleted.
//!
//! Guarantees: never contains values of environment variables. Limits: the last 10,000 deleted jobs, and the first
//! 10,000 events of each job.

use std::collections::VecDeque;

use serde::Serialize;

use super::clock::now;

/// Maximum number of deleted jobs in the history.
const MAX_DELETED_JOBS: usize = 10_000;
/// Maximum number of events of one job; later events are dropped.
const MAX_EVENTS: usize = 10_000;

/// The history of one job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobLife {
    /// Project: the id or number in the call that created the job.
    pub project: String,
    /// Region of the job.
    pub region: String,
    /// Name of the job.
    pub job: String,
    /// Uid of the job. A later job of the same name has another uid.
    pub uid: String,
    /// Events of the job, oldest first.
    pub events: Vec<HistoryEvent>,
}

/// An event in the life of a job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEvent {
    /// Time of the event, in RFC 3339.
    pub time: String,
    /// Kind of the event.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Name of the execution that the event concerns, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// Details as a sentence: how an execution ended, or why a job is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The kinds of events in the life of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// The job was created.
    Created,
    /// The job got a new specification.
    Replaced,
    /// The job became ready: it can be run.
    Ready,
    /// The job can't become ready, so it can't be run.
    NotReady,
    /// An execution was created.
    ExecutionCreated,
    /// The tasks of an execution started.
    ExecutionStarted,
    /// A failed task is retried.
    TaskRetried,
    /// An execution ended because all its tasks succeeded.
    ExecutionSucceeded,
    /// An execution ended because a task failed and had no retries left.
    ExecutionFailed,
    /// An execution ended because it was cancelled, or deleted while it ran.
    ExecutionCancelled,
    /// A call asked for the deletion of the job.
    DeletionRequested,
    /// The job and its executions were removed, and the name is free.
    Deleted,
}

impl JobLife {
    /// Adds an event with the current time.
    pub(super) fn push(&mut self, kind: EventKind, execution: Option<&str>, message: Option<String>) {
        if self.events.len() < MAX_EVENTS {
            let execution = execution.map(str::to_owned);
            self.events.push(HistoryEvent { time: now(), kind, execution, message });
        }
    }
}

/// The lives of deleted jobs, in the order of their deletion.
#[derive(Debug, Default)]
pub(super) struct DeletedJobs(VecDeque<JobLife>);

impl DeletedJobs {
    pub(super) fn push(&mut self, life: JobLife) {
        if self.0.len() == MAX_DELETED_JOBS {
            self.0.pop_front();
        }
        self.0.push_back(life);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &JobLife> {
        self.0.iter()
    }
}
