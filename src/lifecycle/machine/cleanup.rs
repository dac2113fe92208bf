//! The deletion of a run's job after the run has ended. The run does not wait for it.

use std::{mem, time::Duration};

use super::{
    ownership::Ownership,
    protocol::{Command, Event, Plan},
    removal::{Removal, RemovalStep},
};
use crate::{
    api::{ApiError, RetryNotice, RetryPolicy},
    lifecycle::{backoff::Backoff, progress::Progress},
};

/// First and longest pause between two rounds of a deletion that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// How long a failure of the deletion is not reported again.
const QUIET_PERIOD: Duration = Duration::from_secs(3600);

/// The deletion of a run's job, decided step by step. It waits for the response to [`Cleanup::command`].
///
/// It goes on, with growing pauses, until the job is gone or turns out not to be ours.
#[derive(Debug)]
pub struct Cleanup {
    job: String,
    delete_command: String,
    removal: Removal,
    retry: RetryPolicy,
    /// Whether the job surely existed. If it did not, nothing is reported about it.
    is_certain: bool,
    pauses: Backoff,
    /// When a failure was last reported.
    reported_at: Option<Duration>,
    /// The last failure.
    failure: Option<Box<ApiError>>,
}

/// What follows a response.
#[derive(Debug)]
pub struct CleanupStep {
    /// What to report, in this order.
    pub reports: Vec<Progress>,
    /// Pause, and send the next command. `None`: there is nothing left to do.
    pub next: Option<(Duration, Box<Cleanup>)>,
}

impl Cleanup {
    /// Of a job that surely existed.
    pub(super) fn new(plan: &Plan, removal: Removal) -> Self {
        Self {
            job: plan.job.clone(),
            delete_command: plan.delete_command(),
            removal: removal.patient(),
            retry: plan.retry,
            is_certain: true,
            pauses: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            reported_at: None,
            failure: None,
        }
    }

    /// Of a job that may not exist.
    pub(super) fn in_doubt(plan: &Plan, removal: Removal) -> Self {
        Self { is_certain: false, ..Self::new(plan, removal.sparing_unknown_owners()) }
    }

    /// Name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// What tells the job from other jobs of its name.
    pub(in crate::lifecycle) fn ownership(&self) -> &Ownership {
        self.removal.ownership()
    }

    /// The command whose response it waits for.
    pub fn command(&self) -> Command {
        self.removal.command()
    }

    /// The report of a deletion that is given up, because its process ends. `default` is the reason if no call has failed.
    pub fn abandoned(&self, default: ApiError) -> Progress {
        let error = self.failure.as_deref().cloned().unwrap_or(default);
        Progress::Leaked { job: self.job.clone(), delete_command: self.delete_command.clone(), error }
    }

    /// Takes the response that came at `now`, in the time of the run's machine.
    pub fn step(mut self: Box<Self>, now: Duration, event: Event) -> CleanupStep {
        // Any value: every arm that goes on sets it again.
        let next_round = Removal::read_first(self.removal.ownership().clone(), now, self.retry);
        let settled_at = self.removal.settled_at();
        let removal = mem::replace(&mut self.removal, next_round);
        match removal.step(now, event) {
            RemovalStep::Call(pause, removal) => self.go_on(pause, removal, None),
            RemovalStep::Retry(pause, removal, error) => {
                self.failure = Some(error.clone());
                let notice = RetryNotice { error: *error, pause };
                self.go_on(pause, removal, Some(Progress::Retrying { notice, unreported: 0 }))
            }
            RemovalStep::Failed(error) => {
                let removal = Removal::read_first(self.removal.ownership().clone(), settled_at, self.retry);
                let pause = error.pause_at_least(self.pauses.pause());
                let is_due = self.reported_at.is_none_or(|at| now >= at + QUIET_PERIOD);
                let report = is_due.then(|| {
                    self.reported_at = Some(now);
                    Progress::DeletionDelayed { job: self.job.clone(), pause, error: (*error).clone() }
                });
                self.failure = Some(error);
                // By then, the name may belong to a job of which nobody can tell whose it is.
                self.go_on(pause, removal.sparing_unknown_owners().patient(), report)
            }
            RemovalStep::UnknownOwner => {
                let (job, delete_command) = (self.job, self.delete_command);
                CleanupStep { reports: vec![Progress::UnknownOwner { job, delete_command }], next: None }
            }
            // Deleted, or replaced by somebody else's job.
            RemovalStep::Deleted => CleanupStep { reports: vec![Progress::Deleted { job: self.job }], next: None },
            RemovalStep::Missing(_) | RemovalStep::NotOurs => {
                let reports = if self.is_certain { vec![Progress::Deleted { job: self.job }] } else { vec![] };
                CleanupStep { reports, next: None }
            }
        }
    }

    fn go_on(mut self: Box<Self>, pause: Duration, removal: Removal, report: Option<Progress>) -> CleanupStep {
        let mut reports: Vec<Progress> = report.into_iter().collect();
        if !self.is_certain && removal.command() == Command::DeleteJob {
            // The job that was in doubt exists.
            self.is_certain = true;
            reports.push(Progress::Deleting { job: self.job.clone(), completed: false });
        }
        self.removal = removal;
        CleanupStep { reports, next: Some((pause, self)) }
    }
}
