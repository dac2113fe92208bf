//! The end of a run that has a job, or may have one: keep the job, or hand it over for deletion.

use std::time::Duration;

use super::{
    cleanup::Cleanup,
    context::{READ_LAG, RunContext},
    protocol::{Outcome, RunError},
    removal::Removal,
    state::Transition,
};
use crate::{api::FRESH_READ_MAX_AGE, lifecycle::progress::Progress};

/// Ends the run with `result`. Its job is deleted, unless it is to be kept.
pub(super) fn finish(run: &mut RunContext, now: Duration, result: Result<Outcome, RunError>) -> Transition {
    let job = run.plan.job.clone();
    // A job that never ran, of a run that is not wanted any more, is of no use to anybody.
    if run.plan.keep_job && !matches!(result, Ok(Outcome::NotStarted)) {
        run.report(Progress::Kept { job });
        return Transition::end(result);
    }
    let completed = matches!(result, Ok(Outcome::Succeeded | Outcome::Failed(_)));
    run.report(Progress::Deleting { job, completed });
    // With a fixed name, another job may have taken the name since the last read.
    let new_removal =
        if now <= run.last_seen + FRESH_READ_MAX_AGE { Removal::delete_first } else { Removal::read_first };
    let removal = new_removal(run.ownership.clone(), run.created_at + READ_LAG, run.plan.retry);
    Transition::Finish { result, cleanup: Some(Box::new(Cleanup::new(&run.plan, removal))) }
}

/// Ends the run with `result`. A job of ours that may exist, or come to exist until `settled_at`, is deleted.
pub(super) fn finish_in_doubt(run: &RunContext, settled_at: Duration, result: Result<Outcome, RunError>) -> Transition {
    let removal = Removal::read_first(run.ownership.clone(), settled_at, run.plan.retry);
    Transition::Finish { result, cleanup: Some(Box::new(Cleanup::in_doubt(&run.plan, removal))) }
}

/// Ends the run and leaves its job, because an execution of it may run.
pub(super) fn leave_running(run: &mut RunContext) -> Transition {
    run.report(Progress::LeftForLater { job: run.plan.job.clone(), delete_command: run.plan.delete_command() });
    Transition::end(Ok(Outcome::LeftRunning))
}

/// Ends a run of which no start request can have taken effect. `maybe_created`: whether a create may have taken effect
/// whose response is not known.
pub(super) fn give_up(run: &mut RunContext, now: Duration, is_created: bool, maybe_created: bool) -> Transition {
    let result = Ok(Outcome::NotStarted);
    match (is_created, maybe_created) {
        (true, _) => finish(run, now, result),
        (false, true) => finish_in_doubt(run, now + run.plan.settle_time, result),
        (false, false) => Transition::end(result),
    }
}
