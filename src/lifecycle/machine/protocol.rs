//! What goes into the machine and what comes out of it: a plan, commands, events, and the end of a run.

use std::time::Duration;

use thiserror::Error;

use crate::{
    api::{
        ApiError, ApiResult, RetryPolicy,
        types::{Execution, Job},
    },
    diagnosis::Diagnosis,
    lifecycle::{progress::sentence, region_queue::Stage},
};

/// What is fixed for one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Project id.
    pub project: String,
    /// Region of the job.
    pub region: String,
    /// Name of the job.
    pub job: String,
    /// Key and value of the label that only our job carries: the flow run's id. Without it, a job that may belong to
    /// somebody else is left alone.
    pub owner_label: Option<(String, String)>,
    /// Whether no other job can have the job's name, because it contains a random number.
    pub has_unique_name: bool,
    /// Whether the job stays after the run.
    pub keep_job: bool,
    /// Longest wait for the job to become ready.
    pub ready_timeout: Duration,
    /// Longest pause between two reads of a job or an execution.
    pub poll_interval: Duration,
    /// How long a create or a start may still take effect after its response was lost.
    pub settle_time: Duration,
    /// Longest wait for quotas and limits that keep the job from being created or started, over all creates and starts.
    pub quota_wait_max: Duration,
    /// Longest time that a run goes on watching while its execution can't be read.
    pub watch_retry_max: Duration,
    /// Budget for deleting the job and for finding a lost start while the API fails.
    pub retry: RetryPolicy,
    /// Seed of this run's random pauses, so that runs that wait together don't retry together.
    pub seed: u64,
}

/// How long after our own timeout a create or a start may still take effect and show in reads. Longer than reads lag.
const SETTLE_MARGIN: Duration = Duration::from_secs(15);

impl Plan {
    /// The [`settle_time`](Self::settle_time) for calls with this timeout.
    pub fn settle_time_of(attempt_timeout: Duration) -> Duration {
        attempt_timeout + SETTLE_MARGIN
    }

    /// The command with which a person deletes the job.
    pub(super) fn delete_command(&self) -> String {
        let Self { project, region, job, .. } = self;
        format!("gcloud run jobs delete {job} --region {region} --project {project}")
    }
}

/// A call that the machine asks for, or a wait. The event named in each variant carries its response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Wait for the run's turn to create or start its job, at most this long: [`Event::TurnCame`].
    AwaitTurn(Stage, Duration),
    /// Create the job: [`Event::Created`].
    CreateJob,
    /// Read the job: [`Event::JobRead`].
    ReadJob,
    /// Find the job by a list: [`Event::JobListed`].
    FindJob,
    /// Ask the caller whether the job is still to be started: [`Event::StartConfirmed`], or [`Event::GivenUp`] if it is not.
    ConfirmStart,
    /// Start an execution: [`Event::RunResponse`].
    RunJob,
    /// List the job's executions: [`Event::ExecutionsListed`].
    ListExecutions,
    /// Wait for an update of an execution: [`Event::ExecutionRead`].
    WatchExecution(ExecutionWatch),
    /// Cancel the execution of this name: [`Event::ExecutionCancelled`].
    CancelExecution(String),
    /// Delete the job: [`Event::Deleted`].
    DeleteJob,
}

/// An execution to watch.
///
/// An update is due when the execution has ended, began to run, is not found, or could not be read. An update that says
/// nothing new is allowed too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecutionWatch {
    /// Name of the execution.
    pub execution: String,
    /// When it started, in the machine's time.
    pub since: Duration,
    /// Whether it is known to run.
    pub is_running: bool,
    /// Longest pause between two reads.
    pub max_pause: Duration,
    /// When the wait ends without an update ([`Event::WatchPaused`]), in the machine's time.
    pub until: Option<Duration>,
    /// Whether the run ends after the next read, whatever it shows. It is due at once.
    pub is_last_look: bool,
}

/// Why a run is no longer wanted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GiveUpReason {
    /// The flow run is cancelled, or is being cancelled.
    FlowRunCancelled,
    /// The flow run has ended without this run.
    FlowRunEnded,
    /// The flow run was deleted.
    FlowRunDeleted,
    /// The worker stops.
    WorkerStopping,
}

/// Whether an order to give up ends the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GiveUp {
    /// It does not: the run is past the point.
    Ignored,
    /// It does, and cuts the pending call short.
    AtOnce,
    /// It does as long as the pending call can't have taken effect.
    UnlessSent,
}

/// Which kill ends a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KillEffect {
    /// None: the run is about to end anyway, or a create of it may have taken effect and its response will tell.
    None,
    /// A kill that begins, as long as the pending create can't have taken effect.
    UnlessCreated,
    /// A kill that has deleted the job.
    OnceDeleted,
}

