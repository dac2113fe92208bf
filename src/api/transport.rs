//! The one way that every call goes: token, attempt, verdict, pause, next attempt.

use std::{
    net::ToSocketAddrs,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, HOST, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    ApiError, Call, Endpoint, ErrorKind, RetryPolicy, TokenSource,
    auth::{Prospect, TokenError},
    error::classify,
    types::{ErrorBody, ErrorStatus, Execution, Job, List},
};

/// How much of a body that is not Google's goes into an error's message, in characters.
const EXCERPT: usize = 200;
/// Attempts when it is in doubt whether a token was refused; gcp_auth makes five requests in each.
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
    pub tokens: Arc<TokenSource>,
    /// Budget of each call.
    pub retry: RetryPolicy,
    /// Longest time that one attempt may take.
    pub attempt_timeout: Duration,
    /// Told of every attempt that will be repeated.
    pub on_retry: Arc<dyn Fn(RetryNotice) + Send + Sync>,
}

/// One call, before it is sent.
pub(super) struct Request<'a> {
    pub(super) call: Call,
    /// Path segments below the project.
    pub(super) path: &'a [&'a str],
    /// Name of the resource, for errors.
    pub(super) name: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
}

/// What a success answers with.
pub(super) trait Usable: DeserializeOwned {
    /// Why it says too little to go on: then it is a failure that may pass.
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

/// An answer that nobody reads.
impl Usable for Value {
    fn flaw(&self) -> Option<&'static str> {
        None
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
    /// The provider of the token that was refused.
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
        let kind = match error.prospect {
            Prospect::Passing => ErrorKind::NoToken,
            Prospect::Doubtful | Prospect::Final => ErrorKind::Authentication,
        };
        let is_doubtful = error.prospect == Prospect::Doubtful;
        Self { is_doubtful, ..Self::new(kind, false, error.to_string()) }
    }
}

impl Transport {
    /// Sends the request until it succeeds, fails for good, or its budget is spent.
    pub(super) async fn send<T: Usable>(&self, request: &Request<'_>) -> Result<T, Box<ApiError>> {
        let started = Instant::now();
        let (mut attempts, mut maybe_done, mut renewed) = (0, false, false);
        loop {
            attempts += 1;
            let failure = match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            maybe_done |= failure.maybe_done && request.call.is_write();

            let pause = match failure.token_generation {
                // A token can be revoked before its end: one new one is worth a try, at once.
                Some(generation) if !renewed => {
                    renewed = true;
                    self.tokens.renew(generation).await;
                    Some(Duration::ZERO)
                }
                _ if failure.is_doubtful && attempts < DOUBTFUL_ATTEMPTS => self.delay(started, attempts, &failure),
                _ if !failure.kind.is_transient() => None,
                _ if failure.kind == ErrorKind::Quota && request.call.is_queued() => None,
                _ if failure.maybe_done && !request.call.is_repeatable() => None,
                _ => self.delay(started, attempts, &failure),
            };
            let error = ApiError {
                status: failure.status,
                reason: failure.reason,
                retry_after: failure.retry_after,
                attempts,
                maybe_done,
                ..self.error(request.call, request.name, failure.kind, failure.message)
            };
            let Some(pause) = pause else { return Err(Box::new(error)) };
            (self.on_retry)(RetryNotice { error, pause });
            tokio::time::sleep(pause).await;
        }
    }

    /// A failure in this project and region, as after one attempt without an answer.
    pub fn error(&self, call: Call, name: &str, kind: ErrorKind, message: String) -> ApiError {
        ApiError::new(call, kind, (&self.project, &self.region), name, message)
    }

    /// What no other job has: the address of this one.
    pub fn address_of(&self, job: &str) -> String {
        let host = self.endpoint.host_header().unwrap_or_default();
        format!("{host} {}", self.endpoint.url(&self.project, &["jobs", job]))
    }

    fn delay(&self, started: Instant, attempts: u32, failure: &Failure) -> Option<Duration> {
        self.retry.next_delay(attempts, started.elapsed(), failure.retry_after, fastrand::f64())
    }

    async fn attempt<T: Usable>(&self, request: &Request<'_>) -> Result<T, Failure> {
        let url = self.endpoint.url(&self.project, request.path);
        let mut builder =
            self.http.request(request.call.method(), url).query(request.query).timeout(self.attempt_timeout);
        if let Some(host) = self.endpoint.host_header() {
            builder = builder.header(HOST, host);
        }
        if let Some(body) = request.body {
            builder = builder.json(body);
        }
        let mut token_generation = None;
        if self.endpoint.needs_token() {
            // Fetching a token has no time-out of its own.
            let (token, generation) = tokio::time::timeout(self.attempt_timeout, self.tokens.token())
                .await
                .map_err(|_| Failure::new(ErrorKind::NoToken, false, "no access token in time".to_owned()))??;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal())).map_err(|_| {
                Failure::new(ErrorKind::Authentication, false, "the access token is not plain text".to_owned())
            })?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
            token_generation = Some(generation);
        }

        let response = builder.send().await.map_err(|error| transport_failure(&error))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = response.bytes().await.map_err(|error| transport_failure(&error))?;
        read_answer(status, &body).map_err(|failure| Failure {
            retry_after,
            token_generation: token_generation.filter(|_| status == StatusCode::UNAUTHORIZED),
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

/// The `Retry-After` header in its form of seconds; Google sends no other.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The resource in an answer, or what its failure means.
fn read_answer<T: Usable>(status: StatusCode, body: &[u8]) -> Result<T, Failure> {
    let google = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
    if status.is_success() && google.is_none() {
        let answer = serde_json::from_slice::<T>(body).map_err(|error| format!("the answer can't be read: {error}"));
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
        ..Failure::new(kind, kind == ErrorKind::Unavailable, error_message(google, body))
    })
}

fn http_status(code: i64) -> Option<StatusCode> {
    u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| !status.is_success())
}

fn error_message(google: Option<ErrorStatus>, body: &[u8]) -> String {
    match google {
        Some(error) if !error.message.is_empty() => error.message,
        Some(error) => error.status,
        None if body.is_empty() => "the answer is empty".to_owned(),
        None => {
            let text = String::from_utf8_lossy(body);
            let words: Vec<_> = text.split_whitespace().collect();
            format!("the answer is not the API's: {}", words.join(" ").chars().take(EXCERPT).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Job;

    fn read(status: u16, body: &str) -> Result<Job, (ErrorKind, bool, Option<u16>, String)> {
        read_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes())
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
    fn a_front_ends_page_is_told_by_its_words() {
        let (kind, _, _, message) = read(404, "<html>\n <b>404.</b>  not here</html>").unwrap_err();
        assert_eq!(kind, ErrorKind::NoSuchRegion);
        assert_eq!(message, "the answer is not the API's: <html> <b>404.</b> not here</html>");
        assert_eq!(read(503, "").unwrap_err().3, "the answer is empty");
    }

    #[test]
    fn only_a_failing_server_may_have_done_the_work() {
        assert!(read(503, "").unwrap_err().1);
        for status in [400, 401, 403, 404, 409, 429] {
            assert!(!read(status, "{}").unwrap_err().1, "{status}");
        }
    }
}
