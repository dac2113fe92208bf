//! Deletes or stops a marked job, once a read has shown that it is still as it was when that was decided.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    facts::{ExecutionsStatus, MarkedJob},
    reading::judge,
};
use crate::{
    api::{ApiResult, CloudRunClient, ErrorKind, Guard, Priority, Transport, types::Job},
    job::mark::FLOW_RUN_LABEL,
    lifecycle::{
        calls::send_guarded,
        driver::ProcessState,
        machine::{Ownership, Removal, RemovalStep, protocol::Event},
    },
};

/// What became of a deletion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deleted {
    /// A delete of ours took effect.
    ByUs,
    /// The job is gone or being deleted. Somebody else may have done that.
    Gone,
    /// It is not to be deleted any more: its executions or its mark have changed, or this process has a run of it.
    Changed,
}

/// Deletes a job that has no active execution.
///
/// # Errors
/// When it can't be read or deleted, or when it is unknown whether it was deleted.
pub async fn delete(transport: &Transport, process: &ProcessState, seen: &MarkedJob) -> ApiResult<Deleted> {
    if process.has_run(&transport.job_address(&seen.name)) {
        return Ok(Deleted::Changed);
    }
    remove(transport, seen, Precondition::Unchanged).await
}

/// Stops the executions of a job: deletes it, or cancels them if it is to be kept. Returns whether it is gone or being
/// deleted, or its executions are cancelled: false if it has lost its mark, or this process has a run of it.
///
/// # Errors
/// When it can't be read, deleted or cancelled, or when it is unknown whether it was.
pub async fn stop(transport: &Transport, process: &ProcessState, seen: &MarkedJob) -> ApiResult<bool> {
    if process.has_run(&transport.job_address(&seen.name)) {
        return Ok(false);
    }
    let client = CloudRunClient::new(transport.clone());
    let read = match client.get_job(&seen.name).await {
        Ok(job) => MarkedJob::new(&seen.project, &seen.region, &job).ok(),
        // The deletion finds out whether it is there.
        Err(error) if error.kind == ErrorKind::NotFound => Some(seen.clone()),
        Err(error) => return Err(error),
    };
    match read {
        Some(read) if read.mark.keep && read.is_same_job(seen) && !read.is_being_deleted => {
            cancel_executions(&client, &read).await?;
            Ok(true)
        }
        _ => Ok(remove(transport, seen, Precondition::NotKept).await? != Deleted::Changed),
    }
}

async fn cancel_executions(client: &CloudRunClient, job: &MarkedJob) -> ApiResult<()> {
    for execution in client.list_executions(&job.name).await? {
        let is_ours = execution.job_uids().any(|uid| uid == job.uid);
        let name = &execution.metadata.name;
        if !is_ours || name.is_empty() || execution.completed().is_some() {
            continue;
        }
        let Err(error) = client.cancel_execution(name).await else { continue };
        // It may have ended just before.
        match client.get_execution(name).await {
            Ok(execution) if execution.completed().is_some() => {}
            Err(gone) if gone.kind == ErrorKind::NotFound => {}
            _ => return Err(error),
        }
    }
    Ok(())
}

/// What a job must be to be deleted, in addition to being the job that was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Precondition {
    /// It has no active execution, and has what it had when its deletion was decided. Not kept, if it ever ran.
    Unchanged,
    /// It is not to be kept.
    NotKept,
}

impl Precondition {
    /// Whether a job that a read shows may be deleted.
    async fn holds(self, client: &CloudRunClient, job: &Job, seen: &MarkedJob) -> ApiResult<bool> {
        if self == Self::NotKept {
            let read = MarkedJob::new(&seen.project, &seen.region, job);
            return Ok(read.is_ok_and(|read| read.is_same_job(seen) && !read.mark.keep));
        }
        let Some(read) = judge(client, job, seen).await? else { return Ok(false) };
        let (now, then) = (&read.executions, &seen.executions);
        if (now.status, &now.name) != (then.status, &then.name) {
            return Ok(false);
        }
        match now.status {
            ExecutionsStatus::Active | ExecutionsStatus::Unknown => Ok(false),
            // The read may lag behind a start.
            ExecutionsStatus::None => {
                let executions = client.list_executions(&seen.name).await?;
                let may_be_ours = |uids: &[&str]| uids.is_empty() || uids.contains(&seen.uid.as_str());
                Ok(!executions.iter().any(|execution| may_be_ours(&execution.job_uids().collect::<Vec<_>>())))
            }
            _ => Ok(!read.mark.keep),
        }
    }
}

/// Stands before the delete, which may wait for its quota.
struct PreconditionGuard<'a> {
    client: &'a CloudRunClient,
    seen: &'a MarkedJob,
    condition: Precondition,
    read_at: Instant,
}

impl Guard for PreconditionGuard<'_> {
    fn read_age(&self) -> Duration {
        self.read_at.elapsed()
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(async {
            match self.client.get_job(&self.seen.name).await {
                Ok(job) => self.condition.holds(self.client, &job, self.seen).await,
                Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}

/// Deletes the job, and finds out what became of deletes whose response was lost.
async fn remove(transport: &Transport, seen: &MarkedJob, condition: Precondition) -> ApiResult<Deleted> {
    let client = CloudRunClient::new(transport.clone()).with_read_priority(Priority::High);
    let began = Instant::now();
    // The label narrows the list that shows the job's absence. The uid alone decides whose it is.
    let label = (FLOW_RUN_LABEL.to_owned(), seen.mark.flow_run.to_string());
    let ownership = Ownership { uid: Some(seen.uid.clone()), label: Some(label), has_unique_name: false };
    let mut removal = Removal::read_first(ownership, Duration::ZERO, transport.retry).sparing_unknown_owners();
    let mut pause = Duration::ZERO;
    let mut read_at = began;
    loop {
        sleep(pause).await;
        let guard = PreconditionGuard { client: &client, seen, condition, read_at };
        let ownership = removal.ownership();
        let label = ownership.label.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
        let event = send_guarded(&client, &seen.name, removal.command(), label, &guard).await;
        if let Event::JobRead(Ok(job)) = &event {
            read_at = Instant::now();
            let is_deleted = job.metadata.deletion_timestamp.is_some();
            let is_ours = job.metadata.uid.as_ref() == Some(&seen.uid);
            if is_ours && !is_deleted && !condition.holds(&client, job, seen).await? {
                return Ok(Deleted::Changed);
            }
        }
        let is_by_us = matches!(event, Event::Deleted(Ok(())));
        (pause, removal) = match removal.step(began.elapsed(), event) {
            RemovalStep::Call(pause, removal) | RemovalStep::Retry(pause, removal, _) => (pause, removal),
            RemovalStep::Deleted if is_by_us => return Ok(Deleted::ByUs),
            RemovalStep::Deleted | RemovalStep::NotOurs | RemovalStep::Missing(_) => return Ok(Deleted::Gone),
            RemovalStep::UnknownOwner => return Ok(Deleted::Changed),
            RemovalStep::Failed(error) => return Err(error),
        };
    }
}
