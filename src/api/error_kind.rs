//! The kinds of failures, and the one place that classifies a response.

use reqwest::StatusCode;

use super::types::ErrorStatus;

/// Why a call failed, as far as it decides what happens next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// The resource does not exist.
    NotFound,
    /// A resource with this name exists already.
    AlreadyExists,
    /// The account lacks a permission, or the project does not exist. The API does not say which.
    PermissionDenied,
    /// The Cloud Run Admin API is not enabled in the project.
    ApiDisabled,
    /// The request itself is wrong.
    InvalidRequest,
    /// No Cloud Run API responds at the address. Most often the region does not exist.
    NoSuchRegion,
    /// A quota of calls per minute is used up.
    RateLimited,
    /// A limit on what may exist at the same time is reached: jobs, or running executions of a region.
    LimitReached,
    /// No token could be obtained, or the API rejected it.
    Authentication,
    /// No token could be obtained for now.
    NoToken,
    /// The API could not be reached, or failed. The next attempt may succeed.
    Unavailable,
}

impl ErrorKind {
    /// Whether a quota or a limit refused the call, which may therefore be sent again later.
    pub fn is_lack_of_room(self) -> bool {
        matches!(self, Self::RateLimited | Self::LimitReached)
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::RateLimited | Self::LimitReached | Self::NoToken)
    }
}

/// Google's reason of a refusal by a quota per minute.
const RATE_LIMIT: &str = "RATE_LIMIT_EXCEEDED";

/// Whether a 429 is about calls per minute, by its reason or its message.
fn is_rate_limit(error: &ErrorStatus) -> bool {
    error.reason() == Some(RATE_LIMIT) || error.message.starts_with("Quota exceeded for quota metric")
}

/// The kind of a response that is not a success. `error` is the body, if it is one of Google's errors.
pub(super) fn classify(status: StatusCode, error: Option<&ErrorStatus>) -> ErrorKind {
    match status.as_u16() {
        // Not the API's: something in between refuses the call, perhaps for some seconds only.
        401 | 403 if error.is_none() => ErrorKind::Unavailable,
        401 => ErrorKind::Authentication,
        403 if error.and_then(ErrorStatus::reason) == Some("SERVICE_DISABLED") => ErrorKind::ApiDisabled,
        403 => ErrorKind::PermissionDenied,
        404 if error.is_some() => ErrorKind::NotFound,
        // Google's front end sends an HTML page for a host name that belongs to no region.
        404 => ErrorKind::NoSuchRegion,
        // Two writes collided. Neither is wrong, and the next attempt succeeds.
        409 if error.is_some_and(|error| error.status == "ABORTED") => ErrorKind::Unavailable,
        409 => ErrorKind::AlreadyExists,
        429 if error.is_some_and(is_rate_limit) => ErrorKind::RateLimited,
        429 => ErrorKind::LimitReached,
        300..=399 | 408 | 421 | 425 | 499 | 500..=599 => ErrorKind::Unavailable,
        400 | 413 | 414 | 422 => ErrorKind::InvalidRequest,
        // Any other response that is not the API's comes from a proxy or a load balancer.
        _ if error.is_none() => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidRequest,
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
    fn every_status_has_one_kind() {
        assert_eq!(kind(400, None), ErrorKind::InvalidRequest);
        assert_eq!(kind(401, Some(json!({}))), ErrorKind::Authentication);
        assert_eq!(kind(403, Some(json!({}))), ErrorKind::PermissionDenied);
        assert_eq!((kind(401, None), kind(403, None)), (ErrorKind::Unavailable, ErrorKind::Unavailable));
        assert_eq!(kind(403, Some(json!({"details": [{"reason": "SERVICE_DISABLED"}]}))), ErrorKind::ApiDisabled);
        assert_eq!(kind(404, Some(json!({"status": "NOT_FOUND"}))), ErrorKind::NotFound);
        assert_eq!(kind(404, None), ErrorKind::NoSuchRegion);
        assert_eq!(kind(409, Some(json!({"status": "ALREADY_EXISTS"}))), ErrorKind::AlreadyExists);
        assert_eq!(kind(409, Some(json!({"status": "ABORTED"}))), ErrorKind::Unavailable);
        assert_eq!(kind(429, None), ErrorKind::LimitReached);
        assert_eq!(kind(429, Some(json!({"message": "Quota exceeded."}))), ErrorKind::LimitReached);
        assert_eq!(kind(429, Some(json!({"details": [{"reason": RATE_LIMIT}]}))), ErrorKind::RateLimited);
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
}
