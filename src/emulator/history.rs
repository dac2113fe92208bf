//! The lives of jobs: what happened to each and when, also after it is gone. Never holds anything of an environment.

use std::collections::VecDeque;

use serde::Serialize;

/// Most lives of deleted jobs that are remembered.
const MOST_GONE: usize = 10_000;
/// Most events of one life that are remembered; the first ones stay.
const MOST_EVENTS: usize = 10_000;

/// The life of one job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobLife {
    /// Project, as the creating call named it.
    pub project: String,
    /// Region.
    pub region: String,
    /// Name of the job.
    pub job: String,
    /// Identity of the job; a later one of the same name has another.
    pub uid: String,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, in RFC 3339.
    pub time: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The execution that it is about, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// A sentence, if there is more to say: the outcome of an execution, why a job is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// The job was created.
    Created,
    /// The job was replaced by another specification.
    Replaced,
    /// The job can be run.
    Ready,
    /// The job can't be run.
    NotReady,
    /// An execution was created.
    ExecutionCreated,
    /// An execution's tasks began.
    ExecutionStarted,
    /// A failed task is tried again.
    TaskRetried,
    /// An execution ended: every task succeeded.
    ExecutionSucceeded,
    /// An execution ended: a task failed for good.
    ExecutionFailed,
    /// An execution ended: it was cancelled, or deleted while it ran.
    ExecutionCancelled,
    /// The job's deletion was asked for.
    DeletionRequested,
    /// The job and its executions are gone, and the name is free.
    Deleted,
}

impl JobLife {
    pub(super) fn push(&mut self, kind: EventKind, execution: Option<&str>, message: Option<String>) {
        if self.events.len() < MOST_EVENTS {
            let execution = execution.map(str::to_owned);
            self.events.push(Event { time: super::store::now(), kind, execution, message });
        }
    }
}

/// Lives of jobs that are gone, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gone(VecDeque<JobLife>);

impl Gone {
    pub(super) fn push(&mut self, life: JobLife) {
        if self.0.len() == MOST_GONE {
            self.0.pop_front();
        }
        self.0.push_back(life);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &JobLife> {
        self.0.iter()
    }
}
