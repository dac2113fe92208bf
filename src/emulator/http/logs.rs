//! The log of an execution: `GET /logs/{project}/{region}/{execution}`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use axum::{
    body::Body,
    extract,
    http::header,
    response::{IntoResponse, Response},
};

use super::pages::not_found;
use crate::emulator::{executor::log_path, state::EmulatorState};

/// Maximum number of bytes of a log that are shown, from its end.
const MAX_SHOWN: u64 = 4 * 1024 * 1024;

/// The output of an execution, also after the execution was deleted. Empty for an execution that has not started.
pub(super) async fn log(
    extract::State(state): extract::State<Arc<EmulatorState>>,
    extract::Path((project, region, execution)): extract::Path<(String, String, String)>,
) -> Response {
    let missing = || not_found(&format!("/logs/{project}/{region}/{execution}"));
    // Check the name before it becomes part of a path. The rule for names of jobs does not fit: names of executions are
    // longer.
    let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if execution.is_empty() || !execution.bytes().all(is_safe) {
        return missing();
    }
    let path = log_path(&state.log_dir, &execution);
    let text = match tokio::task::spawn_blocking(move || read_end(&path)).await {
        Ok(Ok(text)) => text,
        _ if state.store().all_executions().iter().any(|known| known.metadata.name == execution) => Vec::new(),
        _ => return missing(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from(text)).into_response()
}

/// The end of a log file.
pub(super) fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_SHOWN)))?;
    let mut text = Vec::new();
    file.take(MAX_SHOWN).read_to_end(&mut text)?;
    Ok(text)
}
