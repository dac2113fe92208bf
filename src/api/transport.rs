//! The one way that every call goes: its turn, token, attempt, verdict, pause, next attempt.

use std::{
    future::ready,
    net::ToSocketAddrs,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};
use tokio::sync::Semaphore;
use url::form_urlencoded;

use super::{
    ApiError, ApiMethod, Endpoint, ErrorKind, Quota, QuotaQueues, RetryPolicy, TokenError, TokenErrorKind, TokenSource,
    error::classify,
    mask::Mask,
    types::{Deletion, ErrorBody, ErrorStatus, Execution, Job, List},
};

/// A longer address is sent in another way, as Google's own clients do (googleapiclient, `MAX_URI_LENGTH`).
const LONGEST_URL: usize = 2048;
/// The project that a call counts for (<https://cloud.google.com/apis/docs/system-parameters>).
const QUOTA_PROJECT: &str = "x-goog-user-project";
/// Longest pause that a server can wish for.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
/// How much of a body that is not Google's goes into an error's message, in characters.
const EXCERPT: usize = 200;
/// How much of such a body is looked at.
const LONGEST_PAGE: usize = 64 * 1024;
/// Longest look at a job before a call that can't be taken back.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How long after a look what it saw is taken to be there.
const SEEN_LATELY: Duration = Duration::from_secs(1);
/// Attempts when it is in doubt whether credentials were refused.
const DOUBTFUL_ATTEMPTS: u32 = 3;
/// Look-ups of host names at a time. Each holds a thread, for half a minute where a name server is silent.
const HOST_LOOKUPS: usize = 2;

/// A pooled HTTP client for all calls of a process. Redirects are never followed: they would take the token along.
///
/// `use_proxy` tells whether the environment's HTTPS_PROXY and NO_PROXY count.
///
/// # Errors
/// When the system's root certificates can't be loaded.
pub fn http_client(use_proxy: bool) -> Result<reqwest::Client, reqwest::Error> {
    // reqwest is built without a provider of its own, so that ring is the only one. Whoever was first, wins.
    _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("prefect-gcp-cloud-run/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .dns_resolver(HostLookup::default());
    if use_proxy { builder.build() } else { builder.no_proxy().build() }
}

/// The system's look-up of host names, in few threads.
#[derive(Clone)]
struct HostLookup(Arc<Semaphore>);

impl Default for HostLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HOST_LOOKUPS)))
    }
}

impl Resolve for HostLookup {
    fn resolve(&self, name: Name) -> Resolving {
        let permits = self.0.clone();
        Box::pin(async move {
            let permit = permits.acquire_owned().await?;
            let addresses = tokio::task::spawn_blocking(move || {
                // Given back when the look-up ends, which may be after its caller has given up.
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs()
            });
            Ok(Box::new(addresses.await??) as Addrs)
        })
    }
}

/// What a caller is told while a call is under way.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An attempt failed.
    Retry(RetryNotice),
    /// The call waits for its turn, because this quota takes no more for now.
    Quota(Quota),
}

/// Stands before a call that can't be taken back, when its turn has come. `()` lets everything through.
pub trait Guard: Send + Sync {
    /// Waits until the call may be sent.
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ready(()))
    }

    /// Whether the job is still the one that was seen. Asked when the call had to wait, for its turn or between attempts;
    /// if not, it fails as if the job were not found.
    fn still_valid(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(ready(true))
    }
}

impl Guard for () {}

/// An attempt that failed and will be repeated.
#[derive(Clone, Debug)]
pub struct RetryNotice {
    /// The attempt's failure; not the call's, yet.
    pub error: ApiError,
    /// The pause before the next attempt.
    pub pause: Duration,
}

/// What every call to one project and region has in common.
#[derive(Clone)]
pub struct Transport {
    /// The process's pooled client.
    pub http: reqwest::Client,
    /// Address of the region.
    pub endpoint: Endpoint,
    /// Project id.
    pub project: String,
    /// Region, as in the endpoint.
    pub region: String,
    /// Where tokens come from; unused when the endpoint needs none.
    pub tokens: TokenSource,
    /// Where calls wait for their turn.
    pub quotas: Arc<QuotaQueues>,
    /// Longest that a call waits for its turn, before and between its attempts.
    pub quota_wait_max: Duration,
    /// Budget of each call, which the wait for its turn does not spend.
    pub retry: RetryPolicy,
    /// Longest time that one attempt may take.
    pub attempt_timeout: Duration,
    /// Told of every attempt that will be repeated, and of a wait for a quota.
    pub on_notice: Arc<dyn Fn(Notice) + Send + Sync>,
}

