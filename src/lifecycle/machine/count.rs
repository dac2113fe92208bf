//! After a second start: did the first one take effect after all?
//!
//! A start whose response was lost may take effect late. If it does after another start was sent, the job has two
//! executions. The older one is watched, and the younger ones are cancelled at once.

use std::time::Duration;

use super::{
    context::{RECHECK_PAUSE, RunContext},
    ownership::Owner,
    state::{Count, Duplicates, State, Transition, Watch},
};
use crate::{
    api::{
        ApiError, ApiResult, ErrorKind,
        types::{Execution, Job},
    },
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// First and longest pause before a cancel that failed is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Interrupts the watch to look for a second execution, unless the lost start can't take effect any more.
pub(super) fn begin(now: Duration, mut watch: Watch) -> Transition {
    match watch.lost_start.take().filter(|lost| now < lost.deadline) {
        Some(lost_start) => {
            let count = Count { watch, lost_start, shows_more: false };
            Transition::to(Duration::ZERO, State::CountingExecutions(count))
        }
        None => Transition::to(Duration::ZERO, State::Watching(watch)),
    }
}

/// Takes a read of the job, which counts its executions.
pub(super) fn job_read(run: &RunContext, now: Duration, count: Count, response: ApiResult<Job>) -> Transition {
    let Ok(job) = response else { return later(now, count) };
    let known = 1 + count.lost_start.handled.len();
    let counts_more = job.status.execution_count.and_then(|found| usize::try_from(found).ok()) > Some(known);
    let names_another = job.status.latest_created_execution.is_some_and(|latest| {
        !latest.name.is_empty()
            && latest.name != count.watch.execution
            && !count.lost_start.handled.contains(&latest.name)
    });
    let is_other_job = matches!((&run.ownership.uid, &job.metadata.uid), (Some(ours), Some(uid)) if ours != uid);
    if is_other_job || !(counts_more || names_another) {
        return later(now, count);
    }
    Transition::to(Duration::ZERO, State::CountingExecutions(Count { shows_more: true, ..count }))
}

/// Takes the list of the job's executions.
pub(super) fn executions_listed(
    run: &mut RunContext,
    now: Duration,
    mut count: Count,
    response: ApiResult<Vec<Execution>>,
) -> Transition {
    count.shows_more = false;
    let Ok(mut executions) = response else { return later(now, count) };
    executions.retain(|execution| {
        let name = &execution.metadata.name;
        let is_new = !name.is_empty() && !count.lost_start.handled.contains(name);
        is_new && run.ownership.owner_of_execution(execution) != Owner::SomebodyElse
    });
    let shows_ours = executions.iter().any(|execution| execution.metadata.name == count.watch.execution);
    if !shows_ours || executions.len() < 2 {
        // The list lags behind the job.
        count.lost_start.next_look = now + RECHECK_PAUSE;
        return Transition::to(Duration::ZERO, State::Watching(resumed(count)));
    }
    // RFC 3339, to the second. The API lists the newest first, which decides between executions of the same second.
    executions.reverse();
    executions.sort_by_key(|execution| {
        let created = execution.metadata.creation_timestamp.as_deref().unwrap_or_default();
        created.get(..19).unwrap_or(created).to_owned()
    });
    let Count { mut watch, mut lost_start, .. } = count;
    let mut executions = executions.into_iter();
    let oldest = executions.next().map_or_else(String::new, |execution| execution.metadata.name);
    let (ended, running): (Vec<_>, Vec<_>) = executions.partition(|execution| execution.completed().is_some());
    let name = |execution: Execution| execution.metadata.name;
    let mut to_cancel = running.into_iter().map(name);
    let ended: Vec<_> = ended.into_iter().map(name).collect();
    for execution in &ended {
        run.report(Progress::SecondExecution {
            job: run.plan.job.clone(),
            oldest: oldest.clone(),
            execution: execution.clone(),
            has_ended: true,
        });
    }
    lost_start.handled.extend(ended);
    if watch.execution != oldest {
        watch =
            Watch { execution: oldest, is_running: false, not_found_since: None, job_not_found_since: None, ..watch };
    }
    let Some(current) = to_cancel.next() else {
        return later(now, Count { watch, lost_start, shows_more: false });
    };
    let duplicates = Duplicates {
        watch,
        lost_start,
        current,
        others: to_cancel.collect(),
        pauses: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
        deadline: now + run.plan.retry.max_elapsed,
    };
    cancel(run, duplicates)
}

/// Takes the response to the cancel of a younger execution.
pub(super) fn cancelled(
    run: &mut RunContext,
    now: Duration,
    mut duplicates: Duplicates,
    response: ApiResult<Execution>,
) -> Transition {
    match response {
        // Cancelled, gone, or ended by itself.
        Ok(_) => {}
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::InvalidRequest) => {}
        Err(error) if error.may_pass() && now < duplicates.deadline => {
            let pause = error.pause_at_least(duplicates.pauses.pause());
            return Transition::to(pause, State::CancellingDuplicates(duplicates));
        }
        Err(error) => report_not_cancelled(run, &duplicates.current, *error),
    }
    let Duplicates { watch, mut lost_start, current, mut others, .. } = duplicates;
    lost_start.handled.push(current);
    match others.pop() {
        Some(current) => {
            let deadline = now + run.plan.retry.max_elapsed;
            let pauses = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
            cancel(run, Duplicates { watch, lost_start, current, others, pauses, deadline })
        }
        None => later(now, Count { watch, lost_start, shows_more: false }),
    }
}

fn cancel(run: &mut RunContext, duplicates: Duplicates) -> Transition {
    run.report(Progress::SecondExecution {
        job: run.plan.job.clone(),
        oldest: duplicates.watch.execution.clone(),
        execution: duplicates.current.clone(),
        has_ended: false,
    });
    Transition::to(Duration::ZERO, State::CancellingDuplicates(duplicates))
}

fn report_not_cancelled(run: &mut RunContext, execution: &str, error: ApiError) {
    let (project, region) = (&run.plan.project, &run.plan.region);
    let cancel_command = format!("gcloud run jobs executions cancel {execution} --region {region} --project {project}");
    run.report(Progress::NotCancelled { execution: execution.to_owned(), cancel_command, error });
}

/// Goes on watching, and looks again later.
fn later(now: Duration, mut count: Count) -> Transition {
    count.lost_start.next_look = now + count.lost_start.pauses.pause();
    Transition::to(Duration::ZERO, State::Watching(resumed(count)))
}

fn resumed(count: Count) -> Watch {
    Watch { lost_start: Some(count.lost_start), ..count.watch }
}
