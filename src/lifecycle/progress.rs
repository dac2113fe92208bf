//! What there is to tell about a run, in words for the flow run's log.

use std::{fmt, time::Duration};

use crate::api::{ApiError, Quota, RetryNotice, types::Condition};

/// One thing that happened to a job or its execution.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The job is about to be created.
    Creating {
        /// Name of the job.
        job: String,
    },
    /// The job exists.
    Created {
        /// Name of the job.
        job: String,
    },
    /// The job can't be run yet.
    AwaitingReady {
        /// The `Ready` condition, if there is one.
        condition: Option<Condition>,
    },
    /// The job can be run and is about to be.
    Submitting {
        /// Name of the job.
        job: String,
    },
    /// No execution may be started for now, because of a quota or a limit: waited for.
    AwaitingQuota {
        /// The service's refusal.
        error: ApiError,
        /// Longest wait.
        longest: Duration,
    },
    /// It is not known whether the job was run; being found out.
    Recovering {
        /// The failure of the call that ran the job.
        error: ApiError,
    },
    /// There is an execution.
    Started {
        /// Name of the job.
        job: String,
        /// Name of the execution.
        execution: String,
    },
    /// The execution's containers began to run.
    Running {
        /// Name of the execution.
        execution: String,
    },
    /// Every task of the execution succeeded.
    Succeeded {
        /// Name of the job.
        job: String,
    },
    /// The execution failed or was cancelled.
    Failed {
        /// Name of the job.
        job: String,
        /// The service's words for it.
        message: String,
    },
    /// Somebody deleted the job or its execution before the end.
    Removed {
        /// Name of the job.
        job: String,
    },
    /// Where the execution's log is.
    Log {
        /// Address of the log.
        uri: String,
    },
    /// The job is about to be deleted.
    Deleting {
        /// Name of the job.
        job: String,
        /// Whether its execution came to an end.
        completed: bool,
    },
    /// The job is deleted.
    Deleted {
        /// Name of the job.
        job: String,
    },
    /// The job is left, as asked for.
    Kept {
        /// Name of the job.
        job: String,
    },
    /// The job could not be deleted, or it could not be found out whether there is one of ours.
    Leaked {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        remedy: String,
        /// Why, unless it can't be told from somebody else's job.
        error: Option<ApiError>,
    },
    /// The execution, if there is one, is watched no longer, and the job is left so as not to stop it.
    LeftRunning {
        /// Name of the job.
        job: String,
        /// The command that deletes it.
        remedy: String,
        /// Why.
        error: ApiError,
    },
    /// A call failed and will be repeated.
    Retrying {
        /// The failure, and the pause.
        notice: RetryNotice,
        /// How often it came since it was told last.
        unsaid: u32,
    },
    /// A look at the execution failed for now; the next one follows.
    LookFailed {
        /// Why.
        error: ApiError,
        /// The pause before the next look.
        pause: Duration,
        /// How often it came since it was told last.
        unsaid: u32,
    },
    /// A call waits for its turn, because a quota takes no more for now.
    Throttled {
        /// The quota.
        quota: Quota,
    },
    /// The API refuses lists of many jobs' executions, so that each run reads its own.
    WatchedAlone {
        /// Its refusal.
        error: ApiError,
    },
    /// The run is over.
    Summary {
        /// Name of the job.
        job: String,
        /// How long it took.
        phases: Phases,
        /// How many calls were repeated.
        retries: u32,
    },
}

/// How long a run was in each of its phases; none of those that it did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    /// From the beginning until the job could be run.
    pub pending: Duration,
    /// From then until its execution ran.
    pub ready: Option<Duration>,
    /// From then until it ended.
    pub running: Option<Duration>,
}

/// How loud a line in a log is; the values are those of Python's `logging`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Of interest to whoever looks for a fault.
    Debug = 10,
    /// Part of the normal course.
    Info = 20,
    /// Something to look at; the run goes on.
    Warning = 30,
    /// The run failed.
    Error = 40,
}

impl Progress {
    /// A stable name for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "creating",
            Self::Created { .. } => "created",
            Self::AwaitingReady { .. } => "awaiting_ready",
            Self::Submitting { .. } => "submitting",
            Self::AwaitingQuota { .. } => "awaiting_quota",
            Self::Recovering { .. } => "recovering",
            Self::Started { .. } => "started",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Removed { .. } => "removed",
            Self::Log { .. } => "log",
            Self::Deleting { .. } => "deleting",
            Self::Deleted { .. } => "deleted",
            Self::Kept { .. } => "kept",
            Self::Leaked { .. } => "leaked",
            Self::LeftRunning { .. } => "left_running",
            Self::Retrying { .. } => "retrying",
            Self::LookFailed { .. } => "look_failed",
            Self::Throttled { .. } => "throttled",
            Self::WatchedAlone { .. } => "watched_alone",
            Self::Summary { .. } => "summary",
        }
    }

    /// How loud its line is.
    pub fn level(&self) -> Level {
        match self {
            Self::AwaitingQuota { .. }
            | Self::Recovering { .. }
            | Self::Leaked { .. }
            | Self::LeftRunning { .. }
            | Self::Retrying { .. }
            | Self::Throttled { .. }
            | Self::WatchedAlone { .. }
            | Self::LookFailed { .. } => Level::Warning,
            Self::Failed { .. } => Level::Error,
            _ => Level::Info,
        }
    }
}

