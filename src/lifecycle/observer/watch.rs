//! Waits for the end of an execution that another process started, with the lists of this process's own runs.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    facts::{ExecutionsStatus, MarkedJob},
    reading::judge,
};
use crate::{
    api::{ApiResult, CloudRunClient, ErrorKind, Transport},
    lifecycle::{backoff::Backoff, driver::ProcessState, machine::protocol::ExecutionWatch},
};

/// First and longest pause after a read that failed or did not find the execution.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Waits until the execution of a job has ended, or the job or the execution is gone. `poll_interval` is the longest pause
/// between two reads. Dropping the future ends the watch.
///
/// # Errors
/// When the execution could not be read for `retry_max`.
pub async fn watch(
    transport: &Transport,
    process: &ProcessState,
    job: &MarkedJob,
    age: Duration,
    poll_interval: Duration,
    retry_max: Duration,
) -> ApiResult<()> {
    let Some(execution) = job.executions.name.clone().filter(|_| job.executions.status == ExecutionsStatus::Active)
    else {
        return Ok(());
    };
    let poller = process.pollers.for_transport(transport);
    let client = CloudRunClient::new(transport.clone());
    let began = Instant::now();
    let mut watch = ExecutionWatch {
        execution,
        since: Duration::ZERO,
        is_running: false,
        max_pause: poll_interval,
        until: None,
        is_last_look: false,
    };
    let new_pauses = || Backoff::new(FIRST_PAUSE, MAX_PAUSE.min(poll_interval.max(FIRST_PAUSE)));
    let mut pauses = new_pauses();
    let mut failing_since = None;
    loop {
        let response = poller.next_update(&job.name, &watch, age + began.elapsed(), |_quota| {}).await.response;
        let response = match response {
            Ok(execution) if execution.completed().is_some() => return Ok(()),
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => may_still_run(&client, job).await,
            Err(error) => Err(error),
        };
        match response {
            Ok(false) => return Ok(()),
            // It runs, or its job says so.
            Ok(true) => {
                (failing_since, pauses) = (None, if pauses.is_fresh() { pauses } else { new_pauses() });
                if watch.is_running {
                    sleep(poll_interval).await;
                }
                watch.is_running = true;
            }
            Err(error) => {
                let since: Instant = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= retry_max {
                    return Err(error);
                }
                sleep(error.pause_at_least(pauses.pause())).await;
            }
        }
    }
}

/// Whether a job may have an active execution, although the execution is not found.
async fn may_still_run(client: &CloudRunClient, seen: &MarkedJob) -> ApiResult<bool> {
    let job = match client.get_job(&seen.name).await {
        Ok(job) => job,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let read = judge(client, &job, seen).await?;
    Ok(read.is_some_and(|read| !read.is_being_deleted && read.executions.status == ExecutionsStatus::Active))
}
