//! `testIamPermissions` of a project (Cloud Resource Manager) and of a service account (IAM).
//!
//! # Limits
//! The emulator has no roles. Everybody has every permission, except for those of the methods that a fault refuses with 403
//! each time.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::emulator::{
    state::EmulatorState,
    wire::{ApiRefusal, project_number},
};

/// How the path of a call ends, after the resource's name.
const ACTION: &str = ":testIamPermissions";
/// What a caller needs to ask a project.
const GET_PROJECT: &str = "resourcemanager.projects.get";

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    permissions: Vec<String>,
}

/// `POST /v3/projects/PROJECT:testIamPermissions`.
pub(super) async fn test_project_permissions(
    State(state): State<Arc<EmulatorState>>,
    Path(resource): Path<String>,
    body: Bytes,
) -> Response {
    state.call_log().count("projects.testIamPermissions");
    answer(granted(&state, &resource, true, &body))
}

/// `POST /v1/projects/-/serviceAccounts/ACCOUNT:testIamPermissions`.
pub(super) async fn test_account_permissions(
    State(state): State<Arc<EmulatorState>>,
    Path(resource): Path<String>,
    body: Bytes,
) -> Response {
    state.call_log().count("serviceAccounts.testIamPermissions");
    answer(granted(&state, &resource, false, &body))
}

fn answer(result: Result<Value, ApiRefusal>) -> Response {
    result.map_or_else(IntoResponse::into_response, |body| Json(body).into_response())
}

fn granted(state: &EmulatorState, resource: &str, is_project: bool, body: &[u8]) -> Result<Value, ApiRefusal> {
    let Some(name) = resource.strip_suffix(ACTION).filter(|name| !name.is_empty()) else {
        return Err(ApiRefusal::invalid_field("resource", "must end with ':testIamPermissions'."));
    };
    let known = &state.config.projects;
    if is_project && !known.is_empty() && !known.iter().any(|known| project_number(known) == project_number(name)) {
        return Err(ApiRefusal::permission_denied(GET_PROJECT, &format!("projects/{name}")));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|error| ApiRefusal::not_json(&error))?;
    let denied = state.injector().denied_permissions();
    let granted: Vec<_> = asked.permissions.into_iter().filter(|asked| !denied.contains(&asked.as_str())).collect();
    // Google leaves an empty list out.
    Ok(if granted.is_empty() { json!({}) } else { json!({ "permissions": granted }) })
}
