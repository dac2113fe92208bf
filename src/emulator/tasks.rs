//! The tasks of one execution: their attempts and retries, and what they mean for the execution.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    executor::{TIMED_OUT, TaskAttempt, TaskAttemptEnd},
    state::EmulatorState,
    store::{ExecutionEnd, StartedExecution, StopRequest, TaskEnd, set_retry},
    wire::{DEFAULT_MAX_RETRIES, DEFAULT_TASK_COUNT, DEFAULT_TIMEOUT_SECONDS, ProjectRegion},
};
use crate::api::types::{Container, ExecutionStatus};

/// Runs all tasks of an execution, unless it was already told to stop, and returns how the execution ends.
pub(super) async fn run_tasks(state: &Arc<EmulatorState>, started: &StartedExecution) -> ExecutionEnd {
    let stop = &started.stop;
    let is_stopped = || *stop.borrow() != StopRequest::None;
    let tasks = Tasks::new(state, started);
    if is_stopped() {
        return tasks.end(true);
    }
    state.store().start_execution(&started.place, &started.execution.metadata.name);
    let tasks = Arc::new(tasks);
    let mut workers = JoinSet::new();
    for _ in 0..tasks.parallelism {
        workers.spawn(tasks.clone().work(state.clone(), stop.clone()));
    }
    while workers.join_next().await.is_some() {}
    tasks.end(is_stopped())
}

/// The tasks of an execution. `parallelism` workers take them one by one.
struct Tasks {
    place: ProjectRegion,
    execution: String,
    /// The first attempt of the first task. All attempts are copies of it with other numbers.
    attempt: TaskAttempt,
    max_retries: i64,
    parallelism: i64,
    /// Index of the next task.
    next: AtomicI64,
    counts: Mutex<TaskCounts>,
}

#[derive(Default)]
struct TaskCounts {
    running: i64,
    succeeded: i64,
    failed: i64,
    retried: i64,
    /// Reason and message of the first task that failed and had no retries left.
    failure: Option<(Option<&'static str>, String)>,
}

impl Tasks {
    fn new(state: &EmulatorState, started: &StartedExecution) -> Self {
        let execution = &started.execution;
        let task = &execution.spec.template.spec;
        let task_count = execution.spec.task_count.unwrap_or(DEFAULT_TASK_COUNT);
        let parallelism = execution.spec.parallelism.filter(|most| *most > 0).unwrap_or(task_count);
        // Validation has refused a negative timeout.
        let timeout = u64::try_from(task.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)).unwrap_or_default();
        Self {
            place: started.place.clone(),
            execution: execution.metadata.name.clone(),
            attempt: TaskAttempt {
                job: started.job.as_str().into(),
                execution: execution.metadata.name.as_str().into(),
                task: 0,
                number: 0,
                task_count,
                timeout: Duration::from_secs(timeout),
                container: Arc::new(container_to_run(&task.containers).cloned().unwrap_or_default()),
                annotations: Arc::new(execution.metadata.annotations.clone()),
            },
            max_retries: task.max_retries.unwrap_or(DEFAULT_MAX_RETRIES),
            parallelism: parallelism.min(task_count).min(state.executor.max_concurrent_tasks()),
            next: AtomicI64::new(0),
            counts: Mutex::default(),
        }
    }

