//! Does what the machine says: sleeps, calls, and tells.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    journal::Journal,
    machine::Machine,
    progress::Progress,
    registry::Registry,
    step::{Ask, Event, Next, Outcome, Plan, RunError},
};
use crate::api::{CloudRunClient, RetryNotice, Transport};

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
    registry: &Registry,
    body: Value,
    plan: Plan,
    observer: Observer,
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let journal: Arc<Mutex<Journal>> = Arc::default();
    let tell = {
        let journal = journal.clone();
        let observer = observer.clone();
        move |progress| {
            let told = journal.lock().unwrap_or_else(PoisonError::into_inner).note(began.elapsed(), progress);
            told.into_iter().for_each(|progress| observer(progress));
        }
    };
    let mut registration = registry.register(transport.address_of(&plan.job), plan.owner_label.clone());
    let client = {
        let tell = tell.clone();
        let on_retry = Arc::new(move |notice: RetryNotice| tell(Progress::Retrying { notice, unsaid: 0 }));
        CloudRunClient::new(Transport { on_retry, ..transport })
    };
    let job = plan.job.clone();
    let mut step = Machine::begin(plan, Duration::ZERO);
    loop {
        for progress in step.reports {
            if matches!(progress, Progress::Created { .. }) {
                registration.job_is_created();
            }
            tell(progress);
        }
        match step.next {
            Next::Finish(result) => {
                observer(journal.lock().unwrap_or_else(PoisonError::into_inner).summary(began.elapsed()));
                return result;
            }
            Next::Call { after, ask, machine } => {
                let no_kill_under_way = registration.no_kill_under_way();
                let call = async {
                    sleep(after).await;
                    if ask == Ask::RunJob {
                        no_kill_under_way.await;
                    }
                    answer(&client, &job, &body, ask).await
                };
                let event = if machine.heeds_kill() {
                    tokio::select! {
                        biased;
                        () = registration.killed() => Event::Killed,
                        event = call => event,
                    }
                } else {
                    let event = call.await;
                    registration.forget_kills();
                    event
                };
                step = machine.step(began.elapsed(), event);
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
