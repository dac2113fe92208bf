//! Executions (schemas `Execution`, `ExecutionStatus`): one run of a job.

use serde::{Deserialize, Serialize};

use super::{Condition, ConditionStatus, ExecutionSpec, Extra, JOB_UID_LABEL, ObjectMeta, find_condition, lenient};

/// One run of a job.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Execution {
    /// `run.googleapis.com/v1`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub api_version: String,
    /// `Execution`.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub kind: String,
    /// Name, labels, timestamps.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub metadata: ObjectMeta,
    /// What it runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: ExecutionSpec,
    /// How far it is.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: ExecutionStatus,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Execution {
    /// The uid of the job that it belongs to.
    pub fn job_uid(&self) -> Option<&String> {
        self.metadata.labels.get(JOB_UID_LABEL)
    }

    /// The `Completed` condition once it is decided. Nothing else ends an execution: other conditions and the
    /// completion time may be set while Cloud Run still tries a failed task again.
    pub fn completed(&self) -> Option<&Condition> {
        find_condition(&self.status.conditions, "Completed")
            .filter(|condition| condition.status != ConditionStatus::Unknown)
    }
}

/// Schema `ExecutionStatus`. Counters that are zero are left out by the service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionStatus {
    /// Generation that the conditions speak of.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Completed` alone decides whether the execution has ended.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the tasks began; may precede the condition `Started`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<String>,
    /// Tasks that run.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub running_count: Option<i64>,
    /// Tasks that succeeded.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub succeeded_count: Option<i64>,
    /// Tasks that failed for good.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub failed_count: Option<i64>,
    /// Tasks that were cancelled.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub cancelled_count: Option<i64>,
    /// Tries that were repeated.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub retried_count: Option<i64>,
    /// Address of the execution's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_uri: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
