//! The lifecycle of one flow run's job, decided step by step, without I/O and without a clock.
//!
//! The driver sends the command that a [`Step`] names and feeds the response back as an event.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Creating
//!     Creating --> NameTaken
//!     Creating --> AwaitingReady
//!     Creating --> Confirming
//!     Creating --> [*]
//!     NameTaken --> Creating
//!     NameTaken --> AwaitingReady
//!     NameTaken --> Confirming
//!     NameTaken --> [*]
//!     AwaitingReady --> Confirming
//!     AwaitingReady --> [*]
//!     Confirming --> AwaitingCapacity
//!     Confirming --> Starting
//!     Confirming --> [*]
//!     Starting --> AwaitingReady
//!     Starting --> Confirming
//!     Starting --> AwaitingCapacity
//!     Starting --> Recovering
//!     Starting --> Watching
//!     Starting --> [*]
//!     AwaitingCapacity --> AwaitingReady
//!     AwaitingCapacity --> Confirming
//!     AwaitingCapacity --> Watching
//!     AwaitingCapacity --> [*]
//!     Recovering --> Confirming
//!     Recovering --> Watching
//!     Recovering --> [*]
//!     Watching --> ConfirmingGone
//!     Watching --> ConfirmingCancelled
//!     Watching --> CountingExecutions
//!     Watching --> [*]
//!     ConfirmingGone --> Watching
//!     ConfirmingGone --> FindingJob
//!     ConfirmingGone --> ConfirmingCancelled
//!     ConfirmingGone --> [*]
//!     FindingJob --> Watching
//!     FindingJob --> ConfirmingCancelled
//!     FindingJob --> [*]
//!     ConfirmingCancelled --> [*]
//!     CountingExecutions --> Watching
//!     CountingExecutions --> CancellingDuplicates
//!     CountingExecutions --> [*]
//!     CancellingDuplicates --> Watching
//!     CancellingDuplicates --> [*]
//! ```
//!
//! `tests/it/lifecycle_machine.rs` compares the diagram with all transitions that it finds.
//!
//! # Guarantees
//!
//! Whatever the responses:
//!
//! - After the response to a start was lost, `jobs.run` is sent again only if reads of the job and of its executions
//!   found no execution, and only when the lost start should not take effect any more ([`Plan::settle_time`]). If it does
//!   after all, the younger execution is cancelled.
//! - A job of ours is deleted, kept because it is to be kept, or reported as left behind.
//! - A job that may belong to somebody else is never deleted. Reads before repeated calls see to it; only a job that
//!   replaces ours between such a read and the call can't be noticed.
//! - Only news about the execution ends a watch: its end, its deletion, or a kill. A failed read does so only after
//!   [`Plan::watch_retry_max`].
//! - A run that is given up before a start request can have taken effect starts nothing.
//! - A kill in this process ends the run at once, in every state in which there is a job of ours.
//!
//! # Where an event goes on
//!
//! [`create`] until the job exists, [`ready`] until it can be started, [`start`] until there is an execution, [`recover`]
//! if the response to the start was lost, [`watch`] until the execution has ended, with [`absence`] if it is not found and
//! [`count`] if there may be two, [`ending`] and [`finish`] at the end. The [`cleanup`] of the job goes on after that.

mod absence;
mod cleanup;
mod context;
mod count;
mod create;
mod ending;
mod finish;
mod ownership;
pub mod protocol;
mod ready;
mod recover;
mod removal;
mod start;
mod state;
mod watch;

use std::{mem, time::Duration};

pub use self::cleanup::{Cleanup, CleanupStep};
pub(super) use self::{
    context::READ_LAG,
    ownership::Ownership,
    removal::{Removal, RemovalStep},
};
use self::{
    context::{CapacityWait, RunContext},
    protocol::{Command, Event, GiveUp, GiveUpReason, KillEffect, Outcome, Plan, RunError},
    state::{Count, Creating, NameTaken, State, Transition, Watch},
};
use super::progress::{ExecutionFacts, Progress};
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
    Finish {
        /// How.
        result: Result<Outcome, RunError>,
        /// The deletion of its job. `None` if there is none, or it is to be kept or left alone.
        cleanup: Option<Box<Cleanup>>,
    },
}

