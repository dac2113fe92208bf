//! What a call's failure means, and what to do about it.

use std::fmt;

use reqwest::StatusCode;
use thiserror::Error;

use super::{Call, types::ErrorStatus};

/// The cause of a failed call, as far as what to do next depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The resource is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The account lacks a permission, or the project does not exist: the API does not tell which.
    PermissionDenied,
    /// The project has not enabled the Cloud Run Admin API.
    ApiDisabled,
    /// The request is wrong in itself.
    InvalidRequest,
    /// The address serves no Cloud Run API: most often a region that does not exist.
    NoSuchRegion,
    /// A quota or a limit is reached.
    Quota,
    /// No token can be had, or the API refuses it.
    Authentication,
    /// No token could be had for now.
    NoToken,
    /// The API could not be reached or did not answer as it should. It may the next time.
    Unavailable,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Quota | Self::NoToken)
    }
}

/// A call that failed for good: either no further attempt would help, or the budget of attempts is spent.
#[derive(Clone, Debug, Error, PartialEq)]
pub struct ApiError {
    /// Why.
    pub kind: ErrorKind,
    /// Which call.
    pub call: Call,
    /// Project of the call.
    pub project: String,
    /// Region of the call.
    pub region: String,
    /// Name of the job or execution; empty for a list.
    pub name: String,
    /// HTTP status of the last answer, if there was one.
    pub status: Option<u16>,
    /// Google's message, or the transport's.
    pub message: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether one of the attempts may have taken effect although no success came back.
    pub maybe_done: bool,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Could not {}", self.call.purpose())?;
        if !self.name.is_empty() {
            write!(f, " '{}'", self.name)?;
        }
        write!(f, " in project '{}', region '{}': ", self.project, self.region)?;
        if let Some(status) = self.status {
            write!(f, "HTTP {status}: ")?;
        }
        f.write_str(self.message.trim_end_matches('.'))?;
        if self.attempts > 1 {
            write!(f, " (after {} attempts)", self.attempts)?;
        }
        write!(f, ". {}", self.hint())
    }
}

impl ApiError {
    /// Whether a failed look at a job that exists may succeed later. Where a job was created there is a region, so a
    /// front end that knows none is out of order.
    pub fn may_pass(&self) -> bool {
        self.kind.is_transient() || self.kind == ErrorKind::NoSuchRegion
    }

    /// What a person can do about it, in one sentence or two.
    pub fn hint(&self) -> String {
        let Self { project, region, name, .. } = self;
        let permission = self.call.permission();
        match self.kind {
            ErrorKind::NotFound => "It was deleted, or it never was in this project and region.".to_owned(),
            ErrorKind::AlreadyExists => format!(
                "Another job of this name exists: delete it (gcloud run jobs delete {name} --region {region} --project \
                 {project}), or leave the job variable 'name' to Prefect's names, which are different for every run."
            ),
            ErrorKind::PermissionDenied if self.message.contains("iam.serviceAccounts.actAs") => {
                "The worker's account may not act as the job's service account: grant it roles/iam.serviceAccountUser \
                 on that account, or choose another one with the job variable 'service_account_name'."
                    .to_owned()
            }
            ErrorKind::PermissionDenied => format!(
                "Check that project '{project}' exists and that the worker's account has the permission {permission} \
                 on it (role roles/run.developer)."
            ),
            ErrorKind::ApiDisabled => {
                format!("Enable the API: gcloud services enable run.googleapis.com --project {project}")
            }
            ErrorKind::InvalidRequest => {
                "Check the job variables and the work pool's base job template against the message above.".to_owned()
            }
            ErrorKind::NoSuchRegion => format!(
                "Check the job variable 'region': no Cloud Run API answers for '{region}' (gcloud run regions list \
                 shows those that exist)."
            ),
            ErrorKind::Quota => format!(
                "Wait, ask for a higher quota of the Cloud Run Admin API for region '{region}', or delete jobs that \
                 are not needed (a region holds 1,000)."
            ),
            ErrorKind::Authentication | ErrorKind::NoToken => {
                "Check the work pool's GCP credentials block, or the environment's application default credentials \
                 (gcloud auth application-default login)."
                    .to_owned()
            }
            ErrorKind::Unavailable => {
                format!("The Cloud Run Admin API did not answer: check the network, and the region '{region}'.")
            }
        }
    }
}

