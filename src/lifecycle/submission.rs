//! From nothing to a job that was run: creation, readiness, start.

use std::{mem, time::Duration};

use super::{
    identity::Whose,
    machine::{FIRST_PAUSE, LOOK_PAUSE, Machine, READ_LAG},
    progress::{Progress, describe},
    state::{Readiness, State},
    step::{Answer, RunError, Step},
};
use crate::api::{
    ApiError, Backoff, ErrorKind,
    types::{Condition, ConditionStatus, Execution, Job},
};

/// How long a `Ready=False` that may pass is looked at before it counts.
const READY_GRACE: Duration = Duration::from_secs(10);
/// How long a name is waited for that belongs to a job in deletion.
const NAME_WAIT: Duration = Duration::from_secs(60);
/// How often `jobs.run` is sent at most.
pub(super) const MAX_STARTS: u32 = 5;

impl Machine {
    pub(super) fn created(
        self,
        now: Duration,
        taken_since: Option<Duration>,
        maybe_done: bool,
        answer: Answer<Job>,
    ) -> Step {
        let error = match answer {
            Ok(job) => return self.adopt_created(now, job),
            Err(error) => error,
        };
        let maybe_done = maybe_done || error.maybe_done;
        if error.kind == ErrorKind::AlreadyExists {
            let since = taken_since.unwrap_or(now);
            self.go(Duration::ZERO, State::NameTaken { since, maybe_done, error })
        } else if maybe_done {
            self.check_leftover(now, error)
        } else {
            self.finish(Err(error.into()))
        }
    }

    fn adopt_created(mut self, now: Duration, job: Job) -> Step {
        self.report(Progress::Created { job: self.plan.job.clone() });
        self.identity.uid.clone_from(&job.metadata.uid);
        self.created_at = now;
        let looks = Backoff::new(FIRST_PAUSE, self.plan.poll_interval);
        self.job_read(
            now,
            Readiness { since: now, looks, told: None, failing_since: None, is_missed: false, starts: 0, quota: None },
            Ok(job),
        )
    }

    pub(super) fn name_taken(
        mut self,
        now: Duration,
        since: Duration,
        maybe_done: bool,
        error: Box<ApiError>,
        answer: Answer<Job>,
    ) -> Step {
        let again = State::Creating { taken_since: Some(since), maybe_done };
        let patient = now < since + NAME_WAIT;
        match answer {
            // It was created, and somebody has deleted it: to create it again would undo that.
            Ok(job)
                if maybe_done
                    && job.metadata.deletion_timestamp.is_some()
                    && self.identity.whose(&job) == Whose::Ours =>
            {
                let error = self.removed_error(false);
                self.finish(Err(error))
            }
            Ok(job) if job.metadata.deletion_timestamp.is_some() && patient => {
                let pause = self.plan.poll_interval;
                self.go(pause, again)
            }
            // One that has been executed is of an earlier run of the same flow run.
            Ok(job) if maybe_done && self.identity.whose(&job) == Whose::Ours && !has_executions(&job) => {
                self.adopt_created(now, job)
            }
            Ok(job) if maybe_done && self.identity.whose(&job) == Whose::Unknown => {
                self.leaked(None);
                self.finish(Err(error.into()))
            }
            // Gone since, so that the name is free; or this read lags.
            Err(gone) if gone.kind == ErrorKind::NotFound && patient && !maybe_done => self.go(LOOK_PAUSE, again),
            // What had the name may have been ours, which this read does not show yet.
            Err(failed) if (failed.kind == ErrorKind::NotFound || failed.may_pass()) && patient => {
                self.go(failed.pause_at_least(LOOK_PAUSE), State::NameTaken { since, maybe_done, error })
            }
            Err(_) if maybe_done => self.check_leftover(now, error),
            _ => self.finish(Err(error.into())),
        }
    }

    /// After creates that failed, of which one may have happened or may happen yet.
    fn check_leftover(self, now: Duration, error: Box<ApiError>) -> Step {
        let settled_at = now + self.plan.settles;
        self.go(Duration::ZERO, State::CheckingLeftover { settled_at, error: error.into() })
    }

    pub(super) fn leftover_read(
        mut self,
        now: Duration,
        settled_at: Duration,
        error: RunError,
        answer: Answer<Job>,
    ) -> Step {
        let failed = match answer {
            Ok(job) if self.identity.is_going(&job) => return self.finish(Err(error)),
            Ok(job) if self.identity.whose(&job) == Whose::Ours => {
                // It may have been created this moment.
                (self.seen_at, self.created_at) = (now, now);
                return self.clean_up(now, Err(error));
            }
            Ok(_whose_is_unknown) => {
                self.leaked(None);
                return self.finish(Err(error));
            }
            Err(failed) => failed,
        };
        let is_gone = failed.kind == ErrorKind::NotFound;
        let patience = if is_gone { Duration::ZERO } else { self.plan.patience };
        if (is_gone || failed.may_pass()) && now < settled_at + patience {
            return self.go(failed.pause_at_least(LOOK_PAUSE), State::CheckingLeftover { settled_at, error });
        }
        if !is_gone {
            self.leaked(Some(*failed));
        }
        self.finish(Err(error))
    }

