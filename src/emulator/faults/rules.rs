//! The faults that a user can set: which calls fail, how, and how often; and the quotas.
//!
//! The types are the JSON format of `POST /emulator/faults` and of the configuration.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::api::ApiMethod;

/// All faults of an emulator. The default has none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// Seed of the random decisions. With the same seed, a call gets the same fault: the decision depends only on the
    /// seed, the rule, the call's method and job, and how many calls of this method and job came before.
    pub seed: u64,
    /// Rules, of which the first that hits a call decides its fault.
    pub rules: Vec<FaultRule>,
    /// Quotas and limits. Default: none.
    pub quotas: EmulatedQuotas,
    /// Lifetime of an access token in seconds, from its first use. Later calls with it are answered with 401. Default:
    /// tokens do not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_seconds: Option<f64>,
}

/// A fault, and the calls that it hits.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultRule {
    /// The fault.
    pub fault: Fault,
    /// The calls that the rule can hit: methods by their names in the discovery document (`jobs.run`,
    /// `executions.list`), all methods of a collection (`jobs.*`, `executions.*`), or `reads` and `writes`. Default: all.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Share of these calls that the rule hits, from 0 to 1. Default: 1.
    #[serde(default = "always")]
    pub ratio: f64,
    /// Maximum number of calls that the rule hits. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Whether the call takes effect before it fails. Default: it does not.
    #[serde(default)]
    pub when: FaultTiming,
    /// Seconds from when the faults are set until the rule is in force. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: f64,
    /// Seconds that the rule is in force. Default: without end.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<f64>,
    /// Seconds from one beginning of the rule to the next. Default: it begins once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<f64>,
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

fn always() -> f64 {
    1.0
}

/// Whether a call takes effect before it fails.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultTiming {
    /// The call takes no effect. A delayed call takes effect after the delay.
    #[default]
    Before,
    /// The call takes effect, and its response is lost or delayed.
    After,
}

/// What a rule does to a call. Times are in seconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// The response has this status in place of the call's own.
    Status(StatusFault),
    /// The call takes this much longer.
    Delay(f64),
    /// No response comes, and the connection stays open.
    Hang,
    /// The emulator resets the connection.
    Reset,
    /// The emulator resets the connection, and refuses all connections for this long.
    Refuse(f64),
    /// The response shows the state of this long ago or slightly earlier. Only for reads.
    Stale(f64),
    /// The response is a list without items, although there are some. Only for lists.
    EmptyList,
    /// The same, and the list says that it is incomplete: `unreachable` names the region. Only for lists.
    IncompleteList,
}

/// An injected HTTP status and the form of its response.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusFault {
    /// HTTP status, from 200 to 599. With a success status, the error in the body has the code 503.
    pub code: u16,
    /// Form of the body. Default: Google's JSON.
    #[serde(default)]
    pub body: BodyForm,
    /// Message in the JSON body. Default: a message that says that the fault was injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Reason in the `ErrorInfo` of the JSON body, such as `SERVICE_DISABLED`. Default: no `ErrorInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Value of the header `Retry-After`, in seconds. Default: no header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The same header with the date that is this many seconds away. Default: no header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_date: Option<u32>,
}

/// Form of the body of an injected error.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyForm {
    /// `{"error": {…}}`, as from Google's APIs.
    #[default]
    Json,
    /// An HTML page, as from front ends and proxies.
    Html,
    /// No body.
    Empty,
}

/// Quotas and limits, each for one project and region. Those that are not set do not apply.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmulatedQuotas {
    /// Read requests per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<u64>,
    /// Write requests per minute; `jobs.run` does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    /// Job run requests (`jobs.run`) per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// Length of the minute, in seconds. Default: 60. Tests may shorten it.
    pub minute_seconds: f64,
    /// Maximum number of jobs (Cloud Run: 1,000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// Maximum number of unfinished executions (Cloud Run: 1,000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_executions: Option<usize>,
}

impl Default for EmulatedQuotas {
    fn default() -> Self {
        Self { reads: None, writes: None, runs: None, minute_seconds: 60.0, jobs: None, running_executions: None }
    }
}

