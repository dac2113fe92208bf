//! The client against a server that answers from a queue: what is sent, what is repeated, what an answer means.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod queue;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use prefect_gcp_core::api::types::Execution;
use prefect_gcp_core::api::{
    ApiError, CloudRunClient, Credentials, Endpoint, ErrorKind, GcpAuth, Guard, Notice, Principal, Quota, QuotaQueues,
    RetryPolicy, TokenSource, Transport, http_client,
};
use queue::{Answer, Queue};
use serde_json::{Value, json};

const NOT_FOUND: &str = r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "Resource 'j' does not exist."}}"#;
const TAKEN: &str =
    r#"{"error": {"code": 409, "status": "ALREADY_EXISTS", "message": "Resource 'j' already exists."}}"#;
const QUOTA: &str = r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded.",
    "details": [{"metadata": {}}, {"reason": "WHY"}]}}"#;
const RATE: &str = r#"{"error": {"code": 429, "message": "Quota exceeded for quota metric 'Write requests'.",
    "status": "RESOURCE_EXHAUSTED", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}"#;
/// In which the quotas of these tests count.
const PERIOD: Duration = Duration::from_millis(300);
const JOB: &str = r#"{"metadata": {"name": "j", "uid": "u"}}"#;

struct Setup {
    queue: Queue,
    client: CloudRunClient,
    retried: Arc<Mutex<Vec<ErrorKind>>>,
    throttled: Arc<Mutex<Vec<Quota>>>,
}

/// A start that nothing holds back.
async fn start(client: &CloudRunClient) -> Result<Execution, Box<ApiError>> {
    client.run_job("j", &()).await
}

async fn setup(answers: Vec<Answer>) -> Setup {
    setup_with("my-project", PERIOD, answers).await
}

async fn setup_as(project: &str, answers: Vec<Answer>) -> Setup {
    setup_with(project, PERIOD, answers).await
}

async fn setup_in(period: Duration, answers: Vec<Answer>) -> Setup {
    setup_with("my-project", period, answers).await
}

async fn setup_with(project: &str, period: Duration, answers: Vec<Answer>) -> Setup {
    let hangs = answers.contains(&Answer::Hang);
    let queue = Queue::start(answers).await;
    let retried: Arc<Mutex<Vec<_>>> = Arc::default();
    let throttled: Arc<Mutex<Vec<_>>> = Arc::default();
    let transport = Transport {
        http: http_client(false).unwrap(),
        endpoint: Endpoint::emulator(&queue.address, "us-east1").unwrap(),
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
        // Long, but for answers that never come.
        attempt_timeout: if hangs { Duration::from_millis(300) } else { Duration::from_secs(20) },
        on_notice: {
            let (retried, throttled) = (retried.clone(), throttled.clone());
            Arc::new(move |notice| match notice {
                Notice::Retry(notice) => retried.lock().unwrap().push(notice.error.kind),
                Notice::Quota(quota) => throttled.lock().unwrap().push(quota),
            })
        },
    };
    Setup { queue, client: CloudRunClient::new(transport), retried, throttled }
}

fn failed<T: std::fmt::Debug>(answer: Result<T, Box<ApiError>>) -> ApiError {
    *answer.unwrap_err()
}

/// All that the client ever sends, which `tests/python/test_calls.py` holds against the API's discovery document.
const CALLS: &str = include_str!("data/calls.json");

#[tokio::test]
async fn every_call_goes_to_its_path_without_a_token() {
    let page = r#"{"kind": "ExecutionList", "metadata": {"continue": "a+b="}}"#;
    let last_page = r#"{"kind": "ExecutionList"}"#;
    let answers =
        [JOB, JOB, "{}", JOB, JOB, page, last_page, last_page, "{}", JOB].map(|body| Answer::Http(200, body)).to_vec();
    let Setup { queue, client, .. } = setup(answers).await;
    client.create_job("j", &json!({"kind": "Job", "metadata": {"name": "j"}}).into()).await.unwrap();
    client.get_job("j").await.unwrap();
    client.delete_job("j", &()).await.unwrap();
    start(&client).await.unwrap();
    client.get_execution("e").await.unwrap();
    client.list_executions("j").await.unwrap();
    client.survey_executions(&["j", "k"]).await.unwrap();
    client.delete_execution("e").await.unwrap();
    client.cancel_execution("e").await.unwrap();

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
async fn the_timeout_is_sent_as_the_text_that_an_int64_is() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(200, JOB)]).await;
    let task =
        |timeout: Value| json!({"spec": {"template": {"spec": {"template": {"spec": {"timeoutSeconds": timeout}}}}}});
    client.create_job("j", &task(json!(600)).into()).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&queue.requests()[0].body).unwrap(), task(json!("600")));
}

