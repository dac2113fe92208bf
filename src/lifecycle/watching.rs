//! From an execution to its end.

use std::time::Duration;

use super::{
    machine::{FIRST_PAUSE, LOOK_PAUSE, Machine, READ_LAG},
    progress::{Progress, describe},
    state::{State, Watch},
    step::{Answer, Outcome, Step},
};
use crate::api::{
    Backoff, ErrorKind,
    types::{Condition, ConditionStatus, Execution, Job},
};

/// How long a 404 of an execution must last before it counts.
const GONE_AFTER: Duration = Duration::from_secs(1);

impl Machine {
    pub(super) fn started(mut self, now: Duration, execution: String) -> Step {
        self.report(Progress::Started { job: self.plan.job.clone(), execution: execution.clone() });
        let watch = Watch { execution, since: now, looks: self.looks(), is_running: false, gone_since: None };
        self.go(Duration::ZERO, State::Watching(watch))
    }

    pub(super) fn execution_read(mut self, now: Duration, mut watch: Watch, answer: Answer<Execution>) -> Step {
        match answer {
            Ok(execution) => {
                self.seen_at = now;
                if let Some(completed) = execution.completed() {
                    return self.completed(now, &execution, completed);
                }
                (watch.gone_since, watch.looks) = (None, self.looks());
                if !watch.is_running && execution.status.running_count.unwrap_or_default() > 0 {
                    watch.is_running = true;
                    self.report(Progress::Running { execution: watch.execution.clone() });
                }
                // Whoever answers makes the pauses between looks that tell something.
                self.go(Duration::ZERO, State::Watching(watch))
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                watch.gone_since.get_or_insert(now);
                self.go(Duration::ZERO, State::ConfirmingGone(watch))
            }
            Err(error) if error.may_pass() => {
                let pause = error.pause_at_least(watch.looks.pause());
                self.report(Progress::LookFailed { error: *error, pause, unsaid: 0 });
                self.go(pause, State::Watching(watch))
            }
            Err(error) => {
                // Deleting the job would stop an execution that is likely to be well.
                self.left_running((*error).clone());
                self.finish(Err(error.into()))
            }
        }
    }

    /// Pauses after looks that told nothing.
    fn looks(&self) -> Backoff {
        Backoff::new(LOOK_PAUSE, self.plan.poll_interval)
    }

    fn completed(mut self, now: Duration, execution: &Execution, completed: &Condition) -> Step {
        let message = completed.message.clone().unwrap_or_else(|| describe(completed));
        let log = execution.status.log_uri.clone().map(|uri| Progress::Log { uri });
        match completed.status {
            ConditionStatus::True => {
                self.report(Progress::Succeeded { job: self.plan.job.clone() });
                self.reports.extend(log);
                self.clean_up(now, Ok(Outcome::Succeeded))
            }
            // Deleting a job cancels its executions first.
            _ if completed.reason.as_deref() == Some("Cancelled") => {
                self.reports.extend(log);
                let looks = Backoff::new(FIRST_PAUSE, self.plan.poll_interval);
                let deadline = now + self.plan.patience;
                self.go(Duration::ZERO, State::ConfirmingCancelled { message, looks, deadline })
            }
            _ => {
                self.report(Progress::Failed { job: self.plan.job.clone(), message: message.clone() });
                self.reports.extend(log);
                self.clean_up(now, Ok(Outcome::Failed(message)))
            }
        }
    }

    pub(super) fn confirm_gone(mut self, now: Duration, mut watch: Watch, answer: Answer<Job>) -> Step {
        // A read of what is younger than this may lag, and its absence says nothing.
        let is_settled = now >= watch.since + READ_LAG;
        match answer {
            Ok(job) if self.identity.is_going(&job) => self.removed(),
            Err(error) if error.kind == ErrorKind::NotFound && is_settled => self.removed(),
            // The execution alone was deleted, if another look does not find it either.
            Ok(_) if is_settled && watch.gone_since.is_some_and(|since| now >= since + GONE_AFTER) => {
                self.seen_at = now;
                self.report(Progress::Removed { job: self.plan.job.clone() });
                self.clean_up(now, Ok(Outcome::Removed))
            }
            Err(error) if error.kind != ErrorKind::NotFound && !error.may_pass() => {
                self.left_running((*error).clone());
                self.finish(Err(error.into()))
            }
            answer => {
                let pause = watch.looks.pause();
                let pause = answer.err().map_or(pause, |error| error.pause_at_least(pause));
                self.go(pause, State::Watching(watch))
            }
        }
    }

    pub(super) fn confirm_cancelled(
        mut self,
        now: Duration,
        message: String,
        mut looks: Backoff,
        deadline: Duration,
        answer: Answer<Job>,
    ) -> Step {
        match answer {
            Ok(job) if self.identity.is_going(&job) => self.removed(),
            Err(error) if error.kind == ErrorKind::NotFound && now >= self.created_at + READ_LAG => self.removed(),
            Err(error) if (error.kind == ErrorKind::NotFound || error.may_pass()) && now < deadline => {
                let pause = error.pause_at_least(looks.pause());
                self.go(pause, State::ConfirmingCancelled { message, looks, deadline })
            }
            answer => {
                self.seen_at = if answer.is_ok() { now } else { self.seen_at };
                self.report(Progress::Failed { job: self.plan.job.clone(), message: message.clone() });
                self.clean_up(now, Ok(Outcome::Failed(message)))
            }
        }
    }

    pub(super) fn removed(mut self) -> Step {
        self.report(Progress::Removed { job: self.plan.job.clone() });
        self.finish(Ok(Outcome::Removed))
    }
}
