//! The client against a server with a queue of responses: what it sends, what it repeats, what a response means.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::queue::{Queue, Response};
use prefect_gcp_core::api::types::Execution;
use prefect_gcp_core::api::{
    ApiError, ApiMethod, ApiResult, CloudRunClient, Credentials, Endpoint, ErrorKind, FRESH_READ_MAX_AGE, GcpAuth,
    Guard, HttpPool, Notice, Principal, Quota, QuotaQueues, RetryBudget, RetryPolicy, TokenSource, Transport,
};
use serde_json::{Value, json};

const NOT_FOUND: &str = r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "Resource 'j' does not exist."}}"#;
const TAKEN: &str =
    r#"{"error": {"code": 409, "status": "ALREADY_EXISTS", "message": "Resource 'j' already exists."}}"#;
const QUOTA: &str = r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded.",
    "details": [{"metadata": {}}, {"reason": "WHY"}]}}"#;
const RATE: &str = r#"{"error": {"code": 429, "message": "Quota exceeded for quota metric 'Write requests'.",
    "status": "RESOURCE_EXHAUSTED", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}"#;
/// The quotas of these tests count calls per this period.
const PERIOD: Duration = Duration::from_millis(300);
const JOB: &str = r#"{"metadata": {"name": "j", "uid": "u"}}"#;

struct Setup {
    queue: Queue,
    client: CloudRunClient,
    retried: Arc<Mutex<Vec<ErrorKind>>>,
    rate_limited: Arc<Mutex<Vec<Quota>>>,
}

/// A start with a guard that is always open.
async fn start(client: &CloudRunClient) -> ApiResult<Execution> {
    client.run_job("j", &()).await
}

async fn setup(responses: Vec<Response>) -> Setup {
    setup_with("my-project", PERIOD, responses).await
}

async fn setup_as(project: &str, responses: Vec<Response>) -> Setup {
    setup_with(project, PERIOD, responses).await
}

async fn setup_in(period: Duration, responses: Vec<Response>) -> Setup {
    setup_with("my-project", period, responses).await
}

async fn setup_with(project: &str, period: Duration, responses: Vec<Response>) -> Setup {
    let hangs = responses.contains(&Response::Hang);
    let queue = Queue::start(responses).await;
    let address = queue.address.clone();
    setup_at(&address, project, period, hangs, queue)
}

/// A client of the server at this address.
fn setup_at(address: &str, project: &str, period: Duration, hangs: bool, queue: Queue) -> Setup {
    let retried: Arc<Mutex<Vec<_>>> = Arc::default();
    let rate_limited: Arc<Mutex<Vec<_>>> = Arc::default();
    let transport = Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(address, "us-east1").unwrap(),
        project: project.into(),
        region: "us-east1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(period)),
        quota_wait_max: 3 * period,
        retry: RetryPolicy {
            max_attempts: 4,
            max_elapsed: Duration::from_secs(30),
            initial_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
        },
        // Short only for responses that never come.
        attempt_timeout: if hangs { Duration::from_millis(300) } else { Duration::from_secs(20) },
        random: fastrand::f64,
        on_notice: {
            let (retried, rate_limited) = (retried.clone(), rate_limited.clone());
            Arc::new(move |notice| match notice {
                Notice::Retry(notice) => retried.lock().unwrap().push(notice.error.kind),
                Notice::RateLimited(quota) => rate_limited.lock().unwrap().push(quota),
            })
        },
    };
    Setup { queue, client: CloudRunClient::new(transport), retried, rate_limited }
}

fn failed<T: std::fmt::Debug>(result: ApiResult<T>) -> ApiError {
    *result.unwrap_err()
}

/// All requests that the client ever sends. `tests/python/test_calls.py` compares them with the API's discovery document.
const CALLS: &str = include_str!("../data/calls.json");

