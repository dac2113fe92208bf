//! What there is to report about a run.

use std::{sync::Arc, time::Duration};

use super::facts::ExecutionFacts;
use crate::{
    api::{
        ApiError, Quota, RetryNotice,
        types::{Condition, ConditionStatus},
    },
    diagnosis::Diagnosis,
};

/// Receives the progress of a run. Called from the run's own task; must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Something that happened to a job or its execution. [`Display`](std::fmt::Display) gives its log line.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The worker is about to create the job.
    Creating {
        /// Name of the job.
        job: String,
    },
    /// The job exists.
    Created {
        /// Name of the job.
        job: String,
        /// Its uid, if the response has it.
        uid: Option<String>,
    },
    /// The job can't be started yet.
    AwaitingReady {
        /// Name of the job.
        job: String,
        /// The `Ready` condition, if there is one.
        condition: Option<Condition>,
        /// Whether the worker has waited for so long that a person should know.
        takes_long: bool,
    },
    /// The job is ready, and the worker is about to start it.
    Submitting {
        /// Name of the job.
        job: String,
    },
    /// A quota or a limit lets the run create or start nothing for now. The worker waits.
    AwaitingCapacity {
        /// The service's refusal.
        error: ApiError,
        /// Longest wait.
        max_wait: Duration,
    },
    /// A create failed that may have taken effect. The worker checks before it gives up.
    CheckingLeftover {
        /// Name of the job.
        job: String,
        /// How long it checks, if it finds no job and reads succeed.
        max_wait: Duration,
        /// The failure of the create.
        error: ApiError,
    },
    /// It is unknown whether an execution started. The worker is finding out.
    Recovering {
        /// The failure of the start request.
        error: ApiError,
    },
    /// The start request whose response was lost started nothing. The worker sends it again.
    NotStarted {
        /// Name of the job.
        job: String,
    },
    /// The start request started an execution of another job, which had replaced ours.
    StartedAnotherJob {
        /// Name of both jobs.
        job: String,
        /// Name of the execution.
        execution: String,
    },
    /// There is an execution.
    Started {
        /// Name of the job.
        job: String,
        /// Name of the execution.
        execution: String,
    },
    /// The execution's containers run.
    Running {
        /// The execution.
        facts: ExecutionFacts,
    },
    /// Every task of the execution succeeded.
    Succeeded {
        /// Name of the job.
        job: String,
        /// The execution.
        facts: ExecutionFacts,
    },
    /// The execution failed or was cancelled.
    Failed {
        /// Name of the job.
        job: String,
        /// The service's message.
        message: String,
        /// The execution.
        facts: ExecutionFacts,
    },
    /// The cause is known for which the run failed, or its job could not be started.
    Diagnosed {
        /// The cause.
        diagnosis: Box<Diagnosis>,
    },
    /// The job or its execution was deleted before the execution ended.
    Removed {
        /// Name of the job.
        job: String,
        /// Whether a kill in this process deleted it.
        killed: bool,
        /// The execution.
        facts: ExecutionFacts,
    },
    /// Where the execution's log is.
    Log {
        /// Address of the log.
        uri: String,
    },
    /// A kill begins: Prefect asked this worker to stop the flow run.
    Killing {
        /// Name of the job.
        job: String,
    },
    /// The worker is about to delete the job.
    Deleting {
        /// Name of the job.
        job: String,
        /// Whether its execution ended.
        completed: bool,
    },
    /// The job is deleted.
    Deleted {
        /// Name of the job.
        job: String,
    },
    /// The job stays, because `keep_job` is set.
    Kept {
        /// Name of the job.
        job: String,
    },
    /// The job may still exist: it could not be deleted, or it could not be read.
    Leaked {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        delete_command: String,
        /// Why.
        error: ApiError,
    },
    /// There is a job of this name that may be ours or somebody else's. It was not deleted.
    UnknownOwner {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        delete_command: String,
    },
    /// The job could not be deleted yet. The worker goes on trying.
    DeletionDelayed {
        /// Name of the job.
        job: String,
        /// The pause before the next attempt.
        pause: Duration,
        /// Why.
        error: ApiError,
    },
    /// Reads don't find an execution that its job shows. The watch goes on.
    ReadsContradict {
        /// Name of the job.
        job: String,
        /// Name of the execution.
        execution: String,
    },
    /// Reads don't find an execution, and its job says nothing about it. It is no longer watched. The job stays.
    LostSight {
        /// Name of the job.
        job: String,
        /// Name of the execution.
        execution: String,
        /// The command that deletes the job.
        delete_command: String,
    },
    /// A start whose response was lost took effect after another start was sent, so the job has two executions.
    SecondExecution {
        /// Name of the job.
        job: String,
        /// Name of the execution that is watched.
        oldest: String,
        /// Name of the younger execution.
        execution: String,
        /// Whether the younger one has ended. If not, the worker is about to cancel it.
        has_ended: bool,
    },
    /// A second execution could not be cancelled.
    NotCancelled {
        /// Name of the execution.
        execution: String,
        /// The command that cancels it.
        cancel_command: String,
        /// Why.
        error: ApiError,
    },
    /// The worker stops while the execution runs, or may run. The job stays.
    LeftForLater {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        delete_command: String,
    },
    /// The execution, if there is one, is no longer watched. The job stays, because deleting it would stop the execution.
    LeftRunning {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        delete_command: String,
        /// Why.
        error: ApiError,
    },
    /// A call failed and will be repeated.
    Retrying {
        /// The failure and the pause.
        notice: RetryNotice,
        /// How many failures of this kind were not reported since the last line.
        unreported: u32,
    },
    /// A read of the execution failed. The next read follows.
    PollFailed {
        /// Why.
        error: ApiError,
        /// The pause before the next read.
        pause: Duration,
        /// How many failures of this kind were not reported since the last line.
        unreported: u32,
    },
    /// A call waits because a per-minute quota is used up.
    RateLimited {
        /// The quota.
        quota: Quota,
        /// Project id.
        project: String,
        /// Region.
        region: String,
    },
    /// Lists of executions are of no use although reads work, so each execution is read on its own.
    PollingIndividually {
        /// Why a list failed. `None` if lists lack executions that reads show.
        error: Option<ApiError>,
        /// How often a read showed an execution that a list lacked.
        contradictions: u64,
    },
    /// A list lacks an execution that a read shows.
    ListsContradict {
        /// Name of the execution.
        execution: String,
    },
    /// The run is over.
    Summary {
        /// Name of the job.
        job: String,
        /// How long each phase took.
        phases: Phases,
        /// Whether the execution's end was seen.
        has_ended: bool,
        /// How many failed calls were repeated, or looked up.
        retries: u32,
    },
}

