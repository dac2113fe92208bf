//! The states of a run. Each state owns exactly the data that it needs, and waits for the response to one command.

use std::time::Duration;

use super::{
    protocol::{Command, ExecutionWatch, Outcome, Plan, RunError},
    removal::Removal,
};
use crate::api::ApiError;
use crate::lifecycle::backoff::Backoff;

/// Where a run stands.
#[derive(Debug)]
pub(super) enum State {
    /// `jobs.create` was sent.
    Creating(Creating),
    /// The create was refused because a job of this name exists. If an earlier create of ours made that job, it is ours.
    /// A job that is being deleted frees the name soon. Any other job ends the run.
    NameTaken(NameTaken),
    /// The run has failed, but its job may exist: a create that failed may still take effect, and a read that found
    /// nothing may have lagged. A job of ours is deleted.
    CheckingLeftover(Leftover),
    /// The job is ours, and no execution of it is known.
    AwaitingReady(Readiness),
    /// The job is ready, but `jobs.run` was refused because a quota or a limit is used up.
    AwaitingCapacity(CapacityCheck),
    /// `jobs.run` was sent.
    Starting(Readiness),
    /// The response to `jobs.run` was lost.
    Recovering(Recovery),
    /// There is one execution.
    Watching(Watch),
    /// The execution is not found. The job tells whether it was deleted, or whether the read lags.
    ConfirmingGone(Watch),
    /// The execution was cancelled. The job tells whether that happened because it is being deleted.
    ConfirmingCancelled(Cancelled),
    /// The job is being deleted.
    CleaningUp(CleanUp),
}

/// Data of [`State::Creating`].
#[derive(Debug)]
pub(super) struct Creating {
    /// When a create was first refused because of the name.
    pub(super) taken_since: Option<Duration>,
    /// Whether a create that was sent earlier may have taken effect.
    pub(super) maybe_done: bool,
}

/// Data of [`State::NameTaken`].
#[derive(Debug)]
pub(super) struct NameTaken {
    pub(super) since: Duration,
    /// Whether a create of ours may have taken effect.
    pub(super) maybe_done: bool,
    /// The refusal of the create.
    pub(super) error: Box<ApiError>,
}

/// Data of [`State::CheckingLeftover`].
#[derive(Debug)]
pub(super) struct Leftover {
    /// From when on a 404 means that there is no job.
    pub(super) settled_at: Duration,
    /// The end of the run.
    pub(super) error: RunError,
}

/// The wait for a job to become ready.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) since: Duration,
    pub(super) pauses: Backoff,
    /// The condition that was last reported.
    pub(super) reported: Option<String>,
    /// Since when the job is `Ready=False`.
    pub(super) failing_since: Option<Duration>,
    /// Whether the last read did not find the job.
    pub(super) not_found: bool,
    pub(super) starts: Starts,
}

/// The starts of a run so far.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// How many `jobs.run` requests were sent that were not refused for lack of capacity.
    pub(super) sent: u32,
    /// The wait for capacity. It goes on where it was when a start is refused again.
    pub(super) capacity_wait: Option<CapacityWait>,
}

/// A wait for a quota or a limit. A full region can stay full for hours.
#[derive(Debug)]
pub(super) struct CapacityWait {
    pub(super) since: Duration,
    pub(super) pauses: Backoff,
    /// How many starts were refused.
    pub(super) refusals: u32,
    /// Spreads the starts of runs that wait together.
    pub(super) random: fastrand::Rng,
}

/// Data of [`State::AwaitingCapacity`]: the read of the job before the next start.
#[derive(Debug)]
pub(super) struct CapacityCheck {
    pub(super) wait: CapacityWait,
    /// How many `jobs.run` requests were sent that were not refused for lack of capacity.
    pub(super) starts_sent: u32,
    /// Whether the last read did not find the job.
    pub(super) not_found: bool,
}

/// The search for an execution that may have started.
///
/// One round reads the job's status and then lists the executions. There are several rounds, because both can lag and
/// the start itself may still be under way.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) readiness: Readiness,
    /// When the response was lost.
    pub(super) since: Duration,
    pub(super) pauses: Backoff,
    /// What the job's status says in this round; `None` while the job is being read.
    pub(super) job_status: Option<JobStatusVerdict>,
    /// Why the response was lost.
    pub(super) cause: Box<ApiError>,
}

