//! What a call's failure means, and what to do about it.

use std::{fmt, time::Duration};

use reqwest::StatusCode;
use thiserror::Error;

use super::{ApiMethod, types::ErrorStatus};

/// The cause of a failed call, as far as what to do next depends on it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
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
    /// A quota of calls per minute is used up.
    RateLimited,
    /// A limit of what there may be is reached: jobs or running executions of a region.
    LimitReached,
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
        matches!(self, Self::Unavailable | Self::RateLimited | Self::LimitReached | Self::NoToken)
    }
}

/// The result of a call. The error is boxed, because it is large and rare.
pub type ApiResult<T> = Result<T, Box<ApiError>>;

/// A call that failed for good: either no further attempt would help, or the budget of attempts is spent.
#[derive(Clone, Debug, Error, PartialEq)]
pub struct ApiError {
    /// Why.
    pub kind: ErrorKind,
    /// The method that was called.
    pub method: ApiMethod,
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
    /// Google's reason for programs (`reason` of `google.rpc.ErrorInfo`), if it gave one.
    pub reason: Option<String>,
    /// The pause that the last answer asked for (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// How many attempts were made; none when it was not sent.
    pub attempts: u32,
    /// Whether one of the attempts may have taken effect although no success came back.
    pub maybe_done: bool,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Could not {}", self.method.row().purpose)?;
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
    /// A failure in this project and region, as after one attempt without an answer.
    pub fn new(method: ApiMethod, kind: ErrorKind, place: (&str, &str), name: &str, message: String) -> Self {
        let (project, region) = place;
        Self {
            kind,
            method,
            project: project.to_owned(),
            region: region.to_owned(),
            name: name.to_owned(),
            status: None,
            message,
            reason: None,
            retry_after: None,
            attempts: 1,
            maybe_done: false,
        }
    }

    /// Whether a failed look at a job that exists may succeed later. Where a job was created there is a region, so a
    /// front end that knows none is out of order.
    pub fn may_pass(&self) -> bool {
        self.kind.is_transient() || self.kind == ErrorKind::NoSuchRegion
    }

    /// A pause before the next call that grants the wish of the last answer.
    pub fn pause_at_least(&self, pause: Duration) -> Duration {
        pause.max(self.retry_after.unwrap_or_default())
    }

    /// What it is lacked on, as the message has it.
    pub fn missing_permission_on(&self) -> Option<&str> {
        let words = ["denied on resource '", "denied on service account '", "denied on '"];
        words
            .iter()
            .find_map(|start| quoted_after(&self.message, start))
            .filter(|_| self.missing_permission().is_some())
    }

    /// The permission that the caller lacks: as the message has it, or else the one that the call takes. None of other
    /// failures.
    pub fn missing_permission(&self) -> Option<&str> {
        if self.kind != ErrorKind::PermissionDenied {
            return None;
        }
        let named = quoted_after(&self.message, "ermission '").filter(|name| name.contains('.'));
        let acting = self.message.contains(ACT_AS).then_some(ACT_AS);
        Some(acting.or(named).unwrap_or(self.method.row().permission))
    }

    /// What a person can do about it, in one sentence or two.
    pub fn hint(&self) -> String {
        let Self { project, region, name, .. } = self;
        match self.kind {
            ErrorKind::NotFound => "It was deleted, or it never was in this project and region.".to_owned(),
            ErrorKind::AlreadyExists => format!(
                "Another job of this name exists: delete it (gcloud run jobs delete {name} --region {region} --project \
                 {project}), or leave the job variable 'name' to Prefect's names, which are different for every run."
            ),
            ErrorKind::PermissionDenied => match self.missing_permission().unwrap_or_default() {
                ACT_AS => {
                    "The worker's account lacks iam.serviceAccounts.actAs on the job's service account: grant it \
                           roles/iam.serviceAccountUser there, or choose another account with the job variable \
                           'service_account_name'."
                        .to_owned()
                }
                permission if permission.starts_with("run.") => format!(
                    "The worker's account lacks {permission} on project '{project}', or there is no such project: \
                     grant it roles/run.developer (gcloud projects add-iam-policy-binding {project})."
                ),
                permission => format!(
                    "An account lacks {permission}, as the message above says: grant it a role that has this permission."
                ),
            },
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
            ErrorKind::RateLimited => format!(
                "Too many calls in a minute: start fewer runs at a time, or ask for a higher quota of the Cloud Run \
                 Admin API in region '{region}'."
            ),
            ErrorKind::LimitReached if self.method == ApiMethod::CreateJob => format!(
                "Region '{region}' may have reached its 1,000 jobs: delete some with gcloud run jobs delete JOB \
                 --region {region} --project {project} (gcloud run jobs list --region {region} --project {project} \
                 shows them)."
            ),
            ErrorKind::LimitReached if self.method == ApiMethod::RunJob => format!(
                "Region '{region}' may have reached its 1,000 running executions, or its quota of starts per minute: \
                 use another region or ask for more (the setting quota_wait_max_seconds says how long a run waits)."
            ),
            ErrorKind::LimitReached => {
                format!("Wait, or ask for a higher quota of the Cloud Run Admin API in region '{region}'.")
            }
            ErrorKind::Authentication | ErrorKind::NoToken => {
                "Check the work pool's GCP credentials block, or the environment's application default credentials \
                 (gcloud auth application-default login)."
                    .to_owned()
            }
            ErrorKind::Unavailable => {
                format!(
                    "The Cloud Run Admin API can't be reached or is out of order: check the network, the region \
                     '{region}' and https://status.cloud.google.com."
                )
            }
        }
    }
}

