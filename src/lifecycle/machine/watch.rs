//! From an execution to its end.
//!
//! While there is an execution, only news about it ends the watch: its own end, its own deletion, or a kill. A read that
//! fails says nothing about it, whatever the failure: credentials and permissions come back, and the execution goes on
//! meanwhile. A read that does not find it needs a second witness ([`super::absence`]).

use std::time::Duration;

use super::{
    context::{RECHECK_PAUSE, RunContext},
    ending, finish,
    ownership::Owner,
    state::{LostStart, State, Transition, Watch},
};
use crate::{
    api::{ApiError, ApiResult, ErrorKind, types::Execution},
    lifecycle::{
        backoff::Backoff,
        progress::{ExecutionFacts, Progress},
    },
};

/// Longest pause after a read that failed in a way that waiting alone does not mend.
const MAX_REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How long after the start of an execution a start whose response was lost may still take effect. For so long, the run looks
/// for a second execution.
const LOST_START_MAX: Duration = Duration::from_secs(600);
/// First and longest pause between two looks for the execution of a start whose response was lost.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(30);

/// Begins the watch of an execution of our job, or of a job whose owner is unknown.
pub(super) fn started(run: &mut RunContext, now: Duration, execution: String, owner: Owner) -> Transition {
    run.report(Progress::Started { job: run.plan.job.clone(), execution: execution.clone() });
    if run.execution.name != execution {
        run.execution = ExecutionFacts { name: execution.clone(), ..ExecutionFacts::default() };
    }
    let lost_start = run.lost_start.then(|| LostStart {
        deadline: now + LOST_START_MAX,
        next_look: now + FIRST_LOOK,
        pauses: Backoff::new(FIRST_LOOK, MAX_LOOK_PAUSE),
        handled: vec![],
    });
    let watch = Watch {
        execution,
        is_ours: owner == Owner::Us,
        since: now,
        pauses: run.recheck_pauses(),
        refused_pauses: refused_pauses(),
        is_running: false,
        not_found_since: None,
        job_not_found_since: None,
        unreadable_since: None,
        has_reported_contradiction: false,
        is_last_look: false,
        lost_start,
    };
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
            run.execution.learn(&execution);
            // An execution is deleted with its job, so our execution proves that our job exists.
            if watch.is_ours {
                run.last_seen = now;
            }
            if let Some(completed) = execution.completed() {
                return ending::completed(run, now, completed, execution.status.log_uri.as_ref());
            }
            if watch.is_last_look {
                return finish::leave_running(run);
            }
            (watch.not_found_since, watch.job_not_found_since, watch.unreadable_since) = (None, None, None);
            (watch.pauses, watch.refused_pauses) = (run.recheck_pauses(), refused_pauses());
            if !watch.is_running && execution.status.running_count.unwrap_or_default() > 0 {
                watch.is_running = true;
                run.report(Progress::Running { facts: run.execution.clone() });
            }
            // The poller pauses between reads that succeed.
            Transition::to(Duration::ZERO, State::Watching(watch))
        }
        Err(_) if watch.is_last_look => finish::leave_running(run),
        Err(error) if error.kind == ErrorKind::NotFound => {
            watch.not_found_since.get_or_insert(now);
            Transition::to(Duration::ZERO, State::ConfirmingGone(watch))
        }
        Err(error) => look_through(run, now, watch, error),
    }
}

/// Goes on watching after a read that failed. It ends the run only after [`watch_retry_max`](super::Plan::watch_retry_max).
pub(super) fn look_through(run: &mut RunContext, now: Duration, mut watch: Watch, error: Box<ApiError>) -> Transition {
    let since = *watch.unreadable_since.get_or_insert(now);
    if now >= since + run.plan.watch_retry_max {
        run.report_left_running((*error).clone());
        return Transition::fail(error);
    }
    // The pauses are the same for all runs, so that runs that failed together share their next list.
    let pauses = if error.may_pass() { &mut watch.pauses } else { &mut watch.refused_pauses };
    let pause = error.pause_at_least(pauses.pause());
    run.report(Progress::PollFailed { error: *error, pause, unreported: 0 });
    Transition::to(pause, State::Watching(watch))
}

/// Pauses after reads that failed in a way that waiting alone does not mend. The first ones are short, because such a
/// failure may last for seconds only.
fn refused_pauses() -> Backoff {
    Backoff::new(RECHECK_PAUSE, MAX_REFUSED_PAUSE)
}
