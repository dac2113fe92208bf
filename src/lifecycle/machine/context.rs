//! What all states of a run share.

use std::time::Duration;

use super::{
    ownership::Ownership,
    protocol::{Event, Plan, RunError},
};
use crate::{
    api::{ApiError, ApiMethod, ErrorKind},
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// Pause between the first and the second read of a job.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Pause before a read that resolves a doubt.
pub(super) const RECHECK_PAUSE: Duration = Duration::from_secs(2);
/// How often `jobs.run` is sent at most.
pub(super) const MAX_STARTS: u32 = 5;
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
    /// Until when a start whose response was lost may still take effect, although no execution was found.
    pub(super) lost_start_until: Option<Duration>,
    /// Spreads the calls of runs that wait together.
    pub(super) random: fastrand::Rng,
    /// Progress that was not handed out yet.
    pub(super) reports: Vec<Progress>,
}

impl RunContext {
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
