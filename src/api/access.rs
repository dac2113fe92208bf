//! Whether the API can be reached, and which of the permissions that a worker needs its account lacks.
//!
//! # Guarantees
//! Nothing is created, changed or deleted: only lists, reads and `testIamPermissions` are sent.
//!
//! # Limits
//! Cloud Run knows `testIamPermissions` for a job that exists, which says nothing of `run.jobs.create`. The project's, of the
//! Cloud Resource Manager API, knows all; but that API may be disabled. Reads then show what reads can show.

use std::{collections::BTreeSet, time::Duration};

use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use super::{
    attempt_error::AttemptError,
    client::CloudRunClient,
    error::{ACT_AS, ApiError, ApiResult},
    error_kind::ErrorKind,
    http::Request,
    logging::{LogPace, LogQuery, LogReader},
    method::{ApiMethod, ApiPath},
    response::ApiResponse,
};

/// The methods that a worker calls.
const CALLS: [ApiMethod; 9] = [
    ApiMethod::CreateJob,
    ApiMethod::RunJob,
    ApiMethod::GetJob,
    ApiMethod::ListJobs,
    ApiMethod::DeleteJob,
    ApiMethod::ListExecutions,
    ApiMethod::GetExecution,
    ApiMethod::CancelExecution,
    ApiMethod::ListTasks,
];
/// The permission to read logs.
const READ_LOGS: &str = "logging.logEntries.list";
/// The name of a job and of an execution that nobody has.
const NOBODYS: &str = "prefect-gcp-cloud-run-doctor";
/// How often a question is asked at most, if it fails for a reason that may pass.
const MAX_ATTEMPTS: u32 = 2;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(500);

/// A permission that a worker needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NeededPermission {
    /// Its name, such as `run.jobs.create`.
    pub name: &'static str,
    /// What it is for, as an infinitive without "to".
    pub purpose: &'static str,
    /// The smallest predefined role that has it.
    pub role: &'static str,
}

impl NeededPermission {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let run = CALLS.into_iter().map(|method| {
            let row = method.row();
            Self { name: row.permission, purpose: row.purpose, role: "roles/run.developer" }
        });
        let others = [
            Self { name: ACT_AS, purpose: "run jobs as their service account", role: "roles/iam.serviceAccountUser" },
            Self { name: READ_LOGS, purpose: "read the log of a container that crashed", role: "roles/logging.viewer" },
        ];
        run.chain(others).collect()
    }
}

/// What was found out.
#[derive(Debug)]
pub struct Access {
    /// Why the jobs could not be listed. `None`: they could.
    pub error: Option<Box<ApiError>>,
    /// Each permission, and whether the account has it. `None`: nobody knows.
    pub permissions: Vec<(NeededPermission, Option<bool>)>,
    /// Why the project could not be asked for the permissions, so that only reads show them.
    pub not_asked: Option<NotAsked>,
}

/// Why an API could not be asked for permissions.
#[derive(Debug)]
pub struct NotAsked {
    /// The reason, for people.
    pub why: String,
    /// Whether the API is not enabled in the project.
    pub is_api_disabled: bool,
}

