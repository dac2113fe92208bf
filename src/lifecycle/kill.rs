//! Deletes a job before its run has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    active_runs::ActiveRuns,
    calls::{JobGuard, send},
    machine::{Ownership, READ_LAG, Removal, RemovalStep},
    progress::{Progress, ProgressSink, Reporter},
};
use crate::api::{ApiError, ApiMethod, CloudRunClient, ErrorKind, Priority, RetryNotice, Transport};

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
    let client = CloudRunClient::new(Transport { on_notice, ..transport }).with_read_priority(Priority::High);
    let mut removal = Removal::read_first(Ownership { label: owner_label, ..Ownership::default() }, settled_at, retry);
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
            RemovalStep::Deleted => {
                pending_kill.done();
                reporter.report(Progress::Deleted { job: job.to_owned() });
                return Ok(());
            }
            RemovalStep::NotOurs | RemovalStep::UnknownOwner => return Err(Box::new(not_ours)),
            RemovalStep::Missing(error) | RemovalStep::Failed(error) => return Err(error),
        };
    }
}