#[tokio::test]
async fn every_call_has_its_path_and_no_token_for_an_emulator() {
    let page = r#"{"kind": "ExecutionList", "metadata": {"continue": "a+b="}}"#;
    let last_page = r#"{"kind": "ExecutionList"}"#;
    let jobs = r#"{"kind": "JobList"}"#;
    let responses = [JOB, JOB, "{}", JOB, JOB, page, last_page, last_page, "{}", JOB, jobs, jobs]
        .map(|body| Response::Http(200, body))
        .to_vec();
    let Setup { queue, client, .. } = setup(responses).await;
    client.create_job("j", &json!({"kind": "Job", "metadata": {"name": "j"}}).into(), &()).await.unwrap();
    client.get_job("j").await.unwrap();
    client.delete_job("j", &()).await.unwrap();
    start(&client).await.unwrap();
    client.get_execution("e").await.unwrap();
    client.list_executions("j").await.unwrap();
    client.list_executions_of_jobs(&["j", "k"], client.admit_list().await.unwrap()).await.unwrap();
    client.delete_execution("e").await.unwrap();
    client.cancel_execution("e").await.unwrap();
    client.find_job("j", Some(("key", "value"))).await.unwrap();
    client.list_jobs("key=value,another=1").await.unwrap();

    let requests = queue.requests();
    let sent: Vec<(&str, &str, Value)> = requests
        .iter()
        .map(|request| {
            let (method, target) = request.line.split_once(' ').unwrap();
            (method, target, serde_json::from_str(&request.body).unwrap_or(Value::Null))
        })
        .collect();
    assert_eq!(serde_json::to_value(sent).unwrap(), serde_json::from_str::<Value>(CALLS).unwrap());
    for request in requests {
        assert_eq!(request.header("host"), Some("us-east1-run.googleapis.com"));
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn the_timeout_is_sent_as_a_string_like_every_int64() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, JOB)]).await;
    let task =
        |timeout: Value| json!({"spec": {"template": {"spec": {"template": {"spec": {"timeoutSeconds": timeout}}}}}});
    client.create_job("j", &task(json!(600)).into(), &()).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&queue.requests()[0].body).unwrap(), task(json!("600")));
}

#[tokio::test]
async fn every_page_of_a_list_is_read_and_unparsable_items_count() {
    let first =
        r#"{"kind": "ExecutionList", "metadata": {"continue": "a+b="}, "items": [{"metadata": {"name": "e1"}}]}"#;
    let last = r#"{"kind": "ExecutionList", "metadata": {}, "items": [{"metadata": 1}, {"metadata": {"name": "e2"}}]}"#;
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, first), Response::Http(200, last)]).await;
    let executions = client.list_executions("j").await.unwrap();
    let names: Vec<_> = executions.iter().map(|execution| execution.metadata.name.as_str()).collect();
    assert_eq!(names, ["e1", "", "e2"]);
    assert!(queue.requests()[1].line.ends_with("&continue=a%2Bb%3D"), "{}", queue.requests()[1].line);
}

#[tokio::test]
async fn a_response_that_may_lack_executions_is_not_an_empty_list() {
    let same = r#"{"kind": "ExecutionList", "metadata": {"continue": "a"}}"#;
    let other = r#"{"kind": "ExecutionList", "metadata": {"continue": "b"}}"#;
    for responses in [
        vec!["{}"],
        vec![r#"{"kind": "Execution"}"#],
        vec![r#"{"kind": "JobList"}"#],
        vec![r#"{"kind": "ExecutionList", "unreachable": ["us-east1"]}"#],
        vec![same, same],
        vec![same, other, same],
    ] {
        let Setup { client, .. } = setup(responses.iter().map(|body| Response::Http(200, body)).collect()).await;
        let error = failed(client.list_executions("j").await);
        assert!(error.may_pass() && !error.maybe_done, "{responses:?}: {error}");
    }
    let documented = Response::Http(200, r#"{"kind": "ExecutionsList"}"#);
    let Setup { client, .. } = setup(vec![documented]).await;
    assert_eq!(client.list_executions("j").await.unwrap(), []);
}

#[tokio::test]
async fn transient_failures_are_repeated_and_reported() {
    let responses = vec![Response::Http(503, ""), Response::Http(429, QUOTA), Response::Drop, Response::Http(200, JOB)];
    let Setup { client, retried, .. } = setup(responses).await;
    assert_eq!(client.get_job("j").await.unwrap().metadata.name, "j");
    assert_eq!(*retried.lock().unwrap(), [ErrorKind::Unavailable, ErrorKind::LimitReached, ErrorKind::Unavailable]);
}

#[tokio::test]
async fn a_used_up_budget_returns_the_last_failure_with_its_attempts() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(503, "<html>Busy</html>"); 9]).await;
    let error = failed(client.get_job("j").await);
    assert_eq!((error.kind, error.status, error.attempts), (ErrorKind::Unavailable, Some(503), 4));
    assert!(error.to_string().contains("Busy") && error.to_string().contains("after 4 attempts"), "{error}");
    assert!(error.to_string().contains("the setting retry_max_attempts is the limit"), "{error}");
    assert_eq!(error.exhausted, Some(RetryBudget::Attempts));
    assert_eq!(queue.requests().len(), 4);
}

#[tokio::test]
async fn the_error_of_the_http_client_is_kept() {
    let Setup { client, .. } = setup(vec![Response::Drop]).await;
    let error = failed(start(&client).await);
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<reqwest::Error>() && error.exhausted.is_none(), "{source}");
}

