//! The states of a run. Each state owns exactly the data that it needs, and waits for the response to one command.

use std::time::Duration;

use super::{
    cleanup::Cleanup,
    context::RunContext,
    protocol::{Command, ExecutionWatch, GiveUp, GiveUpReason, KillEffect, Outcome, RunError},
};
use crate::{
    api::ApiError,
    lifecycle::{backoff::Backoff, region_queue::Stage},
};

/// Longest pause between two reads of an execution while the run looks for another one.
const MAX_PAUSE_BETWEEN_LOOKS: Duration = Duration::from_secs(10);

impl Creating {
    /// The create has waited this long for its quota or its turn.
    pub(super) fn waited(&mut self, wait: Duration) {
        self.taken_since = self.taken_since.map(|since| since + wait);
    }
}

/// Where a run stands.
#[derive(Debug)]
pub(super) enum State {
    /// The run waits for its turn, or `jobs.create` was sent.
    Creating(Creating),
    /// The create was refused because a job of this name exists. If an earlier create of ours made that job, it is ours.
    /// A job that is being deleted frees the name soon. Any other job ends the run.
    NameTaken(NameTaken),
    /// The job is ours, and no execution of it is known.
    AwaitingReady(Readiness),
    /// The job is ready, but `jobs.run` was refused because a per-minute quota is used up, or the run waited long for its
    /// turn. The job is read again before the start.
    AwaitingCapacity(CapacityCheck),
    /// The job is ready. The run waits for its turn, and then the caller is asked whether it is still to be started.
    Confirming(Readiness),
    /// `jobs.run` was sent.
    Starting(Readiness),
    /// The response to `jobs.run` was lost.
    Recovering(Recovery),
    /// There is one execution.
    Watching(Watch),
    /// The execution is not found. The job tells whether it was deleted, or has ended, or whether the read is wrong.
    ConfirmingGone(Watch),
    /// Reads find neither the execution nor the job. A list tells whether the job is gone.
    FindingJob(Watch),
    /// The execution was cancelled. The job tells whether that happened because it is being deleted.
    ConfirmingCancelled(Cancelled),
    /// The job was started again after a start whose response was lost. The job, and then the list of its executions, tell
    /// whether there are two.
    CountingExecutions(Count),
    /// There are several executions. All but the oldest are being cancelled.
    CancellingDuplicates(Duplicates),
}

/// Data of [`State::Creating`].
#[derive(Debug)]
pub(super) struct Creating {
    /// When a create was first refused because of the name.
    pub(super) taken_since: Option<Duration>,
    /// Whether a create that was sent earlier may have taken effect.
    pub(super) maybe_done: bool,
    /// Whether it is the run's turn.
    pub(super) has_turn: bool,
}

/// Data of [`State::NameTaken`].
#[derive(Debug)]
pub(super) struct NameTaken {
    pub(super) since: Duration,
    /// Whether a create of ours may have taken effect.
    pub(super) maybe_done: bool,
    /// Whether the next call is a list, because reads do not find the job.
    pub(super) finds_job: bool,
    /// The refusal of the create.
    pub(super) error: Box<ApiError>,
}

/// The wait for a job to become ready.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) since: Duration,
    pub(super) pauses: Backoff,
    /// The condition that was last reported.
    pub(super) reported: Option<String>,
    /// Whether it was reported that the wait takes long.
    pub(super) said_long: bool,
    /// Since when the job is `Ready=False`.
    pub(super) failing_since: Option<Duration>,
    /// Since when reads don't find the job.
    pub(super) not_found_since: Option<Duration>,
    /// Whether they don't find it for so long that a list is asked.
    pub(super) finds_job: bool,
    /// How many `jobs.run` requests were sent that were not refused for lack of capacity.
    pub(super) starts_sent: u32,
    /// Whether it is the run's turn to start its job.
    pub(super) has_turn: bool,
}

