//! Drives the machine of one run: pauses, sends calls, reports progress.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    active_runs::ActiveRuns,
    calls::{JobGuard, send},
    machine::{
        Machine, Next,
        protocol::{Command, Event, ExecutionWatch, Outcome, Plan, RunError},
    },
    poller::{Poller, Pollers},
    progress::{Progress, ProgressSink, Reporter},
    subscriptions::{PollResult, poll_pause},
};
use crate::api::{ApiResult, CloudRunClient, JobBody, Transport, types::Execution};

/// The state that all runs of a process share. Clones are the same state.
#[derive(Clone, Debug, Default)]
pub struct ProcessState {
    /// The runs in progress, for kills.
    pub active_runs: ActiveRuns,
    /// The pollers of their executions.
    pub pollers: Pollers,
}

/// Runs a job to its end: creates it from `body`, waits until it is ready, starts one execution, watches it and deletes
/// the job. Reports its progress to `sink`.
///
/// Dropping the future stops at once and leaves everything as it is: an execution goes on.
///
/// A [`kill`](super::kill::kill) of the job in the same process delays the start while it is in progress. The run ends when
/// the kill has deleted the job.
///
/// # Errors
/// When the job could not be started, or a call failed for good while the execution was watched.
pub async fn run(
    transport: Transport,
    process: &ProcessState,
    body: JobBody,
    plan: Plan,
    sink: ProgressSink,
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let reporter = Reporter::new(sink);
    let mut active_run = process.active_runs.register(transport.job_address(&plan.job), plan.owner_label.clone());
    let poller = process.pollers.for_transport(&transport);
    let on_notice = reporter.notices(&transport.project, &transport.region);
    let client = CloudRunClient::new(Transport { on_notice, ..transport });
    let job = plan.job.clone();
    // Dropped after the creation: a thousand watched runs need not keep their bodies.
    let mut body = Some(body);
    let mut step = Machine::begin(plan, Duration::ZERO);
    loop {
        for progress in step.reports {
            if matches!(progress, Progress::Created { .. }) {
                active_run.job_created();
                body = None;
            }
            reporter.report(progress);
        }
        let (pause, command, machine) = match step.next {
            Next::Send { pause, command, machine } => (pause, command, machine),
            Next::Finish(mut result) => {
                // The run may see that its job is gone before the kill hears that its delete succeeded.
                if let Err(RunError::RemovedBeforeStart { killed, .. }) = &mut result {
                    *killed |= active_run.is_killed();
                }
                reporter.report_summary();
                return result;
            }
        };
        let (kills, ownership) = (active_run.kills(), machine.ownership().clone());
        // Each kind of call is boxed on its own: a call's future is large, and a run spends most of its time waiting.
        let call: Pin<Box<dyn Future<Output = Event> + Send + '_>> = match command {
            Command::WatchExecution(watch) => Box::pin(async {
                sleep(pause).await;
                // Moves it into this future, which borrows everything else.
                let watch = watch;
                let age = began.elapsed().saturating_sub(watch.since);
                Event::ExecutionRead(poll(&poller, &client, &job, &watch, age, &reporter).await)
            }),
            command => Box::pin(async {
                sleep(pause).await;
                // Kills don't hold a delete back: they want the same, and may wait for the end of this run.
                let kills = (command == Command::RunJob).then_some(kills);
                let guard = JobGuard { client: &client, job: &job, ownership, kills };
                send(&client, &job, body.as_ref(), command, &guard).await
            }),
        };
        let event = if machine.ends_on_kill() {
            tokio::select! {
                biased;
                () = active_run.killed() => Event::Killed,
                event = call => event,
            }
        } else {
            call.await
        };
        step = machine.step(began.elapsed(), event);
    }
}

/// Waits for an update of an execution, from the poller or by reading this execution alone.
async fn poll(
    poller: &Arc<Poller>,
    client: &CloudRunClient,
    job: &str,
    watch: &ExecutionWatch,
    age: Duration,
    reporter: &Reporter,
) -> ApiResult<Execution> {
    match poller.next_update(job, watch, age).await {
        PollResult::Update(response) => *response,
        PollResult::PollIndividually(rejection) => {
            if let Some(error) = rejection {
                reporter.report(Progress::PollingIndividually { error: *error });
            }
            sleep(poll_pause(age, watch.max_pause)).await;
            Box::pin(client.get_execution(&watch.execution)).await
        }
    }
}