#[tokio::test]
async fn permanent_failures_are_not_repeated() {
    for status in [400, 401, 403, 404, 409, 413] {
        let Setup { queue, client, .. } = setup(vec![Response::Http(status, NOT_FOUND); 2]).await;
        assert_eq!(failed(client.get_job("j").await).status, Some(status));
        assert_eq!(queue.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_start_that_may_have_happened_is_not_repeated() {
    for response in [
        Response::Http(503, ""),
        Response::Http(520, "<html>"),
        Response::Http(302, ""),
        Response::Http(200, "<html>"),
        Response::Http(200, "{}"),
        Response::Drop,
        Response::Hang,
    ] {
        let Setup { queue, client, .. } = setup(vec![response, Response::Http(200, JOB)]).await;
        let error = failed(start(&client).await);
        assert!(error.maybe_done, "{response:?}");
        assert_eq!(queue.requests().len(), 1, "{response:?}");
    }
}

#[tokio::test]
async fn a_delete_that_may_have_happened_is_not_repeated() {
    for response in [Response::Http(503, ""), Response::Drop] {
        let Setup { queue, client, .. } = setup(vec![response, Response::Http(200, "{}")]).await;
        assert!(failed(client.delete_job("j", &()).await).maybe_done, "{response:?}");
        assert_eq!(queue.requests().len(), 1, "{response:?}");
    }
    let Setup { client, .. } = setup(vec![Response::Http(429, QUOTA), Response::Http(200, "{}")]).await;
    client.delete_job("j", &()).await.unwrap();
}

#[tokio::test]
async fn a_start_that_a_limit_refuses_is_returned_at_once() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(429, QUOTA), Response::Http(200, JOB)]).await;
    let error = failed(start(&client).await);
    assert_eq!((error.kind, error.maybe_done, error.reason), (ErrorKind::LimitReached, false, Some("WHY".to_owned())));
    assert_eq!(queue.requests().len(), 1);
}

#[tokio::test]
async fn waits_for_a_quota_do_not_use_up_the_retry_budget() {
    // More refusals than there are attempts.
    for call in ["create", "run"] {
        let responses =
            [vec![Response::Http(200, JOB)], vec![Response::Http(429, RATE); 6], vec![Response::Http(200, JOB)]];
        let Setup { queue, client, retried, rate_limited } = setup(responses.concat()).await;
        for _ in 0..2 {
            match call {
                "create" => drop(client.create_job("j", &json!({}).into(), &()).await.unwrap()),
                _ => drop(start(&client).await.unwrap()),
            }
        }
        assert_eq!(queue.requests().len(), 8);
        assert_eq!(*retried.lock().unwrap(), []);
        let quota = if call == "create" { Quota::Writes } else { Quota::Runs };
        assert_eq!(rate_limited.lock().unwrap().first(), Some(&quota));
    }
}

#[tokio::test]
async fn a_quota_that_admits_nothing_ends_the_call() {
    let Setup { client, .. } = setup(vec![Response::Http(429, RATE); 100]).await;
    let error = failed(client.create_job("j", &json!({}).into(), &()).await);
    assert!(error.kind == ErrorKind::RateLimited, "{error}");
    assert_eq!(error.exhausted, Some(RetryBudget::QuotaWait));
    assert!(error.to_string().contains("per-minute quota"), "{error}");
}

#[tokio::test]
async fn the_calls_of_all_runs_share_their_quotas() {
    let Setup { queue, client, .. } =
        setup(vec![Response::Http(429, RATE); 1].into_iter().chain(vec![Response::Http(200, JOB); 9]).collect()).await;
    let other = client.clone();
    let (first, second) = tokio::join!(client.get_job("j"), async {
        tokio::time::sleep(PERIOD / 6).await;
        other.get_job("k").await
    });
    assert!(first.is_ok() && second.is_ok());
    // Only one call was refused: the second one waited for the quota instead of being refused too.
    assert_eq!(queue.requests().len(), 3);
}

