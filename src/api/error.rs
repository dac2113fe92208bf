//! The error of a call, and what a person can do about it.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use super::{error_kind::ErrorKind, method::ApiMethod};

/// The result of a call.
pub type ApiResult<T> = Result<T, Box<ApiError>>;

/// The error below an [`ApiError`]: of the HTTP client or of the token source.
pub type ErrorSource = Arc<dyn Error + Send + Sync>;

/// A part of a call's budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryBudget {
    /// The number of attempts.
    Attempts,
    /// The time for attempts and pauses.
    Time,
    /// The time to wait for a quota.
    QuotaWait,
}

impl RetryBudget {
    /// The setting of the worker that this budget comes from.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Attempts => "retry_max_attempts",
            Self::Time => "retry_max_seconds",
            Self::QuotaWait => "quota_wait_max_seconds",
        }
    }
}

/// A call that failed: either another attempt would be useless or unsafe, or its budget is used up.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// Why it failed.
    pub kind: ErrorKind,
    /// The method that was called.
    pub method: ApiMethod,
    /// Project of the call.
    pub project: String,
    /// Region of the call.
    pub region: String,
    /// Name of the job or execution; empty for a list.
    pub name: String,
    /// HTTP status of the last response, if there was one.
    pub status: Option<u16>,
    /// Google's message, or that of the HTTP client or token source. Without secrets.
    pub message: String,
    /// Google's reason for programs (`reason` of `google.rpc.ErrorInfo`), if it sent one.
    pub reason: Option<String>,
    /// The pause that the last response asked for (`Retry-After`): 60 seconds at most.
    pub retry_after: Option<Duration>,
    /// Number of attempts; 0 when the call was not sent.
    pub attempts: u32,
    /// Time from the begin of the call to its last failure, waits for quotas included.
    pub elapsed: Duration,
    /// The budget that was used up. `None` when another attempt would have been useless or unsafe.
    pub exhausted: Option<RetryBudget>,
    /// Whether one of the attempts may have taken effect although none succeeded.
    pub maybe_done: bool,
    /// The error below, if there is one. It shows no secrets.
    pub source: Option<ErrorSource>,
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The error with what to do about it.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)?;
        match self.hint().as_str() {
            "" => Ok(()),
            hint => write!(f, " {hint}"),
        }
    }
}

/// The text of an [`ApiError`] without what to do about it.
struct Brief<'a>(&'a ApiError);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, false)
    }
}

impl ApiError {
    /// The text without what to do about it, for a call that will be repeated.
    pub fn brief(&self) -> impl fmt::Display + '_ {
        Brief(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, with_advice: bool) -> fmt::Result {
        write!(f, "Could not {}", self.method.row().purpose)?;
        if !self.name.is_empty() {
            write!(f, " '{}'", self.name)?;
        }
        write!(f, " in project '{}', region '{}': ", self.project, self.region)?;
        if let Some(status) = self.status {
            write!(f, "HTTP {status}: ")?;
        }
        f.write_str(self.message.trim_end_matches('.'))?;
        let plural = if self.attempts == 1 { "" } else { "s" };
        let spent = format_args!("after {} attempt{plural} in {:.1} s", self.attempts, self.elapsed.as_secs_f64());
        match (self.exhausted, self.attempts) {
            // A call that is allowed one attempt only is repeated by its caller, if at all. Without any attempt, the
            // message says everything.
            (_, 0) | (None | Some(RetryBudget::Attempts), 1) => {}
            (None, _) => write!(f, " ({spent})")?,
            (Some(budget), _) if with_advice => {
                write!(f, " (gave up {spent}; the setting {} is the limit)", budget.setting())?;
            }
            (Some(_), _) => write!(f, " ({spent})")?,
        }
        f.write_str(".")
    }

