//! The body of a refused call.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, lenient};

/// `{"error": {…}}`, as every Google API answers a refused call.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub error: ErrorStatus,
}

impl ErrorStatus {
    /// The `reason` of the details' `ErrorInfo` (`google.rpc.ErrorInfo`), such as `SERVICE_DISABLED`.
    pub fn reason(&self) -> Option<&str> {
        self.details.iter().find_map(|detail| detail.get("reason")?.as_str())
    }
}

/// The answer to a delete (schema `Status`), as far as it tells whether it was done.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Deletion {
    /// `Success` or `Failure`.
    #[serde(deserialize_with = "lenient::text")]
    pub status: Option<String>,
    /// What has no place in a success.
    pub error: Option<Value>,
}

/// `google.rpc.Status` in its HTTP form.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ErrorStatus {
    /// The HTTP status again.
    #[serde(deserialize_with = "lenient::integer")]
    pub code: Option<i64>,
    /// A sentence for people.
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub message: String,
    /// The canonical code's name: `NOT_FOUND`, `PERMISSION_DENIED`, …
    #[serde(deserialize_with = "lenient::null_as_default")]
    pub status: String,
    /// Typed details, each with an `@type`.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}
