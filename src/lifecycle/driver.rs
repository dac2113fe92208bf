//! Drives the machine of one run: pauses, sends calls, reports progress.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    active_runs::{ActiveRun, ActiveRuns},
    calls::{CreateGuard, JobGuard, StartGuard, WaitTime, create, send},
    control::RunControl,
    diagnose::{diagnose_failure, known_cause},
    janitor::Janitor,
    machine::{
        Machine, Next,
        protocol::{Command, Event, ExecutionWatch, GiveUp, KillEffect, Outcome, Plan, RunError},
    },
    poller::{Poller, Pollers},
    progress::{Progress, Reporter},
    region::{RegionPlace, Regions, ReportWait, TurnGuard},
    region_queue::Stage,
    subscriptions::Update,
};
use crate::{
    api::{ApiError, ApiResult, CloudRunClient, JobBody, Notice, Transport, types::Execution},
    diagnosis::Diagnosis,
};

/// A create or a start may wait at least this long for its per-minute quota, even when the run has used up its wait: with an
/// even pace, each call waits for a moment.
const LEAST_QUOTA_WAIT: Duration = Duration::from_secs(5);

/// The state that all runs of a process share. Clones are the same state.
#[derive(Clone, Debug, Default)]
pub struct ProcessState {
    /// The runs in progress, for kills.
    pub active_runs: ActiveRuns,
    /// The pollers of their executions.
    pub pollers: Pollers,
    /// Deletes the jobs of runs that have ended.
    pub janitor: Janitor,
    /// Who comes next in a region that is full.
    pub regions: Regions,
}

impl ProcessState {
    /// Whether a run of this process has the job of this address, or deletes it after its end.
    pub fn has_run(&self, address: &str) -> bool {
        self.active_runs.has(address) || self.janitor.has(address)
    }
}

/// Runs a job: creates it from `body`, waits until it is ready, starts one execution and watches it to its end. Then the
/// process's janitor deletes the job.
///
/// Dropping the future stops at once and leaves everything as it is: an execution goes on.
///
/// A [`kill`](super::kill::kill) of the job in the same process delays the start while it is in progress. The run ends when
/// the kill has deleted the job.
///
/// # Errors
/// When the job could not be started, or its execution could not be read for
/// [`watch_retry_max`](Plan::watch_retry_max).
pub async fn run(
    transport: Transport,
    process: &ProcessState,
    body: JobBody,
    plan: Plan,
    control: RunControl,
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let reporter = Reporter::new(control.sink.clone());
    let mut active_run = process.active_runs.register(transport.job_address(&plan.job), plan.owner_label.clone());
    let mut place = process.regions.enter(transport.scope());
    let poller = process.pollers.for_transport(&transport);
    let on_notice = reporter.notices(&transport.project, &transport.region);
    let client = CloudRunClient::new(Transport { on_notice: on_notice.clone(), ..transport.clone() });
    let (job, quota_wait_max) = (plan.job.clone(), plan.quota_wait_max);
    let has_reported_wait = AtomicBool::new(false);
    let report_wait = |refusal: ApiError| {
        if !has_reported_wait.swap(true, Ordering::Relaxed) {
            let error = ApiError { name: job.clone(), ..refusal };
            reporter.report(Progress::AwaitingCapacity { error, max_wait: quota_wait_max });
        }
    };
    // Dropped after the creation: a thousand watched runs need not keep their bodies.
    let mut body = Some(body);
    let mut execution = None;
    let mut step = Machine::begin(plan, Duration::ZERO);
    loop {
        for progress in step.reports {
            match &progress {
                Progress::Created { .. } => {
                    active_run.job_created();
                    place.created();
                    body = None;
                }
                Progress::Started { execution: name, .. } => {
                    place.started();
                    execution = Some(name.clone());
                }
                _ => {}
            }
            reporter.report(progress);
        }
        let (pause, command, mut machine) = match step.next {
            Next::Send { pause, command, machine } => (pause, command, machine),
            Next::Finish { mut result, cleanup } => {
                // The run may see that its job is gone before the kill hears that its delete succeeded.
                if let Err(RunError::RemovedBeforeStart { killed, .. }) = &mut result {
                    *killed |= active_run.is_killed();
                }
                if let Ok(Outcome::Succeeded | Outcome::Failed(_) | Outcome::Removed) = &result {
                    place.execution_ended();
                }
                let location = (transport.project.as_str(), transport.region.as_str());
                let mut diagnosis = known_cause(&result, location, execution.is_some(), active_run.is_killed());
                let cause = match &result {
                    Ok(Outcome::Failed(message)) => Some(find_cause(&transport, execution, message.clone())),
                    _ => None,
                };
                let (first, found) = cause.unzip();
                match (cleanup, first) {
                    (Some(cleanup), first) => {
                        process.janitor.take_over(
                            &transport,
                            cleanup,
                            began,
                            control.deletion_sink,
                            place.job(),
                            first,
                        );
                    }
                    (None, Some(first)) => first.await,
                    (None, None) => {}
                }
                if let Some(found) = found {
                    // Fails if the deletion was abandoned.
                    diagnosis = found.await.ok();
                }
                if let Some(diagnosis) = diagnosis {
                    reporter.report(Progress::Diagnosed { diagnosis: Box::new(diagnosis) });
                }
                reporter.report_summary();
                return result;
            }
        };
        // Whether the pending call may have taken effect, for the calls that can't be taken back.
        let (maybe_done, is_maybe_done) = watch::channel(false);
        // Each kind of call is boxed on its own: a call's future is large, and a run spends most of its time waiting.
        let (call_control, read_age) = (&control, machine.read_age(began.elapsed() + pause));
        let turn =
            |stage| TurnGuard { place: &place, stage, at_most: machine.capacity_time_left(), on_wait: &report_wait };
        // How long the pending call has waited for its quota and its turn.
        let waited = WaitTime::default();
        let waiting_client = || client.clone().with_quota_wait_max(machine.capacity_time_left().max(LEAST_QUOTA_WAIT));
        let (kills, ownership) = (active_run.kills(), machine.ownership().clone());
        let maybe_started = machine.maybe_started();
        let call: Pin<Box<dyn Future<Output = Event> + Send + '_>> = match command {
            Command::WatchExecution(watch) => Box::pin(async {
                sleep(pause).await;
                // Moves it into this future, which borrows everything else.
                let watch = watch;
                let age = began.elapsed().saturating_sub(watch.since);
                tokio::select! {
                    execution = poll(&poller, &job, &watch, age, &reporter, &on_notice) => Event::ExecutionRead(execution),
                    () = sleep_until(began + watch.until.unwrap_or_default()), if watch.until.is_some() => Event::WatchPaused,
                }
            }),
            Command::AwaitTurn(stage, at_most) => Box::pin(await_turn(pause, &place, stage, at_most, &report_wait)),
            Command::CreateJob => Box::pin(async {
                sleep(pause).await;
                let guard = CreateGuard { turn: turn(Stage::Create), maybe_done, waited: &waited };
                create(&waiting_client(), &job, body.as_ref(), &guard).await
            }),
            Command::ConfirmStart => Box::pin(async {
                sleep(pause).await;
                call_control.confirm_start().await;
                Event::StartConfirmed
            }),
            command => Box::pin(async {
                sleep(pause).await;
                // Nothing holds a delete back: a kill wants the same, and may wait for the end of this run.
                let start = (command == Command::RunJob).then(|| {
                    StartGuard::new(
                        turn(Stage::Start),
                        maybe_started,
                        kills,
                        call_control.confirm_start.clone(),
                        maybe_done,
                        &waited,
                    )
                });
                let guard = JobGuard { client: &client, job: &job, ownership, read_age, start };
                match command {
                    Command::RunJob => send(&waiting_client(), &job, command, &guard).await,
                    command => send(&client, &job, command, &guard).await,
                }
            }),
        };
        let mut orders = control.clone();
        let event = tokio::select! {
            biased;
            () = killed(&mut active_run, machine.kill_effect(), is_maybe_done.clone()) => Event::Killed,
            event = given_up(&mut orders, &machine, is_maybe_done) => event,
            event = call => event,
        };
        if let Event::Created(Err(error)) | Event::RunResponse(Err(error)) = &event {
            place.failed(error, 0.5 + fastrand::f64());
        }
        machine.waited(waited.total());
        step = machine.step(began.elapsed(), event);
        if let Next::Send { machine, .. } = &step.next
            && !machine.holds_turn()
        {
            place.give_back();
        }
    }
}

