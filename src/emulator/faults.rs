//! Faults that can be switched on: what goes wrong with which calls, how often, and where the quotas are.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::call::METHODS;

/// Everything that is to go wrong. The default is that nothing does.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// With the same seed, the same call (its method, its job, the how-manieth of the kind) meets the same fault.
    pub seed: u64,
    /// The first rule that hits a call is its fault.
    pub rules: Vec<FaultRule>,
    /// Quotas and limits; none are set by default.
    pub quotas: Quotas,
    /// How long an access token is taken after its first use, in seconds; 401 from then on. For ever by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_seconds: Option<f64>,
}

/// One thing that goes wrong with some of the calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// Methods as the discovery document names them (`jobs.run`, `executions.list`), or `reads` and `writes`. All by
    /// default.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Share of these calls, from 0 to 1. All by default.
    #[serde(default = "always")]
    pub ratio: f64,
    /// How often at most. Without end by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Whether the call takes effect before it goes wrong. Not by default.
    #[serde(default)]
    pub when: When,
}

fn always() -> f64 {
    1.0
}

/// Whether a call takes effect before it goes wrong.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// It does not take effect (or, where it is only delayed, takes effect late).
    #[default]
    Before,
    /// It takes effect, and its answer is lost or late.
    After,
}

/// What can go wrong. Times are in seconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// Another status than the call's own.
    Status(StatusFault),
    /// It takes this much longer.
    Delay(f64),
    /// No answer comes, and the connection stays open.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection is reset, and the emulator refuses all connections for this long.
    Refuse(f64),
    /// A read answers what was true this long ago, or a bit more. For reads only.
    Stale(f64),
}

/// A status in place of a call's own.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusFault {
    /// HTTP status, from 200: an error that comes as a success has a code of its own, 503.
    pub code: u16,
    /// Form of the body. Google's JSON by default.
    #[serde(default)]
    pub body: BodyForm,
    /// Message of the JSON body. One that says where it comes from by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Reason in the JSON body's `ErrorInfo`, such as `SERVICE_DISABLED`. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Header `Retry-After`, in seconds. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// Form of an error's body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyForm {
    /// `{"error": {…}}`, as Google's APIs answer.
    #[default]
    Json,
    /// A page, as front ends and proxies answer.
    Html,
    /// Nothing.
    Empty,
}

/// Quotas per minute, project and region, and limits. What is left out is not limited.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Quotas {
    /// Reads per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<u64>,
    /// Writes per minute, without `jobs.run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    /// Calls of `jobs.run` per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// Length of the minute, in seconds: 60, unless a test is in a hurry.
    pub minute_seconds: f64,
    /// Jobs in a project and region (Cloud Run: 1 000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// Executions that have not ended, in a project and region (Cloud Run: 1 000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_executions: Option<usize>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { reads: None, writes: None, runs: None, minute_seconds: 60.0, jobs: None, running_executions: None }
    }
}

/// One word or two, for counts and records.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(StatusFault { code, .. }) => write!(f, "status {code}"),
            Self::Delay(_) => f.write_str("delay"),
            Self::Hang => f.write_str("hang"),
            Self::Reset => f.write_str("reset"),
            Self::Refuse(_) => f.write_str("refuse"),
            Self::Stale(_) => f.write_str("stale"),
        }
    }
}

impl FaultRule {
    /// What it is called in counts and records.
    pub(super) fn name(&self) -> String {
        match self.when {
            When::Before => self.fault.to_string(),
            When::After => format!("{} after", self.fault),
        }
    }
}

