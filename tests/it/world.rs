//! A model of the service for the machine's tests: one job name, virtual time, faults in the order of the calls.

use std::{collections::BTreeMap, time::Duration};

pub use prefect_gcp_core::lifecycle::machine::protocol::Plan;
use prefect_gcp_core::{
    api::{
        ApiError, ApiMethod, ApiResult, ErrorKind, RetryPolicy,
        types::{Condition, ConditionStatus, Execution, ExecutionReference, JOB_UID_LABEL, Job},
    },
    lifecycle::{
        machine::{
            Machine, Next,
            protocol::{Command, Event, Outcome, RunError},
        },
        progress::Progress,
        subscriptions::poll_pause,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub const JOB: &str = "my-job";
const EXECUTION: &str = "my-job-abcde";
const OWNER: (&str, &str) = ("prefect-io-flow-run-id", "the-flow-run");
const SECOND: Duration = Duration::from_secs(1);
/// How long reads may lag.
const LAG: Duration = Duration::from_secs(9);
/// How long after its response was lost a create or a start may take effect.
const LATE: Duration = Duration::from_secs(30);
/// The `Retry-After` of a response.
const RETRY_AFTER: Duration = Duration::from_secs(15);
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
    /// The server does it, the response is lost, and the client's next attempt gets a response.
    RepeatedAfterEffect,
    /// Not done: no connection, or a quota.
    Refused,
    /// The same, with a `Retry-After` of `RETRY_AFTER`.
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
    let is_write = !matches!(method, ApiMethod::GetJob | ApiMethod::GetExecution | ApiMethod::ListExecutions);
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
    started: Option<Duration>,
    /// When a start whose response was lost takes effect.
    starts_at: Option<Duration>,
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
    /// Whether our job was deleted while its execution ran or was about to start.
    pub interrupted: bool,
    /// The commands so far, each with its fault.
    pub calls: Vec<(Command, Fault)>,
    pub now: Duration,
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
            calls: vec![],
            now: Duration::ZERO,
            create_at: None,
            delete_at: None,
            replace_at: None,
            kill_at: None,
            forgets_at: Duration::MAX,
            full_until: Duration::ZERO,
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
        keep_job: false,
        ready_timeout: 60 * SECOND,
        poll_interval: 5 * SECOND,
        settle_time: 45 * SECOND,
        retry: RetryPolicy::default(),
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
    for call in 0..calls {
        reports.extend(step.reports);
        match step.next {
            Next::Finish(result) => {
                states.push("[*]");
                return Some(Ran { result, reports, pauses, took: world.now, states });
            }
            Next::Send { pause, command, machine } => {
                if states.last() != Some(&machine.state()) {
                    states.push(machine.state());
                }
                pauses.push(pause);
                let same = (machine.state(), command.clone());
                assert!(delayed.as_ref() != Some(&same) || pause >= RETRY_AFTER, "{same:?} after {pause:?}");
                // A watch takes one pause of the poller. Any other call takes a moment.
                let takes = match &command {
                    Command::WatchExecution(watch) => poll_pause(world.now - watch.since, watch.max_pause),
                    _ => Duration::from_millis(10),
                };
                world.pass(pause + takes);
                let fault = fault(world, &command, call);
                world.calls.push((command.clone(), fault));
                delayed = (fault == Fault::RefusedForAWhile).then_some(same);
                let may_be_killed = !matches!(machine.state(), "Creating" | "NameTaken");
                let is_killed = may_be_killed && world.is_killed() && machine.ends_on_kill();
                let event = if is_killed { Event::Killed } else { world.respond(&command, fault) };
                step = machine.step(world.now, event);
            }
        }
    }
    None
}

impl WorldJob {
    fn new(ours: bool, created: Duration) -> Self {
        let uid = format!("{ours} {created:?}");
        Self { ours, deleting: false, created, uid, started: None, starts_at: None }
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

    fn pass(&mut self, time: Duration) {
        self.change(time);
        self.remember(self.now);
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
        let due = |job: &mut WorldJob| job.starts_at.take_if(|at| *at <= self.now);
        if let Some(at) = self.job.as_mut().filter(|job| !job.deleting).and_then(due) {
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
    fn is_killed(&mut self) -> bool {
        let is_there = self.job.as_ref().is_some_and(|job| job.ours && !job.deleting);
        let is_killed = is_there && self.kill_at.take_if(|at| *at <= self.now).is_some();
        if is_killed {
            self.delete_at = Some(self.now);
            self.pass(Duration::ZERO);
        }
        is_killed
    }

    fn respond(&mut self, command: &Command, fault: Fault) -> Event {
        match command {
            Command::CreateJob if fault == Fault::LostBeforeLateEffect => {
                self.create_at = Some(self.now + LATE);
                Event::Created(Err(error(ApiMethod::CreateJob, ErrorKind::Unavailable, true)))
            }
            Command::CreateJob => {
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
            Command::RunJob if self.now < self.full_until => {
                Event::RunResponse(Err(error(ApiMethod::RunJob, ErrorKind::LimitReached, false)))
            }
            Command::RunJob if fault == Fault::LostBeforeLateEffect => {
                let at = self.now + LATE;
                self.job.iter_mut().for_each(|job| job.starts_at = Some(at));
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
            Command::WatchExecution(watch) => {
                assert_eq!(watch.execution, EXECUTION);
                let answer = self.read(ApiMethod::GetExecution, fault, Self::read_execution);
                Event::ExecutionRead(distorted(ApiMethod::GetExecution, fault, answer))
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
        effect: fn(&mut Self) -> Result<T, ErrorKind>,
    ) -> ApiResult<T> {
        let answer = self.try_to_write(method, fault, effect);
        self.remember(self.now);
        answer
    }

    fn try_to_write<T>(
        &mut self,
        method: ApiMethod,
        fault: Fault,
        effect: fn(&mut Self) -> Result<T, ErrorKind>,
    ) -> ApiResult<T> {
        match fault {
            Fault::LostBeforeEffect => Err(error(method, ErrorKind::Unavailable, true)),
            Fault::LostAfterEffect | Fault::LostBeforeLateEffect => {
                _ = effect(self);
                Err(error(method, ErrorKind::Unavailable, true))
            }
            Fault::RepeatedAfterEffect => {
                _ = effect(self);
                effect(self).map_err(|kind| error(method, kind, true))
            }
            Fault::Refused => Err(error(method, ErrorKind::LimitReached, false)),
            Fault::RefusedForAWhile => Err(delayed(error(method, ErrorKind::LimitReached, false))),
            Fault::Forbidden => Err(error(method, ErrorKind::PermissionDenied, false)),
            Fault::Page => Err(error(method, ErrorKind::NoSuchRegion, false)),
            Fault::None | Fault::Stale | Fault::Nameless | Fault::Missing | Fault::Odd(_) => {
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
            | Fault::RepeatedAfterEffect
            | Fault::Refused => Err(error(method, ErrorKind::Unavailable, false)),
            Fault::RefusedForAWhile => Err(delayed(error(method, ErrorKind::Unavailable, false))),
            Fault::Forbidden => Err(error(method, ErrorKind::PermissionDenied, false)),
            Fault::Page => Err(error(method, ErrorKind::NoSuchRegion, false)),
            Fault::Missing if method == ApiMethod::ListExecutions => {
                read(self, Duration::ZERO).map_err(|kind| error(method, kind, false))
            }
            Fault::Missing => Err(error(method, ErrorKind::NotFound, false)),
            Fault::Stale => read(self, self.now.saturating_sub(LAG)).map_err(|kind| error(method, kind, false)),
            Fault::None | Fault::Nameless | Fault::Odd(_) => {
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
        let runs = job.started.is_some() && self.now < self.forgets_at && !job.deleting && {
            job.started.is_some_and(|started| self.now < started + self.end.after())
        };
        self.interrupted |= job.ours && (runs || job.starts_at.is_some());
        Ok(())
    }

    fn start(&mut self) -> Result<Execution, ErrorKind> {
        self.job.as_ref().filter(|job| !job.deleting).ok_or(ErrorKind::NotFound)?;
        self.start_at(self.now);
        self.remember(self.now);
        self.read_execution(self.now)
    }

    fn start_at(&mut self, at: Duration) {
        let Some(mut job) = self.job.take() else { return };
        self.touched(&job);
        self.starts += u32::from(job.ours);
        job.started.get_or_insert(at);
        self.job = Some(job);
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
        if job.started.is_some_and(|started| started <= at) {
            answer.status.execution_count = Some(1);
            let name = if fault == Fault::Nameless { String::new() } else { EXECUTION.into() };
            answer.status.latest_created_execution = Some(ExecutionReference { name, ..ExecutionReference::default() });
        }
        Ok(answer)
    }

    fn list(&self, fault: Fault, at: Duration) -> Vec<Execution> {
        let mut executions: Vec<_> = self.read_execution(at).into_iter().collect();
        if fault == Fault::Nameless {
            executions.iter_mut().for_each(|execution| *execution = Execution::default());
        }
        executions
    }

    fn read_execution(&self, at: Duration) -> Result<Execution, ErrorKind> {
        let job = self.job_at(at).ok_or(ErrorKind::NotFound)?;
        let is_there = |started: &Duration| *started <= at && at < self.forgets_at;
        let started = job.started.filter(is_there).ok_or(ErrorKind::NotFound)?;
        let mut execution = Execution::default();
        execution.metadata.name = EXECUTION.into();
        execution.metadata.labels = BTreeMap::from([(JOB_UID_LABEL.into(), job.uid.clone())]);
        execution.status.log_uri = Some("https://logs".into());
        let (status, reason, message) = match self.end {
            _ if job.deleting => (ConditionStatus::False, "Cancelled", "cancelled"),
            _ if at < started + self.end.after() => (ConditionStatus::Unknown, "", ""),
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