/// What finds out why an execution failed, and what receives the result. The first is not part of the run: when the run is
/// dropped, the deletion of the job still follows.
fn find_cause(
    transport: &Transport,
    execution: Option<String>,
    message: String,
) -> (Pin<Box<dyn Future<Output = ()> + Send>>, oneshot::Receiver<Diagnosis>) {
    let client = CloudRunClient::new(Transport { on_notice: Arc::new(|_notice| {}), ..transport.clone() });
    let (sender, receiver) = oneshot::channel();
    let find = async move {
        // Fails once the run was dropped.
        _ = sender.send(diagnose_failure(&client, execution.as_deref(), &message).await);
    };
    (Box::pin(find), receiver)
}

/// Waits for the run's turn in its region.
async fn await_turn(
    pause: Duration,
    place: &RegionPlace,
    stage: Stage,
    at_most: Duration,
    on_wait: &ReportWait<'_>,
) -> Event {
    sleep(pause).await;
    Event::TurnCame(place.turn(stage, at_most, on_wait).await)
}

/// Waits for a kill that ends the run.
async fn killed(run: &mut ActiveRun, effect: KillEffect, mut maybe_done: watch::Receiver<bool>) {
    match effect {
        KillEffect::None => std::future::pending().await,
        KillEffect::OnceDeleted => run.killed().await,
        KillEffect::UnlessCreated => {
            run.kill_begun().await;
            until_not(&mut maybe_done).await;
        }
    }
}

/// Waits until the caller gives the run up in a way that ends it.
async fn given_up(control: &mut RunControl, machine: &Machine, mut maybe_done: watch::Receiver<bool>) -> Event {
    let reason = control.given_up(|reason| machine.give_up(reason) != GiveUp::Ignored).await;
    if machine.give_up(reason) == GiveUp::UnlessSent {
        until_not(&mut maybe_done).await;
    }
    let maybe_done = *maybe_done.borrow();
    Event::GivenUp { reason, maybe_done }
}

/// Waits until the pending call can't have taken effect. Never ends if its last attempt may have.
async fn until_not(maybe_done: &mut watch::Receiver<bool>) {
    if maybe_done.wait_for(|maybe_done| !maybe_done).await.is_err() {
        std::future::pending().await
    }
}

/// Waits for an update of an execution.
async fn poll(
    poller: &Arc<Poller>,
    job: &str,
    watch: &ExecutionWatch,
    age: Duration,
    reporter: &Reporter,
    on_notice: &Arc<dyn Fn(Notice) + Send + Sync>,
) -> ApiResult<Execution> {
    let on_wait = |quota| on_notice(Notice::RateLimited(quota));
    let Update { response, notice } = poller.next_update(job, watch, age, on_wait).await;
    notice.into_iter().for_each(|notice| reporter.report(notice));
    response
}