/// One call, before it is sent.
pub(super) struct Request<'a> {
    pub(super) call: ApiMethod,
    /// Path segments below the project.
    pub(super) path: &'a [&'a str],
    /// Name of the resource, for errors.
    pub(super) name: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    /// JSON.
    pub(super) body: Option<&'a str>,
    pub(super) guard: Option<&'a dyn Guard>,
}

impl<'a> Request<'a> {
    /// One without query and body.
    pub(super) fn of(call: ApiMethod, path: &'a [&'a str], name: &'a str) -> Self {
        Self { call, path, name, query: &[], body: None, guard: None }
    }
}

/// What a success answers with.
pub(super) trait Usable: DeserializeOwned {
    /// Why it says too little to go on: then it is a failure that may permit.
    fn flaw(&self) -> Option<&'static str>;
}

impl Usable for Job {
    fn flaw(&self) -> Option<&'static str> {
        self.metadata.name.is_empty().then_some("the answer names no job")
    }
}

impl Usable for Execution {
    fn flaw(&self) -> Option<&'static str> {
        self.metadata.name.is_empty().then_some("the answer names no execution")
    }
}

/// A list of executions, each as it came.
impl Usable for List<Value> {
    fn flaw(&self) -> Option<&'static str> {
        // ExecutionList in what the service sends, ExecutionsList in the discovery document.
        if !self.kind.starts_with("Execution") || !self.kind.ends_with("List") {
            Some("the answer is not a list of executions")
        } else {
            (!self.unreachable.is_empty()).then_some("the list is not complete")
        }
    }
}

/// The answer to a delete: a `Status`, which may be empty.
impl Usable for Deletion {
    fn flaw(&self) -> Option<&'static str> {
        let has_failed = self.error.is_some() || self.status.as_deref() == Some("Failure");
        has_failed.then_some("the answer is that of a failure")
    }
}

/// A failed attempt.
struct Failure {
    kind: ErrorKind,
    status: Option<u16>,
    message: String,
    /// The `reason` of Google's `ErrorInfo`.
    reason: Option<String>,
    /// Whether the server may have done what was asked.
    maybe_done: bool,
    retry_after: Option<Duration>,
    /// The number of the token that was refused.
    token_generation: Option<u64>,
    /// Whether a few more attempts are worth it, though it looks final.
    is_doubtful: bool,
}