/// Data of [`State::AwaitingCapacity`]: the read of the job before the next start.
#[derive(Debug)]
pub(super) struct CapacityCheck {
    /// How many `jobs.run` requests were sent that were not refused for lack of capacity.
    pub(super) starts_sent: u32,
    /// When it was needed first.
    pub(super) since: Duration,
    /// Whether it is the run's turn to start its job.
    pub(super) has_turn: bool,
    /// Since when reads don't find the job.
    pub(super) not_found_since: Option<Duration>,
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
    /// Whether reads don't find the job, so that a list is asked.
    pub(super) finds_job: bool,
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
    /// Pauses after reads that failed in a way that waiting alone does not mend.
    pub(super) refused_pauses: Backoff,
    pub(super) is_running: bool,
    /// Since when reads don't find the execution.
    pub(super) not_found_since: Option<Duration>,
    /// Since when reads don't find the job either.
    pub(super) job_not_found_since: Option<Duration>,
    /// Since when the execution can't be read.
    pub(super) unreadable_since: Option<Duration>,
    /// Whether it was reported that the job shows an execution that reads don't find.
    pub(super) has_reported_contradiction: bool,
    /// Whether the run was given up, and ends after the next read.
    pub(super) is_last_look: bool,
    /// The search for an execution of a start whose response was lost.
    pub(super) lost_start: Option<LostStart>,
}

/// A start whose response was lost, and which did not show an execution before the next start was sent. It may still take
/// effect.
#[derive(Clone, Debug)]
pub(super) struct LostStart {
    /// When it counts as never carried out.
    pub(super) deadline: Duration,
    /// When to look for its execution next.
    pub(super) next_look: Duration,
    pub(super) pauses: Backoff,
    /// Executions of the job that were cancelled, or could not be.
    pub(super) handled: Vec<String>,
}

/// Data of [`State::CountingExecutions`].
#[derive(Debug)]
pub(super) struct Count {
    pub(super) watch: Watch,
    pub(super) lost_start: LostStart,
    /// Whether the job shows that there is more than one, so that the list is read.
    pub(super) shows_more: bool,
}

/// Data of [`State::CancellingDuplicates`].
#[derive(Debug)]
pub(super) struct Duplicates {
    /// The watch of the oldest execution.
    pub(super) watch: Watch,
    pub(super) lost_start: LostStart,
    /// The execution that is being cancelled.
    pub(super) current: String,
    /// Those that are cancelled after it.
    pub(super) others: Vec<String>,
    pub(super) pauses: Backoff,
    /// When a cancel that fails is given up.
    pub(super) deadline: Duration,
}

/// Data of [`State::ConfirmingCancelled`].
#[derive(Debug)]
pub(super) struct Cancelled {
    /// The service's message.
    pub(super) message: String,
    /// Whether a read did not find the job, so that a list is asked.
    pub(super) finds_job: bool,
    pub(super) pauses: Backoff,
    /// When a job that can't be read counts as still there.
    pub(super) deadline: Duration,
}

/// What follows an event.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for a moment only, and its state is boxed with the machine")]
pub(super) enum Transition {
    /// Go to `state`, and send its command after `pause`.
    Wait { pause: Duration, state: State },
    /// The run has ended. The job is deleted by `cleanup`, if there is one.
    Finish { result: Result<Outcome, RunError>, cleanup: Option<Box<Cleanup>> },
}

impl Transition {
    /// To `state`, whose command is sent after `pause`.
    pub(super) fn to(pause: Duration, state: State) -> Self {
        Self::Wait { pause, state }
    }

    /// To the end of a run whose job is not to be deleted, or is deleted.
    pub(super) fn end(result: Result<Outcome, RunError>) -> Self {
        Self::Finish { result, cleanup: None }
    }

    /// To the end of a run that failed, and whose job is not to be deleted, or is deleted.
    pub(super) fn fail(error: impl Into<RunError>) -> Self {
        Self::end(Err(error.into()))
    }
}

