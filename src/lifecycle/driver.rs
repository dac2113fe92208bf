//! Does what the machine says: sleeps, calls, and tells.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    machine::Machine,
    progress::Progress,
    step::{Ask, Event, Next, Outcome, Plan, RunError},
};
use crate::api::{CloudRunClient, RetryNotice, Transport};

/// Whom a run tells of its progress. Called from the run's own task; must not block.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;

/// Runs a job to its end: creates it from `body`, waits for it, executes it once, watches it and removes it.
///
/// Dropping the future stops at once and leaves what is there: an execution goes on.
///
/// # Errors
/// When the job could not be run, or is watched no longer because a call failed for good.
pub async fn run(transport: Transport, body: Value, plan: Plan, observer: Observer) -> Result<Outcome, RunError> {
    let client = {
        let observer = observer.clone();
        let on_retry = Arc::new(move |notice: RetryNotice| observer(Progress::Retrying(notice)));
        CloudRunClient::new(Transport { on_retry, ..transport })
    };
    let job = plan.job.clone();
    let started = Instant::now();
    let mut step = Machine::begin(plan, Duration::ZERO);
    loop {
        step.reports.into_iter().for_each(|progress| observer(progress));
        match step.next {
            Next::Finish(result) => return result,
            Next::Call { after, ask, machine } => {
                sleep(after).await;
                let event = answer(&client, &job, &body, ask).await;
                step = machine.step(started.elapsed(), event);
            }
        }
    }
}

/// Makes the call.
pub(super) async fn answer(client: &CloudRunClient, job: &str, body: &Value, ask: Ask) -> Event {
    match ask {
        Ask::CreateJob => Event::Created(client.create_job(job, body).await),
        Ask::ReadJob => Event::JobRead(client.get_job(job).await),
        Ask::RunJob => Event::RunAnswered(client.run_job(job).await),
        Ask::ListExecutions => Event::Listed(client.list_executions(job).await),
        Ask::ReadExecution(name) => Event::ExecutionRead(client.get_execution(&name).await),
        Ask::DeleteJob => Event::Deleted(client.delete_job(job).await),
    }
}