/// The line for the log. Its first words are those that alerts on the known worker's log look for.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating { job } => write!(f, "Creating Cloud Run Job {job}"),
            Self::Created { job } => write!(f, "Cloud Run Job '{job}' created, waiting for it to become ready"),
            Self::AwaitingReady { condition } => match condition {
                Some(condition) => write!(f, "Cloud Run Job is not ready yet: {}", describe(condition)),
                None => f.write_str("Cloud Run Job is not ready yet"),
            },
            Self::Submitting { job } => write!(f, "Submitting Cloud Run Job '{job}' for execution."),
            Self::AwaitingQuota { error, longest } => write!(
                f,
                "Waiting until Cloud Run takes another execution, for {} s at most. {error}",
                longest.as_secs()
            ),
            Self::Recovering { error } => {
                write!(f, "Looking whether the execution was started, which is not sure: {error}")
            }
            Self::Started { job, execution } => write!(f, "Cloud Run Job '{job}' is executed as '{execution}'"),
            Self::Running { execution } => write!(f, "Execution '{execution}' is running"),
            Self::Succeeded { job } => write!(f, "Job Run {job} completed successfully"),
            Self::Failed { job, message } => write!(f, "Job Run {job} did not complete successfully. {message}"),
            Self::Removed { job } => {
                write!(f, "Cloud Run Job '{job}' or its execution was deleted before the execution ended")
            }
            Self::Log { uri } => write!(f, "Job Run logs can be found on GCP at: {uri}"),
            Self::Deleting { job, completed: true } => write!(f, "Deleting completed Cloud Run Job '{job}'"),
            Self::Deleting { job, completed: false } => write!(f, "Deleting Cloud Run Job '{job}'"),
            Self::Deleted { job } => write!(f, "Cloud Run Job '{job}' deleted"),
            Self::Kept { job } => write!(f, "Cloud Run Job '{job}' is kept, as its configuration says (keep_job)"),
            Self::Leaked { job, remedy, error } => {
                write!(f, "Cloud Run Job '{job}' may be left behind. If it is, delete it: {remedy}")?;
                error.as_ref().map_or(Ok(()), |error| write!(f, ". {error}"))
            }
            Self::LeftRunning { job, remedy, error } => write!(
                f,
                "Cloud Run Job '{job}' is left as it is, since its execution may go on unwatched. When it has ended, \
                 delete it: {remedy}. {error}"
            ),
            Self::Retrying { notice: RetryNotice { error, pause }, unsaid } => {
                write!(f, "Trying again in {:.1} s. {error}", pause.as_secs_f64())?;
                tell_unsaid(f, *unsaid)
            }
            Self::LookFailed { error, pause, unsaid } => {
                write!(f, "Still watching, looking again in {:.1} s. {error}", pause.as_secs_f64())?;
                tell_unsaid(f, *unsaid)
            }
            Self::Throttled { quota } => write!(
                f,
                "Waiting for a turn: the quota of {} per minute in this project and region takes no more for now. Ask for \
                 a higher one if that is too slow",
                quota.name()
            ),
            Self::WatchedAlone { error } => {
                write!(f, "Executions are looked at one by one from now on, which takes more calls. {error}")
            }
            Self::Summary { job, phases, retries } => {
                write!(f, "Cloud Run Job '{job}' was pending for {:.1} s", phases.pending.as_secs_f64())?;
                for (phase, time) in [("ready", phases.ready), ("running", phases.running)] {
                    time.map_or(Ok(()), |time| write!(f, ", {phase} for {:.1} s", time.as_secs_f64()))?;
                }
                match retries {
                    0 => f.write_str("; no call was repeated"),
                    1 => f.write_str("; 1 call was repeated"),
                    _ => write!(f, "; {retries} calls were repeated"),
                }
            }
        }
    }
}

/// Closes the gap that a failure leaves that is told once a minute only.
fn tell_unsaid(f: &mut fmt::Formatter<'_>, unsaid: u32) -> fmt::Result {
    if unsaid == 0 { Ok(()) } else { write!(f, " ({unsaid} more of these since the last line)") }
}

/// A condition as `Ready is False, ContainerMissing: Image 'x' not found.`
pub(super) fn describe(condition: &Condition) -> String {
    let mut text = format!("{} is {:?}", condition.kind, condition.status);
    for (mark, part) in [(", ", &condition.reason), (": ", &condition.message)] {
        if let Some(part) = part.as_deref().filter(|part| !part.is_empty()) {
            text = text + mark + part;
        }
    }
    text
}
