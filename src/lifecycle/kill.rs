//! Ends a job early.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    driver::{JobGuard, Observer, answer},
    identity::Identity,
    journal::Teller,
    machine::READ_LAG,
    progress::Progress,
    registry::Registry,
    removal::{Patience, Removal, Verdict},
};
use crate::api::{ApiError, ApiMethod, CloudRunClient, ErrorKind, RetryNotice, Transport};

/// Deletes the job, which stops its executions: Cloud Run sends SIGTERM and, ten seconds later, SIGKILL.
///
/// A job that does not carry `owner_label` (key and value) is another flow run's, and stays. A job that is
/// being deleted already counts as deleted. The run of the job, if it is in this `registry`, starts no execution
/// meanwhile, and ends when the job is deleted. `observer` is told of calls that are repeated.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the job is not there or another flow run's; otherwise when a call failed for good, or for
/// longer than the retry budget.
pub async fn kill(
    transport: Transport,
    registry: &Registry,
    job: &str,
    owner_label: Option<(String, String)>,
    observer: Observer,
) -> Result<(), Box<ApiError>> {
    let killing = registry.kill(&transport.job_address(job), owner_label.as_ref());
    // A job that is about to be created would not be found.
    let created = killing.jobs_created().await;
    let began = Instant::now();
    // Nor would one, maybe, that was created a moment ago.
    let settled_at = created.map_or(Duration::ZERO, |moment| (moment + READ_LAG).saturating_duration_since(began));
    let not_ours = transport.error(
        ApiMethod::DeleteJob,
        job,
        ErrorKind::NotFound,
        "the job of this name belongs to another flow run".to_owned(),
    );
    let patience = Patience { time: transport.retry.max_elapsed, tries: transport.retry.max_attempts };
    let teller = Teller::new(observer);
    let client = CloudRunClient::new(Transport { on_notice: teller.notices(), ..transport });
    let identity = Identity { uid: None, label: owner_label };
    let mut removal = Removal::of_named(identity, settled_at, patience);
    let mut after = Duration::ZERO;
    loop {
        sleep(after).await;
        // No kill holds a kill back.
        let guard = JobGuard { client: &client, job, identity: removal.identity().clone(), kills: None };
        let event = answer(&client, job, None, removal.ask(), &guard).await;
        (after, removal) = match removal.step(began.elapsed(), event) {
            Verdict::Ask(after, removal) => (after, removal),
            Verdict::Again(after, removal, error) => {
                let notice = RetryNotice { error: *error, pause: after };
                teller.tell(Progress::Retrying { notice, unsaid: 0 });
                (after, removal)
            }
            Verdict::Done => {
                killing.done();
                return Ok(());
            }
            Verdict::SomebodyElses => return Err(Box::new(not_ours)),
            Verdict::Missing(error) | Verdict::Failed(error) => return Err(error),
        };
    }
}
