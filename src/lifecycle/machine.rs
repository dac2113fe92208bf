//! The way of one flow run's job, decided step by step, without I/O and without a clock.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Creating
//!     Creating --> NameTaken
//!     Creating --> CheckingLeftover
//!     Creating --> AwaitingReady
//!     Creating --> Starting
//!     Creating --> CleaningUp
//!     Creating --> [*]
//!     NameTaken --> Creating
//!     NameTaken --> CheckingLeftover
//!     NameTaken --> AwaitingReady
//!     NameTaken --> Starting
//!     NameTaken --> CleaningUp
//!     NameTaken --> [*]
//!     CheckingLeftover --> CleaningUp
//!     CheckingLeftover --> [*]
//!     AwaitingReady --> Starting
//!     AwaitingReady --> CleaningUp
//!     AwaitingReady --> [*]
//!     Starting --> AwaitingReady
//!     Starting --> AwaitingQuota
//!     Starting --> Recovering
//!     Starting --> Watching
//!     Starting --> CleaningUp
//!     Starting --> [*]
//!     AwaitingQuota --> AwaitingReady
//!     AwaitingQuota --> Starting
//!     AwaitingQuota --> CleaningUp
//!     AwaitingQuota --> [*]
//!     Recovering --> Starting
//!     Recovering --> Watching
//!     Recovering --> CleaningUp
//!     Recovering --> [*]
//!     Watching --> ConfirmingGone
//!     Watching --> ConfirmingCancelled
//!     Watching --> CleaningUp
//!     Watching --> [*]
//!     ConfirmingGone --> Watching
//!     ConfirmingGone --> CleaningUp
//!     ConfirmingGone --> [*]
//!     ConfirmingCancelled --> CleaningUp
//!     ConfirmingCancelled --> [*]
//!     CleaningUp --> [*]
//! ```
//!
//! Whatever the answers:
//!
//! - after a start whose answer was lost, `jobs.run` is sent again only when looks at the job and at its executions have
//!   found none, so late that the lost one can't happen any more (`Plan::settles`);
//! - a job of ours is deleted, kept because it is to be, or told of as left behind;
//! - a job that may be somebody else's is never deleted, as far as looks before each repeated call can tell;
//! - a fault that may pass never ends a watch;
//! - a kill of this process ends the run at once, from every state in which there is a job of ours.
//!
//! `tests/it/lifecycle_machine.rs` holds the diagram against all transitions that it finds.

use std::{mem, time::Duration};

use super::{
    identity::Identity,
    progress::Progress,
    removal::{Patience, Removal, Verdict},
    state::State,
    step::{Event, Next, Outcome, Plan, RunError, Step},
};
use crate::api::{ApiError, ApiMethod, ErrorKind, RetryNotice};

/// The pause between the first look at a job and the second.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The pause before a look that is to clear something up.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// How long a resource that was just created may answer 404.
pub(super) const READ_LAG: Duration = Duration::from_secs(10);

/// How long after a look a job may be deleted without another one.
const SEEN_LATELY: Duration = Duration::from_secs(1);

/// The machine of one run, waiting for an answer.
#[derive(Debug)]
pub struct Machine {
    pub(super) plan: Plan,
    state: State,
    pub(super) identity: Identity,
    /// When the job was created, once it was.
    pub(super) created_at: Duration,
    /// When the job, or its execution, was last seen to be there and ours.
    pub(super) seen_at: Duration,
    /// Whether the answer of a start was lost.
    pub(super) maybe_started: bool,
    pub(super) reports: Vec<Progress>,
}

impl Machine {
    /// The first step of a run, at `now` since any fixed moment.
    pub fn begin(plan: Plan, now: Duration) -> Step {
        let creating = Progress::Creating { job: plan.job.clone() };
        let machine = Self {
            identity: Identity { uid: None, label: plan.owner_label.clone() },
            plan,
            state: State::Creating { taken_since: None, maybe_done: false },
            created_at: now,
            seen_at: now,
            maybe_started: false,
            reports: vec![creating],
        };
        machine.ask(Duration::ZERO)
    }

    /// Takes an answer that came at `now` and says what to do.
    pub fn step(mut self, now: Duration, event: Event) -> Step {
        // A first create stands in for the time of the match; every arm sets a state or finishes.
        match (mem::replace(&mut self.state, State::Creating { taken_since: None, maybe_done: false }), event) {
            (State::Creating { taken_since, maybe_done }, Event::Created(answer)) => {
                self.created(now, taken_since, maybe_done, answer)
            }
            (State::NameTaken { since, maybe_done, error }, Event::JobRead(answer)) => {
                self.name_taken(now, since, maybe_done, error, answer)
            }
            (State::CheckingLeftover { settled_at, error }, Event::JobRead(answer)) => {
                self.leftover_read(now, settled_at, error, answer)
            }
            (State::AwaitingReady(readiness), Event::JobRead(answer)) => self.job_read(now, readiness, answer),
            (State::AwaitingQuota(readiness), Event::JobRead(answer)) => self.quota_looked(now, readiness, answer),
            (State::Starting(readiness), Event::RunAnswered(answer)) => self.run_answered(now, readiness, answer),
            (State::Recovering(recovery), Event::JobRead(answer)) => self.recover_by_job(now, recovery, answer),
            (State::Recovering(recovery), Event::Listed(answer)) => self.recover_by_list(now, recovery, answer),
            (State::Watching(watch), Event::ExecutionRead(answer)) => self.execution_read(now, watch, answer),
            (State::ConfirmingGone(watch), Event::JobRead(answer)) => self.confirm_gone(now, watch, answer),
            (State::ConfirmingCancelled { message, looks, deadline }, Event::JobRead(answer)) => {
                self.confirm_cancelled(now, message, looks, deadline, answer)
            }
            (State::CleaningUp { result, removal }, event) => self.remove(result, removal.step(now, event)),
            (state, Event::Killed) => self.killed(state),
            // An answer to something else, which the driver never feeds. Asking again is safe but for `jobs.run`.
            (State::Starting(readiness), _) => {
                let cause = Box::new(self.no_answer_to_the_start());
                self.recover(now, readiness, cause)
            }
            (state, _) => self.go(Duration::ZERO, state),
        }
    }

