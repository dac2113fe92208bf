//! Cloud Logging's `entries.list`, over the output that the emulator keeps of its executions.
//!
//! # Limits
//! The log files have no times: the lines of an execution have the time at which it was created, a microsecond apart. All of
//! a container's output counts as standard output. Faults and quotas of the Cloud Run API don't apply.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::logs::read_end;
use crate::emulator::{
    executor::log_path,
    state::EmulatorState,
    store::LogSource,
    wire::{ApiRefusal, LogFilter, project_number},
};

/// The permission that a caller needs.
const PERMISSION: &str = "logging.logEntries.list";
/// The name under which the emulator counts the calls.
pub(super) const METHOD: &str = "entries.list";
/// How the emulator's own lines begin.
const OWN_LINE: &str = "[emulator] ";
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EntriesRequest {
    resource_names: Vec<String>,
    filter: String,
    order_by: String,
    page_size: usize,
    page_token: String,
}

impl Default for EntriesRequest {
    fn default() -> Self {
        let (filter, order_by, page_token) = Default::default();
        Self { resource_names: Vec::new(), filter, order_by, page_size: DEFAULT_PAGE, page_token }
    }
}

/// `POST /v2/entries:list`.
pub(super) async fn list_log_entries(State(state): State<Arc<EmulatorState>>, body: Bytes) -> Response {
    state.call_log().count(METHOD);
    match entries(&state, &body).await {
        Ok(response) => Json(response).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn entries(state: &Arc<EmulatorState>, body: &[u8]) -> Result<Value, ApiRefusal> {
    let request: EntriesRequest = serde_json::from_slice(body).map_err(|error| ApiRefusal::not_json(&error))?;
    let filter = LogFilter::parse(&request.filter).map_err(|why| ApiRefusal::invalid_field("filter", why))?;
    let is_descending = match request.order_by.as_str() {
        "timestamp desc" => true,
        "" | "timestamp asc" => false,
        _ => return Err(ApiRefusal::invalid_field("orderBy", "must be 'timestamp asc' or 'timestamp desc'.")),
    };
    let first = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| ApiRefusal::invalid_field("pageToken", "is not a token of this list."))?,
    };
    let mut found = Vec::new();
    for name in &request.resource_names {
        let project = name.strip_prefix("projects/").filter(|project| !project.is_empty() && !project.contains('/'));
        let Some(project) = project else {
            return Err(ApiRefusal::invalid_field("resourceNames", "must be like 'projects/PROJECT'."));
        };
        let known = &state.config.projects;
        if !known.is_empty() && !known.iter().any(|known| project_number(known) == project_number(project)) {
            return Err(ApiRefusal::permission_denied(PERMISSION, name));
        }
        let sources =
            state.store().log_sources(project, |source| filter.selects(&source.region, &source.job, &source.execution));
        for source in sources {
            found.extend(entries_of(state, project, source, &filter).await);
        }
    }
    found.sort_by_key(|(time, _)| *time);
    if is_descending {
        found.reverse();
    }
    let size = request.page_size.clamp(1, MAX_PAGE);
    let next = (first + size < found.len()).then(|| (first + size).to_string());
    let page: Vec<Value> = found.into_iter().skip(first).take(size).map(|(_, entry)| entry).collect();
    Ok(match (page.is_empty(), next) {
        (true, _) => json!({}),
        (false, None) => json!({"entries": page}),
        (false, Some(token)) => json!({"entries": page, "nextPageToken": token}),
    })
}

/// The entries of one execution, each with its time.
async fn entries_of(
    state: &EmulatorState,
    project: &str,
    source: LogSource,
    filter: &LogFilter,
) -> Vec<(DateTime<Utc>, Value)> {
    let path = log_path(&state.log_dir, &source.execution);
    // An execution that has not started has no file.
    let Ok(Ok(text)) = tokio::task::spawn_blocking(move || read_end(&path)).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().enumerate().map(|(index, line)| {
        let time = source.since + TimeDelta::microseconds(i64::try_from(index).unwrap_or(i64::MAX));
        (time, entry(project, &source, index, time, line))
    });
    lines.filter(|(time, _)| filter.since.is_none_or(|since| *time >= since)).collect()
}

fn entry(project: &str, source: &LogSource, index: usize, time: DateTime<Utc>, line: &str) -> Value {
    let (log, text) = match line.strip_prefix(OWN_LINE) {
        Some(text) => ("varlog%2Fsystem", text),
        None => ("stdout", line),
    };
    json!({
        "insertId": format!("{}-{index:08}", source.execution),
        "logName": format!("projects/{project}/logs/run.googleapis.com%2F{log}"),
        "resource": {
            "type": "cloud_run_job",
            "labels": {"project_id": project, "location": source.region, "job_name": source.job},
        },
        "labels": {"run.googleapis.com/execution_name": source.execution},
        "severity": "DEFAULT",
        "timestamp": time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        "textPayload": text,
    })
}
