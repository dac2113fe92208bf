//! The lifecycle of one flow run's job, decided step by step, without I/O and without a clock.
//!
//! The driver sends the command that a [`Step`] names and feeds the response back as an event.
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
//!     Starting --> AwaitingCapacity
//!     Starting --> Recovering
//!     Starting --> Watching
//!     Starting --> CleaningUp
//!     Starting --> [*]
//!     AwaitingCapacity --> AwaitingReady
//!     AwaitingCapacity --> Starting
//!     AwaitingCapacity --> CleaningUp
//!     AwaitingCapacity --> [*]
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
//! `tests/it/lifecycle_machine.rs` compares the diagram with all transitions that it finds.
//!
//! # Guarantees
//!
//! Whatever the responses:
//!
//! - After the response to a start was lost, `jobs.run` is sent again only if reads of the job and of its executions
//!   found no execution, and only when the lost start can't take effect any more ([`Plan::settle_time`]).
//! - A job of ours is deleted, kept because it is to be kept, or reported as left behind.
//! - A job that may belong to somebody else is never deleted. Reads before repeated calls see to it; only a job that
//!   replaces ours between such a read and the call can't be noticed.
//! - A failure that may pass never ends a watch.
//! - A kill in this process ends the run at once, in every state in which there is a job of ours and the run does not
//!   delete it itself.
//!
//! # Where an event goes on
//!
//! [`create`] until the job exists, [`ready`] until it can be started, [`start`] until there is an execution, [`recover`]
//! if the response to the start was lost, [`watch`] until the execution has ended, [`cleanup`] until the job is deleted.

mod cleanup;
mod context;
mod create;
mod ownership;
pub mod protocol;
mod ready;
mod recover;
mod removal;
mod start;
mod state;
mod watch;

use std::{mem, time::Duration};

pub(super) use self::{
    context::READ_LAG,
    ownership::Ownership,
    removal::{Removal, RemovalStep},
};
use self::{
    context::RunContext,
    protocol::{Command, Event, Outcome, Plan, RunError},
    state::{Creating, State, Transition},
};
use super::progress::Progress;
use crate::api::{ApiError, ApiMethod, ErrorKind};

/// The machine of one run, waiting for the response to a command.
#[derive(Debug)]
pub struct Machine {
    run: RunContext,
    state: State,
}

/// What one step decided.
#[derive(Debug)]
pub struct Step {
    /// What to report, in this order.
    pub reports: Vec<Progress>,
    /// What to do.
    pub next: Next,
}

/// What follows a step: one command, or the end.
#[derive(Debug)]
pub enum Next {
    /// Pause, send the command, and give its response to the machine.
    Send {
        /// The pause before the command.
        pause: Duration,
        /// The command.
        command: Command,
        /// The machine that takes the response.
        machine: Box<Machine>,
    },
    /// The run has ended.
    Finish(Result<Outcome, RunError>),
}

impl Machine {
    /// The first step of a run. `now` is the time since any fixed moment; later calls use the same moment.
    pub fn begin(plan: Plan, now: Duration) -> Step {
        let creating = Progress::Creating { job: plan.job.clone() };
        let run = RunContext {
            ownership: Ownership { uid: None, label: plan.owner_label.clone() },
            plan,
            created_at: now,
            last_seen: now,
            maybe_started: false,
            reports: vec![creating],
        };
        let first = State::Creating(Creating { taken_since: None, maybe_done: false });
        Self::advance(run, Transition::to(Duration::ZERO, first))
    }

