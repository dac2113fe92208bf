//! The methods of the API as typed calls.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    call::CallPermit,
    endpoint::check_project,
    error::{ApiError, ApiResult},
    error_kind::ErrorKind,
    guard::Guard,
    http::Request,
    method::{ApiMethod, ApiPath, Priority},
    response::{ApiResponse, JobList, TaskList},
    transport::Transport,
    types::{Deletion, EXECUTION_LABEL, Execution, JOB_LABEL, Job, List, Task},
};
use crate::{schema::run_v1, secret::Secret};

/// The fields of executions that [`CloudRunClient::list_executions_of_jobs`] asks for (partial responses: discovery
/// document, parameter `fields`).
const PROGRESS_FIELDS: &str = "kind,unreachable,metadata/continue,items(metadata(name,uid),\
     status(conditions,runningCount,startTime,completionTime,logUri))";

/// The fields of jobs that [`CloudRunClient::find_job`] asks for. Bodies of jobs may contain secrets.
const JOB_FIELDS: &str = "kind,unreachable,metadata/continue,items(metadata(name,uid,labels,deletionTimestamp),status)";

/// The fields of jobs that [`CloudRunClient::list_jobs`] asks for.
const JOB_STATUS_FIELDS: &str = "kind,unreachable,metadata/continue,\
    items(metadata(name,uid,labels,annotations,creationTimestamp,deletionTimestamp,generation),status)";

/// The fields of tasks that [`CloudRunClient::list_tasks`] asks for. A task's body repeats the environment of its job.
const TASK_FIELDS: &str = "kind,unreachable,metadata/continue,items(metadata/name,status)";

/// Maximum number of a list's pages. No real list has so many.
const MAX_PAGES: usize = 1000;

/// A client for one project and region. Clones are cheap.
///
/// # Guarantees
/// Every call waits for its quota, is repeated while that is useful and safe, and has a typed error.
///
/// # Errors
/// An [`ApiError`], when another attempt would be useless or unsafe, or when the call's budget is used up.
#[derive(Clone)]
pub struct CloudRunClient {
    pub(super) transport: Transport,
    /// The priority of reads, if it is not that of the methods.
    read_priority: Option<Priority>,
}

impl CloudRunClient {
    /// A client on this transport.
    pub fn new(transport: Transport) -> Self {
        Self { transport, read_priority: None }
    }

    /// The same client, whose reads have this priority.
    #[must_use]
    pub fn with_read_priority(self, priority: Priority) -> Self {
        Self { read_priority: Some(priority), ..self }
    }

    /// The same client, whose calls wait at most this long for their quota.
    #[must_use]
    pub fn with_quota_wait_max(mut self, quota_wait_max: Duration) -> Self {
        self.transport.quota_wait_max = quota_wait_max;
        self
    }

    /// Creates a job from `body`, and returns it with the fields that the service adds.
    pub async fn create_job(&self, name: &str, body: &JobBody, guard: &dyn Guard) -> ApiResult<Job> {
        let request = Request::new(ApiMethod::CreateJob, name);
        self.call(Request { body: Some(body.0.reveal()), guard: Some(guard), ..request }).await
    }

    /// Reads a job.
    pub async fn get_job(&self, name: &str) -> ApiResult<Job> {
        self.call(Request::new(ApiMethod::GetJob, name)).await
    }

    /// Finds a job by a list of jobs, from every page. `label` (key and value) narrows the list to jobs that carry it.
    ///
    /// `None`: the list is complete and does not contain the job. A list with a job that can't be parsed shows no absence.
    pub async fn find_job(&self, name: &str, label: Option<(&str, &str)>) -> ApiResult<Option<Job>> {
        let selector = label.map(|(key, value)| format!("{key}={value}"));
        let mut query = vec![("fields", JOB_FIELDS)];
        query.extend(selector.iter().map(|selector| ("labelSelector", selector.as_str())));
        let jobs: Vec<Job> = self.list::<JobList, _>(ApiMethod::ListJobs, &query).await?;
        let has_unparsable = jobs.iter().any(|job| job.metadata.name.is_empty());
        match jobs.into_iter().find(|job| job.metadata.name == name) {
            None if has_unparsable => {
                Err(self.unusable_list(ApiMethod::ListJobs, "the list has a job that can't be parsed"))
            }
            found => Ok(found),
        }
    }

