//! Every call goes through `api::transport`, with its retries, quotas, tokens and typed errors.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::queue::{Queue, Response};
use prefect_gcp_core::api::{
    ApiMethod, ApiResult, CloudRunClient, Credentials, Endpoint, ErrorKind, GcpAuth, HttpPool, Notice, Principal,
    Quota, QuotaQueues, RetryPolicy, TokenSource, Transport,
};
use serde_json::json;

/// Calls the method. The match has no wildcard, so a method that is added later can't be forgotten here.
async fn make(client: &CloudRunClient, method: ApiMethod) -> ApiResult<()> {
    match method {
        ApiMethod::CreateJob => client.create_job("j", &json!({}).into(), &()).await.map(drop),
        ApiMethod::GetJob => client.get_job("j").await.map(drop),
        ApiMethod::DeleteJob => client.delete_job("j", &()).await,
        ApiMethod::RunJob => client.run_job("j", &()).await.map(drop),
        ApiMethod::GetExecution => client.get_execution("j").await.map(drop),
        ApiMethod::ListExecutions => client.list_executions("j").await.map(drop),
        ApiMethod::DeleteExecution => client.delete_execution("j").await,
        ApiMethod::CancelExecution => client.cancel_execution("j").await.map(drop),
        ApiMethod::ListJobs => client.find_job("j", None).await.map(drop),
        ApiMethod::ListTasks => client.list_tasks("e").await.map(drop),
        ApiMethod::ReplaceJob | ApiMethod::GetTask => unreachable!("the client does not call it"),
    }
}

/// What a client reports: the calls that it repeats, and the quotas that it waits for.
#[derive(Default)]
struct Reported {
    retried: Vec<ApiMethod>,
    rate_limited: Vec<Quota>,
}

async fn client(responses: Vec<Response>) -> (CloudRunClient, Queue, Arc<Mutex<Reported>>) {
    let queue = Queue::start(responses).await;
    let reported: Arc<Mutex<Reported>> = Arc::default();
    let sink = reported.clone();
    let transport = Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(&queue.address, "us-east1").unwrap(),
        project: "p".into(),
        region: "us-east1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(Duration::from_millis(200))),
        quota_wait_max: Duration::from_secs(20),
        retry: RetryPolicy { initial_delay: Duration::from_millis(1), ..RetryPolicy::default() },
        attempt_timeout: Duration::from_secs(20),
        random: fastrand::f64,
        on_notice: Arc::new(move |notice| match notice {
            Notice::Retry(notice) => sink.lock().unwrap().retried.push(notice.error.method),
            Notice::RateLimited(quota) => sink.lock().unwrap().rate_limited.push(quota),
        }),
    };
    (CloudRunClient::new(transport), queue, reported)
}

#[tokio::test]
async fn every_call_waits_for_its_quota_and_is_repeated_and_has_a_typed_error() {
    const RATE: Response = Response::Http(
        429,
        r#"{"error": {"code": 429, "message": "Slow down.", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}"#,
    );

    const BUSY: Response = Response::Http(429, r#"{"error": {"code": 429, "message": "Busy."}}"#);
    const FINE: Response = Response::Http(200, r#"{"kind": "ExecutionList", "metadata": {"name": "j"}}"#);
    const JOBS: Response = Response::Http(200, r#"{"kind": "JobList", "metadata": {}}"#);
    const TASKS: Response = Response::Http(200, r#"{"kind": "TasksList", "metadata": {}}"#);
    const DENIED: Response = Response::Http(403, r#"{"error": {"code": 403, "message": "No."}}"#);
    let mut calls = 0;
    // The client has no function for the other methods.
    let client_source = include_str!("../../src/api/client.rs");
    let is_called = |method: &ApiMethod| client_source.contains(&format!("ApiMethod::{method:?}"));
    for call in ApiMethod::ALL.into_iter().filter(is_called) {
        let fine = match call {
            ApiMethod::ListJobs => JOBS,
            ApiMethod::ListTasks => TASKS,
            _ => FINE,
        };
        let (client, queue, reported) = client(vec![BUSY, fine, DENIED, RATE, fine]).await;
        let waits_itself = matches!(call, ApiMethod::RunJob | ApiMethod::CreateJob);
        assert_eq!(make(&client, call).await.is_err(), waits_itself, "{call:?}");
        if waits_itself {
            make(&client, call).await.unwrap();
        }
        let expected = if waits_itself { vec![] } else { vec![call] };
        assert_eq!(reported.lock().unwrap().retried, expected, "{call:?}");
        let error = make(&client, call).await.unwrap_err();
        assert_eq!((error.kind, error.method, error.status), (ErrorKind::PermissionDenied, call, Some(403)));
        assert_eq!(error.missing_permission(), Some(call.row().permission));
        assert_eq!(queue.requests().len(), 3);
        make(&client, call).await.unwrap();
        assert_eq!(reported.lock().unwrap().rate_limited, [call.row().quota], "{call:?}");
        assert_eq!(queue.requests().len(), 5);
        calls += 1;
    }
    assert_eq!(calls, 10);
}

#[test]
fn only_the_transport_sends_requests() {
    let sends = [".send(", ".execute(", ".request(", "RequestBuilder", "reqwest::get", "hyper::"];
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut senders = vec![];
    for path in files(&own).into_iter().filter(|path| !path.starts_with(own.join("emulator"))) {
        let source = fs::read_to_string(&path).unwrap();
        // The senders of channels send too.
        let source = source.replace("sender.send(", "");
        if sends.iter().any(|words| source.contains(words)) {
            senders.push(path.strip_prefix(&own).unwrap().to_owned());
        }
    }
    // The client passes its requests to the transport's one `send`, and http.rs builds them.
    senders.sort();
    assert_eq!(senders, ["api/client.rs", "api/http.rs", "api/transport.rs"].map(PathBuf::from));
    let client = fs::read_to_string(own.join("api/client.rs")).unwrap();
    assert_eq!(client.matches(".send(").count(), 1);
    assert!(
        client.contains("self.transport.send(&self.with_priority(request), permit)") && !client.contains("reqwest")
    );
    // The transport sends in one place, and http.rs sends nothing.
    let http = fs::read_to_string(own.join("api/http.rs")).unwrap();
    assert_eq!((http.matches(".send(").count(), http.matches(".execute(").count()), (0, 0));
    let transport = fs::read_to_string(own.join("api/transport.rs")).unwrap();
    assert_eq!(transport.matches(".send(").count(), 1);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
