//! A model of the service for the machine's tests: one job name, virtual time, faults in the order of the calls.

use std::{collections::BTreeMap, time::Duration};

pub use prefect_gcp_core::lifecycle::machine::protocol::Plan;
use prefect_gcp_core::{
    api::{
        ApiError, ApiMethod, ApiResult, ErrorKind, RetryPolicy,
        types::{CompletionStatus, Condition, ConditionStatus, Execution, ExecutionReference, JOB_UID_LABEL, Job},
    },
    lifecycle::{
        machine::{
            Cleanup, Machine, Next,
            protocol::{Command, Event, GiveUp, GiveUpReason, KillEffect, Outcome, RunError},
        },
        progress::Progress,
        region_queue::Stage,
        subscriptions::poll_pause,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub const JOB: &str = "my-job";
const OWNER: (&str, &str) = ("prefect-io-flow-run-id", "the-flow-run");
const SECOND: Duration = Duration::from_secs(1);
/// How long reads may lag.
const LAG: Duration = Duration::from_secs(9);
/// How long after its response was lost a create or a start may take effect.
const LATE: Duration = Duration::from_secs(30);
/// The same, for a service that is slower than anybody expects: a second start is sent meanwhile.
const VERY_LATE: Duration = Duration::from_secs(80);
/// The `Retry-After` of a response.
const RETRY_AFTER: Duration = Duration::from_secs(15);
/// How long a start waits for its per-minute quota before it is given up.
const QUOTA_QUEUE: Duration = Duration::from_secs(100);
/// How long a run waits for its turn after a limit has refused a call.
const TURN_WAIT: Duration = Duration::from_secs(20);
/// More steps than any run takes.
const MAX_STEPS: usize = 5_000;

/// A fault of one call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    None,
    /// The server fails before it does anything. The client can't know.
    LostBeforeEffect,
    /// The server does it, and the response is lost.
    LostAfterEffect,
    /// The response is lost, and the server does it half a minute later (a delete: at once).
    LostBeforeLateEffect,
    /// The same, but a start takes effect later than the run waits for it.
    LostBeforeVeryLateEffect,
    /// The server does it, the response is lost, and the client's next attempt gets a response.
    RepeatedAfterEffect,
    /// The server does it, the response is lost, and a limit refuses the client's next attempt.
    LimitedAfterEffect,
    /// The same, but the server does it half a minute later.
    LimitedBeforeLateEffect,
    /// The same, but the server does not do it.
    LimitedBeforeEffect,
    /// Not done: no connection, or a quota.
    Refused,
    /// The same, and the error says that it was a quota of calls per minute.
    OverQuota,
    /// A create or a start waits for its quota of calls per minute, and is done then.
    InItsTurn,
    /// Not done, with a `Retry-After` of `RETRY_AFTER`.
    RefusedForAWhile,
    Forbidden,
    /// A front end responds with a page of its own.
    Page,
    /// A read shows the state of some seconds ago. A write does not find what was created since then.
    Stale,
    /// A read does not find what exists. A write works.
    Missing,
    /// The response lacks the execution's name.
    Nameless,
    /// The response has an odd value: `ODD` at this index.
    Odd(usize),
}

/// Odd values of responses: a JSON pointer and the value there. An empty pointer is the whole response.
pub const ODD: &[(&str, &str)] = &[
    ("", "null"),
    ("", "[]"),
    ("", "\"text\""),
    ("", "{}"),
    ("", "{\"error\": {\"code\": 503}}"),
    ("/metadata", "null"),
    ("/metadata", "7"),
    ("/metadata/generation", "\"1\""),
    ("/metadata/generation", "\"many\""),
    ("/metadata/annotations", "null"),
    ("/metadata/labels/run.googleapis.com~1jobUid", "\"\""),
    ("/metadata/ownerReferences", "null"),
    ("/spec", "null"),
    ("/status", "null"),
    ("/status", "\"Ready\""),
    ("/status/observedGeneration", "\"1\""),
    ("/status/conditions", "null"),
    ("/status/conditions", "{}"),
    ("/status/conditions", "[null, 1, \"Completed\", []]"),
    ("/status/conditions/0", "{\"type\": \"Novel\", \"status\": \"True\"}"),
    ("/status/conditions/0/status", "null"),
    ("/status/conditions/0/status", "\"Perhaps\""),
    ("/status/conditions/0/status", "true"),
    ("/status/conditions/0/reason", "null"),
    ("/status/conditions/1/status", "\"Perhaps\""),
    ("/status/conditions/1/message", "null"),
    ("/status/runningCount", "\"1\""),
    ("/status/runningCount", "-1.5"),
    ("/status/executionCount", "\"1\""),
    ("/status/latestCreatedExecution", "null"),
    ("/status/latestCreatedExecution", "[]"),
    ("/status/latestCreatedExecution/completionStatus", "\"EXECUTION_NOVEL\""),
];

/// The response with an odd value in it, as the client reads it.
fn odd<T: Serialize + DeserializeOwned>(method: ApiMethod, index: usize, answer: T) -> ApiResult<T> {
    let (place, text) = ODD[index % ODD.len()];
    let mut body = serde_json::to_value(answer).unwrap();
    if let Some(value) = body.pointer_mut(place) {
        *value = serde_json::from_str(text).unwrap();
    }
    let is_write = method.is_write();
    let has_name = body.pointer("/metadata/name").is_some_and(Value::is_string);
    match serde_json::from_value(body) {
        Ok(answer) if has_name => Ok(answer),
        _ => Err(error(method, ErrorKind::Unavailable, is_write)),
    }
}

/// How the execution ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    Succeeded,
    Failed,
    Cancelled,
    /// Cancelled so soon that reads may not show the job yet.
    CancelledSoon,
    /// Fails, long after everything else has happened.
    Late,
}

