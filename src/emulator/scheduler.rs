//! What happens to jobs and executions as time passes: readiness, the run of an execution, removal.

use std::sync::Arc;

use tokio::time::sleep;

use super::{
    state::EmulatorState,
    store::{ExecutionEnd, JobReadiness, StartedExecution, StopRequest},
    tasks::run_tasks,
    wire::{MISSING_SECRET_HINT, ProjectRegion, secret_of},
};
use crate::api::types::Job;

/// Decides, after the configured time, whether a job that was created or replaced is ready.
pub(super) fn schedule_readiness(state: &Arc<EmulatorState>, place: ProjectRegion, job: Job) {
    let this = state.clone();
    state.after(state.config.ready_after, move || {
        let verdict = readiness(&this, &job);
        let uid = job.metadata.uid.unwrap_or_default();
        this.store().settle_job(&place, &uid, &job.metadata.name, job.metadata.generation, verdict);
    });
}

/// Reason and message why a job can't be run, if so. An image whose registry is in the top-level domain `invalid` does
/// not exist, because nobody can own such a domain (RFC 6761); all other images do. Secrets must be configured.
fn readiness(state: &EmulatorState, job: &Job) -> Result<(), (&'static str, String)> {
    for container in &job.spec.template.spec.template.spec.containers {
        let registry = container.image.split_once('/').map_or("", |(registry, _)| registry);
        let host = registry.split(':').next().unwrap_or_default();
        if host.ends_with(".invalid") {
            return Err(("ContainerMissing", format!("Image '{}' not found.", container.image)));
        }
        for secret in container.env.iter().filter_map(secret_of) {
            if !state.config.secrets.contains_key(secret) {
                let project = job.metadata.namespace.as_deref().unwrap_or_default();
                let message =
                    format!("Secret projects/{project}/secrets/{secret} was not found. {MISSING_SECRET_HINT}");
                return Err(("SecretsAccessCheckFailed", message));
            }
        }
    }
    Ok(())
}

/// Removes a deleted job, whose executions have ended, after the configured time.
///
/// Removes a job that is not ready at once: if gcloud could still read it, it would take the job's condition for a
/// failure of the deletion.
pub(super) fn schedule_removal(state: &Arc<EmulatorState>, place: ProjectRegion, uid: String, name: String) {
    let is_not_ready =
        state.store().job(&place, &name).is_ok_and(|job| *job.readiness.borrow() == JobReadiness::NotReady);
    if is_not_ready {
        state.store().remove_job(&place, &uid, &name);
        return;
    }
    let this = state.clone();
    state.after(state.config.delete_after, move || this.store().remove_job(&place, &uid, &name));
}

/// Runs an execution in the background to its end. Then removes its job, if the job was deleted and waited for it.
pub(super) fn schedule_execution(state: &Arc<EmulatorState>, started: StartedExecution) {
    let this = state.clone();
    state.spawn_execution(async move {
        let place = started.place.clone();
        let job = started.job.clone();
        let name = started.execution.metadata.name.clone();
        let end = run_execution(&this, started).await;
        let idle_job = this.store().finish_execution(&place, &name, end);
        if let Some(uid) = idle_job {
            schedule_removal(&this, place, uid, job);
        }
    });
}

/// Waits for the readiness of the job and for the start of the tasks, and runs the tasks. A stop ends each wait.
async fn run_execution(state: &Arc<EmulatorState>, mut started: StartedExecution) -> ExecutionEnd {
    let mut stop = started.stop.clone();
    tokio::select! {
        ready = started.readiness.wait_for(|readiness| *readiness != JobReadiness::Unknown) => {
            if ready.is_ok_and(|readiness| *readiness == JobReadiness::NotReady) {
                return ExecutionEnd::Failed(None, "The job did not become ready.".to_owned());
            }
        }
        Ok(_) = stop.wait_for(|request| *request != StopRequest::None) => {}
    }
    tokio::select! {
        () = sleep(state.config.start_after) => {}
        Ok(_) = stop.wait_for(|request| *request != StopRequest::None) => {}
    }
    run_tasks(state, &started).await
}
