//! The part of Cloud Logging's filter language that readers of a job's log use: comparisons that are joined by AND.
//!
//! Source: <https://cloud.google.com/logging/docs/view/logging-query-language>.

use chrono::{DateTime, Utc};

/// Which entries a call asks for. A field that the filter does not name is `None`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LogFilter {
    pub(crate) job: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) execution: Option<String>,
    pub(crate) since: Option<DateTime<Utc>>,
    /// Whether it asks for something that no job has, such as another type of resource.
    pub(crate) matches_nothing: bool,
}

impl LogFilter {
    /// Reads a filter. The error says what the emulator does not understand.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(next) = rest.strip_prefix("AND ") {
                rest = next.trim_start();
                continue;
            }
            let not_understood = || format!("the emulator does not understand the filter at '{rest}'");
            // The key may have quotation marks itself: labels."a/b"="c".
            let end = rest.find(">=\"").or_else(|| rest.find("=\"")).ok_or_else(not_understood)?;
            let end = rest.find("=\"").map_or(end, |equal| end.min(equal));
            let is_bound = rest[end..].starts_with(">=");
            let value = &rest[end + if is_bound { 3 } else { 2 }..];
            let (value, next) = value.split_once('"').ok_or_else(not_understood)?;
            let key = rest[..end].trim_end().trim_end_matches('>').replace('"', "");
            let is_bound = is_bound || rest[..end].trim_end().ends_with('>');
            match (key.as_str(), is_bound) {
                ("resource.type", false) => filter.matches_nothing |= value != "cloud_run_job",
                ("resource.labels.job_name", false) => filter.job = Some(value.to_owned()),
                ("resource.labels.location", false) => filter.region = Some(value.to_owned()),
                ("labels.run.googleapis.com/execution_name", false) => filter.execution = Some(value.to_owned()),
                ("timestamp", true) => {
                    let since = DateTime::parse_from_rfc3339(value).map_err(|_| not_understood())?;
                    filter.since = Some(since.to_utc());
                }
                _ => return Err(not_understood()),
            }
            rest = next.trim_start();
        }
        Ok(filter)
    }

    /// Whether an execution's log is asked for.
    pub(crate) fn selects(&self, region: &str, job: &str, execution: &str) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        !self.matches_nothing && is(&self.region, region) && is(&self.job, job) && is(&self.execution, execution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_joined_by_and_or_by_nothing() {
        let text = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"j\"\nresource.labels.location=\"r\" \
                    labels.\"run.googleapis.com/execution_name\"=\"j-abcde\" timestamp>=\"2026-01-02T03:04:05Z\"";
        let filter = LogFilter::parse(text).unwrap();
        assert!(filter.selects("r", "j", "j-abcde") && filter.since.is_some());
        assert!(!filter.selects("r", "j", "j-other") && !filter.selects("r", "k", "j-abcde"));
        assert!(!filter.selects("s", "j", "j-abcde"));
        assert!(LogFilter::parse("").unwrap().selects("r", "j", "e"));
        assert!(!LogFilter::parse("resource.type=\"gce_instance\"").unwrap().selects("r", "j", "e"));
    }

    #[test]
    fn what_it_does_not_understand_is_refused() {
        for text in
            ["severity>=ERROR", "severity>=\"ERROR\"", "timestamp>=\"soon\"", "timestamp=\"x\"", "a=\"b", "text"]
        {
            assert!(LogFilter::parse(text).is_err(), "{text}");
        }
    }
}
