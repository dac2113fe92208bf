//! An entry of Cloud Logging, and the lines in it (schema `LogEntry`).

use chrono::DateTime;
use serde_json::Value;

/// The end of the name of the log that has the platform's own words, such as those about the memory limit.
const SYSTEM_LOG: &str = "varlog%2Fsystem";
/// Label of an entry with the name of its container, or the end of that label. Google does not document it.
const CONTAINER_LABEL: &str = "container_name";

/// A line of a container's output, or of what the platform says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// When it was written, in seconds since 1970; `None` if the entry does not say.
    pub time: Option<f64>,
    /// The severity of its entry, such as `DEFAULT` or `ERROR`.
    pub severity: String,
    /// The text, without a line break.
    pub text: String,
    /// Name of the container, if the entry says it.
    pub container: Option<String>,
    /// Whether the platform wrote it.
    pub is_system: bool,
}

/// The lines of an entry, in their order. None for an entry without text, such as one of an audit log.
pub(super) fn lines_of(entry: &Value) -> Vec<LogLine> {
    let text_of = |key: &str| entry.get(key).and_then(Value::as_str);
    let payload = entry.get("jsonPayload");
    let text = match (text_of("textPayload"), payload.and_then(|payload| payload.get("message")), payload) {
        (Some(text), ..) => text.to_owned(),
        (None, Some(Value::String(message)), _) => message.clone(),
        (None, Some(message), _) => message.to_string(),
        (None, None, Some(payload)) => payload.to_string(),
        (None, None, None) => return Vec::new(),
    };
    let time = text_of("timestamp").and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 have 51 bits")]
    let time = time.map(|time| time.timestamp_micros() as f64 / 1e6);
    let labels = entry.get("labels").and_then(Value::as_object);
    let container = labels.into_iter().flatten().find_map(|(label, value)| {
        let is_name = label.rsplit('/').next() == Some(CONTAINER_LABEL);
        value.as_str().filter(|name| is_name && !name.is_empty()).map(str::to_owned)
    });
    let line = |text: &str| LogLine {
        time,
        severity: text_of("severity").unwrap_or("DEFAULT").to_owned(),
        text: text.to_owned(),
        container: container.clone(),
        is_system: text_of("logName").is_some_and(|name| name.ends_with(SYSTEM_LOG)),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(entry: Value) -> Vec<String> {
        lines_of(&entry).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn each_kind_of_payload_has_its_text() {
        assert_eq!(texts(json!({"textPayload": "one\ntwo\n"})), ["one", "two"]);
        assert_eq!(texts(json!({"jsonPayload": {"message": "m", "level": 1}})), ["m"]);
        assert_eq!(texts(json!({"jsonPayload": {"message": {"a": 1}}})), [r#"{"a":1}"#]);
        assert_eq!(texts(json!({"jsonPayload": {"a": 1}})), [r#"{"a":1}"#]);
        assert_eq!(texts(json!({"protoPayload": {"a": 1}})), Vec::<String>::new());
        assert_eq!(texts(json!(null)), Vec::<String>::new());
    }

    #[test]
    fn a_line_says_when_who_and_how_bad() {
        let entry = json!({
            "textPayload": "full",
            "timestamp": "1970-01-01T00:00:01.5Z",
            "severity": "ERROR",
            "labels": {"a": "b", "run.googleapis.com/container_name": "proxy"},
            "logName": "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem",
        });
        let line = &lines_of(&entry)[0];
        assert_eq!((line.time, line.severity.as_str(), line.is_system), (Some(1.5), "ERROR", true));
        assert_eq!(line.container.as_deref(), Some("proxy"));
        let line = &lines_of(&json!({"textPayload": "x", "timestamp": "soon"}))[0];
        assert_eq!((line.time, line.severity.as_str(), line.is_system), (None, "DEFAULT", false));
        assert_eq!(line.container, None);
    }
}
