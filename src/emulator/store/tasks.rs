//! Tasks in the store: they are created and removed together with their execution.

use super::{
    clock::now,
    conditions::{new_task_conditions, set_condition},
    metadata::set_resource_version,
    regions::{RegionState, Store},
};
use crate::{
    api::types::{
        API_VERSION, ConditionStatus, EXECUTION_LABEL, Execution, ObjectMeta, OwnerReference, Task, TaskAttemptResult,
        TaskStatus,
    },
    emulator::wire::{ApiRefusal, DEFAULT_TASK_COUNT, ProjectRegion},
};

/// How a task ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TaskEnd {
    Succeeded,
    /// With a machine-readable reason, which a timeout lacks, and a message.
    Failed(Option<&'static str>, String),
    Cancelled,
}

impl Store {
    /// The task of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn task(&mut self, place: &ProjectRegion, name: &str) -> Result<&mut Task, ApiRefusal> {
        self.at(place).tasks.get_mut(name).ok_or_else(|| place.no_such_task(name))
    }

    /// Creates the tasks of a new execution.
    pub(super) fn create_tasks(&mut self, place: &ProjectRegion, execution: &Execution) {
        let execution_name = &execution.metadata.name;
        for index in 0..execution.spec.task_count.unwrap_or(DEFAULT_TASK_COUNT) {
            let serial = self.next_serial();
            let name = task_name(execution_name, index);
            let mut metadata = ObjectMeta {
                name: name.clone(),
                namespace: execution.metadata.namespace.clone(),
                uid: Some(uuid::Uuid::new_v4().to_string()),
                generation: Some(1),
                self_link: Some(place.self_link("tasks", &name)),
                creation_timestamp: execution.metadata.creation_timestamp.clone(),
                labels: execution.metadata.labels.clone(),
                annotations: execution.metadata.annotations.clone(),
                owner_references: vec![OwnerReference {
                    api_version: API_VERSION.to_owned(),
                    kind: "Execution".to_owned(),
                    name: execution_name.clone(),
                    uid: execution.metadata.uid.clone().unwrap_or_default(),
                    ..OwnerReference::default()
                }],
                ..ObjectMeta::default()
            };
            metadata.labels.insert(EXECUTION_LABEL.to_owned(), execution_name.clone());
            set_resource_version(&mut metadata, serial);
            let status = TaskStatus {
                observed_generation: Some(1),
                index: Some(index),
                conditions: new_task_conditions(),
                log_uri: execution.status.log_uri.clone(),
                ..TaskStatus::default()
            };
            let task = Task {
                api_version: API_VERSION.to_owned(),
                kind: "Task".to_owned(),
                metadata,
                spec: execution.spec.template.spec.clone(),
                status,
                ..Task::default()
            };
            self.at(place).tasks.insert(serial, name, task);
        }
    }

    /// Marks a task as started.
    pub(crate) fn start_task(&mut self, place: &ProjectRegion, execution: &str, index: i64) {
        self.update_task(place, execution, index, |status| {
            status.start_time = Some(now());
            set_condition(&mut status.conditions, "Started", ConditionStatus::True, None, None);
        });
    }

    /// Records how an attempt of a task ended, and how often the task was retried before it.
    pub(crate) fn record_attempt(
        &mut self,
        place: &ProjectRegion,
        execution: &str,
        index: i64,
        retried: i64,
        result: TaskAttemptResult,
    ) {
        self.update_task(place, execution, index, |status| {
            status.retried = (retried > 0).then_some(retried);
            status.last_attempt_result = Some(result);
        });
    }

    /// Ends a task.
    pub(crate) fn finish_task(&mut self, place: &ProjectRegion, execution: &str, index: i64, end: TaskEnd) {
        let (completed, reason, message) = match end {
            TaskEnd::Succeeded => (ConditionStatus::True, None, None),
            TaskEnd::Failed(reason, message) => (ConditionStatus::False, reason, Some(message)),
            TaskEnd::Cancelled => (ConditionStatus::False, Some("Cancelled"), Some("Task was cancelled.".to_owned())),
        };
        self.update_task(place, execution, index, |status| {
            status.completion_time = Some(now());
            set_condition(&mut status.conditions, "Completed", completed, reason, message);
        });
    }

    /// Ends the tasks of an execution that has ended before them.
    pub(super) fn cancel_unfinished_tasks(&mut self, place: &ProjectRegion, execution: &str) {
        let Ok(record) = self.execution(place, execution) else { return };
        for index in 0..record.execution.spec.task_count.unwrap_or(DEFAULT_TASK_COUNT) {
            let task = self.at(place).tasks.get(&task_name(execution, index));
            if task.is_some_and(|task| task.status.completion_time.is_none()) {
                self.finish_task(place, execution, index, TaskEnd::Cancelled);
            }
        }
    }

    /// Changes the status of a task, unless its execution was removed.
    fn update_task(
        &mut self,
        place: &ProjectRegion,
        execution: &str,
        index: i64,
        change: impl FnOnce(&mut TaskStatus),
    ) {
        let serial = self.next_serial();
        let Ok(task) = self.task(place, &task_name(execution, index)) else { return };
        change(&mut task.status);
        set_resource_version(&mut task.metadata, serial);
    }
}

impl RegionState {
    /// Removes an execution together with its tasks.
    pub(super) fn remove_execution(&mut self, name: &str) {
        let Some(record) = self.executions.remove(name) else { return };
        for index in 0..record.execution.spec.task_count.unwrap_or(DEFAULT_TASK_COUNT) {
            self.tasks.remove(&task_name(name, index));
        }
    }
}

/// The name of a task, as Cloud Run makes it.
fn task_name(execution: &str, index: i64) -> String {
    format!("{execution}-task{index}")
}