    /// The error of one attempt without a response. `location`: project and region.
    pub fn new(method: ApiMethod, kind: ErrorKind, location: (&str, &str), name: &str, message: String) -> Self {
        let (project, region) = location;
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
            elapsed: Duration::ZERO,
            exhausted: None,
            maybe_done: false,
            source: None,
        }
    }

    /// Whether a failed read of a job that surely existed may succeed later. That includes an HTML 404: the region of a job
    /// exists, so it is the front end that fails.
    pub fn may_pass(&self) -> bool {
        self.kind.is_transient() || self.kind == ErrorKind::NoSuchRegion
    }

    /// The pause before the next call: `pause`, or the one that the server asked for if that is longer.
    pub fn pause_at_least(&self, pause: Duration) -> Duration {
        pause.max(self.retry_after.unwrap_or_default())
    }

    /// The resource that the permission is missing on, as Google's message names it. `None` for other failures.
    pub fn missing_permission_on(&self) -> Option<&str> {
        self.missing_permission()?;
        let quoted = ["denied on resource '", "denied on service account '", "denied on '"];
        // Google does not quote service accounts: "denied on service account a@b (or it may not exist)".
        let unquoted = || self.message.split_once("denied on service account ")?.1.split_whitespace().next();
        quoted.iter().find_map(|start| quoted_after(&self.message, start)).or_else(unquoted)
    }

    /// The permission that the caller lacks: the one that Google's message names, or else the one that the method needs.
    /// `None` for other failures.
    pub fn missing_permission(&self) -> Option<&str> {
        if self.kind != ErrorKind::PermissionDenied {
            return None;
        }
        let named = quoted_after(&self.message, "ermission '").filter(|name| name.contains('.'));
        // Google writes it in other cases too: iam.serviceaccounts.actAs.
        let has_act_as = self.message.to_ascii_lowercase().contains(&ACT_AS.to_ascii_lowercase());
        let act_as = has_act_as.then_some(ACT_AS);
        Some(act_as.or(named).unwrap_or(self.method.row().permission))
    }

    /// What a person can do about it, in one or two sentences. Empty for a list that the API
    /// rejects as such: there is nothing to do.
    pub fn hint(&self) -> String {
        let Self { project, region, name, .. } = self;
        match self.kind {
            ErrorKind::NotFound | ErrorKind::InvalidRequest
                if matches!(self.method, ApiMethod::ListExecutions | ApiMethod::ListJobs | ApiMethod::ListTasks) =>
            {
                String::new()
            }
            ErrorKind::NotFound => "It was deleted, or it never existed in this project and region.".to_owned(),
            ErrorKind::AlreadyExists => format!(
                "Another job with this name exists: delete it (gcloud run jobs delete {name} --region {region} --project \
                 {project}), or leave the job variable 'name' unset, so that every run gets a name of its own."
            ),
            ErrorKind::PermissionDenied => match self.missing_permission().unwrap_or_default() {
                ACT_AS => {
                    "The worker's account lacks iam.serviceAccounts.actAs on the job's service account: grant it \
                     roles/iam.serviceAccountUser on that account, or choose another one with the job variable \
                     'service_account_name'."
                        .to_owned()
                }
                // After the create, the project is known to exist. A kill begins with a read, maybe of another project.
                permission if permission.starts_with("run.") => format!(
                    "The worker's account lacks {permission} on project '{project}'{}: grant it roles/run.developer \
                     (gcloud projects add-iam-policy-binding {project} --member=serviceAccount:ACCOUNT \
                     --role=roles/run.developer).",
                    if matches!(self.method, ApiMethod::CreateJob | ApiMethod::GetJob) {
                        ", or there is no such project"
                    } else {
                        ""
                    }
                ),
                permission => format!(
                    "An account lacks {permission}, as Google's message says: grant it a role that has this permission."
                ),
            },
            ErrorKind::ApiDisabled => {
                format!("Enable the API: gcloud services enable run.googleapis.com --project {project}")
            }
            ErrorKind::InvalidRequest => {
                "Check the job variables and the work pool's base job template against Google's message.".to_owned()
            }
            ErrorKind::NoSuchRegion => format!(
                "Check the job variable 'region': no Cloud Run API answers for '{region}' (gcloud run regions list \
                 shows those that exist)."
            ),
            ErrorKind::RateLimited => format!(
                "The per-minute quota of {} in project '{project}', region '{region}' is used up: start fewer runs at a \
                 time, or ask Google for a higher quota of the Cloud Run Admin API.",
                self.method.row().quota.name()
            ),
            ErrorKind::LimitReached if self.method == ApiMethod::CreateJob => format!(
                "Region '{region}' may have reached its limit of 1,000 jobs: delete some with gcloud run jobs delete JOB \
                 --region {region} --project {project} (gcloud run jobs list --region {region} --project {project} \
                 shows them)."
            ),
            ErrorKind::LimitReached if self.method == ApiMethod::RunJob => format!(
                "Region '{region}' may have reached its limit of 1,000 running executions, or its quota of job runs per \
                 minute: use another region, or ask Google for more."
            ),
            ErrorKind::LimitReached => {
                format!(
                    "Try again later, or ask Google for a higher quota of the Cloud Run Admin API in region '{region}'."
                )
            }
            ErrorKind::Authentication | ErrorKind::NoToken => {
                "Check the work pool's GCP credentials block, or the environment's application default credentials \
                 (gcloud auth application-default login)."
                    .to_owned()
            }
            ErrorKind::Unavailable => {
                format!(
                    "The Cloud Run Admin API can't be reached or is failing: check the network, the region \
                     '{region}' and https://status.cloud.google.com."
                )
            }
        }
    }
}