impl Failure {
    fn new(kind: ErrorKind, maybe_done: bool, message: String) -> Self {
        Self {
            kind,
            status: None,
            message,
            reason: None,
            maybe_done,
            retry_after: None,
            token_generation: None,
            is_doubtful: false,
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let kind = match error.kind {
            TokenErrorKind::Transient => ErrorKind::NoToken,
            TokenErrorKind::Ambiguous | TokenErrorKind::NoCredentials | TokenErrorKind::Rejected => {
                ErrorKind::Authentication
            }
        };
        let is_doubtful = matches!(error.kind, TokenErrorKind::Ambiguous | TokenErrorKind::NoCredentials);
        Self { is_doubtful, retry_after: error.retry_after, ..Self::new(kind, false, error.to_string()) }
    }
}

impl Transport {
    /// Sends the request until it succeeds, fails for good, or its budget is spent.
    pub(super) async fn send<T: Usable>(&self, request: &Request<'_>) -> Result<T, Box<ApiError>> {
        let call = request.call;
        // What is not removed for lack of time is left behind.
        let makes_room = call.is_write() && call.row().urgent;
        let longest_wait =
            if makes_room { self.quota_wait_max.max(self.retry.max_elapsed) } else { self.quota_wait_max };
        // The wait for turns and the attempts that a quota refused are outside the budget of retries.
        let (mut waited, mut spent) = (Duration::ZERO, Duration::ZERO);
        let (mut attempts, mut tries, mut refusal) = (0, 0, None);
        let (mut maybe_done, mut renewed) = (false, false);
        // Who makes a call that has a guard has just looked.
        let mut seen = Some(Instant::now());
        loop {
            let asked = Instant::now();
            let on_wait = || (self.on_notice)(Notice::Quota(call.row().quota));
            let queue = self.quotas.queue(call.row().quota);
            let permit = queue.acquire(call.row().urgent, longest_wait.saturating_sub(waited), on_wait).await;
            waited += asked.elapsed();
            let Some(permit) = permit else {
                let error = refusal.unwrap_or_else(|| self.no_turn(request, waited));
                return Err(Box::new(ApiError { attempts, maybe_done, ..*error }));
            };
            if let Some(guard) = request.guard {
                if seen.is_none_or(|seen| seen.elapsed() > SEEN_LATELY) {
                    // One that takes long is as good as none: it holds the turn.
                    if tokio::time::timeout(LONGEST_LOOK, guard.still_valid()).await == Ok(false) {
                        permit.withdraw();
                        let message = "while the call waited for its turn, the job was deleted or replaced".to_owned();
                        let error = self.error(call, request.name, ErrorKind::NotFound, message);
                        return Err(Box::new(ApiError { attempts, maybe_done, ..error }));
                    }
                    seen = Some(Instant::now());
                }
                if tokio::time::timeout(Duration::ZERO, guard.wait_until_open()).await.is_err() {
                    // Others may have the turn meanwhile, and what held it back may have changed the job.
                    permit.withdraw();
                    guard.wait_until_open().await;
                    seen = None;
                    continue;
                }
            }

            attempts += 1;
            let began = Instant::now();
            // In a box, so that those who wait for their turn take little room.
            let failure = match Box::pin(self.attempt(request)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            maybe_done |= failure.maybe_done && call.is_write();
            let error = Box::new(ApiError {
                status: failure.status,
                reason: failure.reason.clone(),
                retry_after: failure.retry_after,
                attempts,
                maybe_done,
                ..self.error(call, request.name, failure.kind, failure.message.clone())
            });
            if error.kind == ErrorKind::RateLimited {
                permit.refused(error.retry_after);
                refusal = Some(error);
                continue;
            }
            drop(permit);

            spent += began.elapsed();
            tries += 1;
            let delay = || self.retry.next_delay(tries, spent, error.retry_after, fastrand::f64());
            let pause = match failure.token_generation {
                // A token can be revoked before its end: one new one is worth a try, at once.
                Some(generation) if !renewed => {
                    renewed = true;
                    self.tokens.invalidate(generation);
                    Some(Duration::ZERO)
                }
                _ if failure.is_doubtful && tries < DOUBTFUL_ATTEMPTS => delay(),
                _ if !error.kind.is_transient() => None,
                _ if error.kind == ErrorKind::LimitReached && call == ApiMethod::RunJob => None,
                _ if failure.maybe_done && !call.row().repeatable => None,
                _ => delay(),
            };
            let Some(pause) = pause else { return Err(error) };
            (self.on_notice)(Notice::Retry(RetryNotice { error: *error, pause }));
            tokio::time::sleep(pause).await;
            spent += pause;
        }
    }

    /// The failure of a call whose turn has not come.
    fn no_turn(&self, request: &Request<'_>, waited: Duration) -> Box<ApiError> {
        let quota = request.call.row().quota.name();
        let message = format!("no turn within {} s: the quota of {quota} is spent", waited.as_secs());
        Box::new(self.error(request.call, request.name, ErrorKind::RateLimited, message))
    }

    /// A failure in this project and region, as after one attempt without an answer.
    pub fn error(&self, call: ApiMethod, name: &str, kind: ErrorKind, message: String) -> ApiError {
        ApiError::new(call, kind, (&self.project, &self.region), name, message)
    }

    /// What no other project and region has.
    pub fn scope(&self) -> String {
        self.endpoint.scope(&self.project)
    }

    /// What no other job has: the address of this one.
    pub fn job_address(&self, job: &str) -> String {
        format!("{}/{job}", self.scope())
    }

    fn request(&self, request: &Request<'_>) -> RequestBuilder {
        let method = request.call.row().verb;
        let mut url = self.endpoint.url(&self.project, request.path);
        if request.query.is_empty() {
            let builder = self.http.request(method, url);
            return match request.body {
                Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body.to_owned()),
                None => builder,
            };
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(request.query).finish();
        if url.as_str().len() + query.len() < LONGEST_URL {
            url.set_query(Some(&query));
            return self.http.request(method, url);
        }
        // Only reads have queries.
        self.http
            .request(Method::POST, url)
            .header("X-HTTP-Method-Override", method.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(query)
    }

    async fn attempt<T: Usable>(&self, request: &Request<'_>) -> Result<T, Failure> {
        let mut builder = self.request(request).timeout(self.attempt_timeout);
        if let Some(host) = self.endpoint.host_header() {
            builder = builder.header(HOST, host);
        }
        let mut token_used = None;
        if self.endpoint.needs_token() {
            // Getting a token may take longer than an attempt may.
            let (token, generation) = tokio::time::timeout(self.attempt_timeout, self.tokens.token())
                .await
                .map_err(|_| Failure::new(ErrorKind::NoToken, false, "no access token in time".to_owned()))??;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.secret().reveal())).map_err(|_| {
                Failure::new(ErrorKind::Authentication, false, "the access token is not plain text".to_owned())
            })?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
            if let Some(project) = token.quota_project() {
                let value = HeaderValue::try_from(project).map_err(|_| {
                    let message = "the credentials' quota project (GOOGLE_CLOUD_QUOTA_PROJECT) is not plain text";
                    Failure::new(ErrorKind::Authentication, false, message.to_owned())
                })?;
                builder = builder.header(QUOTA_PROJECT, value);
            }
            token_used = Some((token, generation));
        }

        let response = builder.send().await.map_err(|error| transport_failure(&error))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        let body = response.bytes().await.map_err(|error| transport_failure(&error))?;
        let secret = token_used.as_ref().map(|(token, _)| token.secret());
        let mask = || Mask::of(secret, request.body, &[&self.project, &self.region, request.name]);
        read_answer(status, &body, mask).map_err(|failure| Failure {
            retry_after,
            token_generation: token_used
                .as_ref()
                .filter(|_| status == StatusCode::UNAUTHORIZED)
                .map(|(_, generation)| *generation),
            ..failure
        })
    }
}

/// A failure to send or to receive. Only a connection that was never made surely had no effect.
fn transport_failure(error: &reqwest::Error) -> Failure {
    let mut message = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Failure::new(ErrorKind::Unavailable, !error.is_connect(), message)
}

/// The `Retry-After` header in both of its forms (RFC 9110, 10.2.3), as far as it is sensible.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - Utc::now()).to_std().unwrap_or_default(),
    };
    Some(pause.min(LONGEST_WISH))
}

