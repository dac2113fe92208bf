//! From nothing to a job of ours: the create, a name that is taken, and a job that a failed create may have left.

use std::time::Duration;

use super::{
    context::{FIRST_PAUSE, RECHECK_PAUSE, RunContext},
    finish,
    ownership::Owner,
    ready,
    state::{Creating, NameTaken, Readiness, State, Transition},
};
use crate::{
    api::{ApiError, ApiResult, ErrorKind, types::Job},
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// How long the machine waits for the name of a job that is being deleted.
const NAME_WAIT: Duration = Duration::from_secs(60);

/// Takes the response to `jobs.create`.
pub(super) fn created(run: &mut RunContext, now: Duration, creating: Creating, response: ApiResult<Job>) -> Transition {
    let error = match response {
        Ok(job) => return adopt(run, now, job),
        Err(error) => error,
    };
    let maybe_done = creating.maybe_done || error.maybe_done;
    match error.kind {
        ErrorKind::AlreadyExists => {
            let since = creating.taken_since.unwrap_or(now);
            Transition::to(Duration::ZERO, State::NameTaken(NameTaken { since, maybe_done, finds_job: false, error }))
        }
        // The job may exist. It may even be the one that fills the region.
        kind if maybe_done && kind.is_lack_of_room() => Transition::to(
            RECHECK_PAUSE,
            State::NameTaken(NameTaken { since: now, maybe_done, finds_job: false, error }),
        ),
        _ if maybe_done => end_in_doubt(run, now, error),
        kind if kind.is_lack_of_room() => await_room(run, creating, *error),
        _ => Transition::fail(error),
    }
}

/// Waits for the next turn after a create that a quota or a limit refused.
fn await_room(run: &mut RunContext, creating: Creating, error: ApiError) -> Transition {
    let pause = run.limit_pause();
    match run.refused(error, pause) {
        Ok(()) => Transition::to(pause, State::Creating(Creating { has_turn: false, ..creating })),
        Err(error) => Transition::fail(error),
    }
}

/// Takes over a job that our create made.
fn adopt(run: &mut RunContext, now: Duration, job: Job) -> Transition {
    run.report(Progress::Created { job: run.plan.job.clone(), uid: job.metadata.uid.clone() });
    run.ownership.uid.clone_from(&job.metadata.uid);
    run.created_at = now;
    let readiness = Readiness {
        since: now,
        pauses: Backoff::new(FIRST_PAUSE, run.plan.poll_interval),
        reported: None,
        said_long: false,
        failing_since: None,
        not_found_since: None,
        finds_job: false,
        starts_sent: 0,
        has_turn: false,
    };
    ready::job_read(run, now, readiness, Ok(job))
}

/// Takes a read of the job that has our name.
pub(super) fn name_holder_read(
    run: &mut RunContext,
    now: Duration,
    taken: NameTaken,
    response: ApiResult<Job>,
) -> Transition {
    let NameTaken { since, maybe_done, finds_job: _, error } = taken;
    let create_again = State::Creating(Creating { taken_since: Some(since), maybe_done, has_turn: false });
    let is_refused = error.kind.is_lack_of_room();
    let settled_at = since + run.plan.settle_time;
    let has_time = now < if is_refused { settled_at + NAME_WAIT } else { since + NAME_WAIT };
    match response {
        // Our job was created and then deleted by somebody. Creating it again would undo that.
        Ok(job)
            if maybe_done && job.metadata.deletion_timestamp.is_some() && run.ownership.owner_of(&job) == Owner::Us =>
        {
            Transition::fail(run.removed_before_start(false))
        }
        Ok(job) if job.metadata.deletion_timestamp.is_some() && has_time => {
            Transition::to(run.plan.poll_interval, create_again)
        }
        // A job with executions belongs to an earlier run of the same flow run.
        Ok(job) if maybe_done && run.ownership.owner_of(&job) == Owner::Us && !job.has_executions() => {
            adopt(run, now, job)
        }
        Ok(job) if maybe_done && run.ownership.owner_of(&job) == Owner::Unknown => {
            run.report_unknown_owner();
            Transition::fail(error)
        }
        // The job was deleted and the name is free, or this read lags.
        Err(missing) if missing.kind == ErrorKind::NotFound && has_time && !maybe_done => {
            Transition::to(RECHECK_PAUSE, create_again)
        }
        // The create that was lost should not take effect any more.
        Err(missing) if missing.kind == ErrorKind::NotFound && is_refused && now >= settled_at => {
            let taken = NameTaken { since, maybe_done, finds_job: true, error };
            Transition::to(Duration::ZERO, State::NameTaken(taken))
        }
        // The job may be ours, and this read does not show it yet.
        Err(failed) if (failed.kind == ErrorKind::NotFound || failed.may_pass()) && has_time => {
            let pause = failed.pause_at_least(RECHECK_PAUSE);
            Transition::to(pause, State::NameTaken(NameTaken { since, maybe_done, finds_job: false, error }))
        }
        Err(_) if maybe_done => end_in_doubt(run, now, error),
        _ => Transition::fail(error),
    }
}

/// Takes the result of a list that should contain the job of a create that was lost, and which reads do not find.
pub(super) fn name_holder_listed(
    run: &mut RunContext,
    now: Duration,
    taken: NameTaken,
    response: ApiResult<Option<Job>>,
) -> Transition {
    match response {
        Ok(Some(job)) => name_holder_read(run, now, taken, Ok(job)),
        Err(error) if error.may_pass() => name_holder_read(run, now, taken, Err(error)),
        // No job came of the lost create, and none will. The time that it took to know counts as a wait for room.
        Ok(None) => {
            run.capacity.waited += now.saturating_sub(taken.since);
            await_room(run, Creating { taken_since: None, maybe_done: false, has_turn: false }, *taken.error)
        }
        // Without a list nobody can tell, and two creates in doubt could leave two jobs.
        Err(_) => end_in_doubt(run, now, taken.error),
    }
}

/// Ends the run after creates that failed, one of which may have taken effect or still may.
fn end_in_doubt(run: &mut RunContext, now: Duration, error: Box<ApiError>) -> Transition {
    let (job, max_wait) = (run.plan.job.clone(), run.plan.settle_time);
    run.report(Progress::CheckingLeftover { job, max_wait, error: (*error).clone() });
    finish::finish_in_doubt(run, now + run.plan.settle_time, Err(error.into()))
}
