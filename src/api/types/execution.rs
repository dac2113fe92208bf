//! Executions (schemas `Execution`, `ExecutionStatus`): one run of a job.

use serde::{Deserialize, Serialize};

use super::{
    condition::{Condition, ConditionStatus, find_condition},
    job::ExecutionSpec,
    lenient::{self, Extra},
    meta::{JOB_UID_LABEL, ObjectMeta},
};

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
    /// What the execution runs.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub spec: ExecutionSpec,
    /// How far the execution has come.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: ExecutionStatus,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Execution {
    /// The uids of the job that the execution belongs to: from its label and from its owner references. They are the same,
    /// but an answer may lack either.
    pub fn job_uids(&self) -> impl Iterator<Item = &str> {
        let label = self.metadata.labels.get(JOB_UID_LABEL);
        let owners = self.metadata.owner_references.iter().map(|owner| &owner.uid);
        label.into_iter().chain(owners).map(String::as_str).filter(|uid| !uid.is_empty())
    }

    /// The `Completed` condition, once it is decided. It alone says that the execution has ended: other conditions and the
    /// completion time may be set while Cloud Run still retries a failed task.
    pub fn completed(&self) -> Option<&Condition> {
        find_condition(&self.status.conditions, "Completed")
            .filter(|condition| condition.status != ConditionStatus::Unknown)
    }
}

/// Schema `ExecutionStatus`. The service leaves out counters that are zero.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionStatus {
    /// Generation that the conditions are about.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Completed` alone decides whether the execution has ended.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the tasks began. May be set before the condition `Started`.
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
    /// Tasks that failed and are not retried.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub failed_count: Option<i64>,
    /// Tasks that were cancelled.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub cancelled_count: Option<i64>,
    /// Number of retries of tasks.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub retried_count: Option<i64>,
    /// URL of the execution's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_uri: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
