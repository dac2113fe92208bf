//! An execution that reads do not find.
//!
//! A 404 alone shows nothing: reads lag, and a failing API answers 404 too. What shows that the execution has ended or was
//! deleted is a witness that says so: its job, which names its latest execution and how far it came; or the absence of the
//! job, seen for some time by reads and at last by a list. Nothing is deleted on the strength of a 404.

use std::time::Duration;

use super::{
    context::{JOB_GONE_AFTER, READ_LAG, RunContext},
    ending,
    ownership::Owner,
    protocol::Outcome,
    state::{State, Transition, Watch},
    watch,
};
use crate::{
    api::{
        ApiResult, ErrorKind,
        types::{CompletionStatus, ExecutionReference, Job},
    },
    lifecycle::progress::Progress,
};

/// How long reads must not find the job before the watch ends if the job can't be looked for by a list.
const UNLISTED_AFTER: Duration = Duration::from_secs(3600);
/// How long reads must not find an execution that its job says nothing about before the watch ends.
const LOST_AFTER: Duration = Duration::from_secs(300);

/// Takes a read of the job whose execution is not found.
pub(super) fn job_read(run: &mut RunContext, now: Duration, mut watch: Watch, response: ApiResult<Job>) -> Transition {
    match response {
        Ok(job) => ask(run, now, watch, &job),
        Err(error) if error.kind == ErrorKind::NotFound => {
            let since = *watch.job_not_found_since.get_or_insert(now);
            if now >= since + JOB_GONE_AFTER {
                Transition::to(Duration::ZERO, State::FindingJob(watch))
            } else {
                look_again(watch)
            }
        }
        Err(error) => watch::look_through(run, now, watch, error),
    }
}

/// Takes the result of a list that should contain the job.
pub(super) fn job_listed(
    run: &mut RunContext,
    now: Duration,
    watch: Watch,
    response: ApiResult<Option<Job>>,
) -> Transition {
    match response {
        Ok(None) => ending::removed(run, false),
        Ok(Some(job)) => ask(run, now, watch, &job),
        // Without a list, the reads decide at last.
        Err(error)
            if !error.may_pass() && watch.job_not_found_since.is_some_and(|since| now >= since + UNLISTED_AFTER) =>
        {
            lose_sight(run, &watch)
        }
        Err(error) => watch::look_through(run, now, watch, error),
    }
}

/// Asks the job what became of its execution.
fn ask(run: &mut RunContext, now: Duration, mut watch: Watch, job: &Job) -> Transition {
    if run.ownership.is_deleted_or_replaced(job) {
        return ending::removed(run, false);
    }
    if run.ownership.owner_of(job) == Owner::Us {
        run.last_seen = now;
    }
    watch.job_not_found_since = None;
    let latest = job.status.latest_created_execution.as_ref();
    match latest.filter(|latest| latest.name == watch.execution).and_then(verdict) {
        Some(Verdict::Succeeded) => ending::succeeded(run, now, None),
        Some(Verdict::Failed) => {
            let message = "Its job says that the execution failed. The execution itself can't be read".to_owned();
            ending::failed(run, now, message, None)
        }
        Some(Verdict::Cancelled) => ending::cancelled(run, now, "The execution was cancelled".to_owned()),
        Some(Verdict::Deleted) => ending::execution_deleted(run, now),
        Some(Verdict::Exists) => {
            watch.not_found_since = None;
            if !std::mem::replace(&mut watch.has_reported_contradiction, true) {
                run.report(Progress::ReadsContradict { job: run.plan.job.clone(), execution: watch.execution.clone() });
            }
            look_again(watch)
        }
        None if now >= watch.since + READ_LAG
            && watch.not_found_since.is_some_and(|since| now >= since + LOST_AFTER) =>
        {
            lose_sight(run, &watch)
        }
        None => look_again(watch),
    }
}

/// Ends the run: nobody can tell what became of its execution. The job stays.
fn lose_sight(run: &mut RunContext, watch: &Watch) -> Transition {
    let (job, delete_command) = (run.plan.job.clone(), run.plan.delete_command());
    run.report(Progress::LostSight { job, execution: watch.execution.clone(), delete_command });
    Transition::end(Ok(Outcome::Removed))
}

/// What a job says about its latest execution.
enum Verdict {
    Succeeded,
    Failed,
    Cancelled,
    Deleted,
    Exists,
}

/// `None`: nothing that helps.
fn verdict(latest: &ExecutionReference) -> Option<Verdict> {
    match latest.completion_status {
        Some(CompletionStatus::ExecutionSucceeded) => Some(Verdict::Succeeded),
        Some(CompletionStatus::ExecutionFailed) => Some(Verdict::Failed),
        // A deletion cancels the execution first.
        _ if latest.deletion_timestamp.is_some() => Some(Verdict::Deleted),
        Some(CompletionStatus::ExecutionCancelled) => Some(Verdict::Cancelled),
        Some(CompletionStatus::ExecutionRunning | CompletionStatus::ExecutionPending) => Some(Verdict::Exists),
        _ if latest.completion_timestamp.is_some() => None,
        // A job names its execution from its creation on.
        _ => Some(Verdict::Exists),
    }
}

fn look_again(mut watch: Watch) -> Transition {
    let pause = watch.pauses.pause();
    Transition::to(pause, State::Watching(watch))
}
