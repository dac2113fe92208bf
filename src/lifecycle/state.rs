//! Where a run can stand.

use std::time::Duration;

use super::{
    quota::QuotaWait,
    removal::Removal,
    step::{Ask, Outcome, Plan, RunError, Watched},
};
use crate::api::{ApiError, Backoff};

/// Where a run stands. Each state owns what only it needs, and waits for the answer of exactly one call.
#[derive(Debug)]
pub(super) enum State {
    /// `jobs.create` was sent; `maybe_done` tells whether one that was sent before may have taken effect, `taken_since`
    /// when one was first refused because of the name.
    Creating { taken_since: Option<Duration>, maybe_done: bool },
    /// Our create was refused because of the name. The job is ours if an earlier create made it; one in deletion frees
    /// the name soon; anybody else's ends the run.
    NameTaken { since: Duration, maybe_done: bool, error: Box<ApiError> },
    /// The run has failed, and the job may be there all the same: a create that failed may happen yet, a read that found
    /// nothing may have lagged. If it is there and ours, it is cleaned up. Its absence counts from `settled_at` on.
    CheckingLeftover { settled_at: Duration, error: RunError },
    /// The job is ours and no execution of it is known.
    AwaitingReady(Readiness),
    /// The job can be run, but `jobs.run` was refused because of a quota or a limit.
    AwaitingQuota(Readiness),
    /// `jobs.run` was sent.
    Starting(Readiness),
    /// The answer of `jobs.run` was lost.
    Recovering(Recovery),
    /// There is one execution.
    Watching(Watch),
    /// The execution is not found. The job tells whether somebody deleted it, or whether the read lags.
    ConfirmingGone(Watch),
    /// The execution says, in these words, that it was cancelled. The job tells whether that was by deleting it.
    ConfirmingCancelled { message: String, looks: Backoff, deadline: Duration },
    /// The job is being deleted.
    CleaningUp { result: Result<Outcome, RunError>, removal: Removal },
}

/// The wait for a job that can be run.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Since when it is waited for.
    pub(super) since: Duration,
    pub(super) looks: Backoff,
    /// The condition that was last told.
    pub(super) told: Option<String>,
    pub(super) failing_since: Option<Duration>,
    /// Whether the last read did not find the job.
    pub(super) is_missed: bool,
    /// How often `jobs.run` was sent.
    pub(super) starts: u32,
    /// The wait for a quota, once there is one.
    pub(super) quota: Option<QuotaWait>,
}

/// The search for an execution that may have been started: by the job's status, then by the list, time and again,
/// because each of them can lag, and the start itself may still be under way.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) readiness: Readiness,
    /// When the answer was lost.
    pub(super) since: Duration,
    pub(super) looks: Backoff,
    /// What the job's status said in the present round; none while it is being asked.
    pub(super) job_says: Option<JobSays>,
    pub(super) cause: Box<ApiError>,
}

/// What a job's status tells of executions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JobSays {
    /// There was none when a start that is not known of could not happen any more.
    NoneForSure,
    /// Nothing that could be relied on.
    Nothing,
}

/// What is known of the execution that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) execution: String,
    pub(super) since: Duration,
    /// Pauses after looks that told nothing.
    pub(super) looks: Backoff,
    pub(super) is_running: bool,
    pub(super) gone_since: Option<Duration>,
}

impl State {
    /// Its name, as in the diagram of [`super::machine`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "Creating",
            Self::NameTaken { .. } => "NameTaken",
            Self::CheckingLeftover { .. } => "CheckingLeftover",
            Self::AwaitingReady(_) => "AwaitingReady",
            Self::AwaitingQuota(_) => "AwaitingQuota",
            Self::Starting(_) => "Starting",
            Self::Recovering(_) => "Recovering",
            Self::Watching(_) => "Watching",
            Self::ConfirmingGone(_) => "ConfirmingGone",
            Self::ConfirmingCancelled { .. } => "ConfirmingCancelled",
            Self::CleaningUp { .. } => "CleaningUp",
        }
    }

    /// The call whose answer the state waits for.
    pub(super) fn ask(&self, plan: &Plan) -> Ask {
        match self {
            Self::Creating { .. } => Ask::CreateJob,
            Self::Starting(_) => Ask::RunJob,
            Self::Recovering(Recovery { job_says: Some(_), .. }) => Ask::ListExecutions,
            Self::NameTaken { .. }
            | Self::CheckingLeftover { .. }
            | Self::AwaitingReady(_)
            | Self::AwaitingQuota(_)
            | Self::Recovering(_)
            | Self::ConfirmingGone(_)
            | Self::ConfirmingCancelled { .. } => Ask::ReadJob,
            Self::Watching(watch) => Ask::WatchExecution(Watched {
                execution: watch.execution.clone(),
                since: watch.since,
                is_running: watch.is_running,
                longest_pause: plan.poll_interval,
            }),
            Self::CleaningUp { removal, .. } => removal.ask(),
        }
    }
}
