//! Finds out why a job could not be started, or why its execution failed, with the few reads that this takes.
//!
//! Never fails: what can't be read in time is not known, and the diagnosis says what it can without. Deleting a job takes
//! its tasks out of the API, so the reads come before the deletion.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::machine::protocol::{Outcome, RunError};
use crate::{
    api::{
        ApiError, ApiResult, CloudRunClient, ErrorKind,
        types::{Job, Task},
    },
    diagnosis::{Category, Diagnosis, Evidence},
};

/// Longest time for all reads of one diagnosis: the end of a run waits for it.
const READ_TIME: Duration = Duration::from_secs(4);

/// Finds out about a job and its execution. Without the name of an execution, the job's latest one counts.
pub async fn diagnose(client: &CloudRunClient, job: &str, execution: Option<&str>) -> Diagnosis {
    let deadline = Instant::now() + READ_TIME;
    let Some(execution) = execution else {
        return match read(deadline, client.get_job(job)).await {
            Read::Found(job) => of_job(client, deadline, &job).await,
            Read::Gone => Diagnosis::of(&Evidence { is_gone: true, ..Evidence::default() }),
            Read::Unknown => Diagnosis::new(Category::StartFailed, "The job could not be read."),
        };
    };
    of_execution(client, deadline, execution).await
}

async fn of_job(client: &CloudRunClient, deadline: Instant, job: &Job) -> Diagnosis {
    match job.status.latest_created_execution.as_ref().filter(|latest| !latest.name.is_empty()) {
        Some(latest) => of_execution(client, deadline, &latest.name).await,
        None => Diagnosis::of(&Evidence { job: &job.status.conditions, ..Evidence::default() }),
    }
}

async fn of_execution(client: &CloudRunClient, deadline: Instant, name: &str) -> Diagnosis {
    // Both at once: the deadline is the same, and one of them may hang.
    let (execution, tasks) =
        tokio::join!(read(deadline, client.get_execution(name)), read_tasks(client, deadline, name));
    let is_gone = matches!(execution, Read::Gone);
    let execution = execution.found().unwrap_or_default();
    // There was an execution, so its container may have run.
    let evidence = Evidence {
        execution: &execution.status.conditions,
        tasks: &tasks,
        words: Some(""),
        is_gone,
        ..Evidence::default()
    };
    Diagnosis::of(&evidence)
}

/// Finds out why an execution failed whose end is known: `message` is Google's.
pub(super) async fn diagnose_failure(client: &CloudRunClient, execution: Option<&str>, message: &str) -> Diagnosis {
    let deadline = Instant::now() + READ_TIME;
    let tasks = match execution {
        Some(execution) => read_tasks(client, deadline, execution).await,
        None => Vec::new(),
    };
    Diagnosis::of(&Evidence { tasks: &tasks, words: Some(message), ..Evidence::default() })
}

/// Why a run ended, as far as this needs no read. `None` for an end that is no failure, and for the end of a run whose
/// execution goes on. `location`: project and region. `is_killed`:
/// whether a kill in this process deleted the job.
pub(super) fn known_cause(
    end: &Result<Outcome, RunError>,
    location: (&str, &str),
    has_started: bool,
    is_killed: bool,
) -> Option<Diagnosis> {
    let (project, region) = location;
    let error = match end {
        Ok(Outcome::Removed) if !is_killed => return Some(Diagnosis::new(Category::Deleted, "")),
        Err(error) if !has_started && !is_killed => error,
        _ => return None,
    };
    let diagnosis = match error {
        RunError::Api(error) => return Some(Diagnosis::of_error(error)),
        RunError::NotReady { condition, .. } => Diagnosis::of_start(condition),
        RunError::ReadyTimeout { .. } => Diagnosis::of_start(&error.to_string()),
        RunError::RemovedBeforeStart { .. } => Diagnosis::new(Category::Deleted, &error.to_string()),
        RunError::StartUnknown { .. } => {
            Diagnosis { resolution: String::new(), ..Diagnosis::new(Category::StartFailed, &error.to_string()) }
        }
    };
    Some(diagnosis.or_resolution(error.hint(project, region)))
}

/// What a read has shown.
enum Read<T> {
    Found(T),
    Gone,
    Unknown,
}

impl<T> Read<T> {
    fn found(self) -> Option<T> {
        match self {
            Self::Found(resource) => Some(resource),
            Self::Gone | Self::Unknown => None,
        }
    }
}

async fn read<T>(deadline: Instant, call: impl Future<Output = ApiResult<T>>) -> Read<T> {
    let is_gone = |error: &ApiError| error.kind == ErrorKind::NotFound;
    // The future of a call is large.
    match timeout_at(deadline, Box::pin(call)).await {
        Ok(Ok(resource)) => Read::Found(resource),
        Ok(Err(error)) if is_gone(&error) => Read::Gone,
        Ok(Err(_)) | Err(_) => Read::Unknown,
    }
}

async fn read_tasks(client: &CloudRunClient, deadline: Instant, execution: &str) -> Vec<Task> {
    read(deadline, client.list_tasks(execution)).await.found().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiMethod;

    #[test]
    fn a_cause_is_told_unless_prefect_or_the_execution_itself_tells_more() {
        let label = |end: &Result<Outcome, RunError>, has_started, is_killed| {
            known_cause(end, ("p", "r"), has_started, is_killed).map(|diagnosis| diagnosis.label())
        };
        let is = |name: &str| Some(name.to_owned());
        let removed = || RunError::RemovedBeforeStart { job: "j".into(), maybe_started: false, killed: false };
        let not_ready = || RunError::NotReady { job: "j".into(), condition: "Ready is False, ContainerMissing".into() };
        let lost = || Box::new(ApiError::example(ApiMethod::RunJob, ErrorKind::Unavailable));
        assert_eq!(label(&Ok(Outcome::Removed), true, false), is("Deleted"));
        assert_eq!(label(&Err(removed()), false, false), is("Deleted"));
        assert_eq!(label(&Err(not_ready()), false, false), is("ImageNotFound"));
        assert_eq!(
            label(&Err(RunError::StartUnknown { job: "j".into(), cause: lost() }), false, false),
            is("StartFailed")
        );
        let slow = RunError::ReadyTimeout { job: "j".into(), seconds: 5, condition: "no condition".into() };
        let diagnosis = known_cause(&Err(slow), ("p", "r"), false, false).unwrap();
        assert!(diagnosis.resolution.contains("Increase that job variable"), "{diagnosis}");
        // Prefect killed the job, or its execution goes on unwatched, or the execution's end tells it.
        for (end, has_started, is_killed) in [
            (Ok(Outcome::Removed), true, true),
            (Err(removed()), false, true),
            (Err(RunError::Api(lost())), true, false),
            (Ok(Outcome::Failed("x".into())), true, false),
            (Ok(Outcome::NotStarted), false, false),
            (Ok(Outcome::LeftRunning), true, false),
            (Ok(Outcome::Succeeded), true, false),
        ] {
            assert_eq!(label(&end, has_started, is_killed), None, "{end:?}");
        }
    }
}