    /// Lists the jobs that a label selector shows, from every page, with their metadata and status only.
    ///
    /// A job that can't be parsed is returned without a name.
    pub async fn list_jobs(&self, selector: &str) -> ApiResult<Vec<Job>> {
        let query = [("labelSelector", selector), ("fields", JOB_STATUS_FIELDS)];
        self.list::<JobList, _>(ApiMethod::ListJobs, &query).await
    }

    /// Deletes a job. The service stops its executions in the background.
    ///
    /// Not repeated when an attempt may have deleted the job ([`ApiError::maybe_done`]): the name may belong to another job
    /// by then.
    pub async fn delete_job(&self, name: &str, guard: &dyn Guard) -> ApiResult<()> {
        let request = Request { guard: Some(guard), ..Request::new(ApiMethod::DeleteJob, name) };
        self.call::<Deletion>(request).await.map(drop)
    }

    /// Starts an execution of a job, and returns it. It always has a name.
    ///
    /// Not repeated when an attempt may have started an execution ([`ApiError::maybe_done`]).
    pub async fn run_job(&self, name: &str, guard: &dyn Guard) -> ApiResult<Execution> {
        // The body has no overrides: they need a permission (run.jobs.runWithOverrides) that a plain start does not.
        let request = Request { body: Some("{}"), guard: Some(guard), ..Request::new(ApiMethod::RunJob, name) };
        self.call(request).await
    }

    /// Reads an execution.
    pub async fn get_execution(&self, name: &str) -> ApiResult<Execution> {
        self.call(Request::new(ApiMethod::GetExecution, name)).await
    }

    /// Lists all executions of a job, from every page.
    ///
    /// An execution that can't be parsed is returned without a name. So an empty list means that there is none.
    pub async fn list_executions(&self, job: &str) -> ApiResult<Vec<Execution>> {
        self.list::<List<Value>, _>(ApiMethod::ListExecutions, &[("labelSelector", &format!("{JOB_LABEL}={job}"))])
            .await
    }