struct Gate(tokio::sync::watch::Receiver<bool>);

impl Guard for Gate {
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut gate = self.0.clone();
        Box::pin(async move { _ = gate.wait_for(|is_open| *is_open).await })
    }
}

#[tokio::test]
async fn a_start_waits_until_its_guard_is_open() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, JOB)]).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let start = tokio::spawn(async move { client.run_job("j", &Gate(gate)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(queue.requests().is_empty());
    open.send_replace(true);
    start.await.unwrap().unwrap();
}

/// A gate that opens when the job has been replaced.
struct GateOfAnother(Gate);

impl Guard for GateOfAnother {
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.wait_until_open()
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

#[tokio::test]
async fn a_start_that_waited_for_its_guard_is_not_sent_to_another_job() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, JOB)]).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let start = tokio::spawn(async move { client.run_job("j", &GateOfAnother(Gate(gate))).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    open.send_replace(true);
    let error = failed(start.await.unwrap());
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::NotFound, false), "{error}");
    assert!(queue.requests().is_empty());
}

/// A guard whose first checks fail, or take long.
struct Unreadable {
    checks: AtomicU32,
    failing: u32,
    kind: ErrorKind,
    takes: Duration,
}

impl Unreadable {
    fn new(failing: u32, kind: ErrorKind, takes: Duration) -> Self {
        Self { checks: AtomicU32::new(0), failing, kind, takes }
    }
}

impl Guard for Unreadable {
    fn read_age(&self) -> Duration {
        FRESH_READ_MAX_AGE * 2
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(async {
            tokio::time::sleep(self.takes).await;
            match self.checks.fetch_add(1, Ordering::Relaxed) < self.failing {
                true => Err(Box::new(example_error(self.kind))),
                false => Ok(true),
            }
        })
    }
}

fn example_error(kind: ErrorKind) -> ApiError {
    ApiError::new(ApiMethod::GetJob, kind, ("p", "us-central1"), "j", "no answer".to_owned())
}

#[tokio::test]
async fn a_start_whose_job_could_not_be_read_is_sent_when_it_can() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, JOB)]).await;
    tokio::time::pause();
    let guard = Unreadable::new(3, ErrorKind::Unavailable, Duration::ZERO);
    client.run_job("j", &guard).await.unwrap();
    assert_eq!((guard.checks.into_inner(), queue.requests().len()), (4, 1));
}

#[tokio::test]
async fn a_start_whose_job_can_not_be_read_fails_unsent() {
    let Setup { queue, client, .. } = setup(vec![]).await;
    tokio::time::pause();
    for (kind, least_checks) in [(ErrorKind::Unavailable, 3), (ErrorKind::PermissionDenied, 1)] {
        let guard = Unreadable::new(u32::MAX, kind, Duration::ZERO);
        let error = failed(client.run_job("j", &guard).await);
        assert_eq!((error.kind, error.maybe_done, error.attempts), (kind, false, 0), "{error}");
        assert!(guard.checks.into_inner() >= least_checks, "{error}");
    }
    assert!(queue.requests().is_empty());
}

#[tokio::test]
async fn a_start_does_not_hold_its_permit_while_its_job_is_read_for_long() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, JOB)]).await;
    tokio::time::pause();
    let guard = Unreadable::new(0, ErrorKind::Unavailable, Duration::from_secs(60));
    client.run_job("j", &guard).await.unwrap();
    assert_eq!((guard.checks.into_inner(), queue.requests().len()), (1, 1));
}

/// A guard whose job has been replaced.
struct Replaced;

impl Guard for Replaced {
    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

#[tokio::test]
async fn a_delete_that_waited_for_its_quota_is_not_sent_to_another_job() {
    let refused = Response::WithHead(429, RATE, "retry-after: 2");
    let responses = vec![refused, Response::Http(200, "{}"), Response::Http(200, "{}")];
    let Setup { queue, client, .. } = setup_in(Duration::from_secs(2), responses).await;
    // The quota refuses this one, and is used up for two seconds.
    let late = tokio::spawn({
        let client = client.clone();
        async move { client.delete_job("j", &Replaced).await }
    });
    let error = failed(late.await.unwrap());
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::NotFound, false), "{error}");
    assert_eq!(queue.requests().len(), 1);
    // The job of a call that did not wait was read a moment ago.
    client.delete_job("j", &Replaced).await.unwrap();
}

