//! HTTP: from a request to a call of the API, and the emulator's own pages.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Path, Request, State as Shared},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use tokio::time::sleep;
use url::form_urlencoded;

use super::{
    call::Call,
    cloud::{Cloud, RecordedCall},
    door::Reset,
    errors::{self, ApiError, html_not_found},
    executor::process::log_path,
    faults::{Fault, Faults, When, span},
    handlers, page,
    past::Past,
    region,
    store::Place,
    views,
};
use crate::job::env;

/// Largest body that is read: 1 000 variables of 32 KB.
const LARGEST_BODY: usize = 40 * 1024 * 1024;
/// How long a call hangs whose caller does not hang up.
const LONGEST_HANG: Duration = Duration::from_secs(3600);
/// Most of a log that is shown; the end of it.
const MOST_OF_A_LOG: u64 = 4 * 1024 * 1024;

/// All routes. `admit` sees every request first.
pub(super) fn router(cloud: Arc<Cloud>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/logs/{project}/{region}/{execution}", get(log))
        .route("/emulator/history", get(async |Shared(cloud): Shared<Arc<Cloud>>| Json(views::history(&cloud))))
        .route("/emulator/calls", get(async |Shared(cloud): Shared<Arc<Cloud>>| Json(cloud.calls())))
        .route("/emulator/counts", get(async |Shared(cloud): Shared<Arc<Cloud>>| Json(cloud.counts())))
        .route("/emulator/faults", get(faults).post(set_faults))
        .fallback(api)
        .layer(middleware::from_fn_with_state(cloud.clone(), admit))
        .with_state(cloud)
}

/// Refuses what must not get further. A web page could make a browser post to loopback, and a job is a command that
/// runs here: browsers name the page's origin in such requests, and API clients have none.
async fn admit(
    Shared(cloud): Shared<Arc<Cloud>>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return ApiError::from_a_browser().into_response();
    }
    if cloud.is_stopping() {
        return ApiError::stopping().into_response();
    }
    let is_api = request.uri().path().starts_with("/apis/");
    if is_api && cloud.fate().refuses() {
        return no_answer(&reset);
    }
    next.run(request).await
}

async fn api(Shared(cloud): Shared<Arc<Cloud>>, ConnectInfo(reset): ConnectInfo<Reset>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else { return ApiError::too_large().into_response() };
    let request = ApiRequest::read(&parts, body);
    let token = parts.headers.get(header::AUTHORIZATION).cloned();
    // In a task of its own, a call whose caller hangs up is done and recorded all the same.
    let answered = tokio::spawn(async move {
        let (response, fault) = match (request.region, Call::parse(&request.method, &request.path)) {
            (Some(region), Some((project, call))) => {
                cloud.count(call.method());
                let place = Place::new(&project, region);
                call_or_fault(&cloud, &place, &call, &request, token.as_ref().map(HeaderValue::as_bytes)).await
            }
            _ => (Answer::Now(Some(html_not_found(&request.path))), None),
        };
        if cloud.config.record_calls {
            cloud.record(request.into_record(response.status(), fault));
        }
        response
    });
    match answered.await {
        Ok(Answer::Now(Some(response))) => response,
        Ok(Answer::Never) => {
            // Until the caller hangs up.
            sleep(LONGEST_HANG).await;
            no_answer(&reset)
        }
        Ok(Answer::Now(None)) | Err(_) => no_answer(&reset),
    }
}

/// What a call gets: a response, or none and the connection is reset, or nothing at all.
enum Answer {
    Now(Option<Response>),
    Never,
}

impl Answer {
    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Now(response) => response.as_ref().map(Response::status),
            Self::Never => None,
        }
    }
}

/// Does what a call asks for, or what the faults make of it. Answers with the name of the fault, too.
async fn call_or_fault(
    cloud: &Arc<Cloud>,
    place: &Place,
    call: &Call,
    request: &ApiRequest,
    token: Option<&[u8]>,
) -> (Answer, Option<String>) {
    let answer = |past: Option<&Past>| {
        let answer = handlers::answer(cloud, place, call, &request.query, &request.body, past);
        answer.map_or_else(IntoResponse::into_response, |answer| Json(answer).into_response())
    };
    if let Err(refusal) = cloud.fate().admit(place, call, token) {
        return (Answer::Now(Some(refusal.error.into_response())), Some(refusal.name.to_owned()));
    }
    let struck = cloud.fate().strike(call, request.subject());
    let Some(rule) = struck else { return (Answer::Now(Some(answer(None))), None) };
    let name = Some(rule.name());
    if let Fault::Stale(seconds) = rule.fault {
        let past = cloud.fate().past(seconds);
        return (Answer::Now(Some(answer(Some(&past)))), name);
    }
    let done = (rule.when == When::After).then(|| answer(None));
    let response = match rule.fault {
        Fault::Status(fault) => Some(errors::asked_for(&fault)),
        Fault::Delay(seconds) => {
            sleep(span(seconds)).await;
            Some(done.unwrap_or_else(|| answer(None)))
        }
        Fault::Hang => return (Answer::Never, name),
        Fault::Refuse(seconds) => {
            cloud.refuse_for(seconds);
            None
        }
        Fault::Reset | Fault::Stale(_) => None,
    };
    (Answer::Now(response), name)
}

