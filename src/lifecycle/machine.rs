//! The way of one flow run's job, decided step by step, without I/O and without a clock.
//!
//! ```text
//! Creating ──→ AwaitingReady ──→ Starting ───→ Watching ←──→ ConfirmingGone
//!  │ ↑  │            │             │  ↑ │         ↑ │ └─────→ ConfirmingCancelled
//!  │ │  └→ NameTaken │             ↓  │ └─────────┤ │           │
//!  │ └─────────┘ │   │          Recovering ───────┘ │           │
//!  ↓             │   │             │                │           │
//! CheckingLeftover───┴─────────────┴────────────────┴───────────┴──→ CleaningUp ──→ finish
//! ```
//!
//! Whatever the answers:
//!
//! - `jobs.run` is sent again only after repeated looks have found no execution;
//! - a job of ours is deleted, kept because it is to be, or told of as left behind;
//! - a job that may be somebody else's is never deleted;
//! - a fault that may pass never ends a watch.

use std::{mem, time::Duration};

use super::{
    progress::{Progress, describe},
    state::{Recovery, State, Watch},
    step::{Answer, Event, Next, Outcome, Plan, RunError, Step},
};
use crate::api::{
    ApiError, Backoff, Call, ErrorKind,
    types::{Condition, ConditionStatus, Execution, Job},
};

/// The first look at a job or an execution comes at once, the second after this pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long a `Ready=False` that may pass is looked at before it counts.
const READY_GRACE: Duration = Duration::from_secs(10);
/// How long a resource that was just created may answer 404.
const READ_LAG: Duration = Duration::from_secs(10);
/// How long a 404 of an execution must last before it counts.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// How long a name is waited for that belongs to a job in deletion.
const NAME_WAIT: Duration = Duration::from_secs(60);
/// Looks for an execution that may have been started, and the pause between two.
const RECOVERY_LOOKS: u32 = 4;
const RECOVERY_PAUSE: Duration = Duration::from_secs(2);
/// How often `jobs.run` is sent at most.
const MAX_STARTS: u32 = 5;

/// The machine of one run, waiting for an answer.
#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    state: State,
    /// Identity of the job that we created.
    uid: Option<String>,
    reports: Vec<Progress>,
}

impl Machine {
    /// The first step of a run, at `now` since any fixed moment.
    pub fn begin(plan: Plan, now: Duration) -> Step {
        let creating = Progress::Creating { job: plan.job.clone() };
        let machine =
            Self { plan, state: State::Creating { since: now, maybe_done: false }, uid: None, reports: vec![creating] };
        machine.ask(Duration::ZERO)
    }

    /// Takes an answer that came at `now` and says what to do.
    pub fn step(mut self, now: Duration, event: Event) -> Step {
        // `Starting` stands in for the time of the match; every arm sets a state or finishes.
        match (mem::replace(&mut self.state, State::Starting { starts: 0 }), event) {
            (State::Creating { since, maybe_done }, Event::Created(answer)) => {
                self.created(now, since, maybe_done, answer)
            }
            (State::NameTaken { since, maybe_done, error }, Event::JobRead(answer)) => {
                self.name_taken(now, since, maybe_done, error, answer)
            }
            (State::CheckingLeftover { looks, error }, Event::JobRead(answer)) => {
                self.leftover_read(looks, error, answer)
            }
            (State::AwaitingReady { since, looks, told, failing_since }, Event::JobRead(answer)) => {
                self.job_read(now, since, looks, told, failing_since, answer)
            }
            (State::Starting { starts }, Event::RunAnswered(answer)) => self.run_answered(now, starts, answer),
            (State::Recovering(recovery), Event::JobRead(answer)) => self.recover_by_job(now, recovery, answer),
            (State::Recovering(recovery), Event::Listed(answer)) => self.recover_by_list(now, recovery, answer),
            (State::Watching(watch), Event::ExecutionRead(answer)) => self.execution_read(now, watch, answer),
            (State::ConfirmingGone(watch), Event::JobRead(answer)) => self.confirm_gone(now, watch, answer),
            (State::ConfirmingCancelled { message }, Event::JobRead(answer)) => self.confirm_cancelled(message, answer),
            (State::CleaningUp { result }, Event::Deleted(answer)) => self.deleted(result, answer),
            // An answer to something else. The driver feeds none; asking again is safe but for `jobs.run`.
            (State::Starting { starts }, _) => {
                let cause = Box::new(self.unreadable_start());
                self.go(Duration::ZERO, State::Recovering(Recovery::new(starts, cause)))
            }
            (state, _) => self.go(Duration::ZERO, state),
        }
    }