#[tokio::test]
async fn every_page_of_a_list_is_read_and_what_can_not_be_read_counts() {
    let first =
        r#"{"kind": "ExecutionList", "metadata": {"continue": "a+b="}, "items": [{"metadata": {"name": "e1"}}]}"#;
    let last = r#"{"kind": "ExecutionList", "metadata": {}, "items": [{"metadata": 1}, {"metadata": {"name": "e2"}}]}"#;
    let Setup { queue, client, .. } = setup(vec![Answer::Http(200, first), Answer::Http(200, last)]).await;
    let executions = client.list_executions("j").await.unwrap();
    let names: Vec<_> = executions.iter().map(|execution| execution.metadata.name.as_str()).collect();
    assert_eq!(names, ["e1", "", "e2"]);
    assert!(queue.requests()[1].line.ends_with("&continue=a%2Bb%3D"), "{}", queue.requests()[1].line);
}

#[tokio::test]
async fn an_answer_that_may_lack_executions_is_no_empty_list() {
    let same = r#"{"kind": "ExecutionList", "metadata": {"continue": "a"}}"#;
    let other = r#"{"kind": "ExecutionList", "metadata": {"continue": "b"}}"#;
    for answers in [
        vec!["{}"],
        vec![r#"{"kind": "Execution"}"#],
        vec![r#"{"kind": "JobList"}"#],
        vec![r#"{"kind": "ExecutionList", "unreachable": ["us-east1"]}"#],
        vec![same, same],
        vec![same, other, same],
    ] {
        let Setup { client, .. } = setup(answers.iter().map(|body| Answer::Http(200, body)).collect()).await;
        let error = failed(client.list_executions("j").await);
        assert!(error.may_pass() && !error.maybe_done, "{answers:?}: {error}");
    }
    let documented = Answer::Http(200, r#"{"kind": "ExecutionsList"}"#);
    let Setup { client, .. } = setup(vec![documented]).await;
    assert_eq!(client.list_executions("j").await.unwrap(), []);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_told() {
    let answers = vec![Answer::Http(503, ""), Answer::Http(429, QUOTA), Answer::Drop, Answer::Http(200, JOB)];
    let Setup { client, retried, .. } = setup(answers).await;
    assert_eq!(client.get_job("j").await.unwrap().metadata.name, "j");
    assert_eq!(*retried.lock().unwrap(), [ErrorKind::Unavailable, ErrorKind::LimitReached, ErrorKind::Unavailable]);
}

#[tokio::test]
async fn a_spent_budget_is_the_last_failure_with_the_attempts() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(503, "<html>Busy</html>"); 9]).await;
    let error = failed(client.get_job("j").await);
    assert_eq!((error.kind, error.status, error.attempts), (ErrorKind::Unavailable, Some(503), 4));
    assert!(error.to_string().contains("Busy") && error.to_string().contains("after 4 attempts"), "{error}");
    assert_eq!(queue.requests().len(), 4);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 403, 404, 409, 413] {
        let Setup { queue, client, .. } = setup(vec![Answer::Http(status, NOT_FOUND); 2]).await;
        assert_eq!(failed(client.get_job("j").await).status, Some(status));
        assert_eq!(queue.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_start_is_not_repeated_when_it_may_have_happened() {
    for answer in [
        Answer::Http(503, ""),
        Answer::Http(520, "<html>"),
        Answer::Http(302, ""),
        Answer::Http(200, "<html>"),
        Answer::Http(200, "{}"),
        Answer::Drop,
        Answer::Hang,
    ] {
        let Setup { queue, client, .. } = setup(vec![answer, Answer::Http(200, JOB)]).await;
        let error = failed(start(&client).await);
        assert!(error.maybe_done, "{answer:?}");
        assert_eq!(queue.requests().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_delete_is_not_repeated_when_it_may_have_happened() {
    for answer in [Answer::Http(503, ""), Answer::Drop] {
        let Setup { queue, client, .. } = setup(vec![answer, Answer::Http(200, "{}")]).await;
        assert!(failed(client.delete_job("j", &()).await).maybe_done, "{answer:?}");
        assert_eq!(queue.requests().len(), 1, "{answer:?}");
    }
    let Setup { client, .. } = setup(vec![Answer::Http(429, QUOTA), Answer::Http(200, "{}")]).await;
    client.delete_job("j", &()).await.unwrap();
}

#[tokio::test]
async fn a_start_that_a_quota_refuses_is_the_callers_to_wait_for() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(429, QUOTA), Answer::Http(200, JOB)]).await;
    let error = failed(start(&client).await);
    assert_eq!((error.kind, error.maybe_done, error.reason), (ErrorKind::LimitReached, false, Some("WHY".to_owned())));
    assert_eq!(queue.requests().len(), 1);
}

#[tokio::test]
async fn a_quota_of_calls_per_minute_is_waited_for_outside_the_budget() {
    // More refusals than there are attempts.
    for call in ["create", "run"] {
        let answers = [vec![Answer::Http(200, JOB)], vec![Answer::Http(429, RATE); 2], vec![Answer::Http(200, JOB)]];
        let Setup { queue, client, retried, throttled } = setup(answers.concat()).await;
        let began = std::time::Instant::now();
        for _ in 0..2 {
            match call {
                "create" => drop(client.create_job("j", &json!({}).into()).await.unwrap()),
                _ => drop(start(&client).await.unwrap()),
            }
        }
        assert_eq!(queue.requests().len(), 4);
        assert!(began.elapsed() >= PERIOD / 8);
        assert_eq!(*retried.lock().unwrap(), []);
        let quota = if call == "create" { Quota::Writes } else { Quota::Runs };
        assert_eq!(throttled.lock().unwrap().first(), Some(&quota));
    }
}

#[tokio::test]
async fn a_quota_that_takes_nothing_is_given_up_in_the_end() {
    let Setup { client, .. } = setup(vec![Answer::Http(429, RATE); 100]).await;
    let error = failed(client.create_job("j", &json!({}).into()).await);
    assert!(error.kind == ErrorKind::RateLimited, "{error}");
    assert!(error.to_string().contains("calls in a minute"), "{error}");
}

#[tokio::test]
async fn the_calls_of_all_runs_share_one_pace() {
    let Setup { queue, client, .. } =
        setup(vec![Answer::Http(429, RATE); 1].into_iter().chain(vec![Answer::Http(200, JOB); 9]).collect()).await;
    let other = client.clone();
    let (first, second) = tokio::join!(client.get_job("j"), async {
        tokio::time::sleep(PERIOD / 6).await;
        other.get_job("k").await
    });
    assert!(first.is_ok() && second.is_ok());
    // The second one was not sent into the quota's face: one was refused, and each waited for its turn.
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
async fn a_start_is_held_back_until_its_gate_opens() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(200, JOB)]).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let start = tokio::spawn(async move { client.run_job("j", &Gate(gate)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(queue.requests().is_empty());
    open.send_replace(true);
    start.await.unwrap().unwrap();
}

/// The same, and the job is another one by then.
struct GateOfAnother(Gate);

impl Guard for GateOfAnother {
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.wait_until_open()
    }

    fn still_valid(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(false))
    }
}

#[tokio::test]
async fn a_start_that_was_held_back_is_not_sent_to_another_job() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(200, JOB)]).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let start = tokio::spawn(async move { client.run_job("j", &GateOfAnother(Gate(gate))).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    open.send_replace(true);
    let error = failed(start.await.unwrap());
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::NotFound, false), "{error}");
    assert!(queue.requests().is_empty());
}

