//! From a ready job to an execution: the response to `jobs.run`, and the wait for capacity.

use std::time::Duration;

use super::{
    context::{FIRST_PAUSE, MAX_STARTS, RECHECK_PAUSE, RunContext},
    finish,
    ownership::Owner,
    ready, recover,
    state::{CapacityCheck, CapacityWait, Readiness, Starts, State, Transition},
    watch,
};
use crate::{
    api::{
        ApiError, ApiResult, ErrorKind, RetryBudget,
        types::{Execution, Job},
    },
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// Average first and longest pause between two starts while there is no capacity.
const FIRST_START_PAUSE: Duration = Duration::from_secs(2);
const MAX_START_PAUSE: Duration = Duration::from_secs(60);

/// Sends `jobs.run`: the job is ready, and the caller wants it started.
pub(super) fn confirmed(run: &mut RunContext, mut readiness: Readiness) -> Transition {
    if readiness.starts.capacity_wait.is_none() {
        run.report(Progress::Submitting { job: run.plan.job.clone() });
    }
    readiness.starts.sent += 1;
    Transition::to(Duration::ZERO, State::Starting(readiness))
}

/// Takes the response to `jobs.run`.
pub(super) fn run_response(
    run: &mut RunContext,
    now: Duration,
    readiness: Readiness,
    response: ApiResult<Execution>,
) -> Transition {
    match response {
        Ok(execution) => match run.ownership.owner_of_execution(&execution) {
            // Our job was replaced between the last read, which may have lagged, and the start.
            Owner::SomebodyElse => {
                let (job, execution) = (run.plan.job.clone(), execution.metadata.name);
                run.report(Progress::StartedAnotherJob { job, execution });
                Transition::fail(run.removed_before_start(false))
            }
            owner => watch::started(run, now, execution.metadata.name, owner),
        },
        // It may have started an execution: sending it again could start a second one.
        Err(error) if error.maybe_done => recover::begin(run, readiness, now, error),
        Err(error) if matches!(error.kind, ErrorKind::RateLimited | ErrorKind::LimitReached) => {
            await_capacity(run, now, readiness.starts, *error)
        }
        // The job was deleted, the API does not see it yet, or something else answered. A read of the job tells. A job
        // that is being deleted refuses a start as an invalid request.
        Err(error) if readiness.starts.sent < max_starts_despite(error.kind) => {
            Transition::to(error.pause_at_least(RECHECK_PAUSE), State::AwaitingReady(readiness))
        }
        Err(error) => finish::finish(run, now, Err(error.into())),
    }
}

/// How often `jobs.run` is sent at most when it fails like this.
fn max_starts_despite(kind: ErrorKind) -> u32 {
    match kind {
        ErrorKind::NotFound | ErrorKind::NoSuchRegion => MAX_STARTS,
        ErrorKind::InvalidRequest => 2,
        _ => 0,
    }
}

/// Waits after a start was refused for lack of capacity. Nothing was started.
fn await_capacity(run: &mut RunContext, now: Duration, starts: Starts, error: ApiError) -> Transition {
    let quota_wait_max = run.plan.quota_wait_max;
    let mut wait = match starts.capacity_wait {
        Some(wait) => wait,
        None => {
            run.report(Progress::AwaitingCapacity { error: error.clone(), max_wait: quota_wait_max });
            CapacityWait { since: now, pauses: Backoff::new(FIRST_START_PAUSE, MAX_START_PAUSE), refusals: 0 }
        }
    };
    // Without an attempt, the start is still waiting for its per-minute quota.
    wait.refusals += u32::from(error.attempts > 0);
    let pause = error.pause_at_least(run.spread(wait.pauses.pause()));
    if now.saturating_add(pause) > wait.since + quota_wait_max {
        let (attempts, elapsed) = (wait.refusals, now.saturating_sub(wait.since));
        let error = ApiError { attempts, elapsed, exhausted: Some(RetryBudget::QuotaWait), ..error };
        return finish::finish(run, now, Err(Box::new(error).into()));
    }
    let starts_sent = starts.sent.saturating_sub(1);
    Transition::to(pause, State::AwaitingCapacity(CapacityCheck { wait, starts_sent, not_found_since: None }))
}

/// Takes the read of the job that precedes each start: somebody may have deleted the job during the wait.
pub(super) fn capacity_check(
    run: &mut RunContext,
    now: Duration,
    mut check: CapacityCheck,
    response: ApiResult<Job>,
) -> Transition {
    let has_time = now < check.wait.since + run.plan.quota_wait_max;
    match response {
        Err(error) if error.may_pass() && has_time => {
            Transition::to(error.pause_at_least(RECHECK_PAUSE), State::AwaitingCapacity(check))
        }
        Err(error)
            if error.kind == ErrorKind::NotFound
                && !run.record_not_found(now, &mut check.not_found_since)
                && has_time =>
        {
            Transition::to(RECHECK_PAUSE, State::AwaitingCapacity(check))
        }
        response => {
            // The job was ready before. If it is not ready any more, it gets as much time as a new job.
            let readiness = Readiness {
                since: now,
                pauses: Backoff::new(FIRST_PAUSE, run.plan.poll_interval),
                reported: None,
                failing_since: None,
                not_found_since: check.not_found_since,
                finds_job: false,
                starts: Starts { sent: check.starts_sent, capacity_wait: Some(check.wait) },
            };
            ready::job_read(run, now, readiness, response)
        }
    }
}
