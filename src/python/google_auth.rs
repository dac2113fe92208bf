//! Tokens from Python's google-auth, for credentials that gcp_auth does not support. Also the functions through which Python
//! reads credential files.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{
    prelude::*,
    types::{PyBytes, PyCFunction, PyDict, PyTuple},
};
use tokio::sync::oneshot;

use super::runtime;
use crate::api::{
    Credentials, Principal, Secret, Token, TokenError, TokenErrorKind, TokenFuture, TokenProvider, credentials_file,
};

/// The Python module that calls google-auth.
const MODULE: &str = "prefect_gcp_cloud_run._google_auth";

type TokenResult = Result<Token, TokenError>;

/// Gets tokens from google-auth, in a daemon thread of Python. A thread that waits for a token endpoint there neither holds
/// the GIL nor keeps the interpreter from exiting.
pub(super) struct GoogleAuth;

impl TokenProvider for GoogleAuth {
    fn token<'a>(&'a self, principal: &'a Principal) -> TokenFuture<'a> {
        let scope = principal.scope;
        let (info, file) = match principal.credentials.clone() {
            Credentials::ServiceAccountInfo(text) => (Some(text), None),
            Credentials::ServiceAccountFile(path) => (None, Some(path)),
            Credentials::ApplicationDefault => (None, None),
        };
        let (sender, receiver) = oneshot::channel();
        runtime::enter(move |py| fetch_token(py, info, file, scope, sender));
        Box::pin(async { receiver.await.unwrap_or_else(|_| Err(failed("the call of google-auth failed"))) })
    }
}

fn fetch_token(
    py: Python<'_>,
    info: Option<Secret>,
    file: Option<PathBuf>,
    scope: &'static str,
    sender: oneshot::Sender<TokenResult>,
) {
    let sender = Mutex::new(Some(sender));
    let send = move |result: TokenResult| {
        if let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Sending fails if the caller no longer waits.
            _ = sender.send(result);
        }
    };
    let start = || -> PyResult<()> {
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
    // If this fails, the sender is dropped, and the receiver reports a failure. The exception is not reported: it may show
    // the key, which is one of the arguments.
    _ = start();
}

/// The arguments of the callback: the token, its lifetime in seconds and the quota project; or else the kind of the error and
/// its text.
type CallbackArgs = (Option<String>, f64, Option<String>, String, String);

fn read(args: &Bound<'_, PyTuple>) -> TokenResult {
    let read = || -> PyResult<TokenResult> {
        let (token, seconds, quota_project, kind, message) = args.extract::<CallbackArgs>()?;
        let Some(token) = token else { return Ok(Err(TokenError::new(error_kind(&kind), message))) };
        let lifetime = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Ok(Token::new(Secret::new(token), lifetime).with_quota_project(quota_project)))
    };
    read().unwrap_or_else(|_| Err(failed("the result of google-auth cannot be read")))
}

fn error_kind(word: &str) -> TokenErrorKind {
    match word {
        "transient" => TokenErrorKind::Transient,
        "no_credentials" => TokenErrorKind::NoCredentials,
        "rejected" => TokenErrorKind::Rejected,
        _ => TokenErrorKind::Ambiguous,
    }
}

fn failed(message: &str) -> TokenError {
    TokenError::new(TokenErrorKind::Ambiguous, message)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn read_key_file(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyBytes>> {
    // Without the GIL: the file may be on a slow network file system.
    let bytes = py.detach(|| credentials_file::read(&path))?;
    Ok(PyBytes::new(py, &bytes))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn default_credentials_file(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    Ok(py.detach(credentials_file::read_default)?.map(|file| file.path))
}
