//! What a request asks for: method and path of the API as one value, and the permission that it takes.

use axum::http::Method;

use crate::api::types::API_VERSION;

/// A call of the API. Names are as the caller wrote them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Call {
    CreateJob,
    ListJobs,
    GetJob(String),
    ReplaceJob(String),
    DeleteJob(String),
    RunJob(String),
    ListExecutions,
    GetExecution(String),
    DeleteExecution(String),
    CancelExecution(String),
}

impl Call {
    /// Reads `/apis/run.googleapis.com/v1/namespaces/{project}/…`; none when no call has this method and path.
    pub(super) fn parse(method: &Method, path: &str) -> Option<(String, Self)> {
        let rest = path.strip_prefix("/apis/")?.strip_prefix(API_VERSION)?.strip_prefix("/namespaces/")?;
        let segments: Vec<String> = rest
            .split('/')
            .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8().map(|text| text.into_owned()))
            .collect::<Result<_, _>>()
            .ok()?;
        let (project, kind, name) = match segments.as_slice() {
            [project, kind] => (project, kind.as_str(), None),
            [project, kind, name] => (project, kind.as_str(), Some(name.as_str())),
            _ => return None,
        };
        let (name, verb) = match name.map(|name| name.split_once(':').unwrap_or((name, ""))) {
            Some(("", _)) => return None,
            Some((name, verb)) => (Some(name.to_owned()), verb),
            None => (None, ""),
        };
        let call = match (method.as_str(), kind, name, verb) {
            ("POST", "jobs", None, "") => Self::CreateJob,
            ("GET", "jobs", None, "") => Self::ListJobs,
            ("GET", "jobs", Some(name), "") => Self::GetJob(name),
            ("PUT", "jobs", Some(name), "") => Self::ReplaceJob(name),
            ("DELETE", "jobs", Some(name), "") => Self::DeleteJob(name),
            ("POST", "jobs", Some(name), "run") => Self::RunJob(name),
            ("GET", "executions", None, "") => Self::ListExecutions,
            ("GET", "executions", Some(name), "") => Self::GetExecution(name),
            ("DELETE", "executions", Some(name), "") => Self::DeleteExecution(name),
            ("POST", "executions", Some(name), "cancel") => Self::CancelExecution(name),
            _ => return None,
        };
        (!project.is_empty()).then(|| (project.clone(), call))
    }

    /// The permission that the call takes (<https://cloud.google.com/run/docs/reference/iam/permissions>), and the
    /// resource that a refusal names.
    pub(super) fn permission(&self, project: &str) -> (&'static str, String) {
        let jobs = format!("namespaces/{project}/jobs");
        let executions = format!("namespaces/{project}/executions");
        match self {
            Self::CreateJob => ("run.jobs.create", jobs),
            Self::ListJobs => ("run.jobs.list", jobs),
            Self::GetJob(name) => ("run.jobs.get", format!("{jobs}/{name}")),
            Self::ReplaceJob(name) => ("run.jobs.update", format!("{jobs}/{name}")),
            Self::DeleteJob(name) => ("run.jobs.delete", format!("{jobs}/{name}")),
            Self::RunJob(name) => ("run.jobs.run", format!("{jobs}/{name}")),
            Self::ListExecutions => ("run.executions.list", executions),
            Self::GetExecution(name) => ("run.executions.get", format!("{executions}/{name}")),
            Self::DeleteExecution(name) => ("run.executions.delete", format!("{executions}/{name}")),
            Self::CancelExecution(name) => ("run.executions.cancel", format!("{executions}/{name}")),
        }
    }

    /// The method as the discovery document names it, below `namespaces`.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::CreateJob => "jobs.create",
            Self::ListJobs => "jobs.list",
            Self::GetJob(_) => "jobs.get",
            Self::ReplaceJob(_) => "jobs.replaceJob",
            Self::DeleteJob(_) => "jobs.delete",
            Self::RunJob(_) => "jobs.run",
            Self::ListExecutions => "executions.list",
            Self::GetExecution(_) => "executions.get",
            Self::DeleteExecution(_) => "executions.delete",
            Self::CancelExecution(_) => "executions.cancel",
        }
    }

    /// Whether it changes nothing.
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::ListJobs | Self::GetJob(_) | Self::ListExecutions | Self::GetExecution(_))
    }

    /// The job that it is about, as far as its path tells: an execution's name is its job's and five characters more.
    pub(super) fn job(&self) -> Option<&str> {
        match self {
            Self::CreateJob | Self::ListJobs | Self::ListExecutions => None,
            Self::GetJob(job) | Self::ReplaceJob(job) | Self::DeleteJob(job) | Self::RunJob(job) => Some(job),
            Self::GetExecution(name) | Self::DeleteExecution(name) | Self::CancelExecution(name) => {
                Some(name.rsplit_once('-').map_or(name, |(job, _)| job))
            }
        }
    }

    /// Query parameters of the call; those that every call takes are in [`COMMON_PARAMETERS`].
    pub(super) fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::CreateJob | Self::ReplaceJob(_) => &["dryRun"],
            Self::ListJobs | Self::ListExecutions => &[
                "continue",
                "fieldSelector",
                "includeUninitialized",
                "labelSelector",
                "limit",
                "resourceVersion",
                "watch",
            ],
            Self::DeleteJob(_) => &["apiVersion", "dryRun", "kind", "propagationPolicy"],
            Self::DeleteExecution(_) => &["apiVersion", "kind", "propagationPolicy"],
            Self::GetJob(_) | Self::RunJob(_) | Self::GetExecution(_) | Self::CancelExecution(_) => &[],
        }
    }
}

