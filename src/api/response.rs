//! What a response means: the resource that it holds, or why the attempt failed.

use reqwest::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};

use super::{
    attempt_error::AttemptError,
    error_kind::{ErrorKind, classify},
    redact::Redactor,
    types::{Deletion, ErrorBody, ErrorStatus, Execution, Job, List},
};

/// How much of a body that is not Google's goes into an error's message, in characters.
const EXCERPT: usize = 200;
/// How much of such a body is read, in bytes.
const MAX_PAGE: usize = 64 * 1024;

/// The body of a successful response.
pub(super) trait ApiResponse: DeserializeOwned {
    /// Checks that the response has what the caller needs.
    ///
    /// # Errors
    /// The reason why it has not. The attempt then counts as failed, and may be repeated.
    fn validate(&self) -> Result<(), &'static str>;
}

impl ApiResponse for Job {
    fn validate(&self) -> Result<(), &'static str> {
        require(!self.metadata.name.is_empty(), "the response has no job name")
    }
}

impl ApiResponse for Execution {
    fn validate(&self) -> Result<(), &'static str> {
        require(!self.metadata.name.is_empty(), "the response has no execution name")
    }
}

/// A list of executions. Its items are not parsed yet, so that one that can't be parsed is not lost.
impl ApiResponse for List<Value> {
    fn validate(&self) -> Result<(), &'static str> {
        // The service sends ExecutionList, the discovery document says ExecutionsList.
        let is_list = self.kind.starts_with("Execution") && self.kind.ends_with("List");
        require(is_list, "the response is not a list of executions")?;
        require(self.unreachable.is_empty(), INCOMPLETE)
    }
}

/// A list of jobs.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct JobList(List<Value>);

impl ApiResponse for JobList {
    fn validate(&self) -> Result<(), &'static str> {
        let is_list = self.0.kind.starts_with("Job") && self.0.kind.ends_with("List");
        require(is_list, "the response is not a list of jobs")?;
        require(self.0.unreachable.is_empty(), INCOMPLETE)
    }
}

/// A list of tasks.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct TaskList(List<Value>);

impl ApiResponse for TaskList {
    fn validate(&self) -> Result<(), &'static str> {
        let is_list = self.0.kind.starts_with("Task") && self.0.kind.ends_with("List");
        require(is_list, "the response is not a list of tasks")?;
        require(self.0.unreachable.is_empty(), INCOMPLETE)
    }
}

impl From<TaskList> for List<Value> {
    fn from(list: TaskList) -> Self {
        list.0
    }
}

impl From<JobList> for List<Value> {
    fn from(list: JobList) -> Self {
        list.0
    }
}

/// Nothing can be concluded from what such a list lacks.
const INCOMPLETE: &str = "the list is incomplete: Google could not reach a location";

/// The response to a delete: a `Status`, which may be empty.
impl ApiResponse for Deletion {
    fn validate(&self) -> Result<(), &'static str> {
        let has_failed = self.error.is_some() || self.status.as_deref() == Some("Failure");
        require(!has_failed, "the response reports a failure")
    }
}

fn require(condition: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// Parses a response. `redactor` is called only for failures, whose messages it cleans of secrets.
pub(super) fn parse<T: ApiResponse>(
    status: StatusCode,
    body: &[u8],
    redactor: impl FnOnce() -> Redactor,
) -> Result<T, AttemptError> {
    let google = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
    if status.is_success() && google.is_none() {
        let response = serde_json::from_slice::<T>(body).map_err(|error| parse_error(&error));
        let response = response.and_then(|response| response.validate().map(|()| response).map_err(ToOwned::to_owned));
        return response.map_err(|message| AttemptError {
            status: Some(status.as_u16()),
            // The server carried out the call. Only its response is unusable.
            ..AttemptError::new(ErrorKind::Unavailable, true, message)
        });
    }
    // An error in a response with a success status: the error's own code counts.
    let status = match &google {
        Some(error) if status.is_success() => error.code.and_then(failure_status).unwrap_or(StatusCode::BAD_GATEWAY),
        _ => status,
    };
    let kind = classify(status, google.as_ref());
    // Who is not let in has done nothing, whoever says so.
    let maybe_done = kind == ErrorKind::Unavailable && !matches!(status.as_u16(), 401 | 403);
    Err(AttemptError {
        status: Some(status.as_u16()),
        reason: google.as_ref().and_then(ErrorStatus::reason).map(str::to_owned),
        // A server that fails may have carried out the call before. A server that refuses has not.
        ..AttemptError::new(kind, maybe_done, error_message(google, body, &redactor()))
    })
}

/// Why a body can't be parsed. serde's own message repeats a value of a wrong type, which may be one of the job's
/// secrets. For the same reason its error is not kept as a source.
fn parse_error(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => format!("the response can't be parsed: unexpected value at line {line} column {column}"),
        _ => format!("the response can't be parsed: {error}"),
    }
}

fn failure_status(code: i64) -> Option<StatusCode> {
    u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| !status.is_success())
}

