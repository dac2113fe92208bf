//! Does what the machine says: sleeps, calls, and tells.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    identity::Identity,
    journal::Teller,
    machine::Machine,
    progress::Progress,
    registry::{KillWatch, Registry},
    step::{Answer, Ask, Event, Next, Outcome, Plan, RunError, Watched},
    watcher::{Look, Watcher, Watchers, pause_at},
};
use crate::api::{ApiMethod, CloudRunClient, ErrorKind, Guard, JobBody, Transport, types::Execution};

/// What the runs of a process have in common.
#[derive(Clone, Debug, Default)]
pub struct Office {
    /// Which runs there are, for kills.
    pub registry: Registry,
    /// Who looks at their executions.
    pub watchers: Watchers,
}

/// Whom a run tells of its progress. Called from the run's own task; must not block.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;

/// Runs a job to its end: creates it from `body`, waits for it, executes it once, watches it and removes it.
///
/// Dropping the future stops at once and leaves what is there: an execution goes on. A [`kill`](super::kill::kill) with
/// the same registry holds the start back while it lasts, and ends the run when it has deleted the job.
///
/// # Errors
/// When the job could not be run, or is watched no longer because a call failed for good.
pub async fn run(
    transport: Transport,
    office: &Office,
    body: JobBody,
    plan: Plan,
    observer: Observer,
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let teller = Teller::new(observer);
    let mut registration = office.registry.register(transport.job_address(&plan.job), plan.owner_label.clone());
    let watcher = office.watchers.of(&transport);
    let client = CloudRunClient::new(Transport { on_notice: teller.notices(), ..transport });
    let job = plan.job.clone();
    // A thousand runs that are watched need not keep what they created.
    let mut body = Some(body);
    let mut step = Machine::begin(plan, Duration::ZERO);
    loop {
        for progress in step.reports {
            if matches!(progress, Progress::Created { .. }) {
                registration.job_is_created();
                body = None;
            }
            teller.tell(progress);
        }
        match step.next {
            Next::Finish(mut result) => {
                // The run may see its job go before the kill hears that it was deleted.
                if let Err(RunError::RemovedBeforeStart { killed, .. }) = &mut result {
                    *killed |= registration.is_killed();
                }
                teller.sum_up();
                return result;
            }
            Next::Call { after, ask, machine } => {
                let (kills, identity) = (registration.kills(), machine.identity().clone());
                // Each in a box of its own: the room for a call is large, and a run waits for most of its time.
                let call: Pin<Box<dyn Future<Output = Event> + Send + '_>> = match ask {
                    Ask::WatchExecution(watched) => Box::pin(async {
                        sleep(after).await;
                        let watched = watched;
                        let age = began.elapsed().saturating_sub(watched.since);
                        Event::ExecutionRead(watch(&watcher, &client, &job, &watched, age, &teller).await)
                    }),
                    ask => Box::pin(async {
                        sleep(after).await;
                        // A delete is what the kill wants, and it may wait to hear of the job's end from here.
                        let kills = (ask == Ask::RunJob).then_some(kills);
                        let guard = JobGuard { client: &client, job: &job, identity, kills };
                        answer(&client, &job, body.as_ref(), ask, &guard).await
                    }),
                };
                let event = if machine.heeds_kill() {
                    tokio::select! {
                        biased;
                        () = registration.killed() => Event::Killed,
                        event = call => event,
                    }
                } else {
                    call.await
                };
                step = machine.step(began.elapsed(), event);
            }
        }
    }
}

/// Stands before a start or a delete.
pub(super) struct JobGuard<'a> {
    pub(super) client: &'a CloudRunClient,
    pub(super) job: &'a str,
    pub(super) identity: Identity,
    /// Kills that hold a start back.
    pub(super) kills: Option<KillWatch>,
}

impl Guard for JobGuard<'_> {
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(kills) = &self.kills {
                kills.none_under_way().await;
            }
        })
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async {
            match self.client.get_job(self.job).await {
                Ok(job) => !self.identity.is_going(&job),
                Err(error) => error.kind != ErrorKind::NotFound,
            }
        })
    }
}

/// Makes the call. A start or a delete goes past `guard`.
pub(super) async fn answer(
    client: &CloudRunClient,
    job: &str,
    body: Option<&JobBody>,
    ask: Ask,
    guard: &JobGuard<'_>,
) -> Event {
    match ask {
        Ask::CreateJob => Event::Created(match body {
            Some(body) => client.create_job(job, body).await,
            // The machine creates nothing after the creation.
            None => Err(Box::new(client.no_body_error(ApiMethod::CreateJob, job))),
        }),
        Ask::ReadJob => Event::JobRead(client.get_job(job).await),
        Ask::RunJob => Event::RunAnswered(client.run_job(job, guard).await),
        Ask::ListExecutions => Event::Listed(client.list_executions(job).await),
        Ask::WatchExecution(watched) => Event::ExecutionRead(client.get_execution(&watched.execution).await),
        Ask::DeleteJob => Event::Deleted(client.delete_job(job, guard).await),
    }
}

/// Waits for news of an execution, from the watcher of many or by looking alone.
async fn watch(
    watcher: &Arc<Watcher>,
    client: &CloudRunClient,
    job: &str,
    watched: &Watched,
    age: Duration,
    teller: &Teller,
) -> Answer<Execution> {
    match watcher.look(job, watched, age).await {
        Look::News(answer) => *answer,
        Look::Alone(why) => {
            if let Some(error) = why {
                teller.tell(Progress::WatchedAlone { error: *error });
            }
            sleep(pause_at(age, watched.longest_pause)).await;
            Box::pin(client.get_execution(&watched.execution)).await
        }
    }
}