    /// Takes an event that happened at `now` and decides what to do.
    pub fn step(self, now: Duration, event: Event) -> Step {
        let Self { mut run, state } = self;
        let event = run.without_earlier_job(now, event);
        let transition = match (state, event) {
            (State::Creating(creating), Event::Created(job)) => create::created(&mut run, now, creating, job),
            (State::NameTaken(taken), Event::JobRead(job)) => create::name_holder_read(&mut run, now, taken, job),
            (State::CheckingLeftover(leftover), Event::JobRead(job)) => {
                create::leftover_read(&mut run, now, leftover, job)
            }
            (State::AwaitingReady(readiness), Event::JobRead(job)) => ready::job_read(&mut run, now, readiness, job),
            (State::AwaitingCapacity(check), Event::JobRead(job)) => start::capacity_check(&mut run, now, check, job),
            (State::Starting(readiness), Event::RunResponse(execution)) => {
                start::run_response(&mut run, now, readiness, execution)
            }
            (State::Recovering(recovery), Event::JobRead(job)) => recover::job_read(&mut run, now, recovery, job),
            (State::Recovering(recovery), Event::ExecutionsListed(executions)) => {
                recover::executions_listed(&mut run, now, recovery, executions)
            }
            (State::Watching(watch), Event::ExecutionRead(execution)) => {
                watch::execution_read(&mut run, now, watch, execution)
            }
            (State::ConfirmingGone(watch), Event::JobRead(job)) => watch::confirm_gone(&mut run, now, watch, job),
            (State::ConfirmingCancelled(cancelled), Event::JobRead(job)) => {
                watch::confirm_cancelled(&mut run, now, cancelled, job)
            }
            (State::CleaningUp(clean_up), event) => {
                cleanup::advance(&mut run, clean_up.result, clean_up.removal.step(now, event))
            }
            (state, Event::Killed) => killed(&mut run, state),
            // The driver never sends an event for another state. If it did, sending the command again would be safe,
            // except for `jobs.run`.
            (State::Starting(readiness), _) => {
                let cause = Box::new(lost_start_response(&run.plan));
                recover::begin(&mut run, readiness, now, cause)
            }
            (state, _) => Transition::to(Duration::ZERO, state),
        };
        Self::advance(run, transition)
    }

    /// Whether a kill that has deleted the job ends the run at once, whatever the pending command's response.
    pub fn ends_on_kill(&self) -> bool {
        self.state.ends_on_kill()
    }

    /// What tells this run's job from other jobs of the same name.
    pub(super) fn ownership(&self) -> &Ownership {
        &self.run.ownership
    }

    /// The name of the machine's state, as in the diagram.
    pub fn state(&self) -> &'static str {
        self.state.name()
    }

    fn advance(mut run: RunContext, transition: Transition) -> Step {
        let reports = mem::take(&mut run.reports);
        let next = match transition {
            Transition::Wait { pause, state } => {
                let command = state.command(&run.plan);
                Next::Send { pause, command, machine: Box::new(Self { run, state }) }
            }
            Transition::Finish(result) => Next::Finish(result),
        };
        Step { reports, next }
    }
}

/// Ends the run after a kill in this process has deleted its job.
fn killed(run: &mut RunContext, state: State) -> Transition {
    match state {
        State::Watching(_) | State::ConfirmingGone(_) | State::ConfirmingCancelled(_) => watch::removed(run, true),
        State::Starting(_) => {
            run.maybe_started = true;
            Transition::fail(run.removed_before_start(true))
        }
        State::AwaitingReady(_) | State::AwaitingCapacity(_) | State::Recovering(_) => {
            Transition::fail(run.removed_before_start(true))
        }
        // The kill replaced the response to the create, which may have taken effect.
        State::Creating(creating) => {
            Transition::to(Duration::ZERO, State::Creating(Creating { maybe_done: true, ..creating }))
        }
        state => Transition::to(Duration::ZERO, state),
    }
}

fn lost_start_response(plan: &Plan) -> ApiError {
    let location = (plan.project.as_str(), plan.region.as_str());
    let message = "the response was lost".to_owned();
    let error = ApiError::new(ApiMethod::RunJob, ErrorKind::Unavailable, location, &plan.job, message);
    ApiError { maybe_done: true, ..error }
}
