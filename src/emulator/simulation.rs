//! Settings of simulated executions: how long an attempt of a task takes, and how it ends.
//!
//! The emulator's configuration has the defaults. Annotations of an execution template override them for one job.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

/// Annotation of an execution template: duration of a simulated attempt of a task, in seconds, as a decimal number.
pub const DURATION_ANNOTATION: &str = "cloud-run-emulator/duration-seconds";
/// Annotation of an execution template: how a simulated attempt of a task ends: `success`, `failure` (exit code 1), `timeout`,
/// `out-of-memory`, `exit-code=3` or `signal=9`.
pub const OUTCOME_ANNOTATION: &str = "cloud-run-emulator/outcome";

/// Annotation of an execution template: what Cloud Run says about a simulated attempt that fails, in place of its usual
/// words.
pub const MESSAGE_ANNOTATION: &str = "cloud-run-emulator/message";

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
    /// As if it had used more memory than its limit.
    OutOfMemory,
    /// With this exit code, 1 to 255.
    ExitCode(i32),
    /// By this signal, 1 to 64.
    Signal(i32),
}

impl FromStr for SimulatedOutcome {
    type Err = String;

    /// Parses `success`, `failure`, `timeout`, `out-of-memory`, `exit-code=N` or `signal=N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |prefix: &str, most: i32| {
            let number = text.strip_prefix(prefix)?.parse().ok()?;
            (1..=most).contains(&number).then_some(number)
        };
        match text {
            "success" => Ok(Self::Success),
            "failure" => Ok(Self::Failure),
            "timeout" => Ok(Self::Timeout),
            "out-of-memory" => Ok(Self::OutOfMemory),
            _ => None
                .or_else(|| number("exit-code=", 255).map(Self::ExitCode))
                .or_else(|| number("signal=", 64).map(Self::Signal))
                .ok_or_else(|| {
                    format!("'{text}' is not one of: success, failure, timeout, out-of-memory, exit-code=N, signal=N")
                }),
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