impl Faults {
    /// Reads faults from JSON.
    ///
    /// # Errors
    /// When it is not JSON of this form, or a value in it makes no sense: a sentence that says which.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let faults: Self =
            serde_json::from_slice(text).map_err(|error| format!("the faults can't be read: {error}"))?;
        for (index, rule) in faults.rules.iter().enumerate() {
            rule.check().map_err(|problem| format!("rules[{index}]: {problem}"))?;
        }
        duration("quotas.minuteSeconds", faults.quotas.minute_seconds)?;
        faults.token_seconds.map_or(Ok(Duration::ZERO), |seconds| duration("tokenSeconds", seconds))?;
        Ok(faults)
    }

    /// How far back the reads of these faults look at most; none when no read does.
    pub(super) fn longest_memory(&self) -> Option<Duration> {
        let memories = self.rules.iter().filter_map(|rule| match rule.fault {
            Fault::Stale(seconds) => Some(span(seconds)),
            _ => None,
        });
        memories.max()
    }
}

impl FaultRule {
    fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(format!("ratio must be from 0 to 1, not {}", self.ratio));
        }
        let known = |call: &str| METHODS.contains(&call) || ["reads", "writes"].contains(&call);
        if let Some(unknown) = self.calls.iter().find(|call| !known(call)) {
            return Err(format!("'{unknown}' is no call; calls are {}, reads and writes", METHODS.join(", ")));
        }
        match &self.fault {
            Fault::Status(fault) if !(200..600).contains(&fault.code) => {
                Err(format!("the status {} is not from 200 to 599", fault.code))
            }
            Fault::Stale(_) | Fault::Refuse(_) if self.when == When::After => {
                Err(format!("{} has no 'when'", self.fault))
            }
            Fault::Delay(seconds) | Fault::Refuse(seconds) | Fault::Stale(seconds) => {
                duration("the time", *seconds).map(drop)
            }
            Fault::Status(_) | Fault::Hang | Fault::Reset => Ok(()),
        }
    }
}

/// Longest time, in seconds: a year.
const LONGEST: f64 = 365.0 * 24.0 * 3600.0;

fn duration(what: &str, seconds: f64) -> Result<Duration, String> {
    let refused = || format!("{what} must be a number of seconds from 0 to {LONGEST:.0}");
    Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= LONGEST).ok_or_else(refused)
}

/// Seconds that were checked.
pub(super) fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = r#"{"rules": [{"fault": "reset"}, {"fault": {"status": {"code": 503}}, "calls": ["jobs.run"]},
            {"fault": {"delay": 1.5}, "ratio": 0.5, "when": "after", "times": 2}], "quotas": {"reads": 600}}"#;
        let faults = Faults::from_json(text.as_bytes()).unwrap();
        assert_eq!((faults.rules[0].ratio, faults.rules[0].when, &faults.rules[0].times), (1.0, When::Before, &None));
        assert_eq!(faults.rules[1].name(), "status 503");
        assert_eq!(faults.rules[2].name(), "delay after");
        assert_eq!(faults.quotas, Quotas { reads: Some(600), ..Quotas::default() });
        let again = serde_json::to_vec(&faults).unwrap();
        assert_eq!(Faults::from_json(&again).unwrap(), faults);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, words) in [
            ("", "can't be read"),
            (r#"{"rule": []}"#, "unknown field `rule`"),
            (r#"{"rules": [{"fault": "rest"}]}"#, "unknown variant `rest`"),
            (r#"{"rules": [{"fault": "reset", "ratio": 2}]}"#, "rules[0]: ratio must be from 0 to 1, not 2"),
            (r#"{"rules": [{"fault": "reset", "calls": ["jobs.walk"]}]}"#, "'jobs.walk' is no call; calls are jobs."),
            (r#"{"rules": [{"fault": {"status": {"code": 199}}}]}"#, "the status 199 is not from 200 to 599"),
            (r#"{"rules": [{"fault": {"delay": -1}}]}"#, "the time must be a number of seconds from 0"),
            (r#"{"rules": [{"fault": {"stale": 1}, "when": "after"}]}"#, "stale has no 'when'"),
            (r#"{"tokenSeconds": -1}"#, "tokenSeconds must be"),
        ] {
            let problem = Faults::from_json(text.as_bytes()).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }
}