impl End {
    /// How long after the start.
    fn after(self) -> Duration {
        match self {
            Self::CancelledSoon => 3 * SECOND,
            Self::Succeeded | Self::Failed | Self::Cancelled => 20 * SECOND,
            Self::Late => 2_000 * SECOND,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorldJob {
    pub ours: bool,
    pub deleting: bool,
    created: Duration,
    uid: String,
    /// In the order of their creation.
    executions: Vec<WorldExecution>,
    /// When starts whose responses were lost take effect.
    late_starts: Vec<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
struct WorldExecution {
    name: String,
    started: Duration,
    cancelled: Option<Duration>,
}

impl WorldExecution {
    fn runs_at(&self, at: Duration, end: End) -> bool {
        self.started <= at && at < self.started + end.after() && self.cancelled.is_none_or(|cancelled| at < cancelled)
    }
}

pub struct World {
    pub job: Option<WorldJob>,
    /// The jobs that had the name, with the time since when.
    pub past: Vec<(Duration, Option<WorldJob>)>,
    pub ready_after: Duration,
    pub ready: Option<Condition>,
    pub end: End,
    pub starts: u32,
    /// Whether somebody else's job was deleted or run although a read could have shown that it was not ours.
    pub other_job_touched: bool,
    /// Whether our job was deleted while its execution ran or was about to start, or its only execution was cancelled.
    pub interrupted: bool,
    /// How long two executions of our job ran at the same time.
    pub overlap: Duration,
    /// Whether the caller has confirmed the next start.
    pub is_confirmed: bool,
    /// When the caller gives the run up, and why.
    pub give_up_at: Option<(Duration, GiveUpReason)>,
    /// The commands so far, each with its fault.
    pub calls: Vec<(Command, Fault)>,
    pub now: Duration,
    /// How long the pending call has waited for its quota.
    pub waited: Duration,
    /// How long all calls have waited for their quotas.
    pub waited_in_total: Duration,
    /// When a create whose response was lost takes effect.
    pub create_at: Option<Duration>,
    pub delete_at: Option<Duration>,
    pub replace_at: Option<Duration>,
    /// When a kill in this process deletes our job, if there is one.
    pub kill_at: Option<Duration>,
    /// When somebody deletes the execution but not its job.
    pub forgets_at: Duration,
    /// Until when starts are refused because the region is full.
    pub full_until: Duration,
    /// Whether a limit has refused a call.
    pub is_known_to_be_full: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            job: None,
            past: vec![],
            ready_after: SECOND,
            ready: None,
            end: End::Succeeded,
            starts: 0,
            other_job_touched: false,
            interrupted: false,
            overlap: Duration::ZERO,
            is_confirmed: false,
            give_up_at: None,
            calls: vec![],
            now: Duration::ZERO,
            waited: Duration::ZERO,
            waited_in_total: Duration::ZERO,
            create_at: None,
            delete_at: None,
            replace_at: None,
            kill_at: None,
            forgets_at: Duration::MAX,
            full_until: Duration::ZERO,
            is_known_to_be_full: false,
        }
    }
}

pub struct Ran {
    pub result: Result<Outcome, RunError>,
    pub reports: Vec<Progress>,
    pub pauses: Vec<Duration>,
    pub took: Duration,
    /// The states that the machine went through, without repetitions.
    pub states: Vec<&'static str>,
}

pub fn plan() -> Plan {
    Plan {
        job: JOB.into(),
        project: "my-project".into(),
        region: "my-region".into(),
        owner_label: Some((OWNER.0.into(), OWNER.1.into())),
        has_unique_name: false,
        keep_job: false,
        ready_timeout: 60 * SECOND,
        poll_interval: 5 * SECOND,
        settle_time: 45 * SECOND,
        retry: RetryPolicy::default(),
        watch_retry_max: 7 * 24 * 3600 * SECOND,
        quota_wait_max: 3600 * SECOND,
        seed: 7,
    }
}

pub fn condition(kind: &str, status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition {
        kind: kind.into(),
        status,
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..Condition::default()
    }
}

/// Faults for the first calls of a kind (`run` or `execution`), none for the others.
pub fn faults_at(faults: &[(&str, Fault)]) -> Vec<Fault> {
    // A run without faults: one create, reads of the job until it is ready, one run, reads of the execution.
    let mut world = World::default();
    let mut kinds = vec![];
    drive(&mut world, plan(), |_, command, _| {
        kinds.push(match command {
            Command::RunJob => "run",
            Command::WatchExecution(_) => "execution",
            _ => "other",
        });
        Fault::None
    });
    let mut planned: Vec<_> =
        kinds.iter().take_while(|kind| faults.iter().all(|(at, _)| at != *kind)).map(|_| Fault::None).collect();
    planned.extend(faults.iter().map(|(_, fault)| *fault));
    planned
}

/// Runs the machine against the world with these faults, and without any after them.
pub fn run(world: &mut World, plan: Plan, faults: &[Fault]) -> Ran {
    drive(world, plan, |_, _, call| faults.get(call).copied().unwrap_or(Fault::None))
}

/// Runs the machine for this number of calls and then drops it.
pub fn run_for(world: &mut World, plan: Plan, faults: &[Fault], calls: usize) {
    advance(world, plan, calls, |_, _, call| faults.get(call).copied().unwrap_or(Fault::None));
}

/// Runs the machine against the world with a fault for each call.
pub fn run_with(world: &mut World, plan: Plan, fault: impl Fn(&Command, &World) -> Fault) -> Ran {
    drive(world, plan, |world, command, _| fault(command, world))
}

fn drive(world: &mut World, plan: Plan, fault: impl FnMut(&World, &Command, usize) -> Fault) -> Ran {
    advance(world, plan, MAX_STEPS, fault).unwrap_or_else(|| panic!("no end after {MAX_STEPS} calls"))
}

fn advance(
    world: &mut World,
    plan: Plan,
    calls: usize,
    mut fault: impl FnMut(&World, &Command, usize) -> Fault,
) -> Option<Ran> {
    let (mut reports, mut pauses, mut states) = (vec![], vec![], vec!["[*]"]);
    let mut step = Machine::begin(plan, world.now);
    let mut delayed = None;
    let (mut call, mut paused) = (0, Duration::ZERO);
    while call < calls {
        reports.extend(step.reports);
        match step.next {
            // Not a call. In a full region, the turn takes some time to come.
            Next::Send { pause, command: Command::AwaitTurn(_, at_most), machine } => {
                if states.last() != Some(&machine.state()) {
                    states.push(machine.state());
                }
                world.pass(pause);
                let waits = if world.is_known_to_be_full { at_most.min(TURN_WAIT) } else { Duration::ZERO };
                paused = pause + waits;
                world.pass(waits);
                let event = if world.is_killed(machine.kill_effect()) {
                    Event::Killed
                } else {
                    let event = world.given_up(&machine, &Command::AwaitTurn(Stage::Start, at_most), Fault::None, call);
                    event.unwrap_or(Event::TurnCame(waits))
                };
                step = machine.step(world.now, event);
            }
            Next::Finish { result, cleanup } => {
                states.push("[*]");
                let took = world.now;
                if let Some(cleanup) = cleanup {
                    clean_up(world, cleanup, &mut reports, call, &mut fault);
                }
                return Some(Ran { result, reports, pauses, took, states });
            }
            Next::Send { pause, command, mut machine } => {
                if states.last() != Some(&machine.state()) {
                    states.push(machine.state());
                }
                pauses.push(pause);
                let paused = pause + std::mem::take(&mut paused);
                let same = (machine.state(), command.clone());
                assert!(delayed.as_ref() != Some(&same) || paused >= RETRY_AFTER, "{same:?} after {paused:?}");
                world.pass(pause);
                let is_paused = world.pass_call(&command);
                let fault = fault(world, &command, call);
                world.calls.push((command.clone(), fault));
                delayed = (fault == Fault::RefusedForAWhile).then_some(same);
                let event = if world.is_killed(machine.kill_effect()) {
                    Event::Killed
                } else if let Some(event) = world.given_up(&machine, &command, fault, call) {
                    event
                } else if is_paused {
                    Event::WatchPaused
                } else {
                    world.respond(&command, fault)
                };
                world.is_known_to_be_full |= is_refused_by_limit(&event);
                machine.waited(std::mem::take(&mut world.waited));
                step = machine.step(world.now, event);
                call += 1;
            }
        }
    }
    None
}

fn is_refused_by_limit(event: &Event) -> bool {
    match event {
        Event::RunResponse(Err(error)) | Event::Created(Err(error)) => error.kind == ErrorKind::LimitReached,
        _ => false,
    }
}

/// Goes on with the deletion of the job until it ends.
fn clean_up(
    world: &mut World,
    mut cleanup: Box<Cleanup>,
    reports: &mut Vec<Progress>,
    calls_before: usize,
    fault: &mut impl FnMut(&World, &Command, usize) -> Fault,
) {
    for call in 0..MAX_STEPS {
        let command = cleanup.command();
        world.pass(Duration::from_millis(10));
        let fault = fault(world, &command, calls_before + call);
        world.calls.push((command.clone(), fault));
        let event = world.respond(&command, fault);
        let step = cleanup.step(world.now, event);
        reports.extend(step.reports);
        let Some((pause, next)) = step.next else { return };
        world.pass(pause);
        cleanup = next;
    }
    panic!("no end of the deletion after {MAX_STEPS} calls");
}

impl WorldJob {
    fn new(ours: bool, created: Duration) -> Self {
        let uid = format!("{ours} {created:?}");
        Self { ours, deleting: false, created, uid, executions: vec![], late_starts: vec![] }
    }
}

impl World {
    pub fn with_other_job() -> Self {
        let mut world = Self { job: Some(WorldJob::new(false, Duration::ZERO)), ..Self::default() };
        world.remember(Duration::ZERO);
        world
    }

    /// Somebody deletes the job. It is gone five seconds later.
    pub fn delete_job_at(&mut self, at: Duration) {
        self.delete_at = Some(at);
    }

    /// Somebody deletes the job and creates another one of the same name.
    pub fn replace_job_at(&mut self, at: Duration) {
        self.replace_at = Some(at);
    }

    /// The pending call waits for its per-minute quota.
    fn wait_for_quota(&mut self) {
        self.pass(QUOTA_QUEUE);
        self.waited += QUOTA_QUEUE;
        self.waited_in_total += QUOTA_QUEUE;
    }

    fn pass(&mut self, time: Duration) {
        self.change(time);
        self.remember(self.now);
        let running = |job: &WorldJob| job.executions.iter().filter(|it| it.runs_at(self.now, self.end)).count();
        if self.job.as_ref().is_some_and(|job| job.ours && !job.deleting && running(job) > 1) {
            self.overlap += time;
        }
    }

    /// The time that a call takes. Returns whether a watch ended without a read.
    fn pass_call(&mut self, command: &Command) -> bool {
        // A watch takes one pause of the poller. Any other call takes a moment.
        let moment = Duration::from_millis(10);
        let Command::WatchExecution(watch) = command else {
            self.pass(moment);
            return false;
        };
        let pause = poll_pause(self.now - watch.since, watch.max_pause);
        let takes = if watch.is_last_look { moment } else { pause };
        let left = watch.until.map_or(Duration::MAX, |until| until.saturating_sub(self.now));
        self.pass(takes.min(left));
        left < takes
    }

    fn remember(&mut self, at: Duration) {
        if self.past.last().is_none_or(|(_, job)| *job != self.job) {
            self.past.push((at, self.job.clone()));
        }
    }

    /// The job that had the name then.
    fn job_at(&self, at: Duration) -> Option<&WorldJob> {
        self.past.iter().rev().find(|(since, _)| *since <= at).and_then(|(_, job)| job.as_ref())
    }

    fn change(&mut self, time: Duration) {
        self.now += time;
        if let Some(at) = self.create_at.take_if(|at| *at <= self.now) {
            self.job.get_or_insert_with(|| WorldJob::new(true, at));
            self.remember(at);
        }
        let is_due = |job: &&WorldJob| !job.deleting;
        let starts = self.job.as_ref().filter(is_due).map_or(vec![], |job| job.late_starts.clone());
        let now = self.now;
        for at in starts.into_iter().filter(|at| *at <= now) {
            self.job.iter_mut().for_each(|job| job.late_starts.retain(|other| *other != at));
            self.start_at(at);
            self.remember(at);
        }
        if let Some(at) = self.replace_at.take_if(|at| *at <= self.now) {
            self.job = Some(WorldJob::new(false, at));
            self.remember(at);
        }
        let Some(at) = self.delete_at else { return };
        if at <= self.now {
            self.job.iter_mut().for_each(|job| job.deleting = true);
            self.remember(at);
        }
        if at + 5 * SECOND <= self.now {
            self.delete_at = None;
            self.job = None;
            self.remember(at + 5 * SECOND);
        }
    }

    /// A kill deletes the job and tells its run. It waits until the run has created its job.
    fn is_killed(&mut self, effect: KillEffect) -> bool {
        let is_there = self.job.as_ref().is_some_and(|job| job.ours && !job.deleting);
        let counts = is_there && effect == KillEffect::OnceDeleted;
        let is_killed = counts && self.kill_at.take_if(|at| *at <= self.now).is_some();
        if is_killed {
            self.delete_at = Some(self.now);
            self.pass(Duration::ZERO);
        }
        is_killed
    }

    /// The caller gives the run up. A create is cut short before or after its effect.
    fn given_up(&mut self, machine: &Machine, command: &Command, fault: Fault, call: usize) -> Option<Event> {
        let (at, reason) = self.give_up_at.filter(|(at, _)| *at <= self.now)?;
        match machine.give_up(reason) {
            GiveUp::Ignored => None,
            GiveUp::AtOnce if *command == Command::CreateJob && (call + at.as_secs() as usize).is_multiple_of(2) => {
                _ = self.respond(command, fault);
                Some(Event::GivenUp { reason, maybe_done: true })
            }
            GiveUp::AtOnce | GiveUp::UnlessSent => Some(Event::GivenUp { reason, maybe_done: false }),
        }
    }

    fn respond(&mut self, command: &Command, fault: Fault) -> Event {
        match command {
            Command::CreateJob if matches!(fault, Fault::LostBeforeLateEffect | Fault::LostBeforeVeryLateEffect) => {
                self.create_at = Some(self.now + LATE);
                Event::Created(Err(error(ApiMethod::CreateJob, ErrorKind::Unavailable, true)))
            }
            Command::CreateJob if fault == Fault::LimitedBeforeLateEffect => {
                self.create_at = Some(self.now + LATE);
                Event::Created(Err(error(ApiMethod::CreateJob, ErrorKind::LimitReached, true)))
            }
            Command::CreateJob => {
                if matches!(fault, Fault::OverQuota | Fault::InItsTurn) {
                    self.wait_for_quota();
                }
                let answer = self.write(ApiMethod::CreateJob, fault, Self::create);
                Event::Created(match (answer, fault) {
                    // The client repeats the create and finds the job that it made.
                    (Ok(job), Fault::Odd(index)) => odd(ApiMethod::CreateJob, index, job)
                        .map_err(|_| error(ApiMethod::CreateJob, ErrorKind::AlreadyExists, true)),
                    (answer, _) => answer,
                })
            }
            Command::DeleteJob if fault == Fault::Stale && self.is_young() => {
                Event::Deleted(Err(error(ApiMethod::DeleteJob, ErrorKind::NotFound, false)))
            }
            Command::DeleteJob => Event::Deleted(self.write(ApiMethod::DeleteJob, unrepeated(fault), Self::delete)),
            Command::AwaitTurn(..) => Event::TurnCame(Duration::ZERO),
            Command::ConfirmStart => {
                self.is_confirmed = true;
                Event::StartConfirmed
            }
            Command::RunJob if !std::mem::take(&mut self.is_confirmed) => panic!("a start was not confirmed"),
            Command::RunJob if self.now < self.full_until => {
                Event::RunResponse(Err(error(ApiMethod::RunJob, ErrorKind::LimitReached, false)))
            }
            Command::RunJob if fault == Fault::OverQuota => {
                self.wait_for_quota();
                Event::RunResponse(Err(error(ApiMethod::RunJob, ErrorKind::RateLimited, false)))
            }
            Command::RunJob if matches!(fault, Fault::LostBeforeLateEffect | Fault::LostBeforeVeryLateEffect) => {
                let at = self.now + if fault == Fault::LostBeforeLateEffect { LATE } else { VERY_LATE };
                // What counts is which job the request was sent for.
                if let Some(mut job) = self.job.take() {
                    self.touched(&job);
                    job.late_starts.push(at);
                    self.job = Some(job);
                }
                Event::RunResponse(Err(error(ApiMethod::RunJob, ErrorKind::Unavailable, true)))
            }
            // The start does not find the job that was read a moment ago.
            Command::RunJob if fault == Fault::Stale && self.is_young() => {
                Event::RunResponse(Err(error(ApiMethod::RunJob, ErrorKind::NotFound, false)))
            }
            Command::RunJob => {
                let answer = self.write(ApiMethod::RunJob, unrepeated(fault), Self::start);
                Event::RunResponse(distorted(ApiMethod::RunJob, fault, answer))
            }
            Command::ReadJob => {
                let answer = self.read(ApiMethod::GetJob, fault, |world, at| world.read_job(fault, at));
                Event::JobRead(distorted(ApiMethod::GetJob, fault, answer))
            }
            Command::FindJob => {
                // A list that lacks a job that exists is not of this world: nobody could tell then.
                let fault = if fault == Fault::Missing { Fault::None } else { fault };
                let answer = self.read(ApiMethod::ListJobs, fault, |world, at| match world.read_job(fault, at) {
                    Err(ErrorKind::NotFound) => Ok(None),
                    job => job.map(Some),
                });
                Event::JobListed(answer)
            }
            Command::WatchExecution(watch) => {
                let name = &watch.execution;
                let answer = self.read(ApiMethod::GetExecution, fault, |world, at| world.read_execution(name, at));
                Event::ExecutionRead(distorted(ApiMethod::GetExecution, fault, answer))
            }
            Command::CancelExecution(name) => {
                let answer = self.write(ApiMethod::CancelExecution, fault, |world| world.cancel(name));
                Event::ExecutionCancelled(answer)
            }
            Command::ListExecutions => {
                Event::ExecutionsListed(
                    self.read(ApiMethod::ListExecutions, fault, |world, at| Ok(world.list(fault, at))),
                )
            }
        }
    }

    /// Whether calls may not find the job yet.
    fn is_young(&self) -> bool {
        self.job.as_ref().is_some_and(|job| self.now < job.created + LAG)
    }

    fn write<T>(
        &mut self,
        method: ApiMethod,
        fault: Fault,
        effect: impl Fn(&mut Self) -> Result<T, ErrorKind>,
    ) -> ApiResult<T> {
        let answer = self.try_to_write(method, fault, effect);
        self.remember(self.now);
        answer
    }

    fn try_to_write<T>(
        &mut self,
        method: ApiMethod,
        fault: Fault,
        effect: impl Fn(&mut Self) -> Result<T, ErrorKind>,
    ) -> ApiResult<T> {
        match fault {
            Fault::LostBeforeEffect => Err(error(method, ErrorKind::Unavailable, true)),
            Fault::LostAfterEffect | Fault::LostBeforeLateEffect | Fault::LostBeforeVeryLateEffect => {
                _ = effect(self);
                Err(error(method, ErrorKind::Unavailable, true))
            }
            Fault::RepeatedAfterEffect => {
                _ = effect(self);
                effect(self).map_err(|kind| error(method, kind, true))
            }
            Fault::LimitedAfterEffect => {
                _ = effect(self);
                Err(error(method, ErrorKind::LimitReached, true))
            }
            Fault::LimitedBeforeEffect | Fault::LimitedBeforeLateEffect => {
                Err(error(method, ErrorKind::LimitReached, true))
            }
            Fault::Refused => Err(error(method, ErrorKind::LimitReached, false)),
            Fault::OverQuota => Err(error(method, ErrorKind::RateLimited, false)),
            Fault::RefusedForAWhile => Err(delayed(error(method, ErrorKind::LimitReached, false))),
            Fault::Forbidden => Err(error(method, ErrorKind::PermissionDenied, false)),
            Fault::Page => Err(error(method, ErrorKind::NoSuchRegion, false)),
            Fault::None | Fault::InItsTurn | Fault::Stale | Fault::Nameless | Fault::Missing | Fault::Odd(_) => {
                effect(self).map_err(|kind| error(method, kind, false))
            }
        }
    }

    fn read<T>(
        &self,
        method: ApiMethod,
        fault: Fault,
        read: impl Fn(&Self, Duration) -> Result<T, ErrorKind>,
    ) -> ApiResult<T> {
        match fault {
            Fault::LostBeforeEffect
            | Fault::LostAfterEffect
            | Fault::LostBeforeLateEffect
            | Fault::LostBeforeVeryLateEffect
            | Fault::RepeatedAfterEffect
            | Fault::LimitedAfterEffect
            | Fault::LimitedBeforeEffect
            | Fault::LimitedBeforeLateEffect
            | Fault::OverQuota
            | Fault::Refused => Err(error(method, ErrorKind::Unavailable, false)),
            Fault::RefusedForAWhile => Err(delayed(error(method, ErrorKind::Unavailable, false))),
            Fault::Forbidden => Err(error(method, ErrorKind::PermissionDenied, false)),
            Fault::Page => Err(error(method, ErrorKind::NoSuchRegion, false)),
            Fault::Missing if method == ApiMethod::ListExecutions => {
                read(self, Duration::ZERO).map_err(|kind| error(method, kind, false))
            }
            Fault::Missing => Err(error(method, ErrorKind::NotFound, false)),
            Fault::Stale => read(self, self.now.saturating_sub(LAG)).map_err(|kind| error(method, kind, false)),
            Fault::None | Fault::InItsTurn | Fault::Nameless | Fault::Odd(_) => {
                read(self, self.now).map_err(|kind| error(method, kind, false))
            }
        }
    }

    fn create(&mut self) -> Result<Job, ErrorKind> {
        if self.job.is_some() {
            return Err(ErrorKind::AlreadyExists);
        }
        self.job = Some(WorldJob::new(true, self.now));
        self.remember(self.now);
        self.read_job(Fault::None, self.now)
    }

    fn delete(&mut self) -> Result<(), ErrorKind> {
        let job = self.job.take().ok_or(ErrorKind::NotFound)?;
        self.touched(&job);
        let runs = job.executions.iter().any(|it| it.runs_at(self.now, self.end));
        // If one has ended, the other one is a duplicate.
        let has_ended = job.executions.iter().any(|it| it.cancelled.is_none() && !it.runs_at(self.now, self.end));
        let is_stopped = runs && !has_ended && self.now < self.forgets_at && !job.deleting;
        let starts_soon = job.late_starts.iter().any(|at| *at < self.now + LATE);
        self.interrupted |= job.ours && (is_stopped || (starts_soon && job.executions.is_empty()));
        Ok(())
    }

    fn start(&mut self) -> Result<Execution, ErrorKind> {
        self.job.as_ref().filter(|job| !job.deleting).ok_or(ErrorKind::NotFound)?;
        if let Some(job) = self.job.take() {
            self.touched(&job);
            self.job = Some(job);
        }
        let name = self.start_at(self.now);
        self.remember(self.now);
        self.read_execution(&name, self.now)
    }

    fn start_at(&mut self, at: Duration) -> String {
        let Some(mut job) = self.job.take() else { return String::new() };
        self.starts += u32::from(job.ours);
        let name = format!("{JOB}-abcd{}", job.executions.len());
        job.executions.push(WorldExecution { name: name.clone(), started: at, cancelled: None });
        self.job = Some(job);
        name
    }

    /// An execution is cancelled only if an older one of the same job stays.
    fn cancel(&mut self, name: &str) -> Result<Execution, ErrorKind> {
        let (now, end) = (self.now, self.end);
        let job = self.job.as_mut().ok_or(ErrorKind::NotFound)?;
        let place = job.executions.iter().position(|it| it.name == name).ok_or(ErrorKind::NotFound)?;
        self.interrupted |= !job.executions[..place].iter().any(|older| older.cancelled.is_none());
        if !job.executions[place].runs_at(now, end) {
            return Err(ErrorKind::InvalidRequest);
        }
        job.executions[place].cancelled = Some(now);
        self.remember(now);
        self.read_execution(name, now)
    }

    /// A read may lag, so a worker can't notice that a job was replaced just before its call.
    fn touched(&mut self, job: &WorldJob) {
        self.other_job_touched |= !job.ours && self.now > job.created + LAG + SECOND;
    }

    fn read_job(&self, fault: Fault, at: Duration) -> Result<Job, ErrorKind> {
        let job = self.job_at(at).ok_or(ErrorKind::NotFound)?;
        let mut answer = Job::default();
        answer.metadata.name = JOB.into();
        answer.metadata.uid = Some(job.uid.clone());
        answer.metadata.deletion_timestamp = job.deleting.then(|| "now".into());
        if job.ours {
            answer.metadata.labels = BTreeMap::from([(OWNER.0.into(), OWNER.1.into())]);
        }
        let status = match at >= job.created + self.ready_after {
            true => ConditionStatus::True,
            false => ConditionStatus::Unknown,
        };
        let ready = self.ready.clone().unwrap_or_else(|| condition("Ready", status, "", ""));
        answer.status.conditions = vec![ready];
        let executions: Vec<_> = job.executions.iter().filter(|execution| execution.started <= at).collect();
        if let Some(latest) = executions.last() {
            answer.status.execution_count = i64::try_from(executions.len()).ok();
            let name = if fault == Fault::Nameless { String::new() } else { latest.name.clone() };
            let completion_status = Some(match self.end {
                _ if latest.cancelled.is_some_and(|cancelled| cancelled <= at) => CompletionStatus::ExecutionCancelled,
                _ if latest.runs_at(at, self.end) => CompletionStatus::ExecutionRunning,
                End::Succeeded => CompletionStatus::ExecutionSucceeded,
                End::Failed | End::Late => CompletionStatus::ExecutionFailed,
                End::Cancelled | End::CancelledSoon => CompletionStatus::ExecutionCancelled,
            });
            let deletion_timestamp = (at >= self.forgets_at).then(|| "now".to_owned());
            let reference = ExecutionReference { name, completion_status, deletion_timestamp, ..Default::default() };
            answer.status.latest_created_execution = Some(reference);
        }
        Ok(answer)
    }

    fn list(&self, fault: Fault, at: Duration) -> Vec<Execution> {
        let names = self.job_at(at).map_or(vec![], |job| job.executions.iter().map(|it| it.name.clone()).collect());
        let mut executions: Vec<_> = names.iter().rev().flat_map(|name| self.read_execution(name, at)).collect();
        if fault == Fault::Nameless {
            executions.iter_mut().for_each(|execution| *execution = Execution::default());
        }
        executions
    }

    fn read_execution(&self, name: &str, at: Duration) -> Result<Execution, ErrorKind> {
        let job = self.job_at(at).ok_or(ErrorKind::NotFound)?;
        let is_there = |it: &&WorldExecution| it.name == name && it.started <= at && at < self.forgets_at;
        let found = job.executions.iter().find(is_there).ok_or(ErrorKind::NotFound)?;
        let mut execution = Execution::default();
        execution.metadata.name = name.into();
        execution.metadata.labels = BTreeMap::from([(JOB_UID_LABEL.into(), job.uid.clone())]);
        let seconds = found.started.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        execution.metadata.creation_timestamp =
            Some(format!("2026-11-26T{hours:02}:{minutes:02}:{:02}Z", seconds % 60));
        execution.status.log_uri = Some("https://logs".into());
        let (status, reason, message) = match self.end {
            _ if job.deleting || found.cancelled.is_some_and(|cancelled| cancelled <= at) => {
                (ConditionStatus::False, "Cancelled", "cancelled")
            }
            _ if at < found.started + self.end.after() => (ConditionStatus::Unknown, "", ""),
            End::Succeeded => (ConditionStatus::True, "", "fine"),
            End::Failed | End::Late => (ConditionStatus::False, "NonZeroExitCode", "exit 1"),
            End::Cancelled | End::CancelledSoon => (ConditionStatus::False, "Cancelled", "cancelled"),
        };
        execution.status.running_count = (status == ConditionStatus::Unknown).then_some(1);
        // Only `Completed` decides whether the execution has ended.
        let retry = condition("Retry", ConditionStatus::True, "", "");
        execution.status.conditions = vec![retry, condition("Completed", status, reason, message)];
        Ok(execution)
    }
}

fn distorted<T: Serialize + DeserializeOwned>(method: ApiMethod, fault: Fault, answer: ApiResult<T>) -> ApiResult<T> {
    match fault {
        Fault::Odd(index) => answer.and_then(|answer| odd(method, index, answer)),
        _ => answer,
    }
}

/// The client never repeats a start or a delete that may have taken effect.
fn unrepeated(fault: Fault) -> Fault {
    if fault == Fault::RepeatedAfterEffect { Fault::LostAfterEffect } else { fault }
}

fn delayed(mut error: Box<ApiError>) -> Box<ApiError> {
    error.retry_after = Some(RETRY_AFTER);
    error
}

fn error(method: ApiMethod, kind: ErrorKind, maybe_done: bool) -> Box<ApiError> {
    let error = ApiError::new(method, kind, ("p", "r"), JOB, "made up".into());
    Box::new(ApiError { maybe_done, ..error })
}
