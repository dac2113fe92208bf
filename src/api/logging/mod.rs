//! Reads what the containers of an execution wrote, from Cloud Logging (`entries.list`).
//!
//! # Guarantees
//! - Reads of a project are spread over time for the whole process, and stay below Google's 60 per minute.
//! - Requests go through the same connections, tokens and checks as the calls of the Cloud Run API. The token goes to no
//!   address that the setting of the endpoint does not imply ([`log_entries_url`](super::Endpoint::log_entries_url)).
//!
//! # Limits
//! Entries arrive at Cloud Logging some seconds after they were written. Who needs the last ones asks again.
//!
//! Sources: <https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list>,
//! <https://cloud.google.com/logging/quotas>.

mod entry;
mod pace;

use std::time::Duration;

use chrono::DateTime;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::sleep;

pub use self::{entry::LogLine, pace::LogPace};
use super::{attempt_error::AttemptError, error_kind::ErrorKind, response::ApiResponse, transport::Transport};

/// How often one page is asked for at most.
const MAX_ATTEMPTS: u32 = 3;
/// The first pause before a page is asked for again. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The first pause after a refusal by the quota, which counts per minute. It doubles.
const QUOTA_PAUSE: Duration = Duration::from_secs(15);
/// Longest wait for a turn. When a whole region crashes at once, the logs of some runs are not worth the wait.
const MAX_WAIT: Duration = Duration::from_secs(180);
/// Entries of one page at most, as the API allows.
const MAX_PAGE: usize = 250;
/// Pages of one read at most. A page may be empty though more follow.
const MAX_PAGES: usize = 20;
/// Bytes of all lines together at most. One line may have 256 KB.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The fields that are asked for.
const FIELDS: &str = "entries(insertId,labels,logName,severity,timestamp,textPayload,jsonPayload),nextPageToken";

/// Which lines to read.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// Name of the execution.
    pub execution: &'a str,
    /// Only entries from then on, in seconds since 1970.
    pub since: Option<f64>,
    /// How many lines, counted from the end of the log.
    pub limit: usize,
}

/// Why a log could not be read.
#[derive(Clone, Debug, Error)]
#[error("The log of execution '{execution}' could not be read from Cloud Logging: {message}")]
pub struct LogError {
    /// Name of the execution.
    pub execution: String,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub message: String,
}

/// Reads logs in the project and region of a transport.
#[derive(Clone)]
pub struct LogReader {
    transport: Transport,
    pace: LogPace,
}

impl LogReader {
    /// A reader on this transport. All readers of a process share `pace`.
    pub fn new(transport: Transport, pace: LogPace) -> Self {
        Self { transport, pace }
    }

    /// Reads the last lines of an execution's log, oldest first. Asks again after failures that may pass.
    ///
    /// # Errors
    /// A [`LogError`], when the log can't be read, or the wait for a turn is too long.
    pub async fn read(&self, query: LogQuery<'_>) -> Result<Vec<LogLine>, LogError> {
        let failed = |failure: AttemptError| LogError {
            execution: query.execution.to_owned(),
            kind: failure.kind,
            status: failure.status,
            message: failure.message,
        };
        self.read_pages(query).await.map_err(failed)
    }

    async fn read_pages(&self, query: LogQuery<'_>) -> Result<Vec<LogLine>, AttemptError> {
        let (project, region) = (&self.transport.project, &self.transport.region);
        // They stand in a filter between quotation marks.
        for name in [query.job, query.execution, region, project] {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_safe) {
                let message = format!("'{name}' is not a name that Cloud Run gives");
                return Err(AttemptError::new(ErrorKind::InvalidRequest, false, message));
            }
        }
        let mut request = json!({
            "resourceNames": [format!("projects/{project}")],
            "filter": filter(query, region),
            "orderBy": "timestamp desc",
            "pageSize": query.limit.clamp(1, MAX_PAGE),
        });
        let mut newest_first: Vec<LogLine> = Vec::new();
        let mut bytes = 0;
        for _ in 0..MAX_PAGES {
            let page = self.page(&request, query).await?;
            for entry in &page.entries {
                // The lines of one entry are in order; the entries are not.
                for line in entry::lines_of(entry).into_iter().rev() {
                    bytes += line.text.len();
                    if newest_first.len() < query.limit && bytes <= MAX_BYTES {
                        newest_first.push(line);
                    }
                }
            }
            let is_full = newest_first.len() >= query.limit || bytes > MAX_BYTES;
            match page.next_page_token.filter(|token| !token.is_empty() && !is_full) {
                Some(token) => request["pageToken"] = Value::from(token),
                None => break,
            }
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    /// One page. Waits for its turn, and asks again after failures that may pass.
    async fn page(&self, request: &Value, query: LogQuery<'_>) -> Result<EntriesPage, AttemptError> {
        let Transport { project, region, endpoint, .. } = &self.transport;
        let Some(mut url) = endpoint.log_entries_url(region) else {
            let message = "the setting api_endpoint does not imply an address of Cloud Logging";
            return Err(AttemptError::new(ErrorKind::InvalidRequest, false, message));
        };
        let scope = format!("{url} {project}");
        url.set_query(Some(&format!("fields={FIELDS}")));
        let body = request.to_string();
        let mut attempts = 0;
        loop {
            let wait = self.pace.next_turn(&scope, MAX_WAIT).ok_or_else(|| {
                AttemptError::new(ErrorKind::RateLimited, false, "too many logs are to be read at the same time")
            })?;
            sleep(wait).await;
            let http = self.transport.http.current();
            let call = http.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body.clone());
            let known = [project.as_str(), region.as_str(), query.job, query.execution];
            let failure = match self.transport.exchange(&http, call, None, &known).await {
                Ok(page) => return Ok(page),
                Err(failure) => failure,
            };
            attempts += 1;
            if let Some(generation) = failure.rejected_token.filter(|_| attempts == 1) {
                self.transport.tokens.invalidate(generation);
                continue;
            }
            if !failure.kind.is_transient() || attempts >= MAX_ATTEMPTS {
                return Err(failure);
            }
            let is_quota = failure.kind.is_lack_of_room();
            let pause = if is_quota { QUOTA_PAUSE } else { FIRST_PAUSE } * 2_u32.pow(attempts - 1);
            // The quota is the project's, so all its reads wait.
            if is_quota {
                self.pace.hold(&scope, pause);
            } else {
                sleep(pause).await;
            }
        }
    }
}

/// The filter of `entries.list`.
fn filter(query: LogQuery<'_>, region: &str) -> String {
    let LogQuery { job, execution, .. } = query;
    let mut filter = format!(
        "resource.type=\"cloud_run_job\" resource.labels.job_name=\"{job}\" resource.labels.location=\"{region}\" \
         labels.\"run.googleapis.com/execution_name\"=\"{execution}\""
    );
    #[expect(clippy::cast_possible_truncation, reason = "a time that is no time gives no filter")]
    let since = query.since.and_then(|since| DateTime::from_timestamp_micros((since * 1e6) as i64));
    if let Some(since) = since {
        filter += &format!(" timestamp>=\"{}\"", since.format("%Y-%m-%dT%H:%M:%S%.6fZ"));
    }
    filter
}

/// The response of `entries.list`. It is empty if there is nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntriesPage {
    #[serde(default)]
    entries: Vec<Value>,
    #[serde(default)]
    next_page_token: Option<String>,
}

impl ApiResponse for EntriesPage {
    fn validate(&self) -> Result<(), &'static str> {
        Ok(())
    }
}