/// What kind of failure an answer is that is not a success. `error` is the body's, if it is one of Google's.
pub(super) fn classify(status: StatusCode, error: Option<&ErrorStatus>) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Authentication,
        403 if error.is_some_and(|error| has_reason(error, "SERVICE_DISABLED")) => ErrorKind::ApiDisabled,
        403 => ErrorKind::PermissionDenied,
        404 if error.is_some() => ErrorKind::NotFound,
        // Google's front end answers in HTML for a host that is no region's.
        404 => ErrorKind::NoSuchRegion,
        // Two writes met: neither is wrong, and the next attempt finds them in order.
        409 if error.is_some_and(|error| error.status == "ABORTED") => ErrorKind::Unavailable,
        409 => ErrorKind::AlreadyExists,
        429 => ErrorKind::Quota,
        300..=399 | 408 | 421 | 425 | 500..=599 => ErrorKind::Unavailable,
        400 | 413 | 414 | 422 => ErrorKind::InvalidRequest,
        // Whatever else is no answer of the API's comes from something in between.
        _ if error.is_none() => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidRequest,
    }
}

/// Whether the details hold an `ErrorInfo` with this reason.
fn has_reason(error: &ErrorStatus, reason: &str) -> bool {
    error.details.iter().any(|detail| detail.get("reason").and_then(|value| value.as_str()) == Some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(status: u16, body: Option<serde_json::Value>) -> ErrorKind {
        let error = body.map(|body| serde_json::from_value::<ErrorStatus>(body).unwrap());
        classify(StatusCode::from_u16(status).unwrap(), error.as_ref())
    }

    #[test]
    fn every_status_has_one_meaning() {
        assert_eq!(kind(400, None), ErrorKind::InvalidRequest);
        assert_eq!(kind(401, None), ErrorKind::Authentication);
        assert_eq!(kind(403, Some(json!({}))), ErrorKind::PermissionDenied);
        assert_eq!(kind(403, Some(json!({"details": [{"reason": "SERVICE_DISABLED"}]}))), ErrorKind::ApiDisabled);
        assert_eq!(kind(404, Some(json!({"status": "NOT_FOUND"}))), ErrorKind::NotFound);
        assert_eq!(kind(404, None), ErrorKind::NoSuchRegion);
        assert_eq!(kind(409, Some(json!({"status": "ALREADY_EXISTS"}))), ErrorKind::AlreadyExists);
        assert_eq!(kind(409, Some(json!({"status": "ABORTED"}))), ErrorKind::Unavailable);
        assert_eq!(kind(429, None), ErrorKind::Quota);
        for status in [302, 307, 405, 408, 418, 421, 425, 500, 501, 502, 503, 504, 511, 520, 599] {
            assert_eq!(kind(status, None), ErrorKind::Unavailable, "{status}");
        }
        for status in [405, 418] {
            assert_eq!(kind(status, Some(json!({}))), ErrorKind::InvalidRequest, "{status}");
        }
        for status in [400, 413, 414, 422] {
            assert_eq!(kind(status, None), ErrorKind::InvalidRequest, "{status}");
        }
    }

    #[test]
    fn the_text_says_where_what_and_what_to_do() {
        let error = ApiError {
            kind: ErrorKind::PermissionDenied,
            call: Call::CreateJob,
            project: "p".into(),
            region: "r".into(),
            name: "j".into(),
            status: Some(403),
            message: "Permission denied.".into(),
            attempts: 1,
            maybe_done: false,
        };
        assert_eq!(
            error.to_string(),
            "Could not create the job 'j' in project 'p', region 'r': HTTP 403: Permission denied. Check that project \
             'p' exists and that the worker's account has the permission run.jobs.create on it (role \
             roles/run.developer)."
        );
        let act_as = ApiError { message: "Permission 'iam.serviceAccounts.actAs' denied".into(), ..error };
        assert!(act_as.hint().contains("roles/iam.serviceAccountUser"));
    }
}
