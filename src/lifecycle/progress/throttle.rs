//! Which progress of a run goes into its log: a failure that repeats is reported once a minute, and the last line sums up.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use super::update::{Phases, Progress};
use crate::api::{ApiError, ErrorKind, Quota, RetryNotice};

/// How long a failure that was reported is not reported again.
const QUIET_PERIOD: Duration = Duration::from_secs(60);

/// Two failures with the same cause are the same failure, whatever the call.
type FailureCause = (ErrorKind, Option<u16>);

/// What was reported of one run. All times are since the run began.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When each failure was last reported, and how often it came since.
    failures: HashMap<FailureCause, (Duration, u32)>,
    /// The quotas whose wait was reported.
    rate_limited: Vec<Quota>,
    retries: u32,
    /// The job, once it was created.
    job: Option<String>,
    submitted: Option<Duration>,
    started: Option<Duration>,
    running: Option<Duration>,
    ended: Option<Duration>,
}

impl Throttle {
    /// Records what happened at `now`, and returns it if it is to be reported.
    pub(super) fn admit(&mut self, now: Duration, mut progress: Progress) -> Option<Progress> {
        match &mut progress {
            Progress::Retrying { notice: RetryNotice { error, .. }, unreported }
            | Progress::PollFailed { error, unreported, .. } => {
                self.retries += 1;
                *unreported = self.count_failure(now, error)?;
            }
            // A start whose response was lost counts as retried: it is looked up, and sent again if it did not happen.
            Progress::Recovering { .. } => self.retries += 1,
            Progress::RateLimited { quota, .. } if self.rate_limited.contains(quota) => return None,
            Progress::RateLimited { quota, .. } => self.rate_limited.push(*quota),
            Progress::Created { job, .. } => self.job = Some(job.clone()),
            Progress::Submitting { .. } => _ = self.submitted.get_or_insert(now),
            Progress::Started { .. } => _ = self.started.get_or_insert(now),
            Progress::Running { .. } => _ = self.running.get_or_insert(now),
            Progress::Succeeded { .. } | Progress::Failed { .. } | Progress::Removed { .. } => {
                self.ended.get_or_insert(now);
            }
            _ => {}
        }
        Some(progress)
    }

    /// How many failures of this cause were not reported since the last one that was. `None` if it is too early to report
    /// another one.
    fn count_failure(&mut self, now: Duration, error: &ApiError) -> Option<u32> {
        let (reported_at, unreported) = match self.failures.entry((error.kind, error.status)) {
            Entry::Vacant(first) => {
                first.insert((now, 0));
                return Some(0);
            }
            Entry::Occupied(again) => again.into_mut(),
        };
        if now < *reported_at + QUIET_PERIOD {
            *unreported += 1;
            return None;
        }
        *reported_at = now;
        Some(std::mem::take(unreported))
    }

    /// The last line of a run that ends at `now`. None if no job was created.
    pub(super) fn summary(&self, now: Duration) -> Option<Progress> {
        let between = |from: Option<Duration>, to: Option<Duration>| Some(to.unwrap_or(now).saturating_sub(from?));
        // A short execution may never have been seen running.
        let running = self.running.or(self.ended.and(self.started));
        let phases = Phases {
            pending: self.submitted.unwrap_or(now),
            ready: between(self.submitted, running),
            running: between(running, self.ended),
        };
        let has_ended = self.ended.is_some();
        Some(Progress::Summary { job: self.job.clone()?, phases, has_ended, retries: self.retries })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ExecutionFacts, *};
    use crate::api::ApiMethod;

    const SECOND: Duration = Duration::from_secs(1);

    fn retrying(status: u16) -> Progress {
        let error = ApiError { status: Some(status), ..ApiError::example(ApiMethod::GetJob, ErrorKind::Unavailable) };
        Progress::Retrying { notice: RetryNotice { error, pause: SECOND }, unreported: 0 }
    }

    fn unreported(throttle: &mut Throttle, seconds: u32, progress: Progress) -> Option<u32> {
        match throttle.admit(SECOND * seconds, progress)? {
            Progress::Retrying { unreported, .. } | Progress::PollFailed { unreported, .. } => Some(unreported),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_failure_is_reported_once_a_minute_with_the_number_of_those_left_out() {
        let mut throttle = Throttle::default();
        assert_eq!(unreported(&mut throttle, 1, retrying(503)), Some(0));
        assert_eq!(
            (unreported(&mut throttle, 2, retrying(503)), unreported(&mut throttle, 60, retrying(503))),
            (None, None)
        );
        assert_eq!(unreported(&mut throttle, 3, retrying(500)), Some(0), "another cause");
        let error =
            ApiError { status: Some(503), ..ApiError::example(ApiMethod::GetExecution, ErrorKind::Unavailable) };
        let same = Progress::PollFailed { error, pause: SECOND, unreported: 0 };
        assert_eq!(unreported(&mut throttle, 4, same), None, "the same cause of another call");
        assert_eq!(unreported(&mut throttle, 61, retrying(503)), Some(3));
        assert_eq!(unreported(&mut throttle, 62, retrying(503)), None);
    }

    #[test]
    fn the_summary_says_how_long_each_phase_took() {
        let mut throttle = Throttle::default();
        let job = || "j".to_owned();
        let facts = || ExecutionFacts { name: "e".to_owned(), ..ExecutionFacts::default() };
        throttle.admit(Duration::ZERO, Progress::Created { job: job(), uid: None });
        throttle.admit(SECOND, retrying(503));
        throttle.admit(SECOND, retrying(503));
        assert!(throttle.summary(3 * SECOND).unwrap().to_string().contains("pending for 3.0 s; 2 retries"));
        throttle.admit(2 * SECOND, Progress::Submitting { job: job() });
        throttle.admit(3 * SECOND, Progress::Started { job: job(), execution: "e".to_owned() });
        throttle.admit(7 * SECOND, Progress::Running { facts: facts() });
        throttle.admit(20 * SECOND, Progress::Succeeded { job: job(), facts: facts() });
        let expected = "Cloud Run Job 'j' was pending for 2.0 s, ready for 5.0 s, running for 13.0 s; 2 retries";
        assert_eq!(throttle.summary(30 * SECOND).unwrap().to_string(), expected);
    }

    #[test]
    fn an_execution_that_was_never_seen_running_counts_as_running_from_its_start() {
        let mut throttle = Throttle::default();
        let job = || "j".to_owned();
        let facts = || ExecutionFacts { name: "e".to_owned(), ..ExecutionFacts::default() };
        assert!(throttle.summary(SECOND).is_none(), "there is no job");
        throttle.admit(SECOND, Progress::Created { job: job(), uid: None });
        throttle.admit(2 * SECOND, Progress::Submitting { job: job() });
        throttle.admit(3 * SECOND, Progress::Started { job: job(), execution: "e".to_owned() });
        throttle.admit(4 * SECOND, Progress::Failed { job: job(), message: String::new(), facts: facts() });
        assert!(
            throttle
                .summary(9 * SECOND)
                .unwrap()
                .to_string()
                .contains("ready for 1.0 s, running for 1.0 s; no retries")
        );
    }
}