    fn created(self, now: Duration, since: Duration, maybe_done: bool, answer: Answer<Job>) -> Step {
        let error = match answer {
            Ok(job) => return self.adopt_created(now, job),
            Err(error) => error,
        };
        let maybe_done = maybe_done || error.maybe_done;
        if error.kind == ErrorKind::AlreadyExists {
            self.go(Duration::ZERO, State::NameTaken { since, maybe_done, error })
        } else if maybe_done {
            self.go(Duration::ZERO, State::CheckingLeftover { looks: 1, error: error.into() })
        } else {
            self.finish(Err(error.into()))
        }
    }

    fn adopt_created(mut self, now: Duration, job: Job) -> Step {
        self.report(Progress::Created { job: self.plan.job.clone() });
        self.uid.clone_from(&job.metadata.uid);
        let looks = Backoff::new(FIRST_PAUSE, self.plan.poll_interval);
        self.job_read(now, now, looks, None, None, Ok(job))
    }

    fn name_taken(
        self,
        now: Duration,
        since: Duration,
        maybe_done: bool,
        error: Box<ApiError>,
        answer: Answer<Job>,
    ) -> Step {
        let again = State::Creating { since, maybe_done };
        let patient = now < since + NAME_WAIT;
        match answer {
            Ok(job) if job.metadata.deletion_timestamp.is_some() && patient => {
                let pause = self.plan.poll_interval;
                self.go(pause, again)
            }
            Ok(job) if maybe_done && self.is_ours(&job) => self.adopt_created(now, job),
            // Gone since, so that the name is free; or this read lags.
            Err(gone) if gone.kind == ErrorKind::NotFound && patient => self.go(FIRST_PAUSE, again),
            Err(failed) if may_pass(&failed) && patient => {
                self.go(RECOVERY_PAUSE, State::NameTaken { since, maybe_done, error })
            }
            Err(_) if maybe_done => self.go(Duration::ZERO, State::CheckingLeftover { looks: 1, error: error.into() }),
            _ => self.finish(Err(error.into())),
        }
    }

    fn leftover_read(mut self, looks: u32, error: RunError, answer: Answer<Job>) -> Step {
        let failed = match answer {
            Ok(job) if self.is_ours(&job) && self.is_same(&job) => return self.clean_up(Err(error)),
            Ok(_somebody_elses) => return self.finish(Err(error)),
            Err(failed) => failed,
        };
        let may_change = failed.kind == ErrorKind::NotFound || may_pass(&failed);
        if may_change && looks < RECOVERY_LOOKS {
            return self.go(RECOVERY_PAUSE, State::CheckingLeftover { looks: looks + 1, error });
        }
        if failed.kind != ErrorKind::NotFound {
            self.report(Progress::Leaked { error: *failed });
        }
        self.finish(Err(error))
    }

    fn job_read(
        mut self,
        now: Duration,
        since: Duration,
        mut looks: Backoff,
        mut told: Option<String>,
        mut failing_since: Option<Duration>,
        answer: Answer<Job>,
    ) -> Step {
        match answer {
            Ok(job) if job.metadata.deletion_timestamp.is_some() => {
                let job = self.plan.job.clone();
                return self.finish(Err(RunError::RemovedBeforeStart { job }));
            }
            Ok(job) => {
                let condition = job.ready();
                let text = condition.map(describe);
                match condition {
                    Some(Condition { status: ConditionStatus::True, .. }) => return self.start(1),
                    Some(failing @ Condition { status: ConditionStatus::False, .. }) => {
                        let first = *failing_since.get_or_insert(now);
                        if is_final(failing) || now >= first + READY_GRACE {
                            let condition = describe(failing);
                            let job = self.plan.job.clone();
                            return self.clean_up(Err(RunError::NotReady { job, condition }));
                        }
                    }
                    _ => failing_since = None,
                }
                if text != told {
                    self.report(Progress::AwaitingReady { condition: condition.cloned() });
                    told = text;
                }
            }
            // The first read after a create may lag.
            Err(error) if error.kind == ErrorKind::NotFound && now >= since + READ_LAG => {
                return self.removed_before_start();
            }
            Err(error) if error.kind == ErrorKind::NotFound || may_pass(&error) => {}
            Err(error) => return self.clean_up(Err(error.into())),
        }

        let deadline = since + self.plan.ready_timeout;
        if now >= deadline {
            let (job, seconds) = (self.plan.job.clone(), self.plan.ready_timeout.as_secs());
            let condition = told.unwrap_or_else(|| "no condition".to_owned());
            return self.clean_up(Err(RunError::ReadyTimeout { job, seconds, condition }));
        }
        // The last look is at the deadline, not a pause later.
        let pause = looks.pause().min(deadline.saturating_sub(now));
        self.go(pause, State::AwaitingReady { since, looks, told, failing_since })
    }

    fn start(mut self, starts: u32) -> Step {
        self.report(Progress::Submitting { job: self.plan.job.clone() });
        self.go(Duration::ZERO, State::Starting { starts })
    }

