//! From an execution to its end. What ends a watch is decided here.

use std::time::Duration;

use super::{
    cleanup,
    context::{FIRST_PAUSE, READ_LAG, RunContext},
    ownership::Owner,
    protocol::Outcome,
    state::{Cancelled, State, Transition, Watch},
};
use crate::{
    api::{
        ApiResult, ErrorKind,
        types::{Condition, ConditionStatus, Execution, Job},
    },
    lifecycle::{
        backoff::Backoff,
        progress::{Progress, describe_condition},
    },
};

/// How long reads must not find an execution before it counts as deleted.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// Begins the watch of an execution of our job, or of a job whose owner is unknown.
pub(super) fn started(run: &mut RunContext, now: Duration, execution: String, owner: Owner) -> Transition {
    run.report(Progress::Started { job: run.plan.job.clone(), execution: execution.clone() });
    let pauses = run.recheck_pauses();
    let is_ours = owner == Owner::Us;
    let watch = Watch { execution, is_ours, since: now, pauses, is_running: false, not_found_since: None };
    Transition::to(Duration::ZERO, State::Watching(watch))
}

/// Takes an update of the execution.
pub(super) fn execution_read(
    run: &mut RunContext,
    now: Duration,
    mut watch: Watch,
    response: ApiResult<Execution>,
) -> Transition {
    match response {
        Ok(execution) => {
            // An execution is deleted with its job, so our execution proves that our job exists.
            if watch.is_ours {
                run.last_seen = now;
            }
            if let Some(completed) = execution.completed() {
                return ended(run, now, &execution, completed);
            }
            (watch.not_found_since, watch.pauses) = (None, run.recheck_pauses());
            if !watch.is_running && execution.status.running_count.unwrap_or_default() > 0 {
                watch.is_running = true;
                run.report(Progress::Running { execution: watch.execution.clone() });
            }
            // The poller pauses between reads that succeed.
            Transition::to(Duration::ZERO, State::Watching(watch))
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            watch.not_found_since.get_or_insert(now);
            Transition::to(Duration::ZERO, State::ConfirmingGone(watch))
        }
        Err(error) if error.may_pass() => {
            let pause = error.pause_at_least(watch.pauses.pause());
            run.report(Progress::PollFailed { error: *error, pause, unreported: 0 });
            Transition::to(pause, State::Watching(watch))
        }
        Err(error) => {
            // The execution is probably fine, and deleting the job would stop it.
            run.report_left_running((*error).clone());
            Transition::fail(error)
        }
    }
}

/// Takes the `Completed` condition of an execution that has ended.
fn ended(run: &mut RunContext, now: Duration, execution: &Execution, completed: &Condition) -> Transition {
    let message = completed.message.clone().unwrap_or_else(|| describe_condition(completed));
    let log = execution.status.log_uri.clone().map(|uri| Progress::Log { uri });
    match completed.status {
        ConditionStatus::True => {
            run.report(Progress::Succeeded { job: run.plan.job.clone() });
            run.reports.extend(log);
            cleanup::begin(run, now, Ok(Outcome::Succeeded))
        }
        // Deleting a job cancels its executions first.
        _ if completed.reason.as_deref() == Some("Cancelled") => {
            run.reports.extend(log);
            let pauses = Backoff::new(FIRST_PAUSE, run.plan.poll_interval);
            let deadline = now + run.plan.retry.max_elapsed;
            Transition::to(Duration::ZERO, State::ConfirmingCancelled(Cancelled { message, pauses, deadline }))
        }
        _ => {
            run.report(Progress::Failed { job: run.plan.job.clone(), message: message.clone() });
            run.reports.extend(log);
            cleanup::begin(run, now, Ok(Outcome::Failed(message)))
        }
    }
}

/// Takes a read of the job whose execution is not found.
pub(super) fn confirm_gone(
    run: &mut RunContext,
    now: Duration,
    mut watch: Watch,
    response: ApiResult<Job>,
) -> Transition {
    // Reads of a younger execution may lag, so a 404 says nothing yet.
    let is_settled = now >= watch.since + READ_LAG;
    match response {
        Ok(job) if run.ownership.is_deleted_or_replaced(&job) => removed(run, false),
        Err(error) if error.kind == ErrorKind::NotFound && is_settled => removed(run, false),
        // Only the execution was deleted, because a second read does not find it either.
        Ok(_) if is_settled && watch.not_found_since.is_some_and(|since| now >= since + GONE_AFTER) => {
            run.last_seen = now;
            run.report(Progress::Removed { job: run.plan.job.clone(), killed: false });
            cleanup::begin(run, now, Ok(Outcome::Removed))
        }
        Err(error) if error.kind != ErrorKind::NotFound && !error.may_pass() => {
            run.report_left_running((*error).clone());
            Transition::fail(error)
        }
        response => {
            let pause = watch.pauses.pause();
            let pause = response.err().map_or(pause, |error| error.pause_at_least(pause));
            Transition::to(pause, State::Watching(watch))
        }
    }
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
        Err(error) if error.kind == ErrorKind::NotFound && now >= run.created_at + READ_LAG => removed(run, false),
        Err(error) if (error.kind == ErrorKind::NotFound || error.may_pass()) && now < cancelled.deadline => {
            let pause = error.pause_at_least(cancelled.pauses.pause());
            Transition::to(pause, State::ConfirmingCancelled(cancelled))
        }
        response => {
            if response.is_ok() {
                run.last_seen = now;
            }
            let message = cancelled.message;
            run.report(Progress::Failed { job: run.plan.job.clone(), message: message.clone() });
            cleanup::begin(run, now, Ok(Outcome::Failed(message)))
        }
    }
}

/// Ends the run: its job was deleted while the execution ran.
pub(super) fn removed(run: &mut RunContext, killed: bool) -> Transition {
    run.report(Progress::Removed { job: run.plan.job.clone(), killed });
    Transition::Finish(Ok(Outcome::Removed))
}
