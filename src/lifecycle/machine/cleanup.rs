//! The end of a run that has a job: keep the job, or delete it.

use std::time::Duration;

use super::{
    context::{READ_LAG, RunContext},
    protocol::{Outcome, RunError},
    removal::{Removal, RemovalStep},
    state::{CleanUp, State, Transition},
};
use crate::{
    api::{FRESH_READ_MAX_AGE, RetryNotice},
    lifecycle::progress::Progress,
};

/// Begins the deletion of the job, unless it is to be kept. The run ends with `result`.
pub(super) fn begin(run: &mut RunContext, now: Duration, result: Result<Outcome, RunError>) -> Transition {
    let job = run.plan.job.clone();
    if run.plan.keep_job {
        run.report(Progress::Kept { job });
        return Transition::Finish(result);
    }
    let completed = matches!(result, Ok(Outcome::Succeeded | Outcome::Failed(_)));
    run.report(Progress::Deleting { job, completed });
    // With a fixed name, another job may have taken the name since the last read.
    let new_removal =
        if now <= run.last_seen + FRESH_READ_MAX_AGE { Removal::delete_first } else { Removal::read_first };
    let removal = new_removal(run.ownership.clone(), run.created_at + READ_LAG, run.plan.retry);
    Transition::to(Duration::ZERO, State::CleaningUp(CleanUp { result, removal }))
}

/// Takes what a response means for the deletion.
pub(super) fn advance(run: &mut RunContext, result: Result<Outcome, RunError>, step: RemovalStep) -> Transition {
    match step {
        RemovalStep::Call(pause, removal) => {
            return Transition::to(pause, State::CleaningUp(CleanUp { result, removal }));
        }
        RemovalStep::Retry(pause, removal, error) => {
            run.report(Progress::Retrying { notice: RetryNotice { error: *error, pause }, unreported: 0 });
            return Transition::to(pause, State::CleaningUp(CleanUp { result, removal }));
        }
        // Deleted, or replaced by somebody else's job.
        RemovalStep::Deleted | RemovalStep::Missing(_) | RemovalStep::NotOurs => {
            run.report(Progress::Deleted { job: run.plan.job.clone() });
        }
        RemovalStep::Failed(error) => run.report_leaked(*error),
    }
    Transition::Finish(result)
}