/// The permission to run something as a service account.
pub(super) const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// The text between `start` and the next apostrophe.
fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once('\'').map(|(quoted, _)| quoted)
}

#[cfg(test)]
impl ApiError {
    /// An error for tests to change.
    pub(crate) fn example(method: ApiMethod, kind: ErrorKind) -> Self {
        Self::new(method, kind, ("p", "r"), "j", "made up".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_failed_where_and_what_to_do() {
        let denied = ApiError {
            status: Some(403),
            message: "Permission denied.".into(),
            ..ApiError::example(ApiMethod::CreateJob, ErrorKind::PermissionDenied)
        };
        assert_eq!(
            denied.to_string(),
            "Could not create the job 'j' in project 'p', region 'r': HTTP 403: Permission denied. The worker's account \
             lacks run.jobs.create on project 'p', or there is no such project: grant it roles/run.developer (gcloud \
             projects add-iam-policy-binding p --member=serviceAccount:ACCOUNT --role=roles/run.developer)."
        );
        let named = ApiError { message: "Permission 'run.jobs.get' denied on resource 'x'".into(), ..denied.clone() };
        assert_eq!((named.missing_permission(), named.missing_permission_on()), (Some("run.jobs.get"), Some("x")));
        let other =
            ApiError { message: "Permission 'vpcaccess.connectors.use' denied on 'c'.".into(), ..named.clone() };
        assert!(other.hint().contains("a role that has this") && !other.hint().contains("roles/run.developer"));
        let act_as = ApiError { message: "Permission 'iam.serviceAccounts.actAs' denied on 'a@b'".into(), ..denied };
        assert_eq!(act_as.missing_permission(), Some("iam.serviceAccounts.actAs"));
        assert_eq!(act_as.missing_permission_on(), Some("a@b"));
        let message = "Permission 'iam.serviceaccounts.actAs' denied on service account a@b (or it may not exist).";
        let act_as = ApiError { message: message.into(), ..act_as };
        assert_eq!((act_as.missing_permission(), act_as.missing_permission_on()), (Some(ACT_AS), Some("a@b")));
        assert!(act_as.hint().contains("roles/iam.serviceAccountUser"));
        assert_eq!(ApiError::example(ApiMethod::GetJob, ErrorKind::NotFound).missing_permission(), None);
    }

    #[test]
    fn a_rate_and_a_limit_have_different_hints() {
        for method in [ApiMethod::CreateJob, ApiMethod::RunJob, ApiMethod::GetJob] {
            assert!(ApiError::example(method, ErrorKind::RateLimited).hint().contains("per-minute quota"));
        }
        let limit = |method| ApiError::example(method, ErrorKind::LimitReached).hint();
        assert!(limit(ApiMethod::CreateJob).contains("gcloud run jobs delete JOB --region r --project p"));
        assert!(limit(ApiMethod::RunJob).contains("1,000 running executions"));
    }

    #[test]
    fn the_text_says_which_budget_is_used_up() {
        let text = |attempts, exhausted| {
            let elapsed = Duration::from_millis(12_340);
            let error = ApiError::example(ApiMethod::GetJob, ErrorKind::Unavailable);
            let text = ApiError { attempts, exhausted, elapsed, ..error }.to_string();
            text.split_once("made up").unwrap().1.split_once(". The Cloud Run").unwrap().0.to_owned()
        };
        assert_eq!(text(1, None), "");
        assert_eq!(text(3, None), " (after 3 attempts in 12.3 s)");
        assert_eq!(
            text(4, Some(RetryBudget::Attempts)),
            " (gave up after 4 attempts in 12.3 s; the setting retry_max_attempts is the limit)"
        );
        assert_eq!(text(1, Some(RetryBudget::Attempts)), "");
        let no_time = " (gave up after 1 attempt in 12.3 s; the setting retry_max_seconds is the limit)";
        assert_eq!(
            (text(0, Some(RetryBudget::Time)).as_str(), text(1, Some(RetryBudget::Time)).as_str()),
            ("", no_time)
        );
    }

    #[test]
    fn the_error_below_is_kept() {
        let source: ErrorSource = Arc::new(fmt::Error);
        let error = ApiError::example(ApiMethod::GetJob, ErrorKind::Unavailable);
        let error = ApiError { source: Some(source), ..error };
        assert!(Error::source(&error).unwrap().is::<fmt::Error>());
    }
}