    /// A worker: takes and runs tasks until none is left or the execution has to stop.
    async fn work(self: Arc<Self>, state: Arc<EmulatorState>, mut stop: watch::Receiver<StopRequest>) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.attempt.task_count || *stop.borrow() != StopRequest::None {
                return;
            }
            self.update(&state, |counts| counts.running += 1);
            state.store().start_task(&self.place, &self.execution, task);
            let end = self.run_task(&state, task, &mut stop).await;
            state.store().finish_task(&self.place, &self.execution, task, self.task_end(task, &end));
            self.update(&state, |counts| {
                counts.running -= 1;
                match end {
                    TaskAttemptEnd::Succeeded => counts.succeeded += 1,
                    TaskAttemptEnd::Stopped => {}
                    TaskAttemptEnd::TimedOut | TaskAttemptEnd::Failed(_) => {
                        counts.failed += 1;
                        if counts.failure.is_none() {
                            counts.failure = Some(self.failure(task, &end));
                        }
                    }
                }
            });
        }
    }

    /// Runs a task until it succeeds, has no retries left, or is stopped. Returns the end of its last attempt.
    async fn run_task(
        &self,
        state: &EmulatorState,
        task: i64,
        stop: &mut watch::Receiver<StopRequest>,
    ) -> TaskAttemptEnd {
        let mut attempt = TaskAttempt { task, ..self.attempt.clone() };
        loop {
            let end = state.executor.run(&attempt, stop).await;
            if let Some(result) = end.result() {
                state.store().record_attempt(&self.place, &self.execution, task, attempt.number, result);
            }
            let is_final = matches!(end, TaskAttemptEnd::Succeeded | TaskAttemptEnd::Stopped);
            if is_final || attempt.number >= self.max_retries || *stop.borrow() != StopRequest::None {
                return end;
            }
            attempt.number += 1;
            let (_, why) = self.failure(task, &end);
            state.executor.log(&self.execution, &format!("retrying task {task}"));
            state.store().record_retry(&self.place, &self.execution, why);
            self.update(state, |counts| counts.retried += 1);
        }
    }

    /// Reason and message of a failed attempt, as Cloud Run writes them. A timeout and other ends by the
    /// platform have no reason.
    fn failure(&self, task: i64, end: &TaskAttemptEnd) -> (Option<&'static str>, String) {
        let task = format!("Task {}-task{task} failed with", self.execution);
        match end {
            TaskAttemptEnd::Failed(failure) => match failure.shell_code() {
                Some(code) => {
                    (Some("NonZeroExitCode"), format!("{task} exit code: {code} and message: {}", failure.message))
                }
                None => (None, format!("{task} message: {}", failure.message)),
            },
            _ => (None, format!("{task} message: {TIMED_OUT}")),
        }
    }

    /// The end of a task after the end of its last attempt.
    fn task_end(&self, task: i64, end: &TaskAttemptEnd) -> TaskEnd {
        match end {
            TaskAttemptEnd::Succeeded => TaskEnd::Succeeded,
            TaskAttemptEnd::Stopped => TaskEnd::Cancelled,
            TaskAttemptEnd::TimedOut | TaskAttemptEnd::Failed(_) => {
                let (reason, message) = self.failure(task, end);
                TaskEnd::Failed(reason, message)
            }
        }
    }

    /// Changes the counts, and writes them into the status of the execution.
    fn update(&self, state: &EmulatorState, change: impl FnOnce(&mut TaskCounts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let retried_before = counts.retried;
        change(&mut counts);
        state.store().update_execution(&self.place, &self.execution, |status| {
            counts.write(status);
            if counts.retried > retried_before {
                set_retry(&mut status.conditions);
            }
        });
    }

    /// The end of the execution after the end of its tasks.
    fn end(&self, is_stopped: bool) -> ExecutionEnd {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = self.attempt.task_count - counts.succeeded - counts.failed;
        match counts.failure.take() {
            // A stop that came after the end of the last task changes nothing.
            _ if is_stopped && unfinished > 0 => ExecutionEnd::Cancelled(unfinished),
            Some((reason, message)) => ExecutionEnd::Failed(reason, message),
            None => ExecutionEnd::Succeeded,
        }
    }
}

/// The first container that has a command: the emulator runs no images, and a sidecar mostly is one. Without any, the
/// first container, whose attempt fails and says so.
fn container_to_run(containers: &[Container]) -> Option<&Container> {
    containers.iter().find(|container| !container.command.is_empty()).or(containers.first())
}

impl TaskCounts {
    /// Leaves out counters that are zero, as Cloud Run does.
    fn write(&self, status: &mut ExecutionStatus) {
        let counter = |count: i64| (count > 0).then_some(count);
        status.running_count = counter(self.running);
        status.succeeded_count = counter(self.succeeded);
        status.failed_count = counter(self.failed);
        status.retried_count = counter(self.retried);
    }
}