/// The name of the fault in counts and in recorded calls.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(StatusFault { code, .. }) => write!(f, "status {code}"),
            Self::Delay(_) => f.write_str("delay"),
            Self::Hang => f.write_str("hang"),
            Self::Reset => f.write_str("reset"),
            Self::Refuse(_) => f.write_str("refuse"),
            Self::Stale(_) => f.write_str("stale"),
            Self::EmptyList => f.write_str("empty list"),
            Self::IncompleteList => f.write_str("incomplete list"),
        }
    }
}

impl Fault {
    /// Whether it can hit calls of this method.
    fn can_hit(&self, method: ApiMethod) -> bool {
        match self {
            Self::Stale(_) => !method.is_write(),
            Self::EmptyList | Self::IncompleteList => {
                matches!(method, ApiMethod::ListJobs | ApiMethod::ListExecutions | ApiMethod::ListTasks)
            }
            _ => true,
        }
    }
}

impl FaultRule {
    /// The name of the rule in counts and in recorded calls: `reset`, `reset after`.
    pub(crate) fn name(&self) -> String {
        match self.when {
            FaultTiming::Before => self.fault.to_string(),
            FaultTiming::After => format!("{} after", self.fault),
        }
    }

    /// Whether the rule can hit calls of this method.
    pub(super) fn can_hit(&self, method: ApiMethod) -> bool {
        let row = method.row();
        let is_named = self.calls.iter().any(|call| match call.as_str() {
            "reads" => !method.is_write(),
            "writes" => method.is_write(),
            call => call == row.id || call.strip_suffix(".*").is_some_and(|wanted| wanted == row.path.collection()),
        });
        (self.calls.is_empty() || is_named) && self.fault.can_hit(method)
    }

    /// Whether the rule refuses every call of this method with 403, without a reason that is not about permissions.
    pub(super) fn denies(&self, method: ApiMethod) -> bool {
        let is_refusal = matches!(&self.fault, Fault::Status(status) if status.code == 403 && status.reason.is_none());
        is_refusal && self.can_hit(method) && self.ratio >= 1.0 && self.times.is_none() && self.every.is_none()
    }

    /// Whether the rule is in force this long after the faults were set.
    pub(super) fn is_in_force(&self, since_set: Duration) -> bool {
        let Some(since_begin) = since_set.checked_sub(to_duration(self.after)) else { return false };
        let since_begin = since_begin.as_secs_f64();
        let since_begin = self.every.map_or(since_begin, |every| since_begin % every);
        self.lasts.is_none_or(|lasts| since_begin < lasts)
    }
}

impl Faults {
    /// Parses and checks faults in JSON.
    ///
    /// # Errors
    /// A message that names the place and the problem: the text is not JSON of this form, a value is out of range, or a
    /// rule can hit no call. The message does not say that it is about faults; the caller does.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let faults: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        for (index, rule) in faults.rules.iter().enumerate() {
            rule.check().map_err(|problem| format!("rules[{index}]: {problem}"))?;
        }
        check_seconds("quotas.minuteSeconds", faults.quotas.minute_seconds)?;
        faults.token_seconds.map_or(Ok(()), |seconds| check_seconds("tokenSeconds", seconds))?;
        Ok(faults)
    }

    /// The largest age of a stale read by these rules; none without such a rule.
    pub(super) fn max_staleness(&self) -> Option<Duration> {
        let ages = self.rules.iter().filter_map(|rule| match rule.fault {
            Fault::Stale(seconds) => Some(to_duration(seconds)),
            _ => None,
        });
        ages.max()
    }
}