impl Machine {
    /// The first step of a run. `now` is the time since any fixed moment; later calls use the same moment.
    pub fn begin(plan: Plan, now: Duration) -> Step {
        let creating = Progress::Creating { job: plan.job.clone() };
        let run = RunContext {
            ownership: Ownership { uid: None, label: plan.owner_label.clone(), has_unique_name: plan.has_unique_name },
            random: fastrand::Rng::with_seed(plan.seed),
            plan,
            created_at: now,
            last_seen: now,
            maybe_started: false,
            lost_start: false,
            is_submitted: false,
            capacity: CapacityWait::default(),
            execution: ExecutionFacts::default(),
            reports: vec![creating],
        };
        let first = State::Creating(Creating { taken_since: None, maybe_done: false, has_turn: false });
        Self::advance(run, Transition::to(Duration::ZERO, first))
    }

    /// Takes an event that happened at `now` and decides what to do.
    pub fn step(self, now: Duration, event: Event) -> Step {
        let Self { mut run, state } = self;
        let event = run.without_earlier_job(now, event);
        let transition = match (state, event) {
            (State::Creating(mut creating), Event::TurnCame(waited)) => {
                run.capacity.waited += waited;
                creating.waited(waited);
                Transition::to(Duration::ZERO, State::Creating(Creating { has_turn: true, ..creating }))
            }
            (State::Confirming(readiness), Event::TurnCame(waited)) => {
                run.capacity.waited += waited;
                start::turn_came(&run, now, readiness)
            }
            (State::Creating(creating), Event::Created(job)) => create::created(&mut run, now, creating, job),
            (State::NameTaken(taken), Event::JobRead(job)) => create::name_holder_read(&mut run, now, taken, job),
            (State::NameTaken(taken), Event::JobListed(job)) => create::name_holder_listed(&mut run, now, taken, job),
            (State::AwaitingReady(readiness), Event::JobRead(job)) => ready::job_read(&mut run, now, readiness, job),
            (State::AwaitingReady(readiness), Event::JobListed(job)) => {
                ready::job_listed(&mut run, now, readiness, job)
            }
            (State::AwaitingCapacity(check), Event::JobRead(job)) => start::capacity_check(&mut run, now, check, job),
            (State::Confirming(readiness), Event::StartConfirmed) => start::confirmed(&mut run, readiness),
            (State::Starting(readiness), Event::RunResponse(execution)) => {
                start::run_response(&mut run, now, readiness, execution)
            }
            (State::Recovering(recovery), Event::JobRead(job)) => recover::job_read(&mut run, now, recovery, job),
            (State::Recovering(recovery), Event::JobListed(job)) => recover::job_listed(&mut run, now, recovery, job),
            (State::Recovering(recovery), Event::ExecutionsListed(executions)) => {
                recover::executions_listed(&mut run, now, recovery, executions)
            }
            (State::Watching(watch), Event::ExecutionRead(execution)) => {
                watch::execution_read(&mut run, now, watch, execution)
            }
            (State::Watching(watch), Event::WatchPaused) => count::begin(now, watch),
            (State::ConfirmingGone(watch), Event::JobRead(job)) => absence::job_read(&mut run, now, watch, job),
            (State::FindingJob(watch), Event::JobListed(job)) => absence::job_listed(&mut run, now, watch, job),
            (State::ConfirmingCancelled(cancelled), Event::JobRead(job)) => {
                ending::confirm_cancelled(&mut run, now, cancelled, job)
            }
            (State::ConfirmingCancelled(cancelled), Event::JobListed(job)) => {
                ending::cancelled_job_listed(&mut run, now, cancelled, job)
            }
            (State::CountingExecutions(count), Event::JobRead(job)) => count::job_read(&run, now, count, job),
            (State::CountingExecutions(count), Event::ExecutionsListed(executions)) => {
                count::executions_listed(&mut run, now, count, executions)
            }
            (State::CancellingDuplicates(duplicates), Event::ExecutionCancelled(response)) => {
                count::cancelled(&mut run, now, duplicates, response)
            }
            (state, Event::GivenUp { maybe_done, .. }) => given_up(&mut run, now, state, maybe_done),
            (state, Event::Killed) => killed(&mut run, now, state),
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

    /// The pending command has waited this long for quotas and turns. Call it before [`Self::step`] with the response.
    ///
    /// The wait counts against [`Plan::quota_wait_max`], and not against the run's patience with a name that is taken.
    pub fn waited(&mut self, wait: Duration) {
        self.run.capacity.waited += wait;
        if let State::Creating(creating) = &mut self.state {
            creating.waited(wait);
        }
    }

    /// Which kill ends the run, whatever the pending command's response ([`Event::Killed`]).
    pub fn kill_effect(&self) -> KillEffect {
        self.state.kill_effect()
    }

    /// Whether an order to give up ends the run, whatever the pending command's response ([`Event::GivenUp`]).
    pub fn give_up(&self, reason: GiveUpReason) -> GiveUp {
        self.state.give_up(reason)
    }

    /// The age at `now` of the last read of the job.
    pub(super) fn read_age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.run.last_seen)
    }

