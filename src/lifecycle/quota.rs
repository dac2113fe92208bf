//! The wait for a start that the service refuses for now: a region holds so many running executions, for hours maybe.

use std::time::Duration;

use super::{
    machine::{LOOK_PAUSE, Machine},
    progress::Progress,
    state::{Readiness, State},
    step::{Answer, Step},
};
use crate::api::{ApiError, Backoff, ErrorKind, types::Job};

/// Pauses between two starts, on average.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A wait in progress. It goes on where it was when a start is refused again.
#[derive(Debug)]
pub(super) struct QuotaWait {
    since: Duration,
    pauses: Backoff,
    /// Spreads the starts of many runs that wait together.
    random: fastrand::Rng,
}

impl Machine {
    /// A start was refused because of a quota: nothing was started.
    pub(super) fn refused_for_quota(mut self, now: Duration, mut readiness: Readiness, error: Box<ApiError>) -> Step {
        let longest = self.plan.quota_timeout;
        let mut wait = match readiness.quota.take() {
            Some(wait) => wait,
            None => {
                self.report(Progress::AwaitingQuota { error: (*error).clone(), longest });
                let pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
                QuotaWait { since: now, pauses, random: fastrand::Rng::with_seed(self.plan.seed) }
            }
        };
        let pause = wait.pauses.pause().mul_f64(0.5 + wait.random.f64()).max(error.retry_after.unwrap_or_default());
        if now.saturating_add(pause) > wait.since + longest {
            return self.clean_up(now, Err(error.into()));
        }
        readiness.starts = readiness.starts.saturating_sub(1);
        readiness.quota = Some(wait);
        self.go(pause, State::AwaitingQuota(readiness))
    }

    /// The job is looked at before each start: somebody may have deleted it during the wait.
    pub(super) fn quota_looked(self, now: Duration, mut readiness: Readiness, answer: Answer<Job>) -> Step {
        let patient = readiness.quota.as_ref().is_some_and(|wait| now < wait.since + self.plan.quota_timeout);
        match answer {
            Err(error) if error.may_pass() && patient => {
                self.go(error.pause_at_least(LOOK_PAUSE), State::AwaitingQuota(readiness))
            }
            Err(error)
                if error.kind == ErrorKind::NotFound && !self.is_gone(now, &mut readiness.is_missed) && patient =>
            {
                self.go(LOOK_PAUSE, State::AwaitingQuota(readiness))
            }
            answer => {
                // It was ready once. Should it not be any more, it gets as long as a new one.
                readiness.since = now;
                self.job_read(now, readiness, answer)
            }
        }
    }
}
