//! The failure of one attempt of a call. The retry decision is made from it, and the call's error if it is the last.

use std::sync::Arc;

use url::Url;

use super::{
    auth::{TokenError, TokenErrorKind},
    error::ErrorSource,
    error_kind::ErrorKind,
    retry_after::RetryAfter,
};

/// What reqwest says when an attempt took too long. A time-out of TCP has other words: the setting has no part in it.
const ATTEMPT_TIMED_OUT: &str = "operation timed out";
/// What hyper says when the far side did not answer a ping. The cause of that has the words of a time-out again.
const PING_TIMED_OUT: &str = "keep-alive timed out";

/// A failed attempt.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub(super) kind: ErrorKind,
    /// HTTP status of the response, if there was one.
    pub(super) status: Option<u16>,
    pub(super) message: String,
    /// The `reason` of Google's `ErrorInfo`.
    pub(super) reason: Option<String>,
    /// Whether the server may have carried out the call.
    pub(super) maybe_done: bool,
    /// The pause that the server or the token source asked for.
    pub(super) retry_after: Option<RetryAfter>,
    /// Generation of the token that the API rejected.
    pub(super) rejected_token: Option<u64>,
    /// Whether the credentials may have been rejected or the token endpoint may have failed: nobody knows which.
    pub(super) has_ambiguous_credentials: bool,
    pub(super) source: Option<ErrorSource>,
}

impl AttemptError {
    pub(super) fn new(kind: ErrorKind, maybe_done: bool, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: None,
            message: message.into(),
            reason: None,
            maybe_done,
            retry_after: None,
            rejected_token: None,
            has_ambiguous_credentials: false,
            source: None,
        }
    }
}

/// A failure to send the request or to receive the response. Only a connection that was never made surely had no effect.
impl From<reqwest::Error> for AttemptError {
    fn from(error: reqwest::Error) -> Self {
        let cause = cause(&error);
        // A connect that timed out is both, and request_timeout_seconds does not help there.
        let message = if error.is_connect() {
            let host = error.url().and_then(Url::host_str).unwrap_or("the API");
            format!("could not connect to {host}: {cause}")
        } else if error.is_timeout() && cause == ATTEMPT_TIMED_OUT {
            "no response in time (setting request_timeout_seconds)".to_owned()
        } else {
            format!("the request failed: {cause}")
        };
        // The error holds the URL, which has no secrets: Endpoint rejects user names, passwords and queries.
        let attempt = Self::new(ErrorKind::Unavailable, !error.is_connect(), message);
        Self { source: Some(Arc::new(error)), ..attempt }
    }
}

/// The innermost cause that says something. Those around it only say that sending a request failed.
fn cause(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    let ping = texts.iter().find(|text| *text == PING_TIMED_OUT);
    ping.or(texts.last()).cloned().unwrap_or_else(|| error.to_string())
}

impl From<TokenError> for AttemptError {
    fn from(error: TokenError) -> Self {
        let kind = match error.kind {
            TokenErrorKind::Transient => ErrorKind::NoToken,
            TokenErrorKind::Ambiguous | TokenErrorKind::NoCredentials | TokenErrorKind::Rejected => {
                ErrorKind::Authentication
            }
        };
        Self {
            has_ambiguous_credentials: matches!(error.kind, TokenErrorKind::Ambiguous | TokenErrorKind::NoCredentials),
            retry_after: error.retry_after.map(RetryAfter::from),
            source: Some(Arc::new(error.clone())),
            ..Self::new(kind, false, error.to_string())
        }
    }
}
