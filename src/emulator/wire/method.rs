//! From an HTTP method and path to a call of the API, by the table in `api::method`.

use axum::http::Method;

use crate::api::{ApiMethod, ApiPath, MethodRow, types::API_VERSION};

/// A call of the API: its method, and the name of the job or execution in its path as the caller wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ApiCall {
    pub(crate) method: ApiMethod,
    /// Empty for a create and for a list.
    pub(crate) name: String,
}

impl ApiCall {
    /// Reads `/apis/run.googleapis.com/v1/namespaces/{project}/…` and returns the project and the call. None when no
    /// method of the API has this HTTP method and path.
    pub(crate) fn parse(verb: &Method, path: &str) -> Option<(String, Self)> {
        let rest = path.strip_prefix("/apis/")?.strip_prefix(API_VERSION)?.strip_prefix("/namespaces/")?;
        let segments: Vec<String> = rest
            .split('/')
            .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8().map(|text| text.into_owned()))
            .collect::<Result<_, _>>()
            .ok()?;
        let (project, segments) = segments.split_first().filter(|(project, _)| !project.is_empty())?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let call = ApiMethod::ALL.into_iter().find_map(|method| {
            let MethodRow { verb: expected, path, .. } = method.row();
            let name = path.name_in(&segments).filter(|_| expected == *verb)?;
            Some(Self { method, name: name.to_owned() })
        })?;
        Some((project.clone(), call))
    }

    /// The method's name in the discovery document: `jobs.run`.
    pub(crate) fn id(&self) -> &'static str {
        self.method.row().id
    }

    /// The resource that a refused permission names.
    pub(crate) fn resource(&self, project: &str) -> String {
        match self.method.row().path {
            ApiPath::Collection(collection) => format!("namespaces/{project}/{collection}"),
            ApiPath::Resource(collection) | ApiPath::Action(collection, _) => {
                format!("namespaces/{project}/{collection}/{}", self.name)
            }
        }
    }

    /// The job that the path names. The name of an execution is the name of its job, a hyphen and five characters; that of
    /// a task is the name of its execution, `-task` and its index.
    /// None for a create and for a list.
    pub(crate) fn job(&self) -> Option<&str> {
        match self.method.row().path {
            ApiPath::Collection(_) => None,
            path if path.collection() == "jobs" => Some(&self.name),
            path if path.collection() == "tasks" => {
                let execution = self.name.rsplit_once("-task").map_or(self.name.as_str(), |(execution, _)| execution);
                Some(execution.rsplit_once('-').map_or(execution, |(job, _)| job))
            }
            _ => Some(self.name.rsplit_once('-').map_or(&self.name, |(job, _)| job)),
        }
    }

    /// The query parameters that the method has beside [`COMMON_PARAMETERS`].
    fn parameters(&self) -> &'static [&'static str] {
        match self.method {
            ApiMethod::CreateJob | ApiMethod::ReplaceJob => &["dryRun"],
            ApiMethod::ListJobs | ApiMethod::ListExecutions | ApiMethod::ListTasks => &[
                "continue",
                "fieldSelector",
                "includeUninitialized",
                "labelSelector",
                "limit",
                "resourceVersion",
                "watch",
            ],
            ApiMethod::DeleteJob => &["apiVersion", "dryRun", "kind", "propagationPolicy"],
            ApiMethod::DeleteExecution => &["apiVersion", "kind", "propagationPolicy"],
            ApiMethod::GetJob
            | ApiMethod::RunJob
            | ApiMethod::GetExecution
            | ApiMethod::CancelExecution
            | ApiMethod::GetTask => &[],
        }
    }

    /// Whether the call may have a query parameter of this name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        COMMON_PARAMETERS.contains(&name) || self.parameters().contains(&name)
    }
}

/// The query parameters of every method (discovery document, `parameters`).
const COMMON_PARAMETERS: &[&str] = &[
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

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/run.googleapis.com/v1/namespaces/demo";

    fn call(method: ApiMethod, name: &str) -> ApiCall {
        ApiCall { method, name: name.to_owned() }
    }

    #[test]
    fn verb_and_path_determine_the_call() {
        let parse = |verb, path: &str| ApiCall::parse(&verb, &format!("{BASE}{path}")).map(|(_, call)| call);
        assert_eq!(parse(Method::POST, "/jobs"), Some(call(ApiMethod::CreateJob, "")));
        assert_eq!(parse(Method::POST, "/jobs/daily:run"), Some(call(ApiMethod::RunJob, "daily")));
        assert_eq!(parse(Method::POST, "/jobs/daily%3Arun"), Some(call(ApiMethod::RunJob, "daily")));
        assert_eq!(parse(Method::GET, "/jobs/a%20b"), Some(call(ApiMethod::GetJob, "a b")));
        assert_eq!(parse(Method::POST, "/executions/e:cancel"), Some(call(ApiMethod::CancelExecution, "e")));
    }

    #[test]
    fn the_path_of_every_method_is_understood() {
        for method in ApiMethod::ALL {
            let row = method.row();
            let path = format!("{BASE}/{}", row.path.segments("a-job-abcde").join("/"));
            let (project, parsed) = ApiCall::parse(&row.verb, &path).unwrap();
            assert_eq!((project.as_str(), parsed.method), ("demo", method));
        }
    }

    #[test]
    fn a_path_tells_the_job() {
        assert_eq!(call(ApiMethod::GetExecution, "a-job-abcde").job(), Some("a-job"));
        assert_eq!(call(ApiMethod::GetTask, "a-job-abcde-task10").job(), Some("a-job"));
        assert_eq!(call(ApiMethod::RunJob, "a-job").job(), Some("a-job"));
        assert_eq!(call(ApiMethod::ListExecutions, "").job(), None);
    }

    #[test]
    fn other_verbs_and_paths_are_not_calls() {
        for (verb, path) in [
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
            assert_eq!(ApiCall::parse(&verb, &format!("{BASE}{path}")), None, "{verb} {path}");
        }
        assert_eq!(ApiCall::parse(&Method::GET, "/apis/run.googleapis.com/v1/namespaces//jobs"), None);
        assert_eq!(ApiCall::parse(&Method::GET, "/v1/projects/demo/jobs"), None);
    }
}
