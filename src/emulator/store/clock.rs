//! Times as the API writes them.

use chrono::{SecondsFormat, Utc};

/// The current time in RFC 3339, with microseconds.
pub(super) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}