/// How long a run was in each phase. `None` for a phase that it did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    /// From the beginning until the job was ready.
    pub pending: Duration,
    /// From then until its execution ran.
    pub ready: Option<Duration>,
    /// From then until the execution ended.
    pub running: Option<Duration>,
}

/// Severity of a log line. The values are those of Python's `logging`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Details for debugging.
    Debug = 10,
    /// Part of the normal course.
    Info = 20,
    /// Something to look at.
    Warning = 30,
    /// The run failed.
    Error = 40,
}

impl Progress {
    /// What is known of the execution, where something happened to it.
    pub fn execution(&self) -> Option<&ExecutionFacts> {
        match self {
            Self::Running { facts }
            | Self::Succeeded { facts, .. }
            | Self::Failed { facts, .. }
            | Self::Removed { facts, .. } => Some(facts),
            _ => None,
        }
    }

    /// A stable name for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "creating",
            Self::Created { .. } => "created",
            Self::AwaitingReady { .. } => "awaiting_ready",
            Self::Submitting { .. } => "submitting",
            Self::AwaitingCapacity { .. } => "awaiting_capacity",
            Self::CheckingLeftover { .. } => "checking_leftover",
            Self::Recovering { .. } => "recovering",
            Self::NotStarted { .. } => "not_started",
            Self::StartedAnotherJob { .. } => "started_another_job",
            Self::Started { .. } => "started",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Diagnosed { .. } => "diagnosed",
            Self::Removed { .. } => "removed",
            Self::Log { .. } => "log",
            Self::Killing { .. } => "killing",
            Self::Deleting { .. } => "deleting",
            Self::Deleted { .. } => "deleted",
            Self::Kept { .. } => "kept",
            Self::Leaked { .. } => "leaked",
            Self::UnknownOwner { .. } => "unknown_owner",
            Self::DeletionDelayed { .. } => "deletion_delayed",
            Self::ReadsContradict { .. } => "reads_contradict",
            Self::LostSight { .. } => "lost_sight",
            Self::SecondExecution { .. } => "second_execution",
            Self::NotCancelled { .. } => "not_cancelled",
            Self::LeftForLater { .. } => "left_for_later",
            Self::LeftRunning { .. } => "left_running",
            Self::Retrying { .. } => "retrying",
            Self::PollFailed { .. } => "poll_failed",
            Self::RateLimited { .. } => "rate_limited",
            Self::PollingIndividually { .. } => "polling_individually",
            Self::ListsContradict { .. } => "lists_contradict",
            Self::Summary { .. } => "summary",
        }
    }

    /// Severity of its log line.
    pub fn level(&self) -> Level {
        match self {
            Self::AwaitingCapacity { .. }
            | Self::CheckingLeftover { .. }
            | Self::Recovering { .. }
            | Self::NotStarted { .. }
            | Self::StartedAnotherJob { .. }
            | Self::Leaked { .. }
            | Self::UnknownOwner { .. }
            | Self::DeletionDelayed { .. }
            | Self::ReadsContradict { .. }
            | Self::LostSight { .. }
            | Self::SecondExecution { .. }
            | Self::NotCancelled { .. }
            | Self::LeftRunning { .. }
            | Self::Retrying { .. }
            | Self::RateLimited { .. }
            | Self::PollingIndividually { .. }
            | Self::ListsContradict { .. }
            | Self::PollFailed { .. } => Level::Warning,
            Self::Failed { .. } | Self::Diagnosed { .. } => Level::Error,
            // The normal course, between lines that say more.
            Self::Created { .. } => Level::Debug,
            Self::AwaitingReady { condition, takes_long: false, .. }
                if !condition.as_ref().is_some_and(|ready| ready.status == ConditionStatus::False) =>
            {
                Level::Debug
            }
            _ => Level::Info,
        }
    }
}