    /// Whether a kill that has deleted the job ends the run at once, whatever its pending call answers.
    pub fn heeds_kill(&self) -> bool {
        match self.state {
            State::AwaitingReady(_)
            | State::AwaitingQuota(_)
            | State::Starting(_)
            | State::Recovering(_)
            | State::Watching(_)
            | State::ConfirmingGone(_)
            | State::ConfirmingCancelled { .. } => true,
            // There is no job of ours yet, or the run is about to end anyway.
            State::Creating { .. }
            | State::NameTaken { .. }
            | State::CheckingLeftover { .. }
            | State::CleaningUp { .. } => false,
        }
    }

    /// What tells this run's job from others of its name.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name of the state that the machine is in.
    pub fn state(&self) -> &'static str {
        self.state.name()
    }

    fn killed(mut self, state: State) -> Step {
        match state {
            State::Watching(_) | State::ConfirmingGone(_) | State::ConfirmingCancelled { .. } => self.removed(),
            State::Starting(_) => {
                self.maybe_started = true;
                let error = self.removed_error(true);
                self.finish(Err(error))
            }
            State::AwaitingReady(_) | State::AwaitingQuota(_) | State::Recovering(_) => {
                let error = self.removed_error(true);
                self.finish(Err(error))
            }
            // The answer that this came in place of is lost.
            State::Creating { taken_since, .. } => {
                self.go(Duration::ZERO, State::Creating { taken_since, maybe_done: true })
            }
            state => self.go(Duration::ZERO, state),
        }
    }

    pub(super) fn clean_up(mut self, now: Duration, result: Result<Outcome, RunError>) -> Step {
        let job = self.plan.job.clone();
        if self.plan.keep_job {
            self.report(Progress::Kept { job });
            return self.finish(result);
        }
        let completed = matches!(result, Ok(Outcome::Succeeded | Outcome::Failed(_)));
        self.report(Progress::Deleting { job, completed });
        // With a fixed name, the job that has it may be another one after a while without a look.
        let removal = if now <= self.seen_at + SEEN_LATELY { Removal::of_seen } else { Removal::of_named };
        let patience = Patience { time: self.plan.patience, tries: self.plan.tries };
        let removal = removal(self.identity.clone(), self.created_at + READ_LAG, patience);
        self.go(Duration::ZERO, State::CleaningUp { result, removal })
    }

    fn remove(mut self, result: Result<Outcome, RunError>, verdict: Verdict) -> Step {
        match verdict {
            Verdict::Ask(pause, removal) => return self.go(pause, State::CleaningUp { result, removal }),
            Verdict::Again(pause, removal, error) => {
                self.report(Progress::Retrying { notice: RetryNotice { error: *error, pause }, unsaid: 0 });
                return self.go(pause, State::CleaningUp { result, removal });
            }
            // Gone, or somebody else's has taken its place.
            Verdict::Done | Verdict::Missing(_) | Verdict::SomebodyElses => {
                self.report(Progress::Deleted { job: self.plan.job.clone() });
            }
            Verdict::Failed(error) => self.leaked(Some(*error)),
        }
        self.finish(result)
    }

    /// Tells that a job of ours may be there that nobody will remove.
    pub(super) fn leaked(&mut self, error: Option<ApiError>) {
        let progress = Progress::Leaked { job: self.plan.job.clone(), remedy: self.plan.how_to_delete(), error };
        self.report(progress);
    }

    /// Tells that an execution of ours may go on unwatched.
    pub(super) fn left_running(&mut self, error: ApiError) {
        let progress = Progress::LeftRunning { job: self.plan.job.clone(), remedy: self.plan.how_to_delete(), error };
        self.report(progress);
    }

    pub(super) fn report(&mut self, progress: Progress) {
        self.reports.push(progress);
    }

    pub(super) fn go(mut self, after: Duration, state: State) -> Step {
        self.state = state;
        self.ask(after)
    }

    fn ask(mut self, after: Duration) -> Step {
        let (reports, ask) = (mem::take(&mut self.reports), self.state.ask(&self.plan));
        Step { reports, next: Next::Call { after, ask, machine: Box::new(self) } }
    }

    pub(super) fn finish(self, result: Result<Outcome, RunError>) -> Step {
        Step { reports: self.reports, next: Next::Finish(result) }
    }

    fn no_answer_to_the_start(&self) -> ApiError {
        let place = (self.plan.project.as_str(), self.plan.region.as_str());
        let message = "the answer was lost".to_owned();
        let error = ApiError::new(ApiMethod::RunJob, ErrorKind::Unavailable, place, &self.plan.job, message);
        ApiError { maybe_done: true, ..error }
    }
}
