//! What happens to jobs and executions as time passes: readiness, tasks with their tries, removal.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};
use std::time::Duration;

use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    cloud::Cloud,
    conditions,
    executions::{Ending, Started, Stop},
    executor::{Attempt, AttemptEnd, secret_of},
    store::{Place, Readiness},
};
use crate::api::types::{ExecutionStatus, Job};

/// Decides after a while whether a job that was created or replaced is ready.
pub(super) fn settle(cloud: &Arc<Cloud>, place: Place, job: Job) {
    let this = cloud.clone();
    cloud.after(cloud.config.ready_after, move || {
        let verdict = readiness(&this, &job);
        let uid = job.metadata.uid.unwrap_or_default();
        this.state().settle_job(&place, &uid, &job.metadata.name, job.metadata.generation, verdict);
    });
}

/// Why a job can't be run, if so: in registries of the top-level domain `invalid`, which nobody can have (RFC 6761),
/// there are no images; and secrets must exist.
fn readiness(cloud: &Cloud, job: &Job) -> Result<(), (&'static str, String)> {
    for container in &job.spec.template.spec.template.spec.containers {
        let registry = container.image.split_once('/').map_or("", |(registry, _)| registry);
        let host = registry.split(':').next().unwrap_or_default();
        if host.ends_with(".invalid") {
            return Err(("ContainerMissing", format!("Image '{}' not found.", container.image)));
        }
        for secret in container.env.iter().filter_map(secret_of) {
            if !cloud.config.secrets.contains_key(secret) {
                let message = format!(
                    "Secret projects/{}/secrets/{secret} was not found. (The emulator knows those given with --secret \
                     NAME=VALUE.)",
                    job.metadata.namespace.as_deref().unwrap_or_default()
                );
                return Err(("SecretsAccessCheckFailed", message));
            }
        }
    }
    Ok(())
}

/// Removes a deleted job, whose executions have ended, after a while; or at once when it was never ready: gcloud would
/// take that condition of a job that it can still read for the failure of the deletion.
pub(super) fn remove_job(cloud: &Arc<Cloud>, place: Place, uid: String, name: String) {
    let unready = cloud.state().job(&place, &name).is_ok_and(|job| *job.readiness.borrow() == Readiness::NotReady);
    if unready {
        cloud.state().remove_job(&place, &uid, &name);
        return;
    }
    let this = cloud.clone();
    cloud.after(cloud.config.delete_after, move || this.state().remove_job(&place, &uid, &name));
}

/// Runs an execution to its end.
pub(super) fn execute(cloud: &Arc<Cloud>, started: Started) {
    let this = cloud.clone();
    cloud.spawn_execution(async move {
        let place = started.place.clone();
        let job = started.job.clone();
        let name = started.execution.metadata.name.clone();
        let ending = run(this.clone(), started).await;
        let idle_job = this.state().finish_execution(&place, &name, ending);
        if let Some(uid) = idle_job {
            remove_job(&this, place, uid, job);
        }
    });
}

async fn run(cloud: Arc<Cloud>, mut started: Started) -> Ending {
    let mut stop = started.stop.clone();
    tokio::select! {
        ready = started.readiness.wait_for(|readiness| *readiness != Readiness::Unknown) => {
            if ready.is_ok_and(|readiness| *readiness == Readiness::NotReady) {
                return Ending::Failed(None, "The job did not become ready.".to_owned());
            }
        }
        Ok(_) = stop.wait_for(|wish| *wish != Stop::No) => {}
    }
    tokio::select! {
        () = sleep(cloud.config.start_after) => {}
        Ok(_) = stop.wait_for(|wish| *wish != Stop::No) => {}
    }
    let tasks = Tasks::new(&cloud, &started);
    if *stop.borrow() != Stop::No {
        return tasks.ending(true);
    }
    cloud.state().start_execution(&started.place, &started.execution.metadata.name);
    let tasks = Arc::new(tasks);
    let mut workers = JoinSet::new();
    for _ in 0..tasks.parallelism {
        workers.spawn(tasks.clone().work(cloud.clone(), stop.clone()));
    }
    while workers.join_next().await.is_some() {}
    tasks.ending(*stop.borrow() != Stop::No)
}

