//! The methods of the Cloud Run Admin API v1 for jobs, their executions and their tasks, as a table with one row per method.
//!
//! The client and the emulator use the same table. Sources: the discovery document
//! (`resources.namespaces.resources`), <https://cloud.google.com/run/docs/reference/iam/permissions>,
//! <https://cloud.google.com/run/quotas>.

use reqwest::Method;

/// A method of the API.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ApiMethod {
    /// `jobs.create`
    CreateJob,
    /// `jobs.list`
    ListJobs,
    /// `jobs.get`
    GetJob,
    /// `jobs.replaceJob`
    ReplaceJob,
    /// `jobs.delete`
    DeleteJob,
    /// `jobs.run`
    RunJob,
    /// `executions.list`
    ListExecutions,
    /// `executions.get`
    GetExecution,
    /// `executions.delete`
    DeleteExecution,
    /// `executions.cancel`
    CancelExecution,
    /// `tasks.list`
    ListTasks,
    /// `tasks.get`
    GetTask,
}

/// The quotas per minute. Google counts each of them by project and region.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Quota {
    /// Read requests.
    Reads,
    /// Write requests.
    Writes,
    /// Job run requests.
    Runs,
}

impl Quota {
    /// Its name on Google's quota page, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "read requests",
            Self::Writes => "write requests",
            Self::Runs => "job run requests",
        }
    }
}

/// In which order calls are admitted that wait for the same quota. Every priority gets a share.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Priority {
    /// Last: reads that watch executions.
    Low,
    /// What takes a run one step further.
    Normal,
    /// First: what frees resources that other calls wait for, and reads that a kill, a start or a delete waits for.
    High,
}

impl Priority {
    /// All priorities, the lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
}

