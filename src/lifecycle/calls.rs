//! Sends a command's call to the API, and guards the calls that can't be taken back.

use std::pin::Pin;

use super::{
    active_runs::KillWatch,
    machine::{
        Ownership,
        protocol::{Command, Event},
    },
};
use crate::api::{ApiMethod, CloudRunClient, ErrorKind, Guard, JobBody};

/// Stands before a start or a delete of a job.
pub(super) struct JobGuard<'a> {
    pub(super) client: &'a CloudRunClient,
    pub(super) job: &'a str,
    pub(super) ownership: Ownership,
    /// The kills that hold a start back. `None` before a delete.
    pub(super) kills: Option<KillWatch>,
}

impl Guard for JobGuard<'_> {
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(kills) = &self.kills {
                kills.none_in_progress().await;
            }
        })
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async {
            match self.client.get_job(self.job).await {
                Ok(job) => !self.ownership.is_deleted_or_replaced(&job),
                Err(error) => error.kind != ErrorKind::NotFound,
            }
        })
    }
}

/// Sends the command and returns its response. `guard` stands before a start or a delete. `body` is the job to create.
pub(super) async fn send(
    client: &CloudRunClient,
    job: &str,
    body: Option<&JobBody>,
    command: Command,
    guard: &JobGuard<'_>,
) -> Event {
    match command {
        Command::CreateJob => Event::Created(match body {
            Some(body) => client.create_job(job, body).await,
            // The machine sends no second create after the job exists.
            None => Err(Box::new(client.no_body_error(ApiMethod::CreateJob, job))),
        }),
        Command::ReadJob => Event::JobRead(client.get_job(job).await),
        Command::RunJob => Event::RunResponse(client.run_job(job, guard).await),
        Command::ListExecutions => Event::ExecutionsListed(client.list_executions(job).await),
        Command::WatchExecution(watch) => Event::ExecutionRead(client.get_execution(&watch.execution).await),
        Command::DeleteJob => Event::Deleted(client.delete_job(job, guard).await),
    }
}
