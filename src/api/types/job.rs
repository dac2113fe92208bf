//! Jobs (schema `Job` and its parts).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    condition::{Condition, find_condition},
    lenient::{self, Extra},
    meta::ObjectMeta,
};

/// A Cloud Run job.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// `run.googleapis.com/v1`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub api_version: String,
    /// `Job`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub kind: String,
    /// Name, labels, timestamps.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub metadata: ObjectMeta,
    /// What the job runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: JobSpec,
    /// The state of the job.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: JobStatus,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Job {
    /// The `Ready` condition, unless it is about an earlier generation of the job.
    pub fn ready(&self) -> Option<&Condition> {
        let current = match (self.status.observed_generation, self.metadata.generation) {
            (Some(observed), Some(generation)) => observed >= generation,
            _ => true,
        };
        find_condition(&self.status.conditions, "Ready").filter(|_| current)
    }

    /// Whether the job's status says that it has been started.
    pub fn has_executions(&self) -> bool {
        self.status.latest_created_execution.is_some() || self.status.execution_count.unwrap_or_default() > 0
    }
}

/// Schema `JobSpec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    /// Template of the job's executions.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub template: ExecutionTemplateSpec,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `ExecutionTemplateSpec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionTemplateSpec {
    /// Labels and annotations that executions inherit.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub metadata: ObjectMeta,
    /// What an execution runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: ExecutionSpec,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `ExecutionSpec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionSpec {
    /// Number of tasks. The service's default is 1.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub task_count: Option<i64>,
    /// Maximum number of tasks at a time.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i64>,
    /// Template of the tasks.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub template: TaskTemplateSpec,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `TaskTemplateSpec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskTemplateSpec {
    /// What a task runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: TaskSpec,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `TaskSpec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskSpec {
    /// The containers of a task.
    #[serde(deserialize_with = "lenient::list")]
    pub containers: Vec<Container>,
    /// Maximum number of retries of a failed task. The service's default is 3.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
    /// Maximum duration of one attempt of a task, in seconds. The service's default is 600.
    #[serde(
        deserialize_with = "lenient::integer",
        serialize_with = "lenient::int64_as_string",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout_seconds: Option<i64>,
    /// E-mail address of the account that the tasks run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `Container`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Image reference.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub image: String,
    /// Program and first arguments, instead of the image's entry point.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments after `command`.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `EnvVar`.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,
    /// Its value. `None` when `extra` has a `valueFrom`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Leaves out the value, which may be a secret.
impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Schema `JobStatus`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// Generation that the conditions are about.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` decides whether the job can be run.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Number of executions that were ever created, deleted ones included.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub execution_count: Option<i64>,
    /// The latest execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_created_execution: Option<ExecutionReference>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `ExecutionReference`: an execution in the status of its job.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionReference {
    /// Name of the execution.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub name: String,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_timestamp: Option<String>,
    /// When its deletion was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// How far the execution has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_status: Option<CompletionStatus>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `ExecutionReference.completionStatus`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CompletionStatus {
    /// It waits for resources.
    ExecutionPending,
    /// It runs.
    ExecutionRunning,
    /// Every task succeeded.
    ExecutionSucceeded,
    /// A task failed and is not retried.
    ExecutionFailed,
    /// It was cancelled.
    ExecutionCancelled,
    /// Any other value.
    #[serde(other)]
    CompletionStatusUnspecified,
}