impl State {
    /// Its name, as in the diagram of [`super::Machine`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Creating(_) => "Creating",
            Self::NameTaken(_) => "NameTaken",
            Self::AwaitingReady(_) => "AwaitingReady",
            Self::AwaitingCapacity(_) => "AwaitingCapacity",
            Self::Confirming(_) => "Confirming",
            Self::Starting(_) => "Starting",
            Self::Recovering(_) => "Recovering",
            Self::Watching(_) => "Watching",
            Self::ConfirmingGone(_) => "ConfirmingGone",
            Self::FindingJob(_) => "FindingJob",
            Self::ConfirmingCancelled(_) => "ConfirmingCancelled",
            Self::CountingExecutions(_) => "CountingExecutions",
            Self::CancellingDuplicates(_) => "CancellingDuplicates",
        }
    }

    /// The command whose response the state waits for.
    pub(super) fn command(&self, run: &RunContext) -> Command {
        match self {
            Self::Creating(Creating { has_turn: false, .. }) => {
                Command::AwaitTurn(Stage::Create, run.capacity_time_left())
            }
            Self::Creating(_) => Command::CreateJob,
            Self::Confirming(Readiness { has_turn: false, .. }) => {
                Command::AwaitTurn(Stage::Start, run.capacity_time_left())
            }
            Self::Confirming(_) => Command::ConfirmStart,
            Self::Starting(_) => Command::RunJob,
            Self::Recovering(Recovery { job_status: Some(_), .. })
            | Self::CountingExecutions(Count { shows_more: true, .. }) => Command::ListExecutions,
            Self::NameTaken(NameTaken { finds_job: true, .. })
            | Self::AwaitingReady(Readiness { finds_job: true, .. })
            | Self::Recovering(Recovery { finds_job: true, .. })
            | Self::ConfirmingCancelled(Cancelled { finds_job: true, .. })
            | Self::FindingJob(_) => Command::FindJob,
            Self::NameTaken(_)
            | Self::AwaitingReady(_)
            | Self::AwaitingCapacity(_)
            | Self::Recovering(_)
            | Self::ConfirmingGone(_)
            | Self::ConfirmingCancelled(_)
            | Self::CountingExecutions(_) => Command::ReadJob,
            Self::CancellingDuplicates(duplicates) => Command::CancelExecution(duplicates.current.clone()),
            Self::Watching(watch) => Command::WatchExecution(ExecutionWatch {
                execution: watch.execution.clone(),
                since: watch.since,
                is_running: watch.is_running,
                max_pause: match watch.lost_start {
                    // Each look for another execution begins the watch anew, so the pauses between reads are shorter than those
                    // between looks.
                    Some(_) => run.plan.poll_interval.min(MAX_PAUSE_BETWEEN_LOOKS),
                    None => run.plan.poll_interval,
                },
                until: watch.lost_start.as_ref().map(|lost| lost.next_look),
                is_last_look: watch.is_last_look,
            }),
        }
    }

    /// Whether the run holds its turn in its region.
    pub(super) fn holds_turn(&self) -> bool {
        match self {
            Self::Creating(creating) => creating.has_turn,
            Self::AwaitingReady(readiness) | Self::Confirming(readiness) => readiness.has_turn,
            Self::AwaitingCapacity(check) => check.has_turn,
            Self::Starting(_) => true,
            _ => false,
        }
    }

    /// Which kill ends the run.
    pub(super) fn kill_effect(&self) -> KillEffect {
        match self {
            Self::Creating(Creating { maybe_done: false, .. } | Creating { has_turn: false, .. })
            | Self::NameTaken(NameTaken { maybe_done: false, .. }) => KillEffect::UnlessCreated,
            // It would go on for long.
            Self::NameTaken(taken) if taken.error.kind.is_lack_of_room() => KillEffect::UnlessCreated,
            Self::Creating(_) | Self::NameTaken(_) => KillEffect::None,
            _ => KillEffect::OnceDeleted,
        }
    }

    /// Whether an order to give up ends the run.
    pub(super) fn give_up(&self, reason: GiveUpReason) -> GiveUp {
        match self {
            Self::Creating(_)
            | Self::NameTaken(_)
            | Self::AwaitingReady(_)
            | Self::AwaitingCapacity(_)
            | Self::Confirming(_) => GiveUp::AtOnce,
            Self::Starting(_) => GiveUp::UnlessSent,
            // An execution may run. Prefect's kill and the engine in the container deal with it.
            _ if reason != GiveUpReason::WorkerStopping => GiveUp::Ignored,
            Self::Watching(Watch { is_last_look: false, .. })
            | Self::Recovering(_)
            | Self::ConfirmingGone(_)
            | Self::FindingJob(_)
            | Self::CountingExecutions(_) => GiveUp::AtOnce,
            Self::Watching(_) | Self::ConfirmingCancelled(_) | Self::CancellingDuplicates(_) => GiveUp::Ignored,
        }
    }
}
