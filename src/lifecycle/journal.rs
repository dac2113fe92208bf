//! What of a run's progress goes into its log: a failure that repeats itself once a minute, and a summary at the end.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    driver::Observer,
    progress::{Phases, Progress},
};
use crate::api::{ApiError, ErrorKind, Notice, Quota, RetryNotice};

/// How long a failure that was told is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// What makes two failures the same, whatever the call.
type Cause = (ErrorKind, Option<u16>);

/// Tells an observer what its journal lets through.
#[derive(Clone)]
pub(super) struct Teller {
    began: Instant,
    journal: Arc<Mutex<Journal>>,
    observer: Observer,
}

impl Teller {
    /// Of a run that begins now.
    pub(super) fn new(observer: Observer) -> Self {
        Self { began: Instant::now(), journal: Arc::default(), observer }
    }

    pub(super) fn tell(&self, progress: Progress) {
        let told = self.journal.lock().unwrap_or_else(PoisonError::into_inner).note(self.began.elapsed(), progress);
        told.into_iter().for_each(|progress| (self.observer)(progress));
    }

    /// Tells the last line.
    pub(super) fn sum_up(&self) {
        let summary = self.journal.lock().unwrap_or_else(PoisonError::into_inner).summary(self.began.elapsed());
        (self.observer)(summary);
    }

    /// What tells of the notices of calls.
    pub(super) fn notices(&self) -> Arc<dyn Fn(Notice) + Send + Sync> {
        let this = self.clone();
        Arc::new(move |notice| match notice {
            Notice::Retry(notice) => this.tell(Progress::Retrying { notice, unsaid: 0 }),
            Notice::RateLimited(quota) => this.tell(Progress::Throttled { quota }),
        })
    }
}

/// The journal of one run.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// When each failure was told last, and how often it came since.
    told: HashMap<Cause, (Duration, u32)>,
    /// The quotas of which it was told that they are waited for.
    throttled: Vec<Quota>,
    retries: u32,
    job: String,
    submitted: Option<Duration>,
    started: Option<Duration>,
    running: Option<Duration>,
    ended: Option<Duration>,
}

impl Journal {
    /// Notes what happened at `now` (since the run began), and returns it if it is to be told.
    pub(super) fn note(&mut self, now: Duration, mut progress: Progress) -> Option<Progress> {
        match &mut progress {
            Progress::Retrying { notice: RetryNotice { error, .. }, unsaid }
            | Progress::LookFailed { error, unsaid, .. } => {
                self.retries += 1;
                *unsaid = self.unsaid(now, error)?;
            }
            // The start is looked for, and sent again if it did not happen.
            Progress::Recovering { .. } => self.retries += 1,
            Progress::Throttled { quota } if self.throttled.contains(quota) => return None,
            Progress::Throttled { quota } => self.throttled.push(*quota),
            Progress::Creating { job } => self.job.clone_from(job),
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

    /// How often the same failure came since it was told; none while it is too early to tell it again.
    fn unsaid(&mut self, now: Duration, error: &ApiError) -> Option<u32> {
        let (told, unsaid) = match self.told.entry((error.kind, error.status)) {
            Entry::Vacant(first) => {
                first.insert((now, 0));
                return Some(0);
            }
            Entry::Occupied(again) => again.into_mut(),
        };
        if now < *told + QUIET {
            *unsaid += 1;
            return None;
        }
        *told = now;
        Some(std::mem::take(unsaid))
    }

    /// The last line, for a run that ends at `now`.
    pub(super) fn summary(&self, now: Duration) -> Progress {
        let between = |from: Option<Duration>, to: Option<Duration>| Some(to.unwrap_or(now).saturating_sub(from?));
        // An execution that was short may never have been seen running.
        let running = self.running.or(self.ended.and(self.started));
        let phases = Phases {
            pending: self.submitted.unwrap_or(now),
            ready: between(self.submitted, running),
            running: between(running, self.ended),
        };
        Progress::Summary { job: self.job.clone(), phases, retries: self.retries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiMethod;

    const SECOND: Duration = Duration::from_secs(1);

    fn retrying(status: u16) -> Progress {
        let error = ApiError { status: Some(status), ..ApiError::example(ApiMethod::GetJob, ErrorKind::Unavailable) };
        Progress::Retrying { notice: RetryNotice { error, pause: SECOND }, unsaid: 0 }
    }

    fn told(journal: &mut Journal, seconds: u32, progress: Progress) -> Option<u32> {
        match journal.note(SECOND * seconds, progress)? {
            Progress::Retrying { unsaid, .. } | Progress::LookFailed { unsaid, .. } => Some(unsaid),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_cause_is_told_once_a_minute_with_the_times_it_came_since() {
        let mut journal = Journal::default();
        assert_eq!(told(&mut journal, 1, retrying(503)), Some(0));
        assert_eq!((told(&mut journal, 2, retrying(503)), told(&mut journal, 60, retrying(503))), (None, None));
        assert_eq!(told(&mut journal, 3, retrying(500)), Some(0), "another cause");
        let error =
            ApiError { status: Some(503), ..ApiError::example(ApiMethod::GetExecution, ErrorKind::Unavailable) };
        let same = Progress::LookFailed { error, pause: SECOND, unsaid: 0 };
        assert_eq!(told(&mut journal, 4, same), None, "the same cause of another call");
        assert_eq!(told(&mut journal, 61, retrying(503)), Some(3));
        assert_eq!(told(&mut journal, 62, retrying(503)), None);
    }

    #[test]
    fn the_summary_says_how_long_each_phase_took() {
        let mut journal = Journal::default();
        let job = || "j".to_owned();
        journal.note(Duration::ZERO, Progress::Creating { job: job() });
        journal.note(SECOND, retrying(503));
        journal.note(SECOND, retrying(503));
        assert!(journal.summary(3 * SECOND).to_string().contains("pending for 3.0 s; 2 calls were repeated"));
        journal.note(2 * SECOND, Progress::Submitting { job: job() });
        journal.note(3 * SECOND, Progress::Started { job: job(), execution: "e".to_owned() });
        journal.note(7 * SECOND, Progress::Running { execution: "e".to_owned() });
        journal.note(20 * SECOND, Progress::Succeeded { job: job() });
        let expected =
            "Cloud Run Job 'j' was pending for 2.0 s, ready for 5.0 s, running for 13.0 s; 2 calls were repeated";
        assert_eq!(journal.summary(30 * SECOND).to_string(), expected);
    }

    #[test]
    fn an_execution_that_was_not_seen_running_ran_since_it_was_started() {
        let mut journal = Journal::default();
        let job = || "j".to_owned();
        journal.note(2 * SECOND, Progress::Submitting { job: job() });
        journal.note(3 * SECOND, Progress::Started { job: job(), execution: "e".to_owned() });
        journal.note(4 * SECOND, Progress::Failed { job: job(), message: String::new() });
        assert!(journal.summary(9 * SECOND).to_string().contains("ready for 1.0 s, running for 1.0 s; no call was"));
    }
}