/// The path of a method below `namespaces/{project}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiPath {
    /// `{collection}`
    Collection(&'static str),
    /// `{collection}/{name}`
    Resource(&'static str),
    /// `{collection}/{name}:{action}`
    Action(&'static str, &'static str),
}

/// The properties of a method.
#[derive(Clone, Debug)]
pub struct MethodRow {
    /// Name in the discovery document, below `run.namespaces`.
    pub id: &'static str,
    /// HTTP method.
    pub verb: Method,
    /// Path below `namespaces/{project}`.
    pub path: ApiPath,
    /// IAM permission that the caller needs.
    pub permission: &'static str,
    /// Quota that counts its calls.
    pub quota: Quota,
    /// Whether the call may be sent again when the first one may have taken effect.
    pub repeatable: bool,
    /// The priority of its calls. A read may have another one: see
    /// [`CloudRunClient::with_read_priority`](super::CloudRunClient::with_read_priority).
    pub priority: Priority,
    /// What it does, in words that follow "could not" in an error.
    pub purpose: &'static str,
}

impl ApiMethod {
    /// All methods.
    pub const ALL: [Self; 12] = [
        Self::CreateJob,
        Self::ListJobs,
        Self::GetJob,
        Self::ReplaceJob,
        Self::DeleteJob,
        Self::RunJob,
        Self::ListExecutions,
        Self::GetExecution,
        Self::DeleteExecution,
        Self::CancelExecution,
        Self::ListTasks,
        Self::GetTask,
    ];

    /// The method's row of the table.
    ///
    /// # Repeatable
    /// A create is: the second one ends in a 409, and [`ApiError::maybe_done`](super::ApiError::maybe_done) says that the
    /// first one may be its cause. `jobs.run` is not: it would start a second execution. Nor is `jobs.delete`: the name may
    /// belong to another job by then.
    ///
    /// # Priority
    /// Deletes and cancels come first, because they free resources that other calls wait for.
    #[rustfmt::skip]
    pub fn row(self) -> MethodRow {
        use ApiPath::{Action, Collection, Resource};
        use Priority::{High, Normal};
        use Quota::{Reads, Runs, Writes};
        let (id, verb, path, permission, quota, repeatable, priority, purpose) = match self {
            Self::CreateJob       => ("jobs.create",       Method::POST,   Collection("jobs"),             "run.jobs.create",       Writes, true,  Normal, "create the job"),
            Self::ListJobs        => ("jobs.list",         Method::GET,    Collection("jobs"),             "run.jobs.list",         Reads,  true,  Normal, "list the jobs"),
            Self::GetJob          => ("jobs.get",          Method::GET,    Resource("jobs"),               "run.jobs.get",          Reads,  true,  Normal, "read the job"),
            Self::ReplaceJob      => ("jobs.replaceJob",   Method::PUT,    Resource("jobs"),               "run.jobs.update",       Writes, false, Normal, "replace the job"),
            Self::DeleteJob       => ("jobs.delete",       Method::DELETE, Resource("jobs"),               "run.jobs.delete",       Writes, false, High,   "delete the job"),
            Self::RunJob          => ("jobs.run",          Method::POST,   Action("jobs", "run"),          "run.jobs.run",          Runs,   false, Normal, "run the job"),
            Self::ListExecutions  => ("executions.list",   Method::GET,    Collection("executions"),       "run.executions.list",   Reads,  true,  Normal, "list the executions"),
            Self::GetExecution    => ("executions.get",    Method::GET,    Resource("executions"),         "run.executions.get",    Reads,  true,  Normal, "read the execution"),
            Self::DeleteExecution => ("executions.delete", Method::DELETE, Resource("executions"),         "run.executions.delete", Writes, true,  High,   "delete the execution"),
            Self::CancelExecution => ("executions.cancel", Method::POST,   Action("executions", "cancel"), "run.executions.cancel", Writes, true,  High,   "cancel the execution"),
            Self::ListTasks       => ("tasks.list",        Method::GET,    Collection("tasks"),            "run.tasks.list",        Reads,  true,  Normal, "list the tasks"),
            Self::GetTask         => ("tasks.get",         Method::GET,    Resource("tasks"),              "run.tasks.get",         Reads,  true,  Normal, "read the task"),
        };
        MethodRow { id, verb, path, permission, quota, repeatable, priority, purpose }
    }

    /// Whether it changes a resource.
    pub fn is_write(self) -> bool {
        self.row().verb != Method::GET
    }
}

impl ApiPath {
    /// The path segments below `namespaces/{project}`. `name` is the resource's; the path of a collection has none.
    pub fn segments(self, name: &str) -> Vec<String> {
        match self {
            Self::Collection(collection) => vec![collection.to_owned()],
            Self::Resource(collection) => vec![collection.to_owned(), name.to_owned()],
            Self::Action(collection, action) => vec![collection.to_owned(), format!("{name}:{action}")],
        }
    }

    /// The inverse of [`Self::segments`]: the resource's name, which is empty for a collection. None when `segments`
    /// (decoded) are not of this path.
    pub fn name_in<'a>(self, segments: &[&'a str]) -> Option<&'a str> {
        let (collection, wanted) = match self {
            Self::Collection(collection) => (collection, None),
            Self::Resource(collection) => (collection, Some("")),
            Self::Action(collection, action) => (collection, Some(action)),
        };
        match (segments, wanted) {
            (&[first], None) => (first == collection).then_some(""),
            (&[first, last], Some(wanted)) => {
                let (name, action) = last.split_once(':').unwrap_or((last, ""));
                (first == collection && action == wanted && !name.is_empty()).then_some(name)
            }
            _ => None,
        }
    }

    /// The collection: `jobs`, `executions` or `tasks`.
    pub fn collection(self) -> &'static str {
        match self {
            Self::Collection(collection) | Self::Resource(collection) | Self::Action(collection, _) => collection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_row_of_its_own() {
        for (index, method) in ApiMethod::ALL.into_iter().enumerate() {
            let row = method.row();
            for other in &ApiMethod::ALL[..index] {
                let other = other.row();
                assert!(row.id != other.id && row.permission != other.permission, "{method:?}");
                assert!((&row.verb, row.path) != (&other.verb, other.path), "{method:?}");
            }
        }
    }

    #[test]
    fn paths_have_their_segments() {
        assert_eq!(ApiMethod::RunJob.row().path.segments("j"), ["jobs", "j:run"]);
        assert_eq!(ApiMethod::GetExecution.row().path.segments("e"), ["executions", "e"]);
        assert_eq!(ApiMethod::ListExecutions.row().path.segments("ignored"), ["executions"]);
    }

    #[test]
    fn segments_are_of_exactly_one_path_with_each_verb() {
        for method in ApiMethod::ALL {
            let row = method.row();
            let segments = row.path.segments("a-job");
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            let named = ApiMethod::ALL.into_iter().filter_map(|other| {
                let other_row = other.row();
                let name = other_row.path.name_in(&segments).filter(|_| other_row.verb == row.verb)?;
                Some((other, name))
            });
            let name = if segments.len() == 1 { "" } else { "a-job" };
            assert_eq!(named.collect::<Vec<_>>(), [(method, name)]);
        }
        assert_eq!(ApiMethod::GetJob.row().path.name_in(&["jobs", ""]), None);
    }
}