/// What a job's status says about executions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JobStatusVerdict {
    /// There is no execution, and the lost start can't take effect any more.
    NoExecution,
    /// Nothing that can be relied on.
    Inconclusive,
}

/// The watch of an execution.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) execution: String,
    /// Whether it surely belongs to our job.
    pub(super) is_ours: bool,
    pub(super) since: Duration,
    /// Pauses after reads that gave no update.
    pub(super) pauses: Backoff,
    pub(super) is_running: bool,
    /// Since when reads don't find the execution.
    pub(super) not_found_since: Option<Duration>,
}

/// Data of [`State::ConfirmingCancelled`].
#[derive(Debug)]
pub(super) struct Cancelled {
    /// The service's message.
    pub(super) message: String,
    pub(super) pauses: Backoff,
    /// When a job that can't be read counts as still there.
    pub(super) deadline: Duration,
}

/// Data of [`State::CleaningUp`].
#[derive(Debug)]
pub(super) struct CleanUp {
    /// The end of the run.
    pub(super) result: Result<Outcome, RunError>,
    pub(super) removal: Removal,
}

/// What follows an event.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for a moment only, and its state is boxed with the machine")]
pub(super) enum Transition {
    /// Go to `state`, and send its command after `pause`.
    Wait { pause: Duration, state: State },
    /// The run has ended.
    Finish(Result<Outcome, RunError>),
}

impl Transition {
    /// To `state`, whose command is sent after `pause`.
    pub(super) fn to(pause: Duration, state: State) -> Self {
        Self::Wait { pause, state }
    }

    /// To the end of a run that failed.
    pub(super) fn fail(error: impl Into<RunError>) -> Self {
        Self::Finish(Err(error.into()))
    }
}

impl State {
    /// Its name, as in the diagram of [`super::Machine`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Creating(_) => "Creating",
            Self::NameTaken(_) => "NameTaken",
            Self::CheckingLeftover(_) => "CheckingLeftover",
            Self::AwaitingReady(_) => "AwaitingReady",
            Self::AwaitingCapacity(_) => "AwaitingCapacity",
            Self::Starting(_) => "Starting",
            Self::Recovering(_) => "Recovering",
            Self::Watching(_) => "Watching",
            Self::ConfirmingGone(_) => "ConfirmingGone",
            Self::ConfirmingCancelled(_) => "ConfirmingCancelled",
            Self::CleaningUp(_) => "CleaningUp",
        }
    }

    /// The command whose response the state waits for.
    pub(super) fn command(&self, plan: &Plan) -> Command {
        match self {
            Self::Creating(_) => Command::CreateJob,
            Self::Starting(_) => Command::RunJob,
            Self::Recovering(Recovery { job_status: Some(_), .. }) => Command::ListExecutions,
            Self::NameTaken(_)
            | Self::CheckingLeftover(_)
            | Self::AwaitingReady(_)
            | Self::AwaitingCapacity(_)
            | Self::Recovering(_)
            | Self::ConfirmingGone(_)
            | Self::ConfirmingCancelled(_) => Command::ReadJob,
            Self::Watching(watch) => Command::WatchExecution(ExecutionWatch {
                execution: watch.execution.clone(),
                since: watch.since,
                is_running: watch.is_running,
                max_pause: plan.poll_interval,
            }),
            Self::CleaningUp(clean_up) => clean_up.removal.command(),
        }
    }

    /// Whether a kill that has deleted the job ends the run at once, whatever the pending command's response.
    pub(super) fn ends_on_kill(&self) -> bool {
        match self {
            Self::AwaitingReady(_)
            | Self::AwaitingCapacity(_)
            | Self::Starting(_)
            | Self::Recovering(_)
            | Self::Watching(_)
            | Self::ConfirmingGone(_)
            | Self::ConfirmingCancelled(_) => true,
            // There is no job of ours yet, or the run is about to end anyway.
            Self::Creating(_) | Self::NameTaken(_) | Self::CheckingLeftover(_) | Self::CleaningUp(_) => false,
        }
    }
}