    /// Waits until the quota of reads admits a list of executions, so that the caller can say then what it is to show.
    pub async fn admit_list(&self) -> ApiResult<CallPermit<'_>> {
        self.transport.admit(&self.with_priority(Request::new(ApiMethod::ListExecutions, ""))).await
    }

    /// Lists all executions of several jobs, from every page, with their names, uids, conditions, times, counts of
    /// running tasks and log addresses only. `permit`: that of the first page, from [`Self::admit_list`].
    pub async fn list_executions_of_jobs(&self, jobs: &[&str], permit: CallPermit<'_>) -> ApiResult<Vec<Execution>> {
        let selector = format!("{JOB_LABEL} in ({})", jobs.join(","));
        let query = [("labelSelector", selector.as_str()), ("fields", PROGRESS_FIELDS)];
        self.list_with::<List<Value>, _>(ApiMethod::ListExecutions, &query, Some(permit)).await
    }

    /// Lists all tasks of an execution, from every page, with their names and statuses only.
    pub async fn list_tasks(&self, execution: &str) -> ApiResult<Vec<Task>> {
        let selector = format!("{EXECUTION_LABEL}={execution}");
        self.list::<TaskList, _>(ApiMethod::ListTasks, &[("labelSelector", &selector), ("fields", TASK_FIELDS)]).await
    }

    /// Lists resources, from every page. An item that can't be parsed becomes the default value.
    async fn list<L: ApiResponse + Into<List<Value>>, T: DeserializeOwned + Default>(
        &self,
        method: ApiMethod,
        parameters: &[(&str, &str)],
    ) -> ApiResult<Vec<T>> {
        self.list_with::<L, T>(method, parameters, None).await
    }

    async fn list_with<L: ApiResponse + Into<List<Value>>, T: DeserializeOwned + Default>(
        &self,
        method: ApiMethod,
        parameters: &[(&str, &str)],
        mut permit: Option<CallPermit<'_>>,
    ) -> ApiResult<Vec<T>> {
        let mut items = Vec::new();
        let mut page_tokens: Vec<String> = Vec::new();
        loop {
            let mut query = parameters.to_vec();
            if let Some(token) = page_tokens.last() {
                query.push(("continue", token));
            }
            let request = Request { query: &query, ..Request::new(method, "") };
            let page: L = self.call_with(request, permit.take()).await?;
            let list: List<Value> = page.into();
            items.extend(list.items.into_iter().map(|item| serde_json::from_value(item).unwrap_or_default()));
            match list.metadata.continue_token.filter(|token| !token.is_empty()) {
                Some(token) if page_tokens.contains(&token) || page_tokens.len() >= MAX_PAGES => {
                    return Err(self.unusable_list(method, "the list has no last page"));
                }
                Some(token) => page_tokens.push(token),
                None => return Ok(items),
            }
        }
    }

    /// The error of a list from which nothing can be concluded.
    fn unusable_list(&self, method: ApiMethod, message: &str) -> Box<ApiError> {
        let error = self.transport.error(method, "", ErrorKind::Unavailable, message.to_owned());
        Box::new(ApiError { status: Some(200), ..error })
    }

    /// Deletes an execution, and stops it if it runs.
    ///
    /// When it is gone after an attempt that may have deleted it, that counts as deleted: names of executions are not used
    /// twice.
    pub async fn delete_execution(&self, name: &str) -> ApiResult<()> {
        match self.call::<Deletion>(Request::new(ApiMethod::DeleteExecution, name)).await {
            Err(error) if error.kind != ErrorKind::NotFound || !error.maybe_done => Err(error),
            _ => Ok(()),
        }
    }

    /// Stops an execution, and keeps its record.
    pub async fn cancel_execution(&self, name: &str) -> ApiResult<Execution> {
        self.call(Request { body: Some("{}"), ..Request::new(ApiMethod::CancelExecution, name) }).await
    }

    /// The error of a call that can't be made, because its caller no longer has its body.
    pub(crate) fn no_body_error(&self, method: ApiMethod, name: &str) -> ApiError {
        self.unsent(method, name, "the call has no body".to_owned())
    }

    pub(super) async fn call<T: ApiResponse>(&self, request: Request<'_>) -> ApiResult<T> {
        self.call_with(request, None).await
    }

    async fn call_with<T: ApiResponse>(&self, request: Request<'_>, permit: Option<CallPermit<'_>>) -> ApiResult<T> {
        self.check_path(&request)?;
        self.transport.send(&self.with_priority(request), permit).await
    }

    fn with_priority<'r>(&self, request: Request<'r>) -> Request<'r> {
        let priority = self.read_priority.filter(|_| !request.method.is_write()).unwrap_or(request.priority);
        Request { priority, ..request }
    }

    /// Refuses names that are not safe in a path: `..`, for example, would lead to another resource. The rule is that of
    /// executions, whose names the service makes. Names of jobs have a stricter one ([`crate::job::name`]).
    fn check_path(&self, request: &Request<'_>) -> ApiResult<()> {
        let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let (method, name) = (request.method, request.name);
        let is_named = !matches!(method.row().path, ApiPath::Collection(_)) || method == ApiMethod::CreateJob;
        let message = if let Err(error) = check_project(&self.transport.project) {
            error.to_string()
        } else if !name.bytes().all(is_legal) || (name.is_empty() && is_named) {
            format!("'{name}' is not a valid name: expected lower-case letters, digits and dashes")
        } else {
            return Ok(());
        };
        Err(Box::new(self.unsent(method, name, message)))
    }

    fn unsent(&self, method: ApiMethod, name: &str, message: String) -> ApiError {
        let error = self.transport.error(method, name, ErrorKind::InvalidRequest, message);
        ApiError { attempts: 0, ..error }
    }
}

/// The body of a job as JSON text, which takes a tenth of the memory of a parsed one. It may hold secrets of the
/// environment.
#[derive(Clone, Debug)]
pub struct JobBody(Secret);

impl From<Value> for JobBody {
    /// Writes int64 fields as strings, as the API's JSON has them. Templates have numbers there.
    fn from(mut body: Value) -> Self {
        run_v1::JOB.int64s_to_strings(&mut body);
        Self(Secret::new(body.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_not_printed() {
        assert_eq!(format!("{:?}", JobBody::from(Value::from("very-private"))), "JobBody(Secret(…))");
    }
}
