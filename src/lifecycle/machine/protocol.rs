//! What goes into the machine and what comes out of it: a plan, commands, events, and the end of a run.

use std::time::Duration;

use thiserror::Error;

use crate::{
    api::{
        ApiError, ApiResult, RetryPolicy,
        types::{Execution, Job},
    },
    lifecycle::progress::sentence,
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
    /// Whether the job stays after the run.
    pub keep_job: bool,
    /// Longest wait for the job to become ready.
    pub ready_timeout: Duration,
    /// Longest pause between two reads of a job or an execution.
    pub poll_interval: Duration,
    /// How long a create or a start may still take effect after its response was lost.
    pub settle_time: Duration,
    /// Longest wait for a quota or a limit that keeps `jobs.run` from starting an execution.
    pub quota_wait_max: Duration,
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

/// A call that the machine asks for. The event named in each variant carries its response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Create the job: [`Event::Created`].
    CreateJob,
    /// Read the job: [`Event::JobRead`].
    ReadJob,
    /// Start an execution: [`Event::RunResponse`].
    RunJob,
    /// List the job's executions: [`Event::ExecutionsListed`].
    ListExecutions,
    /// Wait for an update of an execution: [`Event::ExecutionRead`].
    WatchExecution(ExecutionWatch),
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
}

/// The response to a command, or a kill.
#[derive(Clone, Debug)]
pub enum Event {
    /// Response to [`Command::CreateJob`].
    Created(ApiResult<Job>),
    /// Response to [`Command::ReadJob`].
    JobRead(ApiResult<Job>),
    /// Response to [`Command::RunJob`].
    RunResponse(ApiResult<Execution>),
    /// Response to [`Command::ListExecutions`].
    ExecutionsListed(ApiResult<Vec<Execution>>),
    /// Response to [`Command::WatchExecution`].
    ExecutionRead(ApiResult<Execution>),
    /// Response to [`Command::DeleteJob`].
    Deleted(ApiResult<()>),
    /// A kill in this process has deleted the job. It replaces the response to the pending command. Sent only if
    /// [`Machine::ends_on_kill`](super::Machine::ends_on_kill).
    Killed,
}

/// How a started run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
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
        "Cloud Run Job '{job}' did not become ready within {seconds} s (job variable 'timeout'). Its last known \
         condition: {}",
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
            Self::NotReady { .. } => CHECK_VARIABLES.to_owned(),
            Self::ReadyTimeout { .. } => {
                "Increase the job variable 'timeout', or find out why the job takes so long to become ready.".to_owned()
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