/// A response of which only the status counts.
#[derive(Deserialize)]
#[serde(transparent)]
struct Anything(#[allow(dead_code, reason = "it is parsed, so that a page of a proxy is no answer")] IgnoredAny);

impl ApiResponse for Anything {
    fn validate(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// The response of `testIamPermissions`: those of the permissions that the caller has.
#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    permissions: BTreeSet<String>,
}

impl ApiResponse for Granted {
    fn validate(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

impl CloudRunClient {
    /// Finds out whether the jobs can be listed, and which permissions the account has. `service_account`: the account that
    /// the jobs run as, if it is known.
    pub async fn check_access(&self, service_account: Option<&str>) -> Access {
        let error = self.probe(ApiMethod::ListJobs).await.err();
        let mut permissions: Vec<_> = NeededPermission::all().into_iter().map(|needed| (needed, None)).collect();
        // Without an answer to this, no other question has one. A refusal is an answer.
        if error.as_ref().is_some_and(|error| error.kind != ErrorKind::PermissionDenied) {
            return Access { error, permissions, not_asked: None };
        }
        let names: Vec<&str> = permissions.iter().map(|(needed, _)| needed.name).collect();
        let not_asked = match self.ask_project(&names).await {
            Ok(granted) => {
                for (needed, has) in &mut permissions {
                    *has = Some(granted.contains(needed.name));
                }
                None
            }
            Err(why) => {
                for (needed, has) in &mut permissions {
                    *has = self.has_by_reading(needed.name, error.as_deref()).await;
                }
                Some(why)
            }
        };
        for (needed, has) in &mut permissions {
            // It may be granted on the account alone.
            if needed.name == ACT_AS && *has != Some(true) {
                *has = match service_account {
                    Some(account) => self.ask_account(account).await,
                    None => None,
                };
            }
        }
        Access { error, permissions, not_asked }
    }

    /// Sends a read. A resource gets a name that nobody has.
    async fn probe(&self, method: ApiMethod) -> ApiResult<()> {
        let query = [("limit", "1"), ("fields", "kind")];
        let request = match method.row().path {
            ApiPath::Collection(_) => Request { query: &query, ..Request::new(method, "") },
            ApiPath::Resource(_) | ApiPath::Action(..) => Request::new(method, NOBODYS),
        };
        self.call::<Anything>(request).await.map(drop)
    }

    /// Whether a read shows that the account has this permission. `list_error`: of the list of jobs, which was read before.
    async fn has_by_reading(&self, permission: &str, list_error: Option<&ApiError>) -> Option<bool> {
        if permission == READ_LOGS {
            let reader = LogReader::new(self.transport.clone(), LogPace::default());
            let query = LogQuery { job: NOBODYS, execution: NOBODYS, since: None, limit: 1 };
            return match reader.read(query).await {
                Ok(_) => Some(true),
                Err(error) => (error.kind == ErrorKind::PermissionDenied).then_some(false),
            };
        }
        let method = CALLS.into_iter().find(|method| method.row().permission == permission && !method.is_write())?;
        if method == ApiMethod::ListJobs {
            return Some(list_error.is_none());
        }
        match self.probe(method).await {
            Ok(()) => Some(true),
            Err(error) if error.kind == ErrorKind::NotFound => Some(true),
            Err(error) => (error.missing_permission() == Some(permission)).then_some(false),
        }
    }

    /// Those of the permissions that the account has in the project.
    ///
    /// # Errors
    /// Why the Cloud Resource Manager API does not say it.
    async fn ask_project(&self, permissions: &[&str]) -> Result<BTreeSet<String>, NotAsked> {
        let resource = format!("{}:testIamPermissions", self.transport.project);
        self.ask("cloudresourcemanager", &["v3", "projects", &resource], permissions).await
    }

    /// Whether the caller may run something as this account. `None`: the IAM API does not say it.
    async fn ask_account(&self, account: &str) -> Option<bool> {
        let resource = format!("{account}:testIamPermissions");
        let granted = self.ask("iam", &["v1", "projects", "-", "serviceAccounts", &resource], &[ACT_AS]).await;
        granted.ok().map(|granted| granted.contains(ACT_AS))
    }

    async fn ask(&self, service: &str, segments: &[&str], permissions: &[&str]) -> Result<BTreeSet<String>, NotAsked> {
        let transport = &self.transport;
        let url = transport.endpoint.sibling_url(service, &transport.region, segments).ok_or_else(|| {
            let why =
                format!("the setting api_endpoint does not imply an address of {service}, so no token is sent there");
            NotAsked { why, is_api_disabled: false }
        })?;
        let body = json!({ "permissions": permissions }).to_string();
        let mut attempts = 1;
        loop {
            let failure = match self.exchange(&url, &body).await {
                Ok(granted) => return Ok(granted.permissions),
                Err(failure) => failure,
            };
            if attempts >= MAX_ATTEMPTS || !(failure.kind.is_transient() || failure.rejected_token.is_some()) {
                let host = url.host_str().unwrap_or(service);
                let status = failure.status.map(|status| format!("HTTP {status}: ")).unwrap_or_default();
                let why = format!("{host} does not say it: {status}{}", failure.message);
                return Err(NotAsked { why, is_api_disabled: failure.kind == ErrorKind::ApiDisabled });
            }
            attempts += 1;
            match failure.rejected_token {
                Some(generation) => transport.tokens.invalidate(generation),
                None => sleep(PAUSE).await,
            }
        }
    }

    async fn exchange(&self, url: &Url, body: &str) -> Result<Granted, AttemptError> {
        let http = self.transport.http.current();
        let call = http.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body.to_owned());
        self.transport.exchange(&http, call, None, &[&self.transport.project, &self.transport.region]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_permission_is_listed_once_with_its_role() {
        let all = NeededPermission::all();
        let names: BTreeSet<_> = all.iter().map(|needed| needed.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|needed| needed.role.starts_with("roles/") && !needed.purpose.is_empty()));
    }
}
