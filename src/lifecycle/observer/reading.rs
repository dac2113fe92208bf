//! Reads of marked jobs.

use uuid::Uuid;

use super::facts::{Executions, ExecutionsStatus, MarkedJob};
use crate::{
    api::{ApiResult, CloudRunClient, ErrorKind, Transport, types::Job},
    job::mark::Mark,
    lifecycle::progress::ExecutionFacts,
};

/// A job of a list that is left out, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// Name of the job; empty if it can't be parsed.
    pub job: String,
    /// Why, as a clause.
    pub why: String,
}

/// Lists the jobs of a pool, from every page of one list. Jobs with half a mark, or an odd one, are left out.
///
/// # Errors
/// When a page can't be read, or the list is incomplete.
pub async fn list(transport: &Transport, pool: Uuid) -> ApiResult<(Vec<MarkedJob>, Vec<LeftOut>)> {
    let client = CloudRunClient::new(transport.clone());
    let (mut jobs, mut left_out): (Vec<MarkedJob>, _) = (vec![], vec![]);
    for job in client.list_jobs(&Mark::selector(pool)).await? {
        let read = MarkedJob::new(&transport.project, &transport.region, &job);
        match read {
            // While jobs come and go, a job may move from one page to the next.
            Ok(job) if jobs.iter().any(|listed| listed.uid == job.uid) => {}
            Ok(job) if job.mark.pool == pool => jobs.push(job),
            Ok(_) => left_out.push(LeftOut { job: job.metadata.name, why: "it is of another work pool".to_owned() }),
            Err(why) => left_out.push(LeftOut { job: job.metadata.name, why }),
        }
    }
    Ok((jobs, left_out))
}

/// Reads a job again, and its executions if its status does not tell how they stand.
///
/// `None`: the job is gone, has lost its mark, or another job has its name.
///
/// # Errors
/// When it can't be read.
pub async fn read(transport: &Transport, seen: &MarkedJob) -> ApiResult<Option<MarkedJob>> {
    let client = CloudRunClient::new(transport.clone());
    match client.get_job(&seen.name).await {
        Ok(job) => judge(&client, &job, seen).await,
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is a job of this name, marked or not.
///
/// # Errors
/// When it can't be read.
pub async fn has_job(transport: &Transport, name: &str) -> ApiResult<bool> {
    match CloudRunClient::new(transport.clone()).get_job(name).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads the execution that a job's status is about. `None`: the job has none, or it is gone.
///
/// # Errors
/// When it can't be read.
pub async fn read_execution(transport: &Transport, job: &MarkedJob) -> ApiResult<Option<ExecutionFacts>> {
    let Some(name) = &job.executions.name else { return Ok(None) };
    match CloudRunClient::new(transport.clone()).get_execution(name).await {
        Ok(execution) => {
            let mut facts = ExecutionFacts::default();
            facts.learn(&execution);
            Ok(Some(facts))
        }
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The marked job that a read shows, if it is the one that was seen before.
pub(super) async fn judge(client: &CloudRunClient, job: &Job, seen: &MarkedJob) -> ApiResult<Option<MarkedJob>> {
    let Ok(mut read) = MarkedJob::new(&seen.project, &seen.region, job) else { return Ok(None) };
    if !read.is_same_job(seen) {
        return Ok(None);
    }
    if read.executions.status == ExecutionsStatus::Unknown {
        read.executions = Executions::from_list(job, &client.list_executions(&seen.name).await?);
    }
    Ok(Some(read))
}