/// Resets the connection. The response that this returns is never sent.
fn no_answer(reset: &Reset) -> Response {
    reset.pull();
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// The faults that are switched on, and what calls met.
async fn faults(Shared(cloud): Shared<Arc<Cloud>>) -> Response {
    Json(cloud.fate().report()).into_response()
}

/// Switches faults on, in the place of those before: `{}` for none.
async fn set_faults(Shared(cloud): Shared<Arc<Cloud>>, body: Bytes) -> Response {
    match Faults::from_json(&body) {
        Ok(faults) => {
            cloud.set_faults(faults);
            Json(cloud.fate().report()).into_response()
        }
        Err(problem) => ApiError::invalid_field("faults", problem).into_response(),
    }
}

/// A request, once its host, query and `X-HTTP-Method-Override` are understood.
struct ApiRequest {
    method: Method,
    region: Option<&'static str>,
    path: String,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl ApiRequest {
    fn read(parts: &Parts, body: Bytes) -> Self {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // An absolute target, which requests through a proxy have, outranks the Host header (RFC 9112, 3.2.2).
        let authority = parts.uri.authority().map(|authority| authority.as_str()).or_else(|| text("host"));
        let decode = |form: &[u8]| form_urlencoded::parse(form).into_owned().collect::<Vec<_>>();
        let mut query = decode(parts.uri.query().unwrap_or_default().as_bytes());
        let mut method = parts.method.clone();
        let mut body = body;
        // googleapiclient sends a GET with a long query so, the query in the body.
        let asked = text("x-http-method-override").and_then(|name| name.to_ascii_uppercase().parse().ok());
        if let Some(asked) = asked.filter(|_| method == Method::POST) {
            if asked == Method::GET {
                query.extend(decode(&body));
                body = Bytes::new();
            }
            method = asked;
        }
        let region = region::of_authority(authority);
        Self { method, region, path: parts.uri.path().to_owned(), query, body }
    }

    /// What tells calls of one method apart that name nothing in their path: the job of a create, the selector of a list.
    fn subject(&self) -> &str {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            metadata: Name<'a>,
        }
        #[derive(Deserialize)]
        struct Name<'a> {
            name: &'a str,
        }
        let selector = self.query.iter().find(|(name, _)| name == "labelSelector").map(|(_, text)| text.as_str());
        let created = || serde_json::from_slice::<Named<'_>>(&self.body).ok().map(|body| body.metadata.name);
        selector.or_else(created).unwrap_or_default()
    }

    fn into_record(self, status: Option<StatusCode>, fault: Option<String>) -> RecordedCall {
        let mut body = serde_json::from_slice(&self.body).ok();
        if let Some(body) = &mut body {
            env::each_value(body, &mut |value| "…".clone_into(value));
        }
        RecordedCall {
            method: self.method.to_string(),
            region: self.region.map(str::to_owned),
            path: self.path,
            query: self.query,
            body,
            status: status.map_or(0, |status| status.as_u16()),
            fault,
        }
    }
}

async fn index(Shared(cloud): Shared<Arc<Cloud>>) -> Response {
    let policy = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (policy, Html(page::index(&cloud))).into_response()
}

/// The output of an execution, also after it was deleted; nothing yet for one that waits.
async fn log(
    Shared(cloud): Shared<Arc<Cloud>>,
    Path((project, region, execution)): Path<(String, String, String)>,
) -> Response {
    let missing = || html_not_found(&format!("/logs/{project}/{region}/{execution}"));
    // Names are checked before they become part of a path. Those of executions are longer than those of jobs.
    let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if execution.is_empty() || !execution.bytes().all(is_safe) {
        return missing();
    }
    let path = log_path(&cloud.log_dir, &execution);
    let text = match tokio::task::spawn_blocking(move || tail(&path)).await {
        Ok(Ok(text)) => text,
        _ if views::executions(&cloud).iter().any(|known| known.metadata.name == execution) => Vec::new(),
        _ => return missing(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from(text)).into_response()
}

fn tail(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST_OF_A_LOG)))?;
    let mut text = Vec::new();
    file.take(MOST_OF_A_LOG).read_to_end(&mut text)?;
    Ok(text)
}
