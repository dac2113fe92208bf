//! What ends a watch: the execution has ended, or it was deleted.

use std::time::Duration;

use super::{
    context::{FIRST_PAUSE, JOB_GONE_AFTER, READ_LAG, RunContext},
    finish,
    protocol::Outcome,
    state::{Cancelled, State, Transition},
};
use crate::{
    api::{
        ApiResult, ErrorKind,
        types::{Condition, ConditionStatus, Job},
    },
    lifecycle::{
        backoff::Backoff,
        progress::{Ending, Progress, describe_condition},
    },
};

/// Takes the `Completed` condition of an execution that has ended. `log`: the address of its log.
pub(super) fn completed(
    run: &mut RunContext,
    now: Duration,
    completed: &Condition,
    log: Option<&String>,
) -> Transition {
    let message = completed.message.clone().unwrap_or_else(|| describe_condition(completed));
    match completed.status {
        ConditionStatus::True => succeeded(run, now, log),
        _ if completed.reason.as_deref() == Some("Cancelled") => {
            run.report_log(log);
            cancelled(run, now, message)
        }
        _ => failed(run, now, message, log),
    }
}

/// Ends the run: every task succeeded.
pub(super) fn succeeded(run: &mut RunContext, now: Duration, log: Option<&String>) -> Transition {
    let (job, facts) = (run.plan.job.clone(), run.execution.ended(Ending::Succeeded));
    run.report(Progress::Succeeded { job, facts });
    run.report_log(log);
    finish::finish(run, now, Ok(Outcome::Succeeded))
}

/// Ends the run: the execution failed, as `message` says.
pub(super) fn failed(run: &mut RunContext, now: Duration, message: String, log: Option<&String>) -> Transition {
    unsuccessful(run, now, Ending::Failed, message, log)
}

/// Ends the run: the execution failed or was cancelled.
fn unsuccessful(
    run: &mut RunContext,
    now: Duration,
    ending: Ending,
    message: String,
    log: Option<&String>,
) -> Transition {
    let facts = run.execution.ended(ending);
    run.report(Progress::Failed { job: run.plan.job.clone(), message: message.clone(), facts });
    run.report_log(log);
    finish::finish(run, now, Ok(Outcome::Failed(message)))
}

/// Finds out why the execution was cancelled: deleting a job cancels its executions first.
pub(super) fn cancelled(run: &mut RunContext, now: Duration, message: String) -> Transition {
    let pauses = Backoff::new(FIRST_PAUSE, run.plan.poll_interval);
    let deadline = now + run.plan.retry.max_elapsed;
    Transition::to(
        Duration::ZERO,
        State::ConfirmingCancelled(Cancelled { message, finds_job: false, pauses, deadline }),
    )
}

/// Takes a read of the job whose execution was cancelled.
pub(super) fn confirm_cancelled(
    run: &mut RunContext,
    now: Duration,
    mut cancelled: Cancelled,
    response: ApiResult<Job>,
) -> Transition {
    let error = match response {
        Ok(job) if run.ownership.is_deleted_or_replaced(&job) => return removed(run, false),
        Ok(_) => {
            run.last_seen = now;
            return unsuccessful(run, now, Ending::Cancelled, cancelled.message, None);
        }
        Err(error) => error,
    };
    let is_missing = error.kind == ErrorKind::NotFound;
    if now < cancelled.deadline {
        cancelled.finds_job = is_missing && now >= run.created_at + READ_LAG;
        let pause = if cancelled.finds_job { Duration::ZERO } else { error.pause_at_least(cancelled.pauses.pause()) };
        Transition::to(pause, State::ConfirmingCancelled(cancelled))
    } else if is_missing {
        removed_in_doubt(run, now)
    } else {
        unsuccessful(run, now, Ending::Cancelled, cancelled.message, None)
    }
}

/// Takes the result of a list that should contain the job whose execution was cancelled, and which a read did not find.
pub(super) fn cancelled_job_listed(
    run: &mut RunContext,
    now: Duration,
    mut cancelled: Cancelled,
    response: ApiResult<Option<Job>>,
) -> Transition {
    cancelled.finds_job = false;
    match response {
        Ok(Some(job)) => confirm_cancelled(run, now, cancelled, Ok(job)),
        Err(error) if now < cancelled.deadline => {
            let pause = error.pause_at_least(cancelled.pauses.pause());
            Transition::to(pause, State::ConfirmingCancelled(cancelled))
        }
        // Without a list, the reads decide.
        Ok(None) | Err(_) => removed_in_doubt(run, now),
    }
}

/// Ends the run: its execution was cancelled, and its job is not found. As the execution has ended, the job can be deleted
/// if it is there after all.
fn removed_in_doubt(run: &mut RunContext, now: Duration) -> Transition {
    report_removed(run, false);
    finish::finish_in_doubt(run, now + JOB_GONE_AFTER, Ok(Outcome::Removed))
}

/// Ends the run: the execution was deleted, and its job was not.
pub(super) fn execution_deleted(run: &mut RunContext, now: Duration) -> Transition {
    report_removed(run, false);
    finish::finish(run, now, Ok(Outcome::Removed))
}

/// Ends the run: its job was deleted while the execution ran.
pub(super) fn removed(run: &mut RunContext, killed: bool) -> Transition {
    report_removed(run, killed);
    Transition::end(Ok(Outcome::Removed))
}

fn report_removed(run: &mut RunContext, killed: bool) {
    let (job, facts) = (run.plan.job.clone(), run.execution.ended(Ending::Cancelled));
    run.report(Progress::Removed { job, killed, facts });
}
