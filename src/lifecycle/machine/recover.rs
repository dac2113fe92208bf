//! After the response to `jobs.run` was lost: is there an execution?

use std::time::Duration;

use super::{
    context::{MAX_STARTS, RunContext},
    finish,
    ownership::Owner,
    protocol::RunError,
    state::{JobStatusVerdict, Readiness, Recovery, State, Transition},
    watch,
};
use crate::{
    api::{
        ApiError, ApiResult, ErrorKind,
        types::{Execution, Job},
    },
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// First and longest pause between two rounds of the search.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Begins the search, whatever became of the start.
pub(super) fn begin(run: &mut RunContext, readiness: Readiness, now: Duration, cause: Box<ApiError>) -> Transition {
    run.maybe_started = true;
    run.report(Progress::Recovering { error: (*cause).clone() });
    let pauses = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
    let recovery = Recovery { readiness, since: now, pauses, finds_job: false, job_status: None, cause };
    Transition::to(Duration::ZERO, State::Recovering(recovery))
}

/// Takes the read of the job, the first half of a round.
pub(super) fn job_read(
    run: &mut RunContext,
    now: Duration,
    mut recovery: Recovery,
    response: ApiResult<Job>,
) -> Transition {
    let job = match response {
        Ok(job) => job,
        Err(error) => return read_failed(run, now, recovery, &error),
    };
    if run.ownership.is_deleted_or_replaced(&job) {
        return Transition::fail(run.removed_before_start(false));
    }
    run.last_seen = now;
    recovery.readiness.not_found_since = None;
    let owner = run.ownership.owner_of(&job);
    let has_executions = job.status.execution_count.unwrap_or_default() > 0;
    recovery.job_status = Some(match job.status.latest_created_execution {
        Some(latest) if !latest.name.is_empty() => return watch::started(run, now, latest.name, owner),
        None if !has_executions && now >= recovery.since + run.plan.settle_time => JobStatusVerdict::NoExecution,
        _ => JobStatusVerdict::Inconclusive,
    });
    Transition::to(Duration::ZERO, State::Recovering(recovery))
}

/// Takes the list of executions, the second half of a round.
pub(super) fn executions_listed(
    run: &mut RunContext,
    now: Duration,
    recovery: Recovery,
    response: ApiResult<Vec<Execution>>,
) -> Transition {
    let mut executions = match response {
        Ok(executions) => executions,
        Err(error) => return read_failed(run, now, recovery, &error),
    };
    // With a fixed name, executions of an earlier job may still be listed.
    executions.retain(|execution| run.ownership.owner_of_execution(execution) != Owner::SomebodyElse);
    if let Some(execution) = executions.iter().find(|execution| !execution.metadata.name.is_empty()) {
        let owner = run.ownership.owner_of_execution(execution);
        return watch::started(run, now, execution.metadata.name.clone(), owner);
    }
    if !executions.is_empty() || recovery.job_status != Some(JobStatusVerdict::NoExecution) {
        search_again(run, now, recovery, Duration::ZERO)
    } else if recovery.readiness.starts_sent < MAX_STARTS {
        run.report(Progress::NotStarted { job: run.plan.job.clone() });
        run.lost_start = true;
        Transition::to(Duration::ZERO, State::Confirming(recovery.readiness))
    } else {
        finish::finish(run, now, Err(recovery.cause.into()))
    }
}

/// Takes the result of a list that should contain the job, which reads don't find.
pub(super) fn job_listed(
    run: &mut RunContext,
    now: Duration,
    mut recovery: Recovery,
    response: ApiResult<Option<Job>>,
) -> Transition {
    recovery.finds_job = false;
    match response {
        Ok(None) => Transition::fail(run.removed_before_start(false)),
        Ok(Some(job)) => job_read(run, now, recovery, Ok(job)),
        Err(error) => search_again(run, now, recovery, error.pause_at_least(Duration::ZERO)),
    }
}

/// A read that fails says nothing about the start, whatever the failure: credentials and permissions come back.
fn read_failed(run: &mut RunContext, now: Duration, mut recovery: Recovery, error: &ApiError) -> Transition {
    if error.kind == ErrorKind::NotFound && run.record_not_found(now, &mut recovery.readiness.not_found_since) {
        Transition::to(Duration::ZERO, State::Recovering(Recovery { finds_job: true, ..recovery }))
    } else {
        search_again(run, now, recovery, error.pause_at_least(Duration::ZERO))
    }
}

fn search_again(run: &mut RunContext, now: Duration, mut recovery: Recovery, least_pause: Duration) -> Transition {
    if now >= recovery.since + run.plan.settle_time + run.plan.retry.max_elapsed {
        return give_up(run, recovery.cause);
    }
    recovery.job_status = None;
    let pause = recovery.pauses.pause().max(least_pause);
    Transition::to(pause, State::Recovering(recovery))
}

/// Ends the run and leaves the job: an execution may be running.
fn give_up(run: &mut RunContext, cause: Box<ApiError>) -> Transition {
    run.report_left_running((*cause).clone());
    Transition::fail(RunError::StartUnknown { job: run.plan.job.clone(), cause })
}
