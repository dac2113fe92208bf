//! What all states of a run share.

use std::{mem, time::Duration};

use super::{
    ownership::Ownership,
    protocol::{Event, Plan, RunError},
};
use crate::{
    api::{ApiError, ApiMethod, ErrorKind, RetryBudget},
    lifecycle::{
        backoff::Backoff,
        progress::{ExecutionFacts, Progress},
    },
};

/// Pause between the first and the second read of a job.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Pause before a read that resolves a doubt.
pub(super) const RECHECK_PAUSE: Duration = Duration::from_secs(2);
/// How often `jobs.run` is sent at most.
pub(super) const MAX_STARTS: u32 = 5;
/// Average pause after a call that a limit refused. The wait for the next turn follows.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// How long reads must not find the job before a list is asked. A failing API may answer 404 for some seconds.
pub(super) const JOB_GONE_AFTER: Duration = Duration::from_secs(30);
/// How long reads of a resource may answer 404 after its creation.
pub(in crate::lifecycle) const READ_LAG: Duration = Duration::from_secs(10);

/// What is known in every state. All times are in the machine's time.
#[derive(Debug)]
pub(super) struct RunContext {
    pub(super) plan: Plan,
    pub(super) ownership: Ownership,
    /// When the job was created; the start of the run before that.
    pub(super) created_at: Duration,
    /// When a response last showed that the job, or its execution, exists and is ours.
    pub(super) last_seen: Duration,
    /// Whether the response to a start request was lost.
    pub(super) maybe_started: bool,
    /// Whether another start was, or is to be, sent after one whose response was lost. That one may still take effect.
    pub(super) lost_start: bool,
    /// Whether a start was sent.
    pub(super) is_submitted: bool,
    /// The wait for quotas and limits.
    pub(super) capacity: CapacityWait,
    /// The execution, as far as it is known.
    pub(super) execution: ExecutionFacts,
    /// Spreads the calls of runs that wait together.
    pub(super) random: fastrand::Rng,
    /// Progress that was not handed out yet.
    pub(super) reports: Vec<Progress>,
}

/// The wait of a run for quotas and limits, over all its creates and starts. A full region can stay full for hours.
#[derive(Debug, Default)]
pub(super) struct CapacityWait {
    /// How long the run has waited so far.
    pub(super) waited: Duration,
    /// Whether the wait for a per-minute quota was reported.
    pub(super) is_reported: bool,
    /// How many of its calls were refused.
    pub(super) refusals: u32,
    /// The pauses after starts that a per-minute quota refused.
    pub(super) pauses: Option<Backoff>,
}

impl RunContext {
    /// How much longer the run may wait for quotas and limits.
    pub(super) fn capacity_time_left(&self) -> Duration {
        self.plan.quota_wait_max.saturating_sub(self.capacity.waited)
    }

    /// The pause after a call that a limit refused. A `Retry-After` counts for all runs of the region, in its queue.
    pub(super) fn limit_pause(&mut self) -> Duration {
        self.spread(REFUSED_PAUSE)
    }

    /// Records that a quota or a limit refused a call. Returns the error that ends the run if it
    /// has no time left to wait for `pause`.
    pub(super) fn refused(&mut self, error: ApiError, pause: Duration) -> Result<(), Box<ApiError>> {
        // Without an attempt, the call is still waiting for its per-minute quota.
        self.capacity.refusals += u32::from(error.attempts > 0);
        let left = self.capacity_time_left();
        if left.is_zero() || pause > left {
            let (attempts, elapsed) = (self.capacity.refusals, self.capacity.waited);
            return Err(Box::new(ApiError { attempts, elapsed, exhausted: Some(RetryBudget::QuotaWait), ..error }));
        }
        // The driver reports the wait for a turn.
        if error.kind == ErrorKind::RateLimited && !mem::replace(&mut self.capacity.is_reported, true) {
            self.report(Progress::AwaitingCapacity { error, max_wait: self.plan.quota_wait_max });
        }
        self.capacity.waited += pause;
        Ok(())
    }

    pub(super) fn report(&mut self, progress: Progress) {
        self.reports.push(progress);
    }

    /// Reports that a job of this name exists, and that it can't be decided whether it is ours.
    pub(super) fn report_unknown_owner(&mut self) {
        let (job, delete_command) = (self.plan.job.clone(), self.plan.delete_command());
        self.report(Progress::UnknownOwner { job, delete_command });
    }

    /// Reports where the log of the execution is, if that is known.
    pub(super) fn report_log(&mut self, log: Option<&String>) {
        self.reports.extend(log.cloned().map(|uri| Progress::Log { uri }));
    }

    /// Reports that an execution of ours may go on without being watched.
    pub(super) fn report_left_running(&mut self, error: ApiError) {
        let (job, delete_command) = (self.plan.job.clone(), self.plan.delete_command());
        self.report(Progress::LeftRunning { job, delete_command, error });
    }

    /// The error of a run whose job was deleted before an execution was known.
    pub(super) fn removed_before_start(&self, killed: bool) -> RunError {
        RunError::RemovedBeforeStart { job: self.plan.job.clone(), maybe_started: self.maybe_started, killed }
    }

    /// Pauses after reads of an execution that gave no update.
    pub(super) fn recheck_pauses(&self) -> Backoff {
        Backoff::new(RECHECK_PAUSE, self.plan.poll_interval)
    }

    /// Takes a read that shows an earlier job of the same name for one that does not find our job.
    ///
    /// Reads of a young job may lag, so such a read does not show that somebody replaced our job.
    pub(super) fn without_earlier_job(&self, now: Duration, event: Event) -> Event {
        match event {
            Event::JobRead(Ok(job)) if now < self.created_at + READ_LAG && self.ownership.is_other_job(&job) => {
                let location = (self.plan.project.as_str(), self.plan.region.as_str());
                let message = "the read shows an earlier job of the same name".to_owned();
                let error = ApiError::new(ApiMethod::GetJob, ErrorKind::NotFound, location, &self.plan.job, message);
                Event::JobRead(Err(Box::new(error)))
            }
            event => event,
        }
    }

    /// Records in `since` that a read did not find the job. Returns whether that has lasted so long that a list is to be
    /// asked. Reads of a young job may lag.
    pub(super) fn record_not_found(&self, now: Duration, since: &mut Option<Duration>) -> bool {
        let since = *since.get_or_insert(now);
        now >= self.created_at.max(since) + JOB_GONE_AFTER
    }

    /// A pause between half and one and a half of this one.
    pub(super) fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + self.random.f64())
    }
}