    fn run_answered(mut self, now: Duration, starts: u32, answer: Answer<Execution>) -> Step {
        let cause = match answer {
            Ok(execution) if !execution.metadata.name.is_empty() => return self.started(now, execution.metadata.name),
            Ok(_nameless) => Box::new(self.unreadable_start()),
            Err(error) if error.maybe_done => error,
            Err(error) if error.kind == ErrorKind::NotFound => return self.removed_before_start(),
            Err(error) => return self.clean_up(Err(error.into())),
        };
        self.report(Progress::Recovering { error: (*cause).clone() });
        self.go(Duration::ZERO, State::Recovering(Recovery::new(starts, cause)))
    }

    fn recover_by_job(self, now: Duration, mut recovery: Recovery, answer: Answer<Job>) -> Step {
        match answer {
            Ok(job) => match job.status.latest_created_execution.filter(|latest| !latest.name.is_empty()) {
                Some(latest) => self.started(now, latest.name),
                None => {
                    recovery.job_names_none = true;
                    self.go(Duration::ZERO, State::Recovering(recovery))
                }
            },
            Err(error) => self.look_failed(recovery, &error),
        }
    }

    fn recover_by_list(self, now: Duration, mut recovery: Recovery, answer: Answer<Vec<Execution>>) -> Step {
        let executions = match answer {
            Ok(executions) => executions,
            Err(error) => return self.look_failed(recovery, &error),
        };
        let found = executions.into_iter().map(|execution| execution.metadata.name).find(|name| !name.is_empty());
        recovery.looks += 1;
        recovery.job_names_none = false;
        match found {
            Some(execution) => self.started(now, execution),
            None if recovery.looks < RECOVERY_LOOKS => self.go(RECOVERY_PAUSE, State::Recovering(recovery)),
            None if recovery.starts < MAX_STARTS => self.start(recovery.starts + 1),
            None => self.clean_up(Err(recovery.cause.into())),
        }
    }

    /// A look that failed has spent a whole budget of attempts already; some such are borne.
    fn look_failed(self, mut recovery: Recovery, error: &ApiError) -> Step {
        recovery.failures += 1;
        recovery.job_names_none = false;
        let is_gone = error.kind == ErrorKind::NotFound;
        if (is_gone || may_pass(error)) && recovery.failures < RECOVERY_LOOKS {
            return self.go(RECOVERY_PAUSE, State::Recovering(recovery));
        }
        if is_gone {
            return self.removed_before_start();
        }
        let job = self.plan.job.clone();
        self.finish(Err(RunError::StartUnknown { job, cause: recovery.cause }))
    }

    fn started(mut self, now: Duration, execution: String) -> Step {
        self.report(Progress::Started { job: self.plan.job.clone(), execution: execution.clone() });
        let looks = Backoff::new(FIRST_PAUSE, self.plan.poll_interval);
        let watch = Watch { execution, since: now, looks, running: false, gone_since: None };
        self.go(Duration::ZERO, State::Watching(watch))
    }

    fn execution_read(mut self, now: Duration, mut watch: Watch, answer: Answer<Execution>) -> Step {
        let pause = watch.looks.pause();
        match answer {
            Ok(execution) => {
                if let Some(completed) = execution.completed() {
                    return self.completed(&execution, completed);
                }
                watch.gone_since = None;
                if !watch.running && execution.status.running_count.unwrap_or_default() > 0 {
                    watch.running = true;
                    self.report(Progress::Running { execution: watch.execution.clone() });
                }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                watch.gone_since.get_or_insert(now);
                return self.go(Duration::ZERO, State::ConfirmingGone(watch));
            }
            Err(error) if may_pass(&error) => self.report(Progress::LookFailed { error: *error, pause }),
            // Deleting the job would stop an execution that is likely to be well.
            Err(error) => return self.finish(Err(error.into())),
        }
        self.go(pause, State::Watching(watch))
    }

    fn completed(mut self, execution: &Execution, completed: &Condition) -> Step {
        let message = completed.message.clone().unwrap_or_else(|| describe(completed));
        let log = execution.status.log_uri.clone().map(|uri| Progress::Log { uri });
        match completed.status {
            ConditionStatus::True => {
                self.report(Progress::Succeeded { job: self.plan.job.clone() });
                self.reports.extend(log);
                self.clean_up(Ok(Outcome::Succeeded))
            }
            // Deleting a job cancels its executions first.
            _ if completed.reason.as_deref() == Some("Cancelled") => {
                self.reports.extend(log);
                self.go(Duration::ZERO, State::ConfirmingCancelled { message })
            }
            _ => {
                self.report(Progress::Failed { job: self.plan.job.clone(), message: message.clone() });
                self.reports.extend(log);
                self.clean_up(Ok(Outcome::Failed(message)))
            }
        }
    }