#[tokio::test]
async fn a_list_of_many_jobs_asks_for_few_fields_and_fits_into_a_url() {
    let page = r#"{"kind": "ExecutionList", "metadata": {}, "items": []}"#;
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, page); 2]).await;
    let long: Vec<_> = (0..100).map(|number| format!("{}-{number}", "j".repeat(50))).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    for jobs in [["a", "b"].as_slice(), &long] {
        client.list_executions_of_jobs(jobs, client.admit_list().await.unwrap()).await.unwrap();
    }
    let requests = queue.requests();
    assert!(
        requests[0].line.starts_with("GET ")
            && requests[0].line.contains("labelSelector=run.googleapis.com%2Fjob+in+%28a%2Cb%29"),
        "{}",
        requests[0].line
    );
    assert!(requests[0].line.contains("&fields=kind%2Cunreachable%2C"));
    assert!(requests[1].line.starts_with("POST ") && !requests[1].line.contains('?'), "{}", requests[1].line);
    assert_eq!(requests[1].header("x-http-method-override"), Some("GET"));
    assert!(requests[1].body.starts_with("labelSelector=run.googleapis.com%2Fjob+in+%28jjjj"));
}

#[tokio::test]
async fn a_conflict_says_whether_an_earlier_attempt_may_have_caused_it() {
    let Setup { client, .. } = setup(vec![Response::Drop, Response::Http(409, TAKEN)]).await;
    let error = failed(client.create_job("j", &json!({}).into(), &()).await);
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::AlreadyExists, true));

    let Setup { client, .. } = setup(vec![Response::Http(429, QUOTA), Response::Http(409, TAKEN)]).await;
    assert!(!failed(client.create_job("j", &json!({}).into(), &()).await).maybe_done);
}