impl FaultRule {
    fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(format!("ratio must be between 0 and 1, got {}", self.ratio));
        }
        let methods = || ApiMethod::ALL.into_iter().map(|method| method.row().id);
        let is_known = |call: &str| {
            methods().any(|id| id == call) || ["jobs.*", "executions.*", "tasks.*", "reads", "writes"].contains(&call)
        };
        if let Some(unknown) = self.calls.iter().find(|call| !is_known(call)) {
            let known = methods().collect::<Vec<_>>().join(", ");
            return Err(format!(
                "unknown call '{unknown}'; known calls are {known}, jobs.*, executions.*, tasks.*, reads and writes"
            ));
        }
        if !ApiMethod::ALL.into_iter().any(|method| self.can_hit(method)) {
            let what = if matches!(self.fault, Fault::Stale(_)) { "reads" } else { "lists" };
            return Err(format!("{} hits only {what}, but 'calls' names none: {}", self.fault, self.calls.join(", ")));
        }
        self.check_times()?;
        match &self.fault {
            Fault::Status(fault) if !(200..600).contains(&fault.code) => {
                Err(format!("status code must be between 200 and 599, got {}", fault.code))
            }
            Fault::Status(StatusFault { retry_after: Some(_), retry_after_date: Some(_), .. }) => {
                Err("retryAfter and retryAfterDate exclude each other".to_owned())
            }
            Fault::Stale(_) | Fault::Refuse(_) | Fault::EmptyList | Fault::IncompleteList
                if self.when == FaultTiming::After =>
            {
                Err(format!("{} does not support 'when'", self.fault))
            }
            Fault::Delay(seconds) | Fault::Refuse(seconds) | Fault::Stale(seconds) => {
                check_seconds(&format!("{} time", self.fault), *seconds)
            }
            Fault::Status(_) | Fault::Hang | Fault::Reset | Fault::EmptyList | Fault::IncompleteList => Ok(()),
        }
    }

    fn check_times(&self) -> Result<(), String> {
        check_seconds("after", self.after)?;
        for (name, seconds) in [("for", self.lasts), ("every", self.every)] {
            let Some(seconds) = seconds else { continue };
            check_seconds(name, seconds)?;
            if seconds == 0.0 {
                return Err(format!("{name} must be more than 0 seconds"));
            }
        }
        match (self.lasts, self.every) {
            (None, Some(_)) => Err("every needs 'for'".to_owned()),
            (Some(lasts), Some(every)) if every < lasts => {
                Err(format!("every must be at least as long as 'for', got {every} and {lasts}"))
            }
            _ => Ok(()),
        }
    }
}

/// Longest time in a fault, in seconds: a year.
const MAX_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

fn check_seconds(what: &str, seconds: f64) -> Result<(), String> {
    let is_valid = Duration::try_from_secs_f64(seconds).is_ok() && seconds <= MAX_SECONDS;
    if is_valid { Ok(()) } else { Err(format!("{what} must be a number of seconds between 0 and {MAX_SECONDS:.0}")) }
}

