//! Where a run can stand.

use std::time::Duration;

use super::step::{Ask, Outcome, RunError};
use crate::api::{ApiError, Backoff};

/// Where a run stands. Each state owns what only it needs, and waits for the answer of exactly one call.
#[derive(Debug)]
pub(super) enum State {
    /// `jobs.create` was sent; `maybe_done` tells whether one that was sent before may have taken effect.
    Creating { since: Duration, maybe_done: bool },
    /// Our create was refused because of the name. The job is ours if an earlier create made it; one in deletion frees
    /// the name soon; anybody else's ends the run.
    NameTaken { since: Duration, maybe_done: bool, error: Box<ApiError> },
    /// The run has failed, and the job may be there all the same: a create that failed may have happened, a read that
    /// found nothing may have lagged. If it is there and ours, it is cleaned up.
    CheckingLeftover { looks: u32, error: RunError },
    /// The job is ours and was never run.
    AwaitingReady { since: Duration, looks: Backoff, told: Option<String>, failing_since: Option<Duration> },
    /// `jobs.run` was sent for the `starts`th time.
    Starting { starts: u32 },
    /// The answer of `jobs.run` was lost.
    Recovering(Recovery),
    /// There is one execution.
    Watching(Watch),
    /// The execution is not found. The job tells whether somebody deleted it, or whether the read lags.
    ConfirmingGone(Watch),
    /// The execution says, in these words, that it was cancelled. The job tells whether that was by deleting it.
    ConfirmingCancelled { message: String },
    /// `jobs.delete` was sent.
    CleaningUp { result: Result<Outcome, RunError> },
}

/// The search for an execution that may have been started: by the job's status, then by the list, some times over,
/// because each of them can lag.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) starts: u32,
    pub(super) looks: u32,
    pub(super) failures: u32,
    /// Whether the job's status named none, so that the list is next.
    pub(super) job_names_none: bool,
    pub(super) cause: Box<ApiError>,
}

/// What is known of the execution that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) execution: String,
    pub(super) since: Duration,
    pub(super) looks: Backoff,
    pub(super) running: bool,
    pub(super) gone_since: Option<Duration>,
}

impl State {
    /// The call whose answer the state waits for.
    pub(super) fn ask(&self) -> Ask {
        match self {
            Self::Creating { .. } => Ask::CreateJob,
            Self::Starting { .. } => Ask::RunJob,
            Self::Recovering(Recovery { job_names_none: true, .. }) => Ask::ListExecutions,
            Self::NameTaken { .. }
            | Self::CheckingLeftover { .. }
            | Self::AwaitingReady { .. }
            | Self::Recovering(_)
            | Self::ConfirmingGone(_)
            | Self::ConfirmingCancelled { .. } => Ask::ReadJob,
            Self::Watching(watch) => Ask::ReadExecution(watch.execution.clone()),
            Self::CleaningUp { .. } => Ask::DeleteJob,
        }
    }
}

impl Recovery {
    /// A search that has not begun, after the `starts`th `jobs.run`.
    pub(super) fn new(starts: u32, cause: Box<ApiError>) -> Self {
        Self { starts, looks: 0, failures: 0, job_names_none: false, cause }
    }
}