/// The resource in an answer, or what its failure means, in words that `mask` has gone over.
fn read_answer<T: Usable>(status: StatusCode, body: &[u8], mask: impl FnOnce() -> Mask) -> Result<T, Failure> {
    let google = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
    if status.is_success() && google.is_none() {
        let answer = serde_json::from_slice::<T>(body).map_err(|error| unreadable(&error));
        let usable = answer.and_then(|answer| answer.flaw().map_or(Ok(answer), |flaw| Err(flaw.to_owned())));
        return usable.map_err(|message| Failure {
            status: Some(status.as_u16()),
            // It was done; only its answer is of no use.
            ..Failure::new(ErrorKind::Unavailable, true, message)
        });
    }
    // An error that travels with a success: its own code says what it is.
    let status = match &google {
        Some(error) if status.is_success() => error.code.and_then(http_status).unwrap_or(StatusCode::BAD_GATEWAY),
        _ => status,
    };
    let kind = classify(status, google.as_ref());
    Err(Failure {
        status: Some(status.as_u16()),
        reason: google.as_ref().and_then(ErrorStatus::reason).map(str::to_owned),
        // A server that fails may have done the work first; a refusal has not.
        ..Failure::new(kind, kind == ErrorKind::Unavailable, error_message(google, body, &mask()))
    })
}

/// Why an answer can't be read. serde repeats a value of the wrong type, which may be a secret of the job's.
fn unreadable(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => format!("the answer can't be read: not what it should be at line {line} column {column}"),
        _ => format!("the answer can't be read: {error}"),
    }
}

fn http_status(code: i64) -> Option<StatusCode> {
    u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| !status.is_success())
}

