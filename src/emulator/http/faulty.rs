//! Handles a call, or injects a fault in its place.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use chrono::Utc;
use tokio::time::sleep;

use super::{
    handlers::{self, View},
    request::ParsedRequest,
};
use crate::emulator::{
    faults::{BodyForm, Fault, FaultTiming, StatusFault, to_duration},
    state::EmulatorState,
    wire::{ApiCall, ApiRefusal, ProjectRegion},
};

/// How long a hanging call waits for its caller to close the connection.
pub(super) const MAX_HANG: Duration = Duration::from_secs(3600);

/// Dates as HTTP writes them (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// How the emulator answers a call.
pub(super) enum CallResult {
    Respond(Response),
    /// Reset the connection.
    Reset,
    /// Send nothing, and leave the connection open.
    Hang,
}

impl CallResult {
    /// The HTTP status, if there is a response.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Respond(response) => Some(response.status()),
            Self::Reset | Self::Hang => None,
        }
    }
}

/// Handles a call, unless a fault hits it. Also returns the name of the fault. `token` is the `Authorization` header.
pub(super) async fn handle_or_inject(
    state: &Arc<EmulatorState>,
    place: &ProjectRegion,
    call: &ApiCall,
    request: &ParsedRequest,
    token: Option<&[u8]>,
) -> (CallResult, Option<String>) {
    let handle = |view: View<'_>| {
        let handled = handlers::handle(state, place, call, &request.query, &request.body, view);
        handled.map_or_else(IntoResponse::into_response, |body| Json(body).into_response())
    };
    if let Err(injected) = state.injector().admit(place, call, token) {
        return (CallResult::Respond(injected.refusal.into_response()), Some(injected.fault.to_owned()));
    }
    let selected = state.injector().select_rule(call, request.subject());
    let Some(rule) = selected else { return (CallResult::Respond(handle(View::Present)), None) };
    // The response of a call that takes effect before the fault.
    let handled = (rule.when == FaultTiming::After).then(|| handle(View::Present));
    let result = match &rule.fault {
        Fault::Status(fault) => CallResult::Respond(injected_response(fault)),
        Fault::Delay(seconds) => {
            sleep(to_duration(*seconds)).await;
            CallResult::Respond(handled.unwrap_or_else(|| handle(View::Present)))
        }
        Fault::Hang => CallResult::Hang,
        Fault::Reset => CallResult::Reset,
        Fault::Refuse(seconds) => {
            state.refuse_connections_for(*seconds);
            CallResult::Reset
        }
        Fault::Stale(seconds) => {
            let snapshot = state.injector().snapshot(*seconds);
            CallResult::Respond(handle(View::Past(&snapshot)))
        }
        Fault::EmptyList => CallResult::Respond(handle(View::Nothing)),
        Fault::IncompleteList => CallResult::Respond(handle(View::Unreachable)),
    };
    (result, Some(rule.name()))
}

fn injected_response(fault: &StatusFault) -> Response {
    let code = StatusCode::from_u16(fault.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match fault.body {
        BodyForm::Json => {
            let refusal = ApiRefusal::injected(code, fault.message.as_deref(), fault.reason.as_deref());
            let mut response = refusal.into_response();
            *response.status_mut() = code;
            response
        }
        BodyForm::Html => (code, Html(format!("<html><title>Error {code}</title></html>"))).into_response(),
        BodyForm::Empty => code.into_response(),
    };
    let date = fault.retry_after_date.map(|seconds| Utc::now() + Duration::from_secs(seconds.into()));
    let date = date.and_then(|date| HeaderValue::from_str(&date.format(HTTP_DATE).to_string()).ok());
    if let Some(value) = fault.retry_after.map(HeaderValue::from).or(date) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