/// What one has to have on a service account to run something as it.
const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// Google's reason when it is a quota of calls per minute that refuses one.
const RATE: &str = "RATE_LIMIT_EXCEEDED";

/// Whether a refusal for a quota is about calls per minute, by its reason or its words.
fn is_rate(error: &ErrorStatus) -> bool {
    error.reason() == Some(RATE) || error.message.starts_with("Quota exceeded for quota metric")
}

/// The text between `start` and the next apostrophe.
fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once('\'').map(|(quoted, _)| quoted)
}

/// What kind of failure an answer is that is not a success. `error` is the body's, if it is one of Google's.
pub(super) fn classify(status: StatusCode, error: Option<&ErrorStatus>) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Authentication,
        403 if error.and_then(ErrorStatus::reason) == Some("SERVICE_DISABLED") => ErrorKind::ApiDisabled,
        403 => ErrorKind::PermissionDenied,
        404 if error.is_some() => ErrorKind::NotFound,
        // Google's front end answers in HTML for a host that is no region's.
        404 => ErrorKind::NoSuchRegion,
        // Two writes met: neither is wrong, and the next attempt finds them in order.
        409 if error.is_some_and(|error| error.status == "ABORTED") => ErrorKind::Unavailable,
        409 => ErrorKind::AlreadyExists,
        429 if error.is_some_and(is_rate) => ErrorKind::RateLimited,
        429 => ErrorKind::LimitReached,
        300..=399 | 408 | 421 | 425 | 499 | 500..=599 => ErrorKind::Unavailable,
        400 | 413 | 414 | 422 => ErrorKind::InvalidRequest,
        // Whatever else is no answer of the API's comes from something in between.
        _ if error.is_none() => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidRequest,
    }
}

#[cfg(test)]
impl ApiError {
    /// A failure for tests to change.
    pub(crate) fn example(method: ApiMethod, kind: ErrorKind) -> Self {
        Self::new(method, kind, ("p", "r"), "j", "made up".to_owned())
    }
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
        assert_eq!(kind(429, None), ErrorKind::LimitReached);
        assert_eq!(kind(429, Some(json!({"message": "Quota exceeded."}))), ErrorKind::LimitReached);
        assert_eq!(kind(429, Some(json!({"details": [{"reason": RATE}]}))), ErrorKind::RateLimited);
        let message = "Quota exceeded for quota metric 'Read requests'";
        assert_eq!(kind(429, Some(json!({"message": message}))), ErrorKind::RateLimited);
        for status in [302, 307, 405, 408, 418, 421, 425, 499, 500, 501, 502, 503, 504, 511, 520, 599] {
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
        let denied = ApiError {
            status: Some(403),
            message: "Permission denied.".into(),
            ..ApiError::example(ApiMethod::CreateJob, ErrorKind::PermissionDenied)
        };
        assert_eq!(
            denied.to_string(),
            "Could not create the job 'j' in project 'p', region 'r': HTTP 403: Permission denied. The worker's account \
             lacks run.jobs.create on project 'p', or there is no such project: grant it roles/run.developer (gcloud \
             projects add-iam-policy-binding p)."
        );
        let named = ApiError { message: "Permission 'run.jobs.get' denied on resource 'x'".into(), ..denied.clone() };
        assert_eq!((named.missing_permission(), named.missing_permission_on()), (Some("run.jobs.get"), Some("x")));
        let other =
            ApiError { message: "Permission 'vpcaccess.connectors.use' denied on 'c'.".into(), ..named.clone() };
        assert!(other.hint().contains("a role that has this") && !other.hint().contains("roles/run.developer"));
        let act_as = ApiError { message: "Permission 'iam.serviceAccounts.actAs' denied on 'a@b'".into(), ..denied };
        assert_eq!(act_as.missing_permission(), Some("iam.serviceAccounts.actAs"));
        assert_eq!(act_as.missing_permission_on(), Some("a@b"));
        assert!(act_as.hint().contains("roles/iam.serviceAccountUser"));
        assert_eq!(ApiError::example(ApiMethod::GetJob, ErrorKind::NotFound).missing_permission(), None);
    }

    #[test]
    fn a_quota_says_whether_waiting_helps() {
        for method in [ApiMethod::CreateJob, ApiMethod::RunJob, ApiMethod::GetJob] {
            assert!(ApiError::example(method, ErrorKind::RateLimited).hint().contains("calls in a minute"));
        }
        let limit = |method| ApiError::example(method, ErrorKind::LimitReached).hint();
        assert!(limit(ApiMethod::CreateJob).contains("gcloud run jobs delete JOB --region r --project p"));
        assert!(limit(ApiMethod::RunJob).contains("1,000 running executions"));
    }
}