    pub(super) fn job_read(mut self, now: Duration, mut readiness: Readiness, answer: Answer<Job>) -> Step {
        let mut least_pause = Duration::ZERO;
        match answer {
            // On its way, or gone already and the name another job's.
            Ok(job) if self.identity.is_going(&job) => {
                let error = self.removed_error(false);
                return self.finish(Err(error));
            }
            Ok(job) => {
                self.seen_at = now;
                readiness.is_missed = false;
                let condition = job.ready();
                let text = condition.map(describe);
                match condition {
                    Some(Condition { status: ConditionStatus::True, .. }) => {
                        readiness.failing_since = None;
                        return self.start(readiness);
                    }
                    Some(failing @ Condition { status: ConditionStatus::False, .. }) => {
                        let first = *readiness.failing_since.get_or_insert(now);
                        if is_final(failing) || now >= first + READY_GRACE {
                            let condition = describe(failing);
                            let job = self.plan.job.clone();
                            return self.clean_up(now, Err(RunError::NotReady { job, condition }));
                        }
                    }
                    _ => readiness.failing_since = None,
                }
                if text != readiness.told {
                    self.report(Progress::AwaitingReady { condition: condition.cloned() });
                    readiness.told = text;
                }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                if self.is_gone(now, &mut readiness.is_missed) {
                    let error = self.removed_error(false);
                    return self.finish(Err(error));
                }
                least_pause = LOOK_PAUSE;
            }
            Err(error) if error.may_pass() => least_pause = error.pause_at_least(Duration::ZERO),
            Err(error) => return self.clean_up(now, Err(error.into())),
        }

        let deadline = readiness.since + self.plan.ready_timeout;
        if now >= deadline {
            let (job, seconds) = (self.plan.job.clone(), self.plan.ready_timeout.as_secs());
            let condition = readiness.told.unwrap_or_else(|| "no condition".to_owned());
            return self.clean_up(now, Err(RunError::ReadyTimeout { job, seconds, condition }));
        }
        // The last look is at the deadline, not a pause later.
        let pause = readiness.looks.pause().min(deadline.saturating_sub(now)).max(least_pause);
        self.go(pause, State::AwaitingReady(readiness))
    }

    /// Whether a job that was just not found is gone: a read of a young one may lag, and a second look makes sure.
    pub(super) fn is_gone(&self, now: Duration, is_missed: &mut bool) -> bool {
        now >= self.created_at + READ_LAG && mem::replace(is_missed, true)
    }

    pub(super) fn start(mut self, readiness: Readiness) -> Step {
        if readiness.quota.is_none() {
            self.report(Progress::Submitting { job: self.plan.job.clone() });
        }
        self.go(Duration::ZERO, State::Starting(Readiness { starts: readiness.starts + 1, ..readiness }))
    }

    pub(super) fn run_answered(self, now: Duration, readiness: Readiness, answer: Answer<Execution>) -> Step {
        match answer {
            Ok(execution) => self.started(now, execution.metadata.name),
            Err(error) if error.maybe_done => self.recover(now, readiness, error),
            Err(error) if matches!(error.kind, ErrorKind::RateLimited | ErrorKind::LimitReached) => {
                self.refused_for_quota(now, readiness, error)
            }
            // Deleted, or the look-up lags, or what answered is not the API: the job tells. One that is being deleted
            // can't be run, which is a wrong request.
            Err(error) if readiness.starts < starts_despite(error.kind) => {
                self.go(error.pause_at_least(LOOK_PAUSE), State::AwaitingReady(readiness))
            }
            Err(error) => self.clean_up(now, Err(error.into())),
        }
    }

    pub(super) fn removed_error(&self, killed: bool) -> RunError {
        RunError::RemovedBeforeStart { job: self.plan.job.clone(), maybe_started: self.maybe_started, killed }
    }
}

/// How often `jobs.run` is sent at most when it fails like this.
fn starts_despite(kind: ErrorKind) -> u32 {
    match kind {
        ErrorKind::NotFound | ErrorKind::NoSuchRegion => MAX_STARTS,
        ErrorKind::InvalidRequest => 2,
        _ => 0,
    }
}

fn has_executions(job: &Job) -> bool {
    job.status.latest_created_execution.is_some() || job.status.execution_count.unwrap_or_default() > 0
}

/// Reasons of `Ready=False` that no wait will mend.
fn is_final(condition: &Condition) -> bool {
    condition.reason.as_deref() == Some("ContainerMissing")
}
