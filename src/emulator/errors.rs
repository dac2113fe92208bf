//! Refusals in Google's form: a JSON body with code, status, message and details, or the front end's HTML page.

use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    faults::{BodyForm, StatusFault},
    page,
};
use crate::api::types::{ErrorBody, ErrorStatus};

/// A call that the API refuses.
#[derive(Debug)]
pub(super) struct ApiError {
    code: StatusCode,
    status: &'static str,
    message: String,
    details: Vec<Value>,
}

/// One thing that is wrong with a request: the field's path and a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Violation {
    pub(super) field: String,
    pub(super) description: String,
}

impl Violation {
    pub(super) fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

impl ApiError {
    fn new(code: StatusCode, status: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), details: Vec::new() }
    }

    /// 404 of a resource of this kind (`JOB`, `EXECUTION`) in the words of Cloud Run.
    pub(super) fn no_such(kind: &str, name: &str, region: &str, project: &str) -> Self {
        let message =
            format!("Resource '{name}' of kind '{kind}' in region '{region}' in project '{project}' does not exist.");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 409 of a name that is taken, be it by a job that is being deleted.
    pub(super) fn already_exists(name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", format!("Resource '{name}' already exists."))
    }

    /// 403 with the permission that a caller would need; the same for a project that does not exist.
    pub(super) fn permission_denied(permission: &str, resource: &str) -> Self {
        let message = format!("Permission '{permission}' denied on resource '{resource}' (or resource may not exist).");
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    /// 403 for a web page that calls the emulator: whoever may call it runs commands on this machine.
    pub(super) fn from_a_browser() -> Self {
        let message = "The emulator does not serve requests that a browser sends for a web page.";
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    /// 400 of a request that is valid but not in the resource's present state.
    pub(super) fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    /// 400 that lists what is wrong with the request; the first violation is the message too.
    pub(super) fn invalid(violations: &[Violation]) -> Self {
        let message = match violations {
            [] => "Request contains an invalid argument.".to_owned(),
            [only] => format!("{}: {}", only.field, only.description),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.description, rest.len()),
        };
        let listed: Vec<Value> = violations
            .iter()
            .map(|violation| json!({"field": violation.field, "description": violation.description}))
            .collect();
        let details = json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": listed});
        Self { details: vec![details], ..Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message) }
    }

    /// 400 about one field.
    pub(super) fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(&[Violation::new(field, description)])
    }

    /// 400 of a body that is no JSON.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        let message = format!("Invalid JSON payload received. {error}");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// 413 of a body that is larger than the emulator reads.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", "The request's body is too large.")
    }

    /// 401 of a token that is not valid (any more).
    pub(super) fn unauthenticated() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential. See \
                       https://developers.google.com/identity/sign-in/web/devconsole-project.";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
    }

    /// 429 of a quota per minute.
    pub(super) fn rate_exceeded(metric: &str, project_number: &str) -> Self {
        let message = format!(
            "Quota exceeded for quota metric '{metric}' and limit '{metric} per minute per region' of service \
             'run.googleapis.com' for consumer 'project_number:{project_number}'."
        );
        let details = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com",
            "metadata": {"service": "run.googleapis.com", "consumer": format!("projects/{project_number}"),
                         "quota_metric": metric},
        });
        Self { details: vec![details], ..Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message) }
    }

    /// 429 of a limit that waiting alone does not help with. The words are the emulator's: Google's are not known.
    pub(super) fn limit_reached(what: &str, limit: usize, region: &str) -> Self {
        let message = format!("The limit of {limit} {what} in region '{region}' is reached.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
    }

    /// An error of this status that was asked for.
    fn made_up(code: StatusCode, message: Option<&str>, reason: Option<&str>) -> Self {
        let status = match code.as_u16() {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            500 => "INTERNAL",
            501 => "UNIMPLEMENTED",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "UNKNOWN",
        };
        let info = |reason| json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason});
        // An error that comes as a success.
        let (code, status) =
            if code.is_success() { (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE") } else { (code, status) };
        let message = message.unwrap_or("The emulator was told to answer with this error.");
        Self { details: reason.into_iter().map(info).collect(), ..Self::new(code, status, message) }
    }

    /// 503 while the emulator stops.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "The emulator is being stopped.")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorStatus {
                code: Some(i64::from(self.code.as_u16())),
                message: self.message,
                status: self.status.to_owned(),
                details: self.details,
                ..ErrorStatus::default()
            },
        };
        (self.code, axum::Json(body)).into_response()
    }
}

/// The error that a fault asks for.
pub(super) fn asked_for(fault: &StatusFault) -> Response {
    let code = StatusCode::from_u16(fault.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match fault.body {
        BodyForm::Json => {
            let error = ApiError::made_up(code, fault.message.as_deref(), fault.reason.as_deref());
            let mut response = error.into_response();
            *response.status_mut() = code;
            response
        }
        BodyForm::Html => (code, Html(format!("<html><title>Error {code}</title></html>"))).into_response(),
        BodyForm::Empty => code.into_response(),
    };
    if let Some(seconds) = fault.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// What Google's front end answers where no service is: an HTML page, not the API's JSON.
pub(super) fn html_not_found(path: &str) -> Response {
    (StatusCode::NOT_FOUND, [(header::REFERRER_POLICY, "no-referrer")], Html(page::not_found(path))).into_response()
}
