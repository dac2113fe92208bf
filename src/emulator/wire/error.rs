//! Refusals in Google's form: a JSON body with code, status, message and details.
//!
//! Messages repeat Google's words where these are known; the others are marked as the emulator's own.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::api::types::{ErrorBody, ErrorStatus};

/// The refusal of a call.
#[derive(Debug)]
pub(crate) struct ApiRefusal {
    code: StatusCode,
    status: &'static str,
    message: String,
    details: Vec<Value>,
}

/// A problem with one field of a request: the field's path, and a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

impl ApiRefusal {
    fn new(code: StatusCode, status: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), details: Vec::new() }
    }

    /// 404 for a resource of this kind (`JOB`, `EXECUTION`).
    pub(crate) fn no_such(kind: &str, name: &str, region: &str, project: &str) -> Self {
        let message =
            format!("Resource '{name}' of kind '{kind}' in region '{region}' in project '{project}' does not exist.");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 409 for a name that is taken, also by a job that is being deleted.
    pub(crate) fn already_exists(name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", format!("Resource '{name}' already exists."))
    }

    /// 403 with the missing permission. Cloud Run gives the same answer for a project that does not exist.
    pub(crate) fn permission_denied(permission: &str, resource: &str) -> Self {
        let message = format!("Permission '{permission}' denied on resource '{resource}' (or resource may not exist).");
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    /// 403 for a request from a web page. The emulator runs commands, so a web page must not be able to call it. The
    /// words are the emulator's own.
    pub(crate) fn from_a_browser() -> Self {
        let message = "The emulator does not serve requests that a browser sends for a web page.";
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    /// 400 for a valid request that the resource's state does not allow.
    pub(crate) fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    /// 400 for a change to a resource that is being deleted.
    pub(crate) fn being_deleted(name: &str) -> Self {
        Self::failed_precondition(format!("Resource '{name}' is being deleted."))
    }

    /// 400 with all violations in the details. The message is the first violation.
    pub(crate) fn invalid(violations: &[Violation]) -> Self {
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

    /// 400 for a problem with one field.
    pub(crate) fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(&[Violation::new(field, description)])
    }

    /// 400 for a body that is not JSON.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        let message = format!("Invalid JSON payload received. {error}");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// 413 for a body that is larger than the emulator accepts. The words are the emulator's own.
    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", "The request's body is too large.")
    }

    /// 401 for an invalid or expired token.
    pub(crate) fn unauthenticated() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential. See \
                       https://developers.google.com/identity/sign-in/web/devconsole-project.";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
    }

    /// 429 for a call beyond a quota per minute; `metric` is the quota's name.
    pub(crate) fn rate_exceeded(metric: &str, project_number: &str) -> Self {
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

    /// 429 for a limit on the number of resources, which waiting alone does not help with. The words are the
    /// emulator's own: Google's are not known.
    pub(crate) fn limit_reached(what: &str, limit: usize, region: &str) -> Self {
        let message = format!("The limit of {limit} {what} in region '{region}' is reached.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
    }

    /// The error body of an injected fault. Its code is `code`, or 503 when `code` is a success: an error whose HTTP
    /// status says success. `reason` is the reason in `ErrorInfo`.
    pub(crate) fn injected(code: StatusCode, message: Option<&str>, reason: Option<&str>) -> Self {
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
        let (code, status) =
            if code.is_success() { (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE") } else { (code, status) };
        let message = message.unwrap_or("The emulator was configured to return this error.");
        Self { details: reason.into_iter().map(info).collect(), ..Self::new(code, status, message) }
    }

    /// 503 while the emulator stops. The words are the emulator's own.
    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "The emulator is being stopped.")
    }
}

impl IntoResponse for ApiRefusal {
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