/// The duration of a number of seconds that [`Faults::from_json`] has checked.
pub(crate) fn to_duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_their_defaults() {
        let text = r#"{"rules": [{"fault": "reset"}, {"fault": {"status": {"code": 503}}, "calls": ["jobs.run"]},
            {"fault": {"delay": 1.5}, "ratio": 0.5, "when": "after", "times": 2}], "quotas": {"reads": 600}}"#;
        let faults = Faults::from_json(text.as_bytes()).unwrap();
        assert_eq!(
            (faults.rules[0].ratio, faults.rules[0].when, &faults.rules[0].times),
            (1.0, FaultTiming::Before, &None)
        );
        assert_eq!(faults.rules[1].name(), "status 503");
        assert_eq!(faults.rules[2].name(), "delay after");
        assert_eq!(faults.quotas, EmulatedQuotas { reads: Some(600), ..EmulatedQuotas::default() });
        let again = serde_json::to_vec(&faults).unwrap();
        assert_eq!(Faults::from_json(&again).unwrap(), faults);
    }

    #[test]
    fn invalid_faults_are_refused_with_the_place_of_the_problem() {
        for (text, words) in [
            ("", "EOF while parsing a value"),
            (r#"{"rule": []}"#, "unknown field `rule`"),
            (r#"{"rules": [{"fault": "rest"}]}"#, "unknown variant `rest`"),
            (r#"{"rules": [{"fault": "reset", "ratio": 2}]}"#, "rules[0]: ratio must be between 0 and 1, got 2"),
            (
                r#"{"rules": [{"fault": "reset", "calls": ["jobs.walk"]}]}"#,
                "unknown call 'jobs.walk'; known calls are jobs.",
            ),
            (
                r#"{"rules": [{"fault": {"status": {"code": 199}}}]}"#,
                "status code must be between 200 and 599, got 199",
            ),
            (r#"{"rules": [{"fault": {"delay": -1}}]}"#, "delay time must be a number of seconds between 0"),
            (r#"{"rules": [{"fault": {"stale": 1}, "when": "after"}]}"#, "stale does not support 'when'"),
            (
                r#"{"rules": [{"fault": {"stale": 3}, "calls": ["jobs.run", "writes"]}]}"#,
                "rules[0]: stale hits only reads, but 'calls' names none: jobs.run, writes",
            ),
            (
                r#"{"rules": [{"fault": "emptyList", "calls": ["jobs.get", "writes"]}]}"#,
                "rules[0]: empty list hits only lists, but 'calls' names none: jobs.get, writes",
            ),
            (r#"{"rules": [{"fault": "incompleteList", "when": "after"}]}"#, "incomplete list does not support 'when'"),
            (r#"{"rules": [{"fault": "reset", "calls": ["services.*"]}]}"#, "unknown call 'services.*'"),
            (r#"{"rules": [{"fault": "reset", "after": -1}]}"#, "rules[0]: after must be a number of seconds"),
            (r#"{"rules": [{"fault": "reset", "for": 0}]}"#, "for must be more than 0 seconds"),
            (r#"{"rules": [{"fault": "reset", "every": 5}]}"#, "every needs 'for'"),
            (
                r#"{"rules": [{"fault": "reset", "for": 6, "every": 5}]}"#,
                "every must be at least as long as 'for', got 5 and 6",
            ),
            (
                r#"{"rules": [{"fault": {"status": {"code": 503, "retryAfter": 1, "retryAfterDate": 1}}}]}"#,
                "retryAfter and retryAfterDate exclude each other",
            ),
            (r#"{"tokenSeconds": -1}"#, "tokenSeconds must be"),
        ] {
            let problem = Faults::from_json(text.as_bytes()).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }

    #[test]
    fn a_stale_rule_may_name_reads_beside_writes() {
        for calls in [r"[]", r#"["reads"]"#, r#"["jobs.run", "jobs.get"]"#] {
            let text = format!(r#"{{"rules": [{{"fault": {{"stale": 3}}, "calls": {calls}}}]}}"#);
            assert!(Faults::from_json(text.as_bytes()).is_ok(), "{text}");
        }
    }

    fn rule(text: &str) -> FaultRule {
        Faults::from_json(format!(r#"{{"rules": [{text}]}}"#).as_bytes()).unwrap().rules.remove(0)
    }

    #[test]
    fn a_rule_is_in_force_for_its_time() {
        let in_force = |text: &str| -> Vec<u64> {
            let rule = rule(&format!(r#"{{"fault": "reset"{text}}}"#));
            (0..12).filter(|second| rule.is_in_force(Duration::from_secs(*second))).collect()
        };
        assert_eq!(in_force(""), (0..12).collect::<Vec<_>>());
        assert_eq!(in_force(r#", "after": 9"#), [9, 10, 11]);
        assert_eq!(in_force(r#", "for": 2"#), [0, 1]);
        assert_eq!(in_force(r#", "after": 3, "for": 2"#), [3, 4]);
        assert_eq!(in_force(r#", "after": 1, "for": 2, "every": 5"#), [1, 2, 6, 7, 11]);
    }

    #[test]
    fn a_rule_hits_the_methods_that_it_names_and_that_its_fault_can_hit() {
        let hit = |text: &str| -> Vec<&str> {
            let rule = rule(text);
            ApiMethod::ALL.into_iter().filter(|method| rule.can_hit(*method)).map(|method| method.row().id).collect()
        };
        assert_eq!(hit(r#"{"fault": "reset"}"#).len(), ApiMethod::ALL.len());
        let executions = ["executions.list", "executions.get", "executions.delete", "executions.cancel"];
        assert_eq!(hit(r#"{"fault": "reset", "calls": ["executions.*"]}"#), executions);
        assert_eq!(hit(r#"{"fault": {"stale": 1}, "calls": ["executions.*"]}"#), executions[..2]);
        assert_eq!(hit(r#"{"fault": "emptyList"}"#), ["jobs.list", "executions.list", "tasks.list"]);
        assert_eq!(hit(r#"{"fault": "incompleteList", "calls": ["jobs.*", "writes"]}"#), ["jobs.list"]);
    }
}