fn error_message(google: Option<ErrorStatus>, body: &[u8], mask: &Mask) -> String {
    match google {
        Some(error) if !error.message.is_empty() => mask.apply(&error.message),
        Some(error) => mask.apply(&error.status),
        None if body.is_empty() => "the answer is empty".to_owned(),
        None => {
            // Before it is cut, or a part of a secret would stay.
            let text = mask.apply(&String::from_utf8_lossy(&body[..body.len().min(LONGEST_PAGE)]));
            let words: Vec<_> = text.split_whitespace().collect();
            format!("the answer is not the API's: {}", words.join(" ").chars().take(EXCERPT).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Secret, types::Job};

    fn read(status: u16, body: &str) -> Result<Job, (ErrorKind, bool, Option<u16>, String)> {
        read_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes(), || Mask::of(None, None, &[]))
            .map_err(|failure| (failure.kind, failure.maybe_done, failure.status, failure.message))
    }

    #[test]
    fn a_success_is_the_resource() {
        assert_eq!(read(200, r#"{"metadata": {"name": "j"}}"#).unwrap().metadata.name, "j");
    }

    #[test]
    fn an_answer_that_cannot_be_read_may_have_been_done() {
        for body in ["", "<html>", "[1]", "null", "{}", r#"{"metadata": 1}"#, r#"{"metadata": {"name": null}}"#] {
            let (kind, maybe_done, ..) = read(200, body).unwrap_err();
            assert_eq!((kind, maybe_done), (ErrorKind::Unavailable, true), "{body}");
        }
    }

    #[test]
    fn an_error_within_a_success_is_an_error() {
        let (kind, _, status, message) = read(200, r#"{"error": {"code": 403, "message": "no"}}"#).unwrap_err();
        assert_eq!((kind, status, message.as_str()), (ErrorKind::PermissionDenied, Some(403), "no"));
        assert_eq!(read(200, r#"{"error": {"code": 200}}"#).unwrap_err().0, ErrorKind::Unavailable);
    }

    #[test]
    fn a_delete_that_failed_is_no_success() {
        let read =
            |body: &str| read_answer::<Deletion>(StatusCode::OK, body.as_bytes(), || Mask::of(None, None, &[])).is_ok();
        assert!(read("{}") && read(r#"{"kind": "Status", "status": "Success"}"#));
        for body in ["null", "", r#"{"kind": "Status", "status": "Failure", "code": 403}"#, r#"{"error": "text"}"#] {
            assert!(!read(body), "{body}");
        }
    }

    #[test]
    fn a_wish_for_a_pause_is_seconds_or_a_date_and_has_a_bound() {
        let wish = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(wish(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(wish("18446744073709551615"), Some(LONGEST_WISH));
        assert_eq!((wish("soon"), wish("-1")), (None, None));
        assert_eq!(wish("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = (Utc::now() + Duration::from_secs(100)).to_rfc2822();
        assert!(wish(&later).is_some_and(|pause| pause.as_secs() > 90));
    }

    #[test]
    fn a_front_ends_page_is_told_by_its_words() {
        let (kind, _, _, message) = read(404, "<html>\n <b>404.</b>  not here</html>").unwrap_err();
        assert_eq!(kind, ErrorKind::NoSuchRegion);
        assert_eq!(message, "the answer is not the API's: <html> <b>404.</b> not here</html>");
        assert_eq!(read(503, "").unwrap_err().3, "the answer is empty");
    }

    #[test]
    fn an_answer_that_repeats_secrets_is_told_without_them() {
        let body = r#"{"containers": [{"env": [{"name": "A", "value": "hunter2"}]}]}"#;
        let told = |status, answer: &str| {
            let mask = || Mask::of(Some(&Secret::new("the-token")), Some(body), &[]);
            let answer = read_answer::<Job>(StatusCode::from_u16(status).unwrap(), answer.as_bytes(), mask);
            answer.err().unwrap().message
        };
        let echo = "the-token hunter2";
        assert_eq!(told(400, &format!(r#"{{"error": {{"message": "{echo}"}}}}"#)), "… …");
        assert_eq!(told(500, &format!(r#"{{"error": {{"status": "{echo}"}}}}"#)), "… …");
        assert_eq!(told(404, echo), "the answer is not the API's: … …");
        let cut = told(404, &format!("{} the-token", "x".repeat(EXCERPT - 5)));
        assert!(!cut.contains("the-"), "{cut}");
        let words = "the answer can't be read: not what it should be at line 1 column ";
        assert!(told(200, r#"{"metadata": "hunter2"}"#).starts_with(words));
        assert_eq!(told(200, "x"), "the answer can't be read: expected value at line 1 column 1");
    }

    #[test]
    fn only_a_failing_server_may_have_done_the_work() {
        assert!(read(503, "").unwrap_err().1);
        for status in [400, 401, 403, 404, 409, 429] {
            assert!(!read(status, "{}").unwrap_err().1, "{status}");
        }
    }
}