/// The job is another one by now.
struct Replaced;

impl Guard for Replaced {
    fn still_valid(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(false))
    }
}

#[tokio::test]
async fn a_delete_that_waited_for_its_turn_is_not_sent_to_another_job() {
    let answers = [vec![Answer::Http(200, JOB); 10], vec![Answer::Http(429, RATE)], vec![Answer::Http(200, "{}"); 2]];
    let Setup { queue, client, .. } = setup_in(Duration::from_secs(2), answers.concat()).await;
    for _ in 0..10 {
        client.create_job("j", &json!({}).into()).await.unwrap();
    }
    // This one is refused, which uses the quota up for two seconds.
    let late = tokio::spawn({
        let client = client.clone();
        async move { client.delete_job("j", &Replaced).await }
    });
    let error = failed(late.await.unwrap());
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::NotFound, false), "{error}");
    assert_eq!(queue.requests().len(), 11);
    // One that did not wait was looked at lately.
    client.delete_job("j", &Replaced).await.unwrap();
}

#[tokio::test]
async fn a_list_of_many_jobs_asks_for_little_and_fits_any_address() {
    let page = r#"{"kind": "ExecutionList", "metadata": {}, "items": []}"#;
    let Setup { queue, client, .. } = setup(vec![Answer::Http(200, page); 2]).await;
    let long: Vec<_> = (0..100).map(|number| format!("{}-{number}", "j".repeat(50))).collect();
    client.survey_executions(&["a", "b"]).await.unwrap();
    client.survey_executions(&long.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
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
async fn a_conflict_tells_whether_an_earlier_attempt_may_be_its_cause() {
    let Setup { client, .. } = setup(vec![Answer::Drop, Answer::Http(409, TAKEN)]).await;
    let error = failed(client.create_job("j", &json!({}).into()).await);
    assert_eq!((error.kind, error.maybe_done), (ErrorKind::AlreadyExists, true));

    let Setup { client, .. } = setup(vec![Answer::Http(429, QUOTA), Answer::Http(409, TAKEN)]).await;
    assert!(!failed(client.create_job("j", &json!({}).into()).await).maybe_done);
}

#[tokio::test]
async fn an_execution_that_our_lost_delete_removed_is_deleted() {
    let Setup { client, .. } = setup(vec![Answer::Drop, Answer::Http(404, NOT_FOUND)]).await;
    client.delete_execution("e").await.unwrap();

    let Setup { client, .. } = setup(vec![Answer::Http(404, NOT_FOUND)]).await;
    assert_eq!(failed(client.delete_execution("e").await).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_servers_wish_for_a_pause_is_granted() {
    let Setup { client, .. } = setup(vec![Answer::RetryAfter(1), Answer::Http(200, JOB)]).await;
    let started = std::time::Instant::now();
    client.get_job("j").await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_hanging_server_is_given_up_after_the_attempts_timeout() {
    let Setup { client, .. } = setup(vec![Answer::Hang, Answer::Http(200, JOB)]).await;
    client.get_job("j").await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let Setup { queue, client, .. } = setup(vec![Answer::Http(302, ""), Answer::Http(200, JOB)]).await;
    // The queue's redirects lead to a port that nobody listens on. The same request is sent again.
    assert_eq!(client.get_job("j").await.unwrap().metadata.name, "j");
    assert_eq!(queue.requests().len(), 2);
}

#[tokio::test]
async fn names_that_would_leave_their_path_are_refused_unsent() {
    for (project, job) in [("my-project", ".."), ("my-project", ""), ("my-project", "a/b"), ("..", "j"), ("", "j")] {
        let Setup { queue, client, .. } = setup_as(project, vec![Answer::Http(200, "{}")]).await;
        let error = failed(client.delete_job(job, &()).await);
        assert_eq!((error.kind, error.attempts), (ErrorKind::InvalidRequest, 0), "{project} {job}");
        assert!(queue.requests().is_empty());
    }
}
