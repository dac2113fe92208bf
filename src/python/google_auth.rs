//! Tokens by Python's google-auth, for the credentials that gcp_auth can't use.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use tokio::sync::oneshot;

use super::runtime;
use crate::api::{Credentials, Principal, Secret, Token, TokenError, TokenErrorKind, TokenFuture, TokenProvider};

/// What calls google-auth, in Python.
const MODULE: &str = "prefect_gcp._google_auth";

/// What it tells.
type Answer = Result<Token, TokenError>;

/// google-auth, in a thread of Python's own: what waits there for an answer neither holds the interpreter nor keeps it
/// from ending.
pub(super) struct GoogleAuth;

impl TokenProvider for GoogleAuth {
    fn token<'a>(&'a self, principal: &'a Principal) -> TokenFuture<'a> {
        let scope = principal.scope;
        let (info, file) = match principal.credentials.clone() {
            Credentials::ServiceAccountInfo(text) => (Some(text), None),
            Credentials::ServiceAccountFile(path) => (None, Some(path)),
            Credentials::ApplicationDefault => (None, None),
        };
        let (sender, answer) = oneshot::channel();
        runtime::enter(move |py| begin(py, info, file, scope, sender));
        Box::pin(async { answer.await.unwrap_or_else(|_| Err(failed("google-auth gave no answer"))) })
    }
}

fn begin(
    py: Python<'_>,
    info: Option<Secret>,
    file: Option<PathBuf>,
    scope: &'static str,
    sender: oneshot::Sender<Answer>,
) {
    let sender = Mutex::new(Some(sender));
    let send = move |answer: Answer| {
        if let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more.
            _ = sender.send(answer);
        }
    };
    let begun = || -> PyResult<()> {
        let done = PyCFunction::new_closure(
            py,
            None,
            None,
            move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                send(read(args));
            },
        )?;
        let fetch = py.import(MODULE)?.getattr("fetch_in_background")?;
        fetch.call1((info.as_ref().map(Secret::reveal), file, scope, done)).map(drop)
    };
    // When it fails, the sender goes, which is told as a failure. The exception may show its arguments.
    _ = begun();
}

/// A token, its lifetime in seconds and the quota project, or else what to expect of another try, and why it failed.
type Told = (Option<String>, f64, Option<String>, String, String);

fn read(args: &Bound<'_, PyTuple>) -> Answer {
    let read = || -> PyResult<Answer> {
        let (token, seconds, quota_project, kind, message) = args.extract::<Told>()?;
        let Some(token) = token else { return Ok(Err(TokenError::new(kind_of(&kind), message))) };
        let lifetime = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Ok(Token::new(Secret::new(token), lifetime).with_quota_project(quota_project)))
    };
    read().unwrap_or_else(|_| Err(failed("google-auth's answer can't be read")))
}

fn kind_of(word: &str) -> TokenErrorKind {
    match word {
        "passing" => TokenErrorKind::Transient,
        "missing" => TokenErrorKind::NoCredentials,
        "refused" => TokenErrorKind::Rejected,
        _ => TokenErrorKind::Ambiguous,
    }
}

fn failed(message: &str) -> TokenError {
    TokenError::new(TokenErrorKind::Ambiguous, message)
}
