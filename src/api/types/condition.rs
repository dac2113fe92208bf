//! Conditions (schema `GoogleCloudRunV1Condition`): the state of one aspect of a resource.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lenient::{self, Extra};

/// One aspect of a resource's state.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// The aspect: `Ready` of a job; `Completed`, `Started`, … of an execution.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// The reason in one word, for programs.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason in a sentence, for people.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed, in RFC 3339.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// `Warning` or `Info` on a condition that does not decide how the resource ends.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A condition's status. Any text but `True` and `False` counts as `Unknown`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold, and will not unless something is changed.
    False,
    /// Not decided yet.
    #[default]
    Unknown,
}

impl Serialize for ConditionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

impl<'de> Deserialize<'de> for ConditionStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match lenient::text(deserializer)?.as_deref() {
            Some("True") => Self::True,
            Some("False") => Self::False,
            _ => Self::Unknown,
        })
    }
}

/// The condition of this type, if there is one.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}
