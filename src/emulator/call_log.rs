//! The calls of the API that the emulator received: how many of each method, and on request each call.
//!
//! Guarantees: a recorded call has no values of environment variables. Limits: the last 10,000 calls.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;

/// Maximum number of recorded calls.
const MAX_CALLS: usize = 10_000;

/// A call that the emulator received, and how it answered. For tests.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCall {
    /// HTTP method, or the method in `X-HTTP-Method-Override`.
    pub method: String,
    /// Region in the host name of the request; none when Cloud Run has no such region.
    pub region: Option<String>,
    /// Path without the query.
    pub path: String,
    /// Decoded query parameters, in the order of the request.
    pub query: Vec<(String, String)>,
    /// Body, if it was JSON, with `…` in place of each value of an environment variable.
    pub body: Option<Value>,
    /// HTTP status of the response; 0 when none was sent.
    pub status: u16,
    /// Name of the fault that hit the call, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Counts and recorded calls.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    counts: BTreeMap<&'static str, u64>,
    calls: VecDeque<RecordedCall>,
}

impl CallLog {
    /// Counts a call of this method of the API.
    pub(super) fn count(&mut self, id: &'static str) {
        *self.counts.entry(id).or_default() += 1;
    }

    pub(super) fn record(&mut self, call: RecordedCall) {
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// The number of calls of each method, by its name in the discovery document.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    /// The recorded calls, oldest first.
    pub(super) fn calls(&self) -> Vec<RecordedCall> {
        self.calls.iter().cloned().collect()
    }
}
