//! Deletes a job before its run has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    active_runs::ActiveRuns,
    calls::{JobGuard, send},
    machine::{Ownership, READ_LAG, Removal, RemovalStep},
    progress::{Progress, ProgressSink, Reporter},
};
use crate::api::{ApiError, ApiMethod, CloudRunClient, ErrorKind, RetryNotice, Transport};

/// Pause before the next read of a job that a list shows and a read does not find.
const CONTRADICTION_PAUSE: Duration = Duration::from_secs(2);

/// Deletes the job, which stops its executions: Cloud Run sends SIGTERM and, ten seconds later, SIGKILL.
///
/// A job without `owner_label` (key and value) belongs to another flow run and stays. A job that is already being deleted
/// counts as deleted. If `active_runs` has the job's run, the run starts no execution meanwhile, and ends when the job is
/// deleted. Reports its progress to `sink`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such job, or it belongs to another flow run. Otherwise a call failed for good, or
/// for longer than the retry budget.
pub async fn kill(
    transport: Transport,
    active_runs: &ActiveRuns,
    job: &str,
    owner_label: Option<(String, String)>,
    sink: ProgressSink,
) -> Result<(), Box<ApiError>> {
    let reporter = Reporter::new(sink);
    reporter.report(Progress::Killing { job: job.to_owned() });
    let pending_kill = active_runs.kill(&transport.job_address(job), owner_label.as_ref());
    // A job that is being created would not be found yet. A run that has not sent its create gives it up.
    let created_at = pending_kill.jobs_created().await;
    let began = Instant::now();
    // Reads of a job that was just created may lag.
    let settled_at = created_at.map_or(Duration::ZERO, |created| (created + READ_LAG).saturating_duration_since(began));
    let not_ours = transport.error(
        ApiMethod::DeleteJob,
        job,
        ErrorKind::NotFound,
        "the job of this name belongs to another flow run".to_owned(),
    );
    let retry = transport.retry;
    let on_notice = reporter.notices(&transport.project, &transport.region);
    let client = CloudRunClient::new(Transport { on_notice, ..transport });
    let removal_label = owner_label.clone();
    let mut removal = Removal::read_first(Ownership { uid: None, label: owner_label }, settled_at, retry);
    let mut pause = Duration::ZERO;
    loop {
        sleep(pause).await;
        let ownership = removal.ownership().clone();
        let guard = JobGuard { client: &client, job, ownership, read_age: Duration::ZERO, start: None };
        let event = send(&client, job, removal.command(), &guard).await;
        (pause, removal) = match removal.step(began.elapsed(), event) {
            RemovalStep::Call(pause, removal) => (pause, removal),
            RemovalStep::Retry(pause, removal, error) => {
                let notice = RetryNotice { error: *error, pause };
                reporter.report(Progress::Retrying { notice, unreported: 0 });
                (pause, removal)
            }
            RemovalStep::Deleted | RemovalStep::Gone => {
                pending_kill.done();
                reporter.report(Progress::Deleted { job: job.to_owned() });
                return Ok(());
            }
            RemovalStep::NotOurs | RemovalStep::UnknownOwner => return Err(Box::new(not_ours)),
            RemovalStep::Missing(error) => match find(&client, job, removal_label.as_ref()).await {
                // A failing API may answer 404 for some seconds.
                true if began.elapsed() < retry.max_elapsed => {
                    let ownership = Ownership { uid: None, label: removal_label.clone() };
                    (CONTRADICTION_PAUSE, Removal::read_first(ownership, settled_at, retry))
                }
                _ => return Err(error),
            },
            RemovalStep::Failed(error) => return Err(error),
        };
    }
}

/// Whether a list shows the job. `label` (key and value) is the job's. A list that fails shows nothing.
async fn find(client: &CloudRunClient, job: &str, label: Option<&(String, String)>) -> bool {
    let label = label.map(|(key, value)| (key.as_str(), value.as_str()));
    matches!(client.find_job(job, label).await, Ok(Some(found)) if found.metadata.deletion_timestamp.is_none())
}