/// Query parameters of every call (discovery document, `parameters`).
pub(super) const COMMON_PARAMETERS: &[&str] = &[
    "$.xgafv",
    "access_token",
    "alt",
    "callback",
    "fields",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
];

/// All methods that the emulator has.
pub(super) const METHODS: &[&str] = &[
    "jobs.create",
    "jobs.list",
    "jobs.get",
    "jobs.replaceJob",
    "jobs.delete",
    "jobs.run",
    "executions.list",
    "executions.get",
    "executions.delete",
    "executions.cancel",
];

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/run.googleapis.com/v1/namespaces/demo";

    #[test]
    fn method_and_path_make_the_call() {
        let parse = |method, path: &str| Call::parse(&method, &format!("{BASE}{path}")).map(|(_, call)| call);
        assert_eq!(parse(Method::POST, "/jobs"), Some(Call::CreateJob));
        assert_eq!(parse(Method::POST, "/jobs/daily:run"), Some(Call::RunJob("daily".to_owned())));
        assert_eq!(parse(Method::POST, "/jobs/daily%3Arun"), Some(Call::RunJob("daily".to_owned())));
        assert_eq!(parse(Method::GET, "/jobs/a%20b"), Some(Call::GetJob("a b".to_owned())));
        assert_eq!(parse(Method::POST, "/executions/e:cancel"), Some(Call::CancelExecution("e".to_owned())));
    }

    #[test]
    fn every_method_is_listed() {
        let name = || "a-job-abcde".to_owned();
        for call in [
            Call::CreateJob,
            Call::ListJobs,
            Call::GetJob(name()),
            Call::ReplaceJob(name()),
            Call::DeleteJob(name()),
            Call::RunJob(name()),
            Call::ListExecutions,
            Call::GetExecution(name()),
            Call::DeleteExecution(name()),
            Call::CancelExecution(name()),
        ] {
            assert!(METHODS.contains(&call.method()), "{call:?}");
        }
        assert_eq!(Call::GetExecution(name()).job(), Some("a-job"));
    }

    #[test]
    fn other_methods_and_paths_are_no_call() {
        for (method, path) in [
            (Method::GET, "/jobs/"),
            (Method::GET, "/jobs/daily:run"),
            (Method::POST, "/jobs/daily"),
            (Method::POST, "/jobs/daily:walk"),
            (Method::PATCH, "/jobs/daily"),
            (Method::GET, "/services"),
            (Method::GET, "/jobs/a/b"),
            (Method::GET, "/jobs/%ff"),
            (Method::GET, ""),
        ] {
            assert_eq!(Call::parse(&method, &format!("{BASE}{path}")), None, "{method} {path}");
        }
        assert_eq!(Call::parse(&Method::GET, "/apis/run.googleapis.com/v1/namespaces//jobs"), None);
        assert_eq!(Call::parse(&Method::GET, "/v1/projects/demo/jobs"), None);
    }
}
