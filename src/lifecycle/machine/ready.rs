//! From a job of ours to a job that can be started: its `Ready` condition decides.

use std::time::Duration;

use super::{
    context::{JOB_GONE_AFTER, RECHECK_PAUSE, RunContext},
    finish,
    protocol::RunError,
    state::{Readiness, State, Transition},
    watch,
};
use crate::{
    api::{
        ApiResult, ErrorKind,
        types::{Condition, ConditionStatus, Job},
    },
    lifecycle::progress::{Progress, describe_condition},
};

/// How long a `Ready=False` that may pass is watched before it ends the run.
const READY_GRACE: Duration = Duration::from_secs(10);
/// A wait that is longer than this is news for a person. Most jobs are ready within seconds.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// Takes a read of a job that was not started yet.
pub(super) fn job_read(
    run: &mut RunContext,
    now: Duration,
    mut readiness: Readiness,
    response: ApiResult<Job>,
) -> Transition {
    let mut least_pause = Duration::ZERO;
    match response {
        Ok(job) if run.ownership.is_deleted_or_replaced(&job) => {
            return Transition::fail(run.removed_before_start(false));
        }
        Ok(job) => {
            run.last_seen = now;
            readiness.not_found_since = None;
            // A start that was taken for lost has taken effect.
            if let Some(latest) = job.status.latest_created_execution.as_ref().filter(|latest| !latest.name.is_empty())
                && run.maybe_started
            {
                let owner = run.ownership.owner_of(&job);
                return watch::started(run, now, latest.name.clone(), owner);
            }
            let condition = job.ready();
            match condition {
                Some(Condition { status: ConditionStatus::True, .. }) => {
                    readiness.failing_since = None;
                    return Transition::to(Duration::ZERO, State::Confirming(readiness));
                }
                Some(failing @ Condition { status: ConditionStatus::False, .. }) => {
                    let failing_since = *readiness.failing_since.get_or_insert(now);
                    if is_final(failing) || now >= failing_since + READY_GRACE {
                        let (job, condition) = (run.plan.job.clone(), describe_condition(failing));
                        return finish::finish(run, now, Err(RunError::NotReady { job, condition }));
                    }
                }
                _ => readiness.failing_since = None,
            }
            let text = condition.map(describe_condition);
            let takes_long = now >= readiness.since + LONG_WAIT;
            if text != readiness.reported || (takes_long && !readiness.said_long) {
                let (job, condition) = (run.plan.job.clone(), condition.cloned());
                run.report(Progress::AwaitingReady { job, condition, takes_long });
                readiness.reported = text;
                readiness.said_long = takes_long;
            }
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            if run.record_not_found(now, &mut readiness.not_found_since) {
                return Transition::to(
                    Duration::ZERO,
                    State::AwaitingReady(Readiness { finds_job: true, has_turn: false, ..readiness }),
                );
            }
            least_pause = RECHECK_PAUSE;
        }
        Err(error) if error.may_pass() => least_pause = error.pause_at_least(Duration::ZERO),
        Err(error) => return finish::finish(run, now, Err(error.into())),
    }

    // Others may need it meanwhile.
    readiness.has_turn = false;
    let deadline = readiness.since + run.plan.ready_timeout;
    if now >= deadline {
        let (job, seconds) = (run.plan.job.clone(), run.plan.ready_timeout.as_secs());
        let condition = readiness.reported.unwrap_or_else(|| "no condition".to_owned());
        return finish::finish(run, now, Err(RunError::ReadyTimeout { job, seconds, condition }));
    }
    // The last read is at the deadline, not one pause after it.
    let pause = readiness.pauses.pause().min(deadline.saturating_sub(now)).max(least_pause);
    Transition::to(pause, State::AwaitingReady(readiness))
}

/// Takes the result of a list that should contain the job, which reads don't find.
pub(super) fn job_listed(
    run: &mut RunContext,
    now: Duration,
    readiness: Readiness,
    response: ApiResult<Option<Job>>,
) -> Transition {
    let readiness = Readiness { finds_job: false, ..readiness };
    match response {
        Ok(Some(job)) => job_read(run, now, readiness, Ok(job)),
        Err(error) if error.may_pass() => job_read(run, now, readiness, Err(error)),
        // Without a list, the reads decide.
        Ok(None) | Err(_) => {
            let error = run.removed_before_start(false);
            // Nothing was started, so the job can be deleted if it is there after all.
            finish::finish_in_doubt(run, now + JOB_GONE_AFTER, Err(error))
        }
    }
}

/// Whether waiting can't help a job that is `Ready=False`.
fn is_final(condition: &Condition) -> bool {
    condition.reason.as_deref() == Some("ContainerMissing")
}
