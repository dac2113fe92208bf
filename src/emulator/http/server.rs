//! The HTTP server: routes, the checks of every request, and the emulator's control endpoints.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, time::sleep};

use super::{
    faulty::{CallResult, MAX_HANG, handle_or_inject},
    listener::{ConnectionReset, RefusingListener},
    log_entries::list_log_entries,
    logs::log,
    pages::{index, not_found},
    permissions::{test_account_permissions, test_project_permissions},
    request::ParsedRequest,
};
use crate::emulator::{
    faults::Faults,
    state::EmulatorState,
    wire::{ApiCall, ApiRefusal, ProjectRegion},
};

/// Maximum size of a request body in bytes: 1,000 variables of 32 KB and some room.
const MAX_BODY: usize = 40 * 1024 * 1024;

/// Serves requests until `shutdown` becomes true or its sender is dropped.
pub(in crate::emulator) async fn serve(
    state: Arc<EmulatorState>,
    listener: TcpListener,
    address: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) {
    let listener = RefusingListener::new(listener, address, state.refusing_until());
    let service = router(state).into_make_service_with_connect_info::<ConnectionReset>();
    let shutdown = async move {
        let _ = shutdown.wait_for(|is_shut_down| *is_shut_down).await;
    };
    // `serve` never returns an error: after a failed accept, it waits and tries again.
    let _ = axum::serve(listener, service).with_graceful_shutdown(shutdown).await;
}

fn router(state: Arc<EmulatorState>) -> Router {
    Router::new()
        .route("/", get(index_page))
        .route("/logs/{project}/{region}/{execution}", get(log))
        .route("/v2/entries:list", post(list_log_entries))
        .route("/v3/projects/{resource}", post(test_project_permissions))
        .route("/v1/projects/-/serviceAccounts/{resource}", post(test_account_permissions))
        .route("/emulator/history", get(history))
        .route("/emulator/calls", get(calls))
        .route("/emulator/counts", get(counts))
        .route("/emulator/faults", get(faults).post(set_faults))
        .fallback(api)
        .layer(middleware::from_fn_with_state(state.clone(), admit))
        .with_state(state)
}

/// Sees every request first, and refuses those that no handler may see.
///
/// A web page could make a browser post to a loopback address, and a job is a command that runs on this machine. A
/// browser sends the page's origin with such a request, and API clients send none, so the header tells them apart.
async fn admit(
    State(state): State<Arc<EmulatorState>>,
    ConnectInfo(reset): ConnectInfo<ConnectionReset>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return ApiRefusal::from_a_browser().into_response();
    }
    if state.is_stopping() {
        return ApiRefusal::stopping().into_response();
    }
    // The listener refuses new connections; this covers the open ones.
    let is_api = request.uri().path().starts_with("/apis/");
    if is_api && state.injector().refuses_connections() {
        return reset_connection(&reset);
    }
    next.run(request).await
}

async fn api(
    State(state): State<Arc<EmulatorState>>,
    ConnectInfo(reset): ConnectInfo<ConnectionReset>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return ApiRefusal::too_large().into_response() };
    let request = ParsedRequest::new(&parts, body);
    let token = parts.headers.get(header::AUTHORIZATION).cloned();
    // Runs in a separate task, so that a call takes effect and is recorded even if its caller closes the connection.
    let handled = tokio::spawn(async move {
        let (result, fault) = match (request.region, ApiCall::parse(&request.method, &request.path)) {
            (Some(region), Some((project, call))) => {
                state.call_log().count(call.id());
                let place = ProjectRegion::new(&project, region);
                let token = token.as_ref().map(HeaderValue::as_bytes);
                handle_or_inject(&state, &place, &call, &request, token).await
            }
            _ => (CallResult::Respond(not_found(&request.path)), None),
        };
        if state.config.record_calls {
            let record = request.into_record(result.status(), fault);
            state.call_log().record(record);
        }
        result
    });
    match handled.await {
        Ok(CallResult::Respond(response)) => response,
        Ok(CallResult::Hang) => {
            sleep(MAX_HANG).await;
            reset_connection(&reset)
        }
        Ok(CallResult::Reset) | Err(_) => reset_connection(&reset),
    }
}

/// Resets the connection. The returned response is never sent.
fn reset_connection(reset: &ConnectionReset) -> Response {
    reset.request();
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

async fn index_page(State(state): State<Arc<EmulatorState>>) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(index(&state))).into_response()
}

/// `{"jobs": […]}`, with the lives of all jobs in the order of their creation.
async fn history(State(state): State<Arc<EmulatorState>>) -> Response {
    let lives = state.store().job_lives();
    Json(json!({ "jobs": lives })).into_response()
}

async fn calls(State(state): State<Arc<EmulatorState>>) -> Response {
    let calls = state.call_log().calls();
    Json(calls).into_response()
}

async fn counts(State(state): State<Arc<EmulatorState>>) -> Response {
    let counts = state.call_log().counts();
    Json(counts).into_response()
}

/// The current faults, and how many calls each has hit.
async fn faults(State(state): State<Arc<EmulatorState>>) -> Response {
    Json(state.injector().report()).into_response()
}

/// Replaces the faults; `{}` removes all.
async fn set_faults(State(state): State<Arc<EmulatorState>>, body: Bytes) -> Response {
    match Faults::from_json(&body) {
        Ok(faults) => {
            state.set_faults(faults);
            Json(state.injector().report()).into_response()
        }
        Err(problem) => ApiRefusal::invalid_field("faults", problem).into_response(),
    }
}
