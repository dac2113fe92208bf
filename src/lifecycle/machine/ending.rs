//! What ends a watch: the execution has ended, or it was deleted.

use std::time::Duration;

use super::{
    context::{FIRST_PAUSE, READ_LAG, RunContext},
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
        progress::{Progress, describe_condition},
    },
};

/// Takes the `Completed` condition of an execution that has ended. `log`: the address of its log.
pub(super) fn completed(run: &mut RunContext, now: Duration, completed: &Condition, log: Option<&String>) -> Transition {
    let message = completed.message.clone().unwrap_or_else(|| describe_condition(completed));
    let transition = match completed.status {
        ConditionStatus::True => succeeded(run, now),
        _ if completed.reason.as_deref() == Some("Cancelled") => cancelled(run, now, message),
        _ => failed(run, now, message),
    };
    run.report_log(log);
    transition
}

/// Ends the run: every task succeeded.
pub(super) fn succeeded(run: &mut RunContext, now: Duration) -> Transition {
    run.report(Progress::Succeeded { job: run.plan.job.clone() });
    finish::finish(run, now, Ok(Outcome::Succeeded))
}

/// Ends the run: the execution failed, as `message` says.
pub(super) fn failed(run: &mut RunContext, now: Duration, message: String) -> Transition {
    run.report(Progress::Failed { job: run.plan.job.clone(), message: message.clone() });
    finish::finish(run, now, Ok(Outcome::Failed(message)))
}

/// Finds out why the execution was cancelled: deleting a job cancels its executions first.
pub(super) fn cancelled(run: &mut RunContext, now: Duration, message: String) -> Transition {
    let pauses = Backoff::new(FIRST_PAUSE, run.plan.poll_interval);
    let deadline = now + run.plan.retry.max_elapsed;
    Transition::to(Duration::ZERO, State::ConfirmingCancelled(Cancelled { message, pauses, deadline }))
}

/// Takes a read of the job whose execution was cancelled.
pub(super) fn confirm_cancelled(
    run: &mut RunContext,
    now: Duration,
    mut cancelled: Cancelled,
    response: ApiResult<Job>,
) -> Transition {
    match response {
        Ok(job) if run.ownership.is_deleted_or_replaced(&job) => removed(run, false),
        Err(error) if error.kind == ErrorKind::NotFound && now >= run.created_at + READ_LAG => {
            run.report(Progress::Removed { job: run.plan.job.clone(), killed: false });
            // The execution has ended, so the job can be deleted if this read was wrong.
            finish::finish_in_doubt(run, now, Ok(Outcome::Removed))
        }
        Err(error) if (error.kind == ErrorKind::NotFound || error.may_pass()) && now < cancelled.deadline => {
            let pause = error.pause_at_least(cancelled.pauses.pause());
            Transition::to(pause, State::ConfirmingCancelled(cancelled))
        }
        response => {
            if response.is_ok() {
                run.last_seen = now;
            }
            failed(run, now, cancelled.message)
        }
    }
}

/// Ends the run: the execution was deleted, and its job was not.
pub(super) fn execution_deleted(run: &mut RunContext, now: Duration) -> Transition {
    run.report(Progress::Removed { job: run.plan.job.clone(), killed: false });
    finish::finish(run, now, Ok(Outcome::Removed))
}

/// Ends the run: its job was deleted while the execution ran.
pub(super) fn removed(run: &mut RunContext, killed: bool) -> Transition {
    run.report(Progress::Removed { job: run.plan.job.clone(), killed });
    Transition::end(Ok(Outcome::Removed))
}
