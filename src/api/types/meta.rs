//! Metadata of resources and lists (schemas `ObjectMeta`, `OwnerReference`, `ListMeta`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient::{self, Extra};

/// `apiVersion` of jobs and executions.
pub const API_VERSION: &str = "run.googleapis.com/v1";

/// Label of an execution with the name of its job.
pub const JOB_LABEL: &str = "run.googleapis.com/job";

/// Label of a task with the name of its execution.
pub const EXECUTION_LABEL: &str = "run.googleapis.com/execution";

/// Label of an execution with the uid of its job.
pub const JOB_UID_LABEL: &str = "run.googleapis.com/jobUid";

/// The metadata of every resource. Timestamps are RFC 3339 text, as the API sends them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name, unique in project, region and kind. Empty when the response has none.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The project: its number in responses, its id or number in requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Unique id: another resource of the same name has another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Counts the changes of `spec`, from 1.
    #[serde(deserialize_with = "lenient::integer", skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Changes with every write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Path of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_link: Option<String>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When the deletion was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels. Lists can be filtered by them.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The resources that this one belongs to: the job of an execution.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A resource's owner.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// API version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Unique id of the owner.
    pub uid: String,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A page of a list (schemas `ListJobsResponse`, `ListExecutionsResponse`, `ListTasksResponse`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: serde::de::DeserializeOwned"))]
pub struct List<T> {
    /// `run.googleapis.com/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `JobList`, `ExecutionList` or `TaskList`.
    #[serde(default)]
    pub kind: String,
    /// Metadata of the page.
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    pub metadata: ListMeta,
    /// The resources, newest first. Items that can't be parsed are left out.
    #[serde(default, deserialize_with = "lenient::list")]
    pub items: Vec<T>,
    /// Locations that are missing in the list, because Google could not reach them. Anything in here says that the list is
    /// incomplete, also what is not a string.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Metadata of a page.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// Token of the next page. `None` on the last page.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
