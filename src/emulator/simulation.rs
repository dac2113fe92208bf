//! Settings of simulated executions: how long an attempt of a task takes, and how it ends.
//!
//! The emulator's configuration has the defaults. Annotations of an execution template override them for one job.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

/// Annotation of an execution template: duration of a simulated attempt of a task, in seconds, as a decimal number.
pub const DURATION_ANNOTATION: &str = "cloud-run-emulator/duration-seconds";
/// Annotation of an execution template: how a simulated attempt of a task ends: `success`, `failure` or `timeout`.
pub const OUTCOME_ANNOTATION: &str = "cloud-run-emulator/outcome";

/// How a simulated attempt of a task ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SimulatedOutcome {
    /// With exit code 0.
    #[default]
    Success,
    /// With exit code 1.
    Failure,
    /// As if the task's timeout had been reached.
    Timeout,
}

impl FromStr for SimulatedOutcome {
    type Err = String;

    /// Parses `success`, `failure` or `timeout`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "success" => Ok(Self::Success),
            "failure" => Ok(Self::Failure),
            "timeout" => Ok(Self::Timeout),
            _ => Err(format!("'{text}' is not one of: success, failure, timeout")),
        }
    }
}

/// The simulated duration in the annotations of an execution template; none when it is not set. The error is a phrase
/// that names the malformed value.
pub(super) fn annotated_duration(annotations: &BTreeMap<String, String>) -> Result<Option<Duration>, String> {
    annotations.get(DURATION_ANNOTATION).map_or(Ok(None), |text| {
        let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(Some).ok_or_else(|| format!("'{text}' is not a number of seconds"))
    })
}

/// The simulated outcome in the annotations of an execution template; none when it is not set. The error is a phrase that
/// names the malformed value.
pub(super) fn annotated_outcome(annotations: &BTreeMap<String, String>) -> Result<Option<SimulatedOutcome>, String> {
    annotations.get(OUTCOME_ANNOTATION).map(|text| text.parse()).transpose()
}
