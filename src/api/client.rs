//! The calls, typed.

use serde_json::Value;

use super::{
    ApiError, ApiMethod, ErrorKind, Guard, Secret, Transport,
    transport::{Request, Usable},
    types::{Deletion, Execution, JOB_LABEL, Job, List},
};

/// A client for one project and region.
#[derive(Clone)]
pub struct CloudRunClient {
    transport: Transport,
}

/// What a survey asks for of a list (partial responses: discovery document, parameter `fields`).
const SURVEY: &str = "kind,unreachable,metadata/continue,items(metadata/name,status(conditions,runningCount,logUri))";

/// More pages than any list has.
const MOST_PAGES: usize = 1000;

/// The answer of a call, or why it failed.
type Answer<T> = Result<T, Box<ApiError>>;

/// # Errors
/// Every call returns an [`ApiError`] once it has failed for good or its budget of attempts is spent.
impl CloudRunClient {
    /// A client on this transport.
    pub fn new(transport: Transport) -> Self {
        Self { transport }
    }

    /// The project and region that this client speaks to.
    pub fn location(&self) -> (&str, &str) {
        (&self.transport.project, &self.transport.region)
    }

    /// Creates the job that `body` describes and returns it as the service completed it.
    pub async fn create_job(&self, name: &str, body: &JobBody) -> Answer<Job> {
        self.call(Request { body: Some(body.0.reveal()), ..Request::of(ApiMethod::CreateJob, &["jobs"], name) }).await
    }

    /// Reads a job.
    pub async fn get_job(&self, name: &str) -> Answer<Job> {
        self.call(Request::of(ApiMethod::GetJob, &["jobs", name], name)).await
    }

    /// Deletes a job and stops its executions, in the background. Not repeated when it may have done so, because the name
    /// may be another job's by then: see [`ApiError::maybe_done`].
    pub async fn delete_job(&self, name: &str, guard: &dyn Guard) -> Answer<()> {
        let path = ["jobs", name];
        let request = Request { guard: Some(guard), ..Request::of(ApiMethod::DeleteJob, &path, name) };
        self.call::<Deletion>(request).await.map(drop)
    }

    /// Starts an execution of a job and returns it, surely with its name. Not repeated when it may have started one: see
    /// [`ApiError::maybe_done`].
    pub async fn run_job(&self, name: &str, guard: &dyn Guard) -> Answer<Execution> {
        // No overrides: they need a permission that starting a job does not.
        let path = format!("{name}:run");
        let path = ["jobs", path.as_str()];
        self.call(Request { body: Some("{}"), guard: Some(guard), ..Request::of(ApiMethod::RunJob, &path, name) }).await
    }

    /// Reads an execution.
    pub async fn get_execution(&self, name: &str) -> Answer<Execution> {
        self.call(Request::of(ApiMethod::GetExecution, &["executions", name], name)).await
    }

    /// All executions of a job, from every page. One that can't be read is there without a name, so that an empty list
    /// means that there is none.
    pub async fn list_executions(&self, job: &str) -> Answer<Vec<Execution>> {
        self.list(&[("labelSelector", &format!("{JOB_LABEL}={job}"))]).await
    }

    /// How far the executions of these jobs are: all of them, from every page, with no more than names, conditions,
    /// counters and the addresses of logs.
    pub async fn survey_executions(&self, jobs: &[&str]) -> Answer<Vec<Execution>> {
        let selector = format!("{JOB_LABEL} in ({})", jobs.join(","));
        self.list(&[("labelSelector", &selector), ("fields", SURVEY)]).await
    }

    async fn list(&self, parameters: &[(&str, &str)]) -> Answer<Vec<Execution>> {
        let mut executions = Vec::new();
        let mut pages: Vec<String> = Vec::new();
        loop {
            let mut query = parameters.to_vec();
            if let Some(page) = pages.last() {
                query.push(("continue", page));
            }
            let list: List<Value> = self
                .call(Request { query: &query, ..Request::of(ApiMethod::ListExecutions, &["executions"], "") })
                .await?;
            executions.extend(list.items.into_iter().map(|item| serde_json::from_value(item).unwrap_or_default()));
            match list.metadata.continue_token.filter(|token| !token.is_empty()) {
                Some(token) if pages.contains(&token) || pages.len() >= MOST_PAGES => {
                    let message = "the list does not come to an end".to_owned();
                    let error = self.transport.error(ApiMethod::ListExecutions, "", ErrorKind::Unavailable, message);
                    return Err(Box::new(ApiError { status: Some(200), ..error }));
                }
                Some(token) => pages.push(token),
                None => return Ok(executions),
            }
        }
    }

    /// Deletes an execution, and stops it if it runs. One that is gone when an attempt of ours may have removed it counts
    /// as deleted: no other will have its name.
    pub async fn delete_execution(&self, name: &str) -> Answer<()> {
        match self.call::<Deletion>(Request::of(ApiMethod::DeleteExecution, &["executions", name], name)).await {
            Err(error) if error.kind != ErrorKind::NotFound || !error.maybe_done => Err(error),
            _ => Ok(()),
        }
    }

    /// Stops an execution and keeps it.
    pub async fn cancel_execution(&self, name: &str) -> Answer<Execution> {
        let path = format!("{name}:cancel");
        let path = ["executions", path.as_str()];
        self.call(Request { body: Some("{}"), ..Request::of(ApiMethod::CancelExecution, &path, name) }).await
    }

    /// The failure of a call that has nothing to send.
    pub(crate) fn not_made(&self, call: ApiMethod, name: &str) -> ApiError {
        let error = self.transport.error(call, name, ErrorKind::InvalidRequest, "there is nothing to send".to_owned());
        ApiError { attempts: 0, ..error }
    }

    async fn call<T: Usable>(&self, request: Request<'_>) -> Answer<T> {
        self.check_names(request.call, request.name)?;
        self.transport.send(&request).await
    }

    /// Refuses what can be no project or resource: `..`, say, would make another path of the URL.
    fn check_names(&self, call: ApiMethod, name: &str) -> Answer<()> {
        let project = &self.transport.project;
        let legal = |text: &str, others: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(char::from(byte)))
        };
        // Projects of an organisation's domain are written example.com:name.
        let message = if !legal(project, "-.:") || !project.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            format!("'{project}' is not a project id")
        } else if !legal(name, "-") || (name.is_empty() && call != ApiMethod::ListExecutions) {
            format!("'{name}' is not a name: letters in lower case, digits and dashes only")
        } else {
            return Ok(());
        };
        let error = self.transport.error(call, name, ErrorKind::InvalidRequest, message);
        Err(Box::new(ApiError { attempts: 0, ..error }))
    }
}

/// A `Job` as the text that is sent: a tenth of the room that its tree takes. It holds the environment's secrets.
#[derive(Clone, Debug)]
pub struct JobBody(Secret);

impl From<Value> for JobBody {
    /// The body with its one int64 as JSON writes those: as text. Templates hold a number there.
    fn from(mut body: Value) -> Self {
        const TIMEOUT: &str = "/spec/template/spec/template/spec/timeoutSeconds";
        if let Some(timeout) = body.pointer_mut(TIMEOUT)
            && let Some(seconds) = timeout.as_i64()
        {
            *timeout = Value::String(seconds.to_string());
        }
        Self(Secret::new(body.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_does_not_show() {
        assert_eq!(format!("{:?}", JobBody::from(Value::from("very-private"))), "JobBody(Secret(…))");
    }
}