fn error_message(google: Option<ErrorStatus>, body: &[u8], redactor: &Redactor) -> String {
    match google {
        Some(error) if !error.message.is_empty() => redactor.redact(&error.message),
        Some(error) => redactor.redact(&error.status),
        None if body.is_empty() => "the response is empty".to_owned(),
        None => {
            // Redacted before it is cut: the cut could leave a part of a secret.
            let text = redactor.redact(&String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE)]));
            let (what, text) = match title(&text) {
                Some(title) => ("a web page", title),
                None => ("not from the API", text.as_str()),
            };
            let words: Vec<_> = text.split_whitespace().collect();
            format!("the response is {what}: {}", words.join(" ").chars().take(EXCERPT).collect::<String>())
        }
    }
}

/// The title of an HTML page, if it has one. The rest of a page says less and takes more room.
fn title(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("<title>")?;
    rest.split_once("</title>").map(|(title, _)| title).filter(|title| !title.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn read(status: u16, body: &str) -> Result<Job, (ErrorKind, bool, Option<u16>, String)> {
        parse(StatusCode::from_u16(status).unwrap(), body.as_bytes(), || Redactor::new(None, None, &[]))
            .map_err(|error| (error.kind, error.maybe_done, error.status, error.message))
    }

    #[test]
    fn a_success_holds_the_resource() {
        assert_eq!(read(200, r#"{"metadata": {"name": "j"}}"#).unwrap().metadata.name, "j");
    }

    #[test]
    fn a_call_with_an_unusable_response_may_have_been_done() {
        for body in ["", "<html>", "[1]", "null", "{}", r#"{"metadata": 1}"#, r#"{"metadata": {"name": null}}"#] {
            let (kind, maybe_done, ..) = read(200, body).unwrap_err();
            assert_eq!((kind, maybe_done), (ErrorKind::Unavailable, true), "{body}");
        }
    }

    #[test]
    fn an_error_with_a_success_status_is_an_error() {
        let (kind, _, status, message) = read(200, r#"{"error": {"code": 403, "message": "no"}}"#).unwrap_err();
        assert_eq!((kind, status, message.as_str()), (ErrorKind::PermissionDenied, Some(403), "no"));
        assert_eq!(read(200, r#"{"error": {"code": 200}}"#).unwrap_err().0, ErrorKind::Unavailable);
    }

    #[test]
    fn a_delete_that_reports_a_failure_has_failed() {
        let read =
            |body: &str| parse::<Deletion>(StatusCode::OK, body.as_bytes(), || Redactor::new(None, None, &[])).is_ok();
        assert!(read("{}") && read(r#"{"kind": "Status", "status": "Success"}"#));
        for body in ["null", "", r#"{"kind": "Status", "status": "Failure", "code": 403}"#, r#"{"error": "text"}"#] {
            assert!(!read(body), "{body}");
        }
    }

    #[test]
    fn an_html_page_is_shown_by_its_title_or_its_text() {
        let (kind, _, _, message) = read(404, "<html>\n <b>404.</b>  not here</html>").unwrap_err();
        assert_eq!(kind, ErrorKind::NoSuchRegion);
        assert_eq!(message, "the response is not from the API: <html> <b>404.</b> not here</html>");
        assert_eq!(read(503, "").unwrap_err().3, "the response is empty");
        let page = "<html><head><title>\nError 404 (Not Found)!!1</title></head><body>much more</body></html>";
        assert_eq!(read(404, page).unwrap_err().3, "the response is a web page: Error 404 (Not Found)!!1");
    }

    #[test]
    fn secrets_that_a_response_repeats_are_redacted() {
        let body = r#"{"containers": [{"env": [{"name": "A", "value": "hunter2"}]}]}"#;
        let message = |status, text: &str| {
            let redactor = || Redactor::new(Some(&Secret::new("the-token")), Some(body), &[]);
            let response = parse::<Job>(StatusCode::from_u16(status).unwrap(), text.as_bytes(), redactor);
            response.err().unwrap().message
        };
        let echo = "the-token hunter2";
        assert_eq!(message(400, &format!(r#"{{"error": {{"message": "{echo}"}}}}"#)), "… …");
        assert_eq!(message(500, &format!(r#"{{"error": {{"status": "{echo}"}}}}"#)), "… …");
        assert_eq!(message(404, echo), "the response is not from the API: … …");
        let cut = message(404, &format!("{} the-token", "x".repeat(EXCERPT - 5)));
        assert!(!cut.contains("the-"), "{cut}");
        let words = "the response can't be parsed: unexpected value at line 1 column ";
        assert!(message(200, r#"{"metadata": "hunter2"}"#).starts_with(words));
        assert_eq!(message(200, "x"), "the response can't be parsed: expected value at line 1 column 1");
    }

    #[test]
    fn only_a_failing_server_may_have_carried_out_the_call() {
        assert!(read(503, "").unwrap_err().1);
        for status in [400, 401, 403, 404, 409, 429] {
            assert!(!read(status, "{}").unwrap_err().1, "{status}");
        }
    }
}