    fn confirm_gone(mut self, now: Duration, mut watch: Watch, answer: Answer<Job>) -> Step {
        // A read of what is younger than this may lag, and its absence says nothing.
        let is_settled = now >= watch.since + READ_LAG;
        match answer {
            Ok(job) if self.is_going(&job) => self.removed(),
            Err(error) if error.kind == ErrorKind::NotFound && is_settled => self.removed(),
            // The execution alone was deleted, if another look does not find it either.
            Ok(_) if is_settled && watch.gone_since.is_some_and(|since| now >= since + GONE_AFTER) => {
                self.report(Progress::Removed { job: self.plan.job.clone() });
                self.clean_up(Ok(Outcome::Removed))
            }
            Err(error) if error.kind != ErrorKind::NotFound && !may_pass(&error) => self.finish(Err(error.into())),
            _ => {
                let pause = watch.looks.pause();
                self.go(pause, State::Watching(watch))
            }
        }
    }

    fn confirm_cancelled(mut self, message: String, answer: Answer<Job>) -> Step {
        match answer {
            Ok(job) if self.is_going(&job) => self.removed(),
            Err(error) if error.kind == ErrorKind::NotFound => self.removed(),
            _ => {
                self.report(Progress::Failed { job: self.plan.job.clone(), message: message.clone() });
                self.clean_up(Ok(Outcome::Failed(message)))
            }
        }
    }

    fn removed(mut self) -> Step {
        self.report(Progress::Removed { job: self.plan.job.clone() });
        self.finish(Ok(Outcome::Removed))
    }

    fn clean_up(mut self, result: Result<Outcome, RunError>) -> Step {
        let job = self.plan.job.clone();
        if self.plan.keep_job {
            self.report(Progress::Kept { job });
            return self.finish(result);
        }
        let completed = matches!(result, Ok(Outcome::Succeeded | Outcome::Failed(_)));
        self.report(Progress::Deleting { job, completed });
        self.go(Duration::ZERO, State::CleaningUp { result })
    }

    fn deleted(mut self, result: Result<Outcome, RunError>, answer: Answer<()>) -> Step {
        let job = self.plan.job.clone();
        match answer {
            Err(error) if error.kind != ErrorKind::NotFound => self.report(Progress::Leaked { error: *error }),
            // Not found: somebody was faster.
            _ => self.report(Progress::Deleted { job }),
        }
        self.finish(result)
    }

    fn removed_before_start(self) -> Step {
        let job = self.plan.job.clone();
        let error = RunError::RemovedBeforeStart { job };
        self.go(Duration::ZERO, State::CheckingLeftover { looks: 1, error })
    }

    fn report(&mut self, progress: Progress) {
        self.reports.push(progress);
    }

    fn go(mut self, after: Duration, state: State) -> Step {
        self.state = state;
        self.ask(after)
    }

    fn ask(mut self, after: Duration) -> Step {
        let (reports, ask) = (mem::take(&mut self.reports), self.state.ask());
        Step { reports, next: Next::Call { after, ask, machine: Box::new(self) } }
    }

    fn finish(self, result: Result<Outcome, RunError>) -> Step {
        Step { reports: self.reports, next: Next::Finish(result) }
    }

    /// Whether a job of our name carries our flow run's label.
    fn is_ours(&self, job: &Job) -> bool {
        self.plan.owner_label.as_ref().is_some_and(|(key, value)| job.metadata.labels.get(key) == Some(value))
    }

    /// Whether our job is being deleted, or was, so that this is another one of its name.
    fn is_going(&self, job: &Job) -> bool {
        job.metadata.deletion_timestamp.is_some() || !self.is_same(job)
    }

    /// Whether it is the very job that we created, as far as the answers tell.
    fn is_same(&self, job: &Job) -> bool {
        self.uid.is_none() || job.metadata.uid.is_none() || self.uid == job.metadata.uid
    }

    /// An answer of `jobs.run` that names no execution.
    fn unreadable_start(&self) -> ApiError {
        ApiError {
            kind: ErrorKind::Unavailable,
            call: Call::RunJob,
            project: String::new(),
            region: String::new(),
            name: self.plan.job.clone(),
            status: None,
            message: "the answer names no execution".to_owned(),
            attempts: 1,
            maybe_done: true,
        }
    }
}

/// Whether a failed look at a job that exists may succeed later. Where a job was created there is a region, so a front
/// end that knows none is out of order.
fn may_pass(error: &ApiError) -> bool {
    error.kind.is_transient() || error.kind == ErrorKind::NoSuchRegion
}

/// Reasons of `Ready=False` that no wait will mend.
fn is_final(condition: &Condition) -> bool {
    condition.reason.as_deref() == Some("ContainerMissing")
}
