//! Sends a command's call to the API, and guards the calls that can't be taken back.

use std::{
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{join, sync::watch, time::Instant};

use super::{
    active_runs::KillWatch,
    control::ConfirmStart,
    machine::{
        Ownership,
        protocol::{Command, Event},
    },
    region::TurnGuard,
};
use crate::api::{ApiMethod, ApiResult, CloudRunClient, ErrorKind, Guard, JobBody, Priority};

/// A start that the caller confirmed at most this long ago is sent without asking again.
const FRESH_CONFIRMATION_MAX_AGE: Duration = Duration::from_secs(2);

/// Stands before a start or a delete of a job.
pub(super) struct JobGuard<'a> {
    pub(super) client: &'a CloudRunClient,
    pub(super) job: &'a str,
    pub(super) ownership: Ownership,
    /// How long ago the job was read.
    pub(super) read_age: Duration,
    /// What holds a start back. `None` before a delete.
    pub(super) start: Option<StartGuard<'a>>,
}

/// Stands before a start, in addition.
pub(super) struct StartGuard<'a> {
    /// The run's turn.
    turn: TurnGuard<'a>,
    /// Whether the response to an earlier start was lost. If it took effect, this one is not sent.
    maybe_started: bool,
    /// The kills that hold it back.
    kills: KillWatch,
    /// Asks the caller whether the run is still to be started.
    confirm: Option<ConfirmStart>,
    /// When the caller last confirmed it.
    confirmed_at: Mutex<Instant>,
    /// Tells whether the start may have taken effect.
    maybe_done: watch::Sender<bool>,
    /// How long the start has waited.
    waited: &'a WaitTime,
}

/// How long a call has waited for its quota and its turn.
#[derive(Debug, Default)]
pub(super) struct WaitTime(AtomicU64);

impl WaitTime {
    fn add(&self, wait: Duration) {
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// The sum of all waits.
    pub(super) fn total(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl<'a> StartGuard<'a> {
    /// For a start that was confirmed just now.
    pub(super) fn new(
        turn: TurnGuard<'a>,
        maybe_started: bool,
        kills: KillWatch,
        confirm: Option<ConfirmStart>,
        maybe_done: watch::Sender<bool>,
        waited: &'a WaitTime,
    ) -> Self {
        Self { turn, maybe_started, kills, confirm, confirmed_at: Mutex::new(Instant::now()), maybe_done, waited }
    }

    /// Asks the caller again, if its last answer is old.
    async fn confirm(&self) {
        let Some(confirm) = &self.confirm else { return };
        let confirmed_at = *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed_at.elapsed() > FRESH_CONFIRMATION_MAX_AGE {
            confirm().await;
            *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

impl Guard for JobGuard<'_> {
    fn read_age(&self) -> Duration {
        self.read_age
    }

    fn attempted(&self, maybe_done: bool) {
        self.start.iter().for_each(|start| _ = start.maybe_done.send_replace(maybe_done));
    }

    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(start) = &self.start {
                start.kills.none_in_progress().await;
                start.waited.add(start.turn.wait(start.waited.total()).await);
            }
        })
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(async {
            let maybe_started = self.start.as_ref().is_some_and(|start| start.maybe_started);
            let confirmed = async {
                if let Some(start) = &self.start {
                    start.confirm().await;
                }
            };
            // Nobody else can have a job of a unique name.
            let read = async {
                match self.ownership.has_unique_name && !maybe_started {
                    true => None,
                    false => Some(self.client.clone().with_read_priority(Priority::High).get_job(self.job).await),
                }
            };
            match join!(read, confirmed).0 {
                None => Ok(true),
                Some(Ok(job)) if maybe_started && job.has_executions() => Ok(false),
                Some(Ok(job)) => Ok(!self.ownership.is_deleted_or_replaced(&job)),
                Some(Err(error)) if error.kind == ErrorKind::NotFound => Ok(false),
                Some(Err(error)) => Err(error),
            }
        })
    }

    fn waited(&self, wait: Duration) {
        self.start.iter().for_each(|start| start.waited.add(wait));
    }
}

/// Stands before a create, and hears of its attempts.
pub(super) struct CreateGuard<'a> {
    /// The run's turn.
    pub(super) turn: TurnGuard<'a>,
    /// Tells whether the create may have taken effect.
    pub(super) maybe_done: watch::Sender<bool>,
    /// How long the create has waited.
    pub(super) waited: &'a WaitTime,
}

impl Guard for CreateGuard<'_> {
    fn attempted(&self, maybe_done: bool) {
        self.maybe_done.send_replace(maybe_done);
    }

    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // What became of an earlier attempt must be found out, whether or not there is room.
            if !*self.maybe_done.borrow() {
                self.waited.add(self.turn.wait(self.waited.total()).await);
            }
        })
    }

    fn waited(&self, wait: Duration) {
        self.waited.add(wait);
    }
}

/// Creates the job from `body`.
pub(super) async fn create(
    client: &CloudRunClient,
    job: &str,
    body: Option<&JobBody>,
    guard: &CreateGuard<'_>,
) -> Event {
    Event::Created(match body {
        Some(body) => client.create_job(job, body, guard).await,
        // The machine sends no second create after the job exists.
        None => Err(Box::new(client.no_body_error(ApiMethod::CreateJob, job))),
    })
}

/// Sends the command and returns its response. `guard` stands before a start or a delete.
///
/// Not for a create ([`create`]) and for what is not a call of the API.
pub(super) async fn send(client: &CloudRunClient, job: &str, command: Command, guard: &JobGuard<'_>) -> Event {
    let label = guard.ownership.label.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
    send_guarded(client, job, command, label, guard).await
}

/// The same with any guard. `label` (key and value) narrows a list of jobs to those that carry it.
pub(super) async fn send_guarded(
    client: &CloudRunClient,
    job: &str,
    command: Command,
    label: Option<(&str, &str)>,
    guard: &dyn Guard,
) -> Event {
    match command {
        Command::CreateJob => Event::Created(Err(Box::new(client.no_body_error(ApiMethod::CreateJob, job)))),
        Command::ReadJob => Event::JobRead(client.get_job(job).await),
        Command::FindJob => Event::JobListed(client.find_job(job, label).await),
        Command::ConfirmStart => Event::StartConfirmed,
        Command::AwaitTurn(..) => Event::TurnCame(Duration::ZERO),
        Command::RunJob => Event::RunResponse(client.run_job(job, guard).await),
        Command::ListExecutions => Event::ExecutionsListed(client.list_executions(job).await),
        Command::WatchExecution(watch) => Event::ExecutionRead(client.get_execution(&watch.execution).await),
        Command::CancelExecution(execution) => Event::ExecutionCancelled(client.cancel_execution(&execution).await),
        Command::DeleteJob => Event::Deleted(client.delete_job(job, guard).await),
    }
}
