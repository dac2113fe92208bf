//! The bodies of errors, and of responses to deletes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient::{self, Extra};

/// `{"error": {…}}`: the body of an error of any Google API.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorStatus,
}

impl ErrorStatus {
    /// The reason for programs, such as `SERVICE_DISABLED` (`google.rpc.ErrorInfo` in the details).
    pub fn reason(&self) -> Option<&str> {
        self.details.iter().find_map(|detail| detail.get("reason")?.as_str())
    }
}

/// The response to a delete (schema `Status`), without the fields that do not say whether it succeeded.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Deletion {
    /// `Success` or `Failure`.
    #[serde(deserialize_with = "lenient::text")]
    pub status: Option<String>,
    /// An error, which a success does not have.
    pub error: Option<Value>,
}

/// `google.rpc.Status` as HTTP bodies have it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ErrorStatus {
    /// The HTTP status.
    #[serde(deserialize_with = "lenient::integer")]
    pub code: Option<i64>,
    /// A sentence for people.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub message: String,
    /// The name of the canonical code: `NOT_FOUND`, `PERMISSION_DENIED`, …
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: String,
    /// Details, each with an `@type`.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
