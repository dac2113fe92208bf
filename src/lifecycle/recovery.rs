//! After a lost answer of `jobs.run`: is there an execution?

use std::time::Duration;

use super::{
    machine::Machine,
    progress::Progress,
    state::{JobSays, Readiness, Recovery, State},
    step::{Answer, RunError, Step},
    submission::MAX_STARTS,
};
use crate::api::{
    ApiError, Backoff, ErrorKind,
    types::{Execution, Job},
};

/// Pauses between two rounds of looks.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Machine {
    /// Looks first, whatever became of the start.
    pub(super) fn recover(mut self, now: Duration, readiness: Readiness, cause: Box<ApiError>) -> Step {
        self.maybe_started = true;
        self.report(Progress::Recovering { error: (*cause).clone() });
        let looks = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        self.go(Duration::ZERO, State::Recovering(Recovery { readiness, since: now, looks, job_says: None, cause }))
    }

    pub(super) fn recover_by_job(mut self, now: Duration, mut recovery: Recovery, answer: Answer<Job>) -> Step {
        let job = match answer {
            Ok(job) => job,
            Err(error) => return self.look_failed(now, recovery, &error),
        };
        if self.identity.is_going(&job) {
            let error = self.removed_error(false);
            return self.finish(Err(error));
        }
        self.seen_at = now;
        recovery.readiness.is_missed = false;
        let has_executions = job.status.execution_count.unwrap_or_default() > 0;
        let job_says = match job.status.latest_created_execution {
            Some(latest) if !latest.name.is_empty() => return self.started(now, latest.name),
            None if !has_executions && now >= recovery.since + self.plan.settles => JobSays::NoneForSure,
            _ => JobSays::Nothing,
        };
        self.go(Duration::ZERO, State::Recovering(Recovery { job_says: Some(job_says), ..recovery }))
    }

    pub(super) fn recover_by_list(self, now: Duration, recovery: Recovery, answer: Answer<Vec<Execution>>) -> Step {
        let mut executions = match answer {
            Ok(executions) => executions,
            Err(error) => return self.look_failed(now, recovery, &error),
        };
        // With a fixed name, there may still be executions of an earlier job.
        executions.retain(|execution| match (execution.job_uid(), &self.identity.uid) {
            (Some(its), Some(ours)) => its == ours,
            _ => true,
        });
        if let Some(execution) = executions.iter().find(|execution| !execution.metadata.name.is_empty()) {
            return self.started(now, execution.metadata.name.clone());
        }
        if !executions.is_empty() || recovery.job_says != Some(JobSays::NoneForSure) {
            self.look_again(now, recovery, Duration::ZERO)
        } else if recovery.readiness.starts < MAX_STARTS {
            self.start(recovery.readiness)
        } else {
            self.clean_up(now, Err(recovery.cause.into()))
        }
    }

    fn look_failed(self, now: Duration, mut recovery: Recovery, error: &ApiError) -> Step {
        let is_missing = error.kind == ErrorKind::NotFound;
        if is_missing && self.is_gone(now, &mut recovery.readiness.is_missed) {
            let error = self.removed_error(false);
            self.finish(Err(error))
        } else if is_missing || error.may_pass() {
            self.look_again(now, recovery, error.pause_at_least(Duration::ZERO))
        } else {
            self.start_unknown(recovery.cause)
        }
    }

    fn look_again(self, now: Duration, mut recovery: Recovery, least_pause: Duration) -> Step {
        if now >= recovery.since + self.plan.settles + self.plan.patience {
            return self.start_unknown(recovery.cause);
        }
        recovery.job_says = None;
        let pause = recovery.looks.pause().max(least_pause);
        self.go(pause, State::Recovering(recovery))
    }

    pub(super) fn start_unknown(mut self, cause: Box<ApiError>) -> Step {
        self.left_running((*cause).clone());
        let job = self.plan.job.clone();
        self.finish(Err(RunError::StartUnknown { job, cause }))
    }
}
