//! What goes into the machine and what comes out of it.

use std::time::Duration;

use thiserror::Error;

use super::{machine::Machine, progress::Progress};
use crate::api::{
    ApiError,
    types::{Execution, Job},
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
    /// Key and value of the label that no job but ours carries: the flow run's id. Without one, a job that may or may
    /// not be ours is left alone.
    pub owner_label: Option<(String, String)>,
    /// Whether the job stays after its end.
    pub keep_job: bool,
    /// Longest wait for the job to become ready.
    pub ready_timeout: Duration,
    /// Longest pause between two looks.
    pub poll_interval: Duration,
    /// How long after a lost answer a create or a start may still take effect and show.
    pub settles: Duration,
    /// Longest wait for a quota or a limit that keeps `jobs.run` from starting an execution.
    pub quota_timeout: Duration,
    /// How long a removal, and the search for a lost start, is tried on while the API fails.
    pub patience: Duration,
    /// How often a delete is sent at most.
    pub tries: u32,
    /// Makes this run's pauses differ from those of others.
    pub seed: u64,
}

impl Plan {
    /// The command with which a person deletes the job.
    pub(super) fn how_to_delete(&self) -> String {
        let Self { project, region, job, .. } = self;
        format!("gcloud run jobs delete {job} --region {region} --project {project}")
    }
}

/// What one step decided.
#[derive(Debug)]
pub struct Step {
    /// What there is to tell, in this order.
    pub reports: Vec<Progress>,
    /// What to do.
    pub next: Next,
}

/// What follows a step: one call, or the end.
#[derive(Debug)]
pub enum Next {
    /// After the pause, make the call and feed its answer to the machine.
    Call {
        /// The pause.
        after: Duration,
        /// The call.
        ask: Ask,
        /// The machine that waits for its answer.
        machine: Box<Machine>,
    },
    /// The run is over.
    Finish(Result<Outcome, RunError>),
}

/// A call of the machine's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// Create the job: answered by [`Event::Created`].
    CreateJob,
    /// Read the job: [`Event::JobRead`].
    ReadJob,
    /// Run the job: [`Event::RunAnswered`].
    RunJob,
    /// List the job's executions: [`Event::Listed`].
    ListExecutions,
    /// Wait for news of an execution: [`Event::ExecutionRead`].
    WatchExecution(Watched),
    /// Delete the job: [`Event::Deleted`].
    DeleteJob,
}

/// An execution to wait for news of: that it has ended, that it began to run, that it is not there, or that it could not
/// be looked at. No news may come as well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watched {
    /// Name of the execution.
    pub execution: String,
    /// When it was started, in the machine's time.
    pub since: Duration,
    /// Whether it is known to run.
    pub is_running: bool,
    /// Longest pause between two looks.
    pub longest_pause: Duration,
}

/// The answer of a call.
pub type Answer<T> = Result<T, Box<ApiError>>;

/// What comes back.
#[derive(Clone, Debug)]
pub enum Event {
    /// Answer of [`Ask::CreateJob`].
    Created(Answer<Job>),
    /// Answer of [`Ask::ReadJob`].
    JobRead(Answer<Job>),
    /// Answer of [`Ask::RunJob`].
    RunAnswered(Answer<Execution>),
    /// Answer of [`Ask::ListExecutions`].
    Listed(Answer<Vec<Execution>>),
    /// Answer of [`Ask::WatchExecution`].
    ExecutionRead(Answer<Execution>),
    /// Answer of [`Ask::DeleteJob`].
    Deleted(Answer<()>),
    /// A kill of this process has deleted the job. Comes in place of an answer, when [`Machine::heeds_kill`].
    Killed,
}

/// How a run that was started ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every task succeeded.
    Succeeded,
    /// The execution failed or was cancelled, in the service's words.
    Failed(String),
    /// Somebody deleted the job or the execution.
    Removed,
}

const CHECK_VARIABLES: &str = "Check the job variables that this is about, such as 'image' or 'service_account_name'.";

impl RunError {
    /// What a person can do about it, in one sentence; empty where nothing is to be done.
    pub fn hint(&self, project: &str, region: &str) -> String {
        match self {
            Self::Api(error) => error.hint(),
            Self::NotReady { .. } => CHECK_VARIABLES.to_owned(),
            Self::ReadyTimeout { .. } => {
                "Raise the job variable 'timeout', or see why the job takes so long.".to_owned()
            }
            Self::RemovedBeforeStart { .. } => String::new(),
            Self::StartUnknown { job, .. } => {
                format!("Look at it: gcloud run jobs executions list --job {job} --region {region} --project {project}")
            }
        }
    }
}

/// Why a run was not started, or is watched no longer.
#[derive(Clone, Debug, Error)]
pub enum RunError {
    /// A call failed for good.
    #[error(transparent)]
    Api(#[from] Box<ApiError>),
    /// The service says that the job can't be run.
    #[error("Cloud Run Job '{job}' can't be run: {condition} {CHECK_VARIABLES}")]
    NotReady {
        /// Name of the job.
        job: String,
        /// The condition, in words.
        condition: String,
    },
    /// The service has not decided in time.
    #[error(
        "Cloud Run Job '{job}' was not ready within {seconds} s (job variable 'timeout'). The last that was known of \
         it: {condition}"
    )]
    ReadyTimeout {
        /// Name of the job.
        job: String,
        /// The time-out, in seconds.
        seconds: u64,
        /// The last condition, in words.
        condition: String,
    },
    /// Somebody deleted the job before an execution was known.
    #[error(
        "Cloud Run Job '{job}' was deleted {}, {}.",
        if *maybe_started { "when it was not known yet whether it was executed" } else { "before it was executed" },
        if *killed { "because its flow run was to be ended" } else { "and not by this worker" }
    )]
    RemovedBeforeStart {
        /// Name of the job.
        job: String,
        /// Whether a start was sent whose answer was lost.
        maybe_started: bool,
        /// Whether it was a kill of this process.
        killed: bool,
    },
    /// It could not be found out whether there is an execution, so that none was started.
    #[error(
        "Cloud Run Job '{job}' may or may not have been executed. It was not run again, and is left for you to look \
         at: gcloud run jobs executions list --job {job}. {cause}"
    )]
    StartUnknown {
        /// Name of the job.
        job: String,
        /// Why it is not known.
        cause: Box<ApiError>,
    },
}
