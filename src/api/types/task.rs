//! Tasks (schemas `Task`, `TaskStatus`, `TaskAttemptResult`): the single runs of an execution's container. They have what
//! the execution's conditions lack: the exit code and the signal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    condition::Condition,
    job::TaskSpec,
    lenient::{self, Extra},
    meta::ObjectMeta,
};

/// One task of an execution.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// `run.googleapis.com/v1`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub api_version: String,
    /// `Task`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub kind: String,
    /// Name, labels, timestamps.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub metadata: ObjectMeta,
    /// What the task runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: TaskSpec,
    /// How far the task has come.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: TaskStatus,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `TaskStatus`. The service leaves out numbers that are zero.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskStatus {
    /// Generation that the conditions are about.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Index of the task in its execution, from 0.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    /// How often the task was retried.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub retried: Option<i64>,
    /// `Started`, and `Completed`, which is `False` if the task failed.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the task began.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When it ended.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<String>,
    /// How its last attempt ended. `None` until an attempt has ended.
    #[serde(deserialize_with = "lenient::message", skip_serializing_if = "Option::is_none")]
    pub last_attempt_result: Option<TaskAttemptResult>,
    /// URL of the task's log.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub log_uri: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `TaskAttemptResult`. At most one of exit code and signal is set; neither if no container ran.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAttemptResult {
    /// The platform's words. Empty if the attempt succeeded.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: AttemptStatus,
    /// The container's exit code.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The signal that ended the container.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub term_signal: Option<i64>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Schema `GoogleRpcStatus`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttemptStatus {
    /// A `google.rpc.Code`; `None` for a success.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// What happened, in a sentence.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// More about it.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