    /// How much longer the run may wait for quotas and limits.
    pub(super) fn capacity_time_left(&self) -> Duration {
        self.run.capacity_time_left()
    }

    /// Whether the response to a start request was lost.
    pub(super) fn maybe_started(&self) -> bool {
        self.run.maybe_started
    }

    /// Whether the run holds its turn in its region.
    pub(super) fn holds_turn(&self) -> bool {
        self.state.holds_turn()
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
                let command = state.command(&run);
                Next::Send { pause, command, machine: Box::new(Self { run, state }) }
            }
            Transition::Finish { result, cleanup } => Next::Finish { result, cleanup },
        };
        Step { reports, next }
    }
}

/// Ends the run because of a kill in this process: it has deleted the job, or it came before the job was created.
fn killed(run: &mut RunContext, now: Duration, state: State) -> Transition {
    match state {
        State::Creating(Creating { maybe_done: true, .. }) | State::NameTaken(NameTaken { maybe_done: true, .. }) => {
            finish::finish_in_doubt(run, now + run.plan.settle_time, Err(run.removed_before_start(true)))
        }
        State::Starting(_) => {
            run.maybe_started = true;
            Transition::fail(run.removed_before_start(true))
        }
        State::Creating(_)
        | State::NameTaken(_)
        | State::AwaitingReady(_)
        | State::AwaitingCapacity(_)
        | State::Confirming(_)
        | State::Recovering(_) => Transition::fail(run.removed_before_start(true)),
        State::Watching(_)
        | State::ConfirmingGone(_)
        | State::FindingJob(_)
        | State::ConfirmingCancelled(_)
        | State::CountingExecutions(_)
        | State::CancellingDuplicates(_) => ending::removed(run, true),
    }
}

/// Ends a run that is no longer wanted. `maybe_done`: whether the pending command may have taken effect.
fn given_up(run: &mut RunContext, now: Duration, state: State, maybe_done: bool) -> Transition {
    match state {
        State::Creating(Creating { maybe_done: earlier, .. }) => {
            finish::give_up(run, now, false, earlier || maybe_done)
        }
        State::NameTaken(taken) => finish::give_up(run, now, false, taken.maybe_done),
        State::Starting(readiness) if maybe_done => {
            let cause = Box::new(lost_start_response(&run.plan));
            recover::begin(run, readiness, now, cause)
        }
        State::AwaitingReady(_) | State::AwaitingCapacity(_) | State::Confirming(_) | State::Starting(_) => {
            finish::give_up(run, now, true, false)
        }
        State::Recovering(_) => finish::leave_running(run),
        State::Watching(watch)
        | State::ConfirmingGone(watch)
        | State::FindingJob(watch)
        | State::CountingExecutions(Count { watch, .. }) => {
            Transition::to(Duration::ZERO, State::Watching(Watch { is_last_look: true, lost_start: None, ..watch }))
        }
        state @ (State::ConfirmingCancelled(_) | State::CancellingDuplicates(_)) => {
            Transition::to(Duration::ZERO, state)
        }
    }
}

fn lost_start_response(plan: &Plan) -> ApiError {
    let location = (plan.project.as_str(), plan.region.as_str());
    let message = "the response was lost".to_owned();
    let error = ApiError::new(ApiMethod::RunJob, ErrorKind::Unavailable, location, &plan.job, message);
    ApiError { maybe_done: true, ..error }
}