#[tokio::test]
async fn an_execution_that_a_lost_delete_removed_counts_as_deleted() {
    let Setup { client, .. } = setup(vec![Response::Drop, Response::Http(404, NOT_FOUND)]).await;
    client.delete_execution("e").await.unwrap();

    let Setup { client, .. } = setup(vec![Response::Http(404, NOT_FOUND)]).await;
    assert_eq!(failed(client.delete_execution("e").await).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_pause_that_the_server_asks_for_is_kept() {
    let Setup { client, .. } =
        setup(vec![Response::WithHead(503, "", "retry-after: 1"), Response::Http(200, JOB)]).await;
    let started = std::time::Instant::now();
    client.get_job("j").await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_long_pause_that_the_server_asks_for_does_not_hold_up_the_queue() {
    // The local clock is years later than the date of the last one, and the pause lasts an hour in all of them.
    for head in [
        "retry-after: 3600",
        "retry-after: 99999999999999999999",
        "date: Wed, 21 Oct 2015 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2015 08:28:00 GMT",
    ] {
        let responses = vec![Response::WithHead(429, RATE, head), Response::Http(200, JOB), Response::Http(200, JOB)];
        let Setup { queue, client, .. } = setup(responses).await;
        let began = std::time::Instant::now();
        client.get_job("j").await.unwrap();
        // A probe got through after one period, and ended the pause.
        assert!(began.elapsed() >= PERIOD, "{head}");
        client.get_job("j").await.unwrap();
        assert_eq!(queue.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_date_counts_from_that_of_the_response() {
    let head = "date: Wed, 21 Oct 2015 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2015 07:28:01 GMT";
    let Setup { client, .. } = setup(vec![Response::WithHead(503, "", head), Response::Http(200, JOB)]).await;
    let began = std::time::Instant::now();
    client.get_job("j").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn an_attempt_without_a_response_ends_by_its_timeout() {
    let Setup { client, .. } = setup(vec![Response::Hang, Response::Http(200, JOB)]).await;
    client.get_job("j").await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let Setup { queue, client, .. } = setup(vec![Response::Http(302, ""), Response::Http(200, JOB)]).await;
    // The redirect leads to a port that nobody listens on. The client repeats the same request instead.
    assert_eq!(client.get_job("j").await.unwrap().metadata.name, "j");
    assert_eq!(queue.requests().len(), 2);
}

#[tokio::test]
async fn names_that_are_unsafe_in_a_path_are_not_sent() {
    for (project, job) in [("my-project", ".."), ("my-project", ""), ("my-project", "a/b"), ("..", "j"), ("", "j")] {
        let Setup { queue, client, .. } = setup_as(project, vec![Response::Http(200, "{}")]).await;
        let error = failed(client.delete_job(job, &()).await);
        assert_eq!((error.kind, error.attempts), (ErrorKind::InvalidRequest, 0), "{project} {job}");
        assert!(queue.requests().is_empty());
    }
}

#[tokio::test]
async fn a_failed_connection_names_its_host_and_cause() {
    let queue = Queue::start(vec![]).await;
    // Nothing listens on port 1.
    let Setup { client, .. } = setup_at("127.0.0.1:1", "my-project", PERIOD, false, queue);
    let error = failed(client.get_job("j").await);
    assert!(error.message.starts_with("could not connect to 127.0.0.1: Connection refused"), "{error}");
    assert!(!failed(start(&client).await).maybe_done);
}

#[tokio::test]
async fn a_server_that_does_not_respond_is_a_timeout() {
    let Setup { client, .. } = setup(vec![Response::Hang; 9]).await;
    let error = failed(start(&client).await);
    assert_eq!(error.message, "no response in time (setting request_timeout_seconds)");
    assert!(error.maybe_done);
}

#[tokio::test]
async fn a_job_is_found_by_a_list_or_shown_to_be_absent() {
    let emulator =
        crate::driver_support::emulator(Duration::from_secs(1), prefect_gcp_core::emulator::SimulatedOutcome::Success)
            .await;
    let client = CloudRunClient::new(crate::driver_support::transport(&emulator));
    client.create_job("j", &crate::driver_support::body("j").into(), &()).await.unwrap();
    let label = Some((crate::driver_support::LABEL, "this"));
    let found = client.find_job("j", label).await.unwrap().unwrap();
    assert!(found.metadata.uid.is_some());
    assert!(client.find_job("j", None).await.unwrap().is_some());
    assert!(client.find_job("another", label).await.unwrap().is_none());
    assert!(client.find_job("j", Some((crate::driver_support::LABEL, "another"))).await.unwrap().is_none());
}

#[tokio::test]
async fn a_job_is_found_on_any_page() {
    let first = r#"{"kind": "JobList", "metadata": {"continue": "a"}, "items": [{"metadata": {"name": "other"}}]}"#;
    let last = r#"{"kind": "JobsList", "items": [{"metadata": 1}, {"metadata": {"name": "j", "uid": "u"}}]}"#;
    let Setup { queue, client, .. } = setup(vec![Response::Http(200, first), Response::Http(200, last)]).await;
    let found = client.find_job("j", Some(("key", "value"))).await.unwrap().unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("u"));
    for request in queue.requests() {
        assert!(request.line.contains("labelSelector=key%3Dvalue"), "{}", request.line);
        assert!(request.line.contains("fields=kind%2Cunreachable%2C"), "{}", request.line);
    }
}

#[tokio::test]
async fn a_list_that_may_lack_jobs_does_not_show_that_a_job_is_gone() {
    for body in [
        "{}",
        r#"{"kind": "ExecutionList"}"#,
        r#"{"kind": "JobList", "unreachable": ["us-east1"]}"#,
        r#"{"kind": "JobList", "unreachable": [{"region": "us-east1"}]}"#,
        r#"{"kind": "JobList", "items": [{"metadata": {"name": "other"}}, {"metadata": 1}]}"#,
    ] {
        let Setup { client, .. } = setup(vec![Response::Http(200, body); 4]).await;
        let error = failed(client.find_job("j", None).await);
        assert_eq!((error.kind, error.maybe_done), (ErrorKind::Unavailable, false), "{body}: {error}");
    }
    let Setup { client, .. } = setup(vec![Response::Http(200, r#"{"kind": "JobList"}"#)]).await;
    assert!(client.find_job("j", None).await.unwrap().is_none());

    let emulator =
        crate::driver_support::emulator(Duration::from_secs(1), prefect_gcp_core::emulator::SimulatedOutcome::Success)
            .await;
    let client = CloudRunClient::new(crate::driver_support::transport(&emulator));
    client.create_job("j", &crate::driver_support::body("j").into(), &()).await.unwrap();
    let incomplete = json!({"fault": "incompleteList", "times": 1});
    emulator.set_faults(crate::driver_support::faults(&json!({"rules": [incomplete]})));
    assert!(client.find_job("j", None).await.unwrap().is_some(), "the list is repeated");
}
