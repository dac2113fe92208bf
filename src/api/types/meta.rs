//! Metadata of resources and lists (schemas `ObjectMeta`, `OwnerReference`, `ListMeta`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Extra, lenient};

/// What every resource carries about itself. Timestamps are RFC 3339 text, as the API sends them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name, unique in project, region and kind; empty when the answer left it out.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The project, by its number in answers and by id or number in requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Identity that no later resource of the same name shares.
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
    /// Set once deletion has been asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels, which list calls can select by.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, which they can't.
    #[serde(deserialize_with = "lenient::null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What this resource belongs to: an execution's job.
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
    /// Identity of the owner.
    pub uid: String,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A page of resources (schemas `ListJobsResponse`, `ListExecutionsResponse`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: serde::de::DeserializeOwned"))]
pub struct List<T> {
    /// `run.googleapis.com/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `JobList` or `ExecutionList`.
    #[serde(default)]
    pub kind: String,
    /// Where the next page is.
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    pub metadata: ListMeta,
    /// The resources, newest first; an item that can't be read is left out.
    #[serde(default, deserialize_with = "lenient::list")]
    pub items: Vec<T>,
    /// Locations that the list lacks because they could not be asked.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Metadata of a page.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// Token for the next page; none on the last one.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
