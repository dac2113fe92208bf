//! From a ready job to an execution: the response to `jobs.run`, and the wait for capacity.

use std::{mem, time::Duration};

use super::{
    context::{FIRST_PAUSE, MAX_STARTS, RECHECK_PAUSE, RunContext},
    finish,
    ownership::Owner,
    ready, recover,
    state::{CapacityCheck, Readiness, State, Transition},
    watch,
};
use crate::{
    api::{
        ApiError, ApiResult, ErrorKind, FRESH_READ_MAX_AGE,
        types::{Execution, Job},
    },
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// Average first and longest pause between two starts while there is no capacity.
const FIRST_START_PAUSE: Duration = Duration::from_secs(2);
const MAX_START_PAUSE: Duration = Duration::from_secs(60);

/// It is the run's turn. Asks the caller whether the job is still to be started, after another read if the last one is old:
/// somebody may have deleted the job during the wait.
pub(super) fn turn_came(run: &RunContext, now: Duration, readiness: Readiness) -> Transition {
    let readiness = Readiness { has_turn: true, ..readiness };
    if now <= run.last_seen + FRESH_READ_MAX_AGE {
        return Transition::to(Duration::ZERO, State::Confirming(readiness));
    }
    let starts_sent = readiness.starts_sent;
    let check = CapacityCheck { starts_sent, since: now, not_found_since: None, has_turn: true };
    Transition::to(Duration::ZERO, State::AwaitingCapacity(check))
}

/// Sends `jobs.run`: the job is ready, and the caller wants it started.
pub(super) fn confirmed(run: &mut RunContext, mut readiness: Readiness) -> Transition {
    if !mem::replace(&mut run.is_submitted, true) {
        run.report(Progress::Submitting { job: run.plan.job.clone() });
    }
    readiness.starts_sent += 1;
    readiness.has_turn = false;
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
            owner => {
                run.execution.learn(&execution);
                watch::started(run, now, execution.metadata.name, owner)
            }
        },
        // It may have started an execution: sending it again could start a second one.
        Err(error) if error.maybe_done => recover::begin(run, readiness, now, error),
        Err(error) if error.kind.is_lack_of_room() => await_capacity(run, now, readiness, *error),
        // The job was deleted, the API does not see it yet, or something else answered. A read of the job tells. A job
        // that is being deleted refuses a start as an invalid request.
        Err(error) if readiness.starts_sent < max_starts_despite(error.kind) => {
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
///
/// After a limit, the wait is that for the next turn. After a per-minute quota, a pause of the run's own.
fn await_capacity(run: &mut RunContext, now: Duration, mut readiness: Readiness, error: ApiError) -> Transition {
    readiness.starts_sent = readiness.starts_sent.saturating_sub(1);
    let is_limit = error.kind == ErrorKind::LimitReached;
    let pause = match error.kind {
        ErrorKind::LimitReached => run.limit_pause(),
        _ => {
            let pauses = run.capacity.pauses.get_or_insert_with(|| Backoff::new(FIRST_START_PAUSE, MAX_START_PAUSE));
            let pause = pauses.pause();
            error.pause_at_least(run.spread(pause))
        }
    };
    if let Err(error) = run.refused(error, pause) {
        return finish::finish(run, now, Err(error.into()));
    }
    let starts_sent = readiness.starts_sent;
    let state = match is_limit {
        true => State::Confirming(readiness),
        false => {
            State::AwaitingCapacity(CapacityCheck { starts_sent, since: now, not_found_since: None, has_turn: false })
        }
    };
    Transition::to(pause, state)
}

/// Takes the read of the job that precedes each start: somebody may have deleted the job during the wait.
pub(super) fn capacity_check(
    run: &mut RunContext,
    now: Duration,
    mut check: CapacityCheck,
    response: ApiResult<Job>,
) -> Transition {
    let has_time = now < check.since + run.capacity_time_left();
    match response {
        Err(error) if error.may_pass() && has_time => {
            check.has_turn = false;
            Transition::to(error.pause_at_least(RECHECK_PAUSE), State::AwaitingCapacity(check))
        }
        Err(error)
            if error.kind == ErrorKind::NotFound
                && !run.record_not_found(now, &mut check.not_found_since)
                && has_time =>
        {
            check.has_turn = false;
            Transition::to(RECHECK_PAUSE, State::AwaitingCapacity(check))
        }
        response => {
            // The job was ready before. If it is not ready any more, it gets as much time as a new job.
            let readiness = Readiness {
                since: now,
                pauses: Backoff::new(FIRST_PAUSE, run.plan.poll_interval),
                reported: None,
                said_long: false,
                failing_since: None,
                not_found_since: check.not_found_since,
                finds_job: false,
                starts_sent: check.starts_sent,
                has_turn: check.has_turn,
            };
            ready::job_read(run, now, readiness, response)
        }
    }
}