/// The tasks of an execution: `parallelism` workers take them one by one.
struct Tasks {
    place: Place,
    name: String,
    /// The try that all others are made from.
    attempt: Attempt,
    max_retries: i64,
    parallelism: i64,
    next: AtomicI64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    running: i64,
    succeeded: i64,
    failed: i64,
    retried: i64,
    /// Of the first task that failed for good.
    failure: Option<(Option<&'static str>, String)>,
}

impl Tasks {
    fn new(cloud: &Cloud, started: &Started) -> Self {
        let execution = &started.execution;
        let task = &execution.spec.template.spec;
        let task_count = execution.spec.task_count.unwrap_or(1);
        let parallelism = execution.spec.parallelism.filter(|most| *most > 0).unwrap_or(task_count);
        Self {
            place: started.place.clone(),
            name: execution.metadata.name.clone(),
            attempt: Attempt {
                job: started.job.as_str().into(),
                execution: execution.metadata.name.as_str().into(),
                task: 0,
                attempt: 0,
                task_count,
                timeout: Duration::from_secs(u64::try_from(task.timeout_seconds.unwrap_or(600)).unwrap_or(600)),
                container: Arc::new(task.containers.first().cloned().unwrap_or_default()),
                annotations: Arc::new(execution.metadata.annotations.clone()),
            },
            max_retries: task.max_retries.unwrap_or(3),
            parallelism: parallelism.min(task_count).min(cloud.executor.most_tasks()),
            next: AtomicI64::new(0),
            counts: Mutex::default(),
        }
    }

    async fn work(self: Arc<Self>, cloud: Arc<Cloud>, mut stop: watch::Receiver<Stop>) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.attempt.task_count || *stop.borrow() != Stop::No {
                return;
            }
            self.count(&cloud, |counts| counts.running += 1);
            let end = self.run_task(&cloud, task, &mut stop).await;
            self.count(&cloud, |counts| {
                counts.running -= 1;
                match end {
                    AttemptEnd::Succeeded => counts.succeeded += 1,
                    AttemptEnd::Stopped => {}
                    AttemptEnd::TimedOut | AttemptEnd::Failed(..) => {
                        counts.failed += 1;
                        if counts.failure.is_none() {
                            counts.failure = Some(self.failure(task, &end));
                        }
                    }
                }
            });
        }
    }

    /// Tries a task until it succeeds or has no tries left.
    async fn run_task(&self, cloud: &Cloud, task: i64, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        let mut attempt = Attempt { task, ..self.attempt.clone() };
        loop {
            let end = cloud.executor.run(&attempt, stop).await;
            let final_end = matches!(end, AttemptEnd::Succeeded | AttemptEnd::Stopped);
            if final_end || attempt.attempt >= self.max_retries || *stop.borrow() != Stop::No {
                return end;
            }
            attempt.attempt += 1;
            let (_, why) = self.failure(task, &end);
            cloud.executor.log(&self.name, &format!("task {task} is tried again"));
            cloud.state().note_retry(&self.place, &self.name, why);
            self.count(cloud, |counts| counts.retried += 1);
        }
    }

    /// Reason and words of a failed try, as Cloud Run has them: a timeout has no reason.
    fn failure(&self, task: i64, end: &AttemptEnd) -> (Option<&'static str>, String) {
        let task = format!("Task {}-task{task} failed with", self.name);
        match end {
            AttemptEnd::Failed(code, message) => {
                (Some("NonZeroExitCode"), format!("{task} exit code: {code} and message: {message}"))
            }
            _ => (None, format!("{task} message: The configured timeout was reached.")),
        }
    }

    fn count(&self, cloud: &Cloud, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let retried = counts.retried;
        change(&mut counts);
        cloud.state().update_execution(&self.place, &self.name, |status| {
            counts.write(status);
            if counts.retried > retried {
                conditions::retry(&mut status.conditions);
            }
        });
    }

    /// What all tasks together come to.
    fn ending(&self, stopped: bool) -> Ending {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.failure.take() {
            // All tasks may have been through when the wish to stop came.
            _ if stopped && counts.succeeded + counts.failed < self.attempt.task_count => {
                Ending::Cancelled(self.attempt.task_count - counts.succeeded - counts.failed)
            }
            Some((reason, message)) => Ending::Failed(reason, message),
            None => Ending::Succeeded,
        }
    }
}

impl Counts {
    /// Counters that are zero are left out.
    fn write(&self, status: &mut ExecutionStatus) {
        let counter = |count: i64| (count > 0).then_some(count);
        status.running_count = counter(self.running);
        status.succeeded_count = counter(self.succeeded);
        status.failed_count = counter(self.failed);
        status.retried_count = counter(self.retried);
    }
}