/// The response to a command, a kill, or an order to give up.
#[derive(Clone, Debug)]
pub enum Event {
    /// Response to [`Command::AwaitTurn`]: it came after this wait.
    TurnCame(Duration),
    /// Response to [`Command::CreateJob`].
    Created(ApiResult<Job>),
    /// Response to [`Command::ReadJob`].
    JobRead(ApiResult<Job>),
    /// Response to [`Command::FindJob`].
    JobListed(ApiResult<Option<Job>>),
    /// Response to [`Command::ConfirmStart`]: the job is to be started.
    StartConfirmed,
    /// Response to [`Command::RunJob`].
    RunResponse(ApiResult<Execution>),
    /// Response to [`Command::ListExecutions`].
    ExecutionsListed(ApiResult<Vec<Execution>>),
    /// Response to [`Command::WatchExecution`].
    ExecutionRead(ApiResult<Execution>),
    /// The wait of [`Command::WatchExecution`] ended without an update.
    WatchPaused,
    /// Response to [`Command::CancelExecution`].
    ExecutionCancelled(ApiResult<Execution>),
    /// Response to [`Command::DeleteJob`].
    Deleted(ApiResult<()>),
    /// A kill in this process ends the run. It replaces the response to the pending command. Sent only as
    /// [`Machine::kill_effect`](super::Machine::kill_effect) says.
    Killed,
    /// The run is no longer wanted. Replaces the response to the pending command. Sent only as
    /// [`Machine::give_up`](super::Machine::give_up) says.
    GivenUp {
        /// Why.
        reason: GiveUpReason,
        /// Whether the pending command may have taken effect.
        maybe_done: bool,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was given up, and no start request can have taken effect.
    NotStarted,
    /// It was given up while its execution ran, or may have. The job stays.
    LeftRunning,
    /// Every task succeeded.
    Succeeded,
    /// The execution failed or was cancelled; the service's message.
    Failed(String),
    /// The job or the execution was deleted while it ran.
    Removed,
}

/// Why a run did not start, or is no longer watched. [`RunError::hint`] says what to do; it is not part of the text, but for
/// [`RunError::Api`].
#[derive(Clone, Debug, Error)]
pub enum RunError {
    /// A call failed for good.
    #[error(transparent)]
    Api(#[from] Box<ApiError>),
    /// The service says that the job can't run.
    #[error("Cloud Run Job '{job}' cannot run: {}", sentence(condition))]
    NotReady {
        /// Name of the job.
        job: String,
        /// The condition, in words.
        condition: String,
    },
    /// The service did not decide in time.
    #[error(
        "Cloud Run Job '{job}' did not become ready within {seconds} s (job variable 'timeout', or 'ready_timeout' where \
         the work pool has it). Its last known condition: {}",
        sentence(condition)
    )]
    ReadyTimeout {
        /// Name of the job.
        job: String,
        /// The timeout, in seconds.
        seconds: u64,
        /// The last known condition, in words.
        condition: String,
    },
    /// The job was deleted before an execution was known.
    #[error(
        "Cloud Run Job '{job}' was deleted {}{}",
        if *maybe_started { "while it was unknown whether an execution had started" } else { "before an execution started" },
        if *killed { ", because Prefect asked this worker to stop the flow run." } else { ". This worker did not delete it." }
    )]
    RemovedBeforeStart {
        /// Name of the job.
        job: String,
        /// Whether the response to a start request was lost.
        maybe_started: bool,
        /// Whether a kill in this process deleted it.
        killed: bool,
    },
    /// It could not be found out whether there is an execution. The job was not started again.
    #[error(
        "It is unknown whether Cloud Run Job '{job}' started an execution. The worker did not start the job again and \
         did not delete it. {}", cause.brief()
    )]
    StartUnknown {
        /// Name of the job.
        job: String,
        /// Why it is unknown.
        cause: Box<ApiError>,
    },
}

const CHECK_VARIABLES: &str =
    "Check the job variables that the condition is about, such as 'image' or 'service_account_name'.";

impl RunError {
    /// What a person can do about it, in one sentence. Empty if there is nothing to do.
    pub fn hint(&self, project: &str, region: &str) -> String {
        match self {
            Self::Api(error) => error.hint(),
            Self::NotReady { condition, .. } => {
                Diagnosis::of_start(condition).or_resolution(CHECK_VARIABLES.to_owned()).resolution
            }
            Self::ReadyTimeout { .. } => {
                "Increase that job variable, or find out why the job takes so long to become ready.".to_owned()
            }
            Self::RemovedBeforeStart { killed: true, .. } => String::new(),
            Self::RemovedBeforeStart { .. } => {
                "The project's audit logs (method Jobs.DeleteJob) show who deleted it.".to_owned()
            }
            Self::StartUnknown { job, .. } => format!(
                "Check its executions: gcloud run jobs executions list --job {job} --region {region} --project {project}"
            ),
        }
    }
}
