//! Every call goes the one way of `api::transport`, with its retries, its pace, its tokens and its typed errors.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

#[allow(dead_code, reason = "another test uses the rest of it")]
mod queue;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use prefect_gcp_core::api::{
    ApiError, ApiMethod, CloudRunClient, Credentials, Endpoint, ErrorKind, GcpAuth, Notice, Principal, Quota,
    QuotaQueues, RetryPolicy, TokenSource, Transport, http_client,
};
use queue::{Answer, Queue};
use serde_json::json;

/// Calls the method. A method that is added later can't be forgotten here.
async fn make(client: &CloudRunClient, method: ApiMethod) -> Result<(), Box<ApiError>> {
    match method {
        ApiMethod::CreateJob => client.create_job("j", &json!({}).into()).await.map(drop),
        ApiMethod::GetJob => client.get_job("j").await.map(drop),
        ApiMethod::DeleteJob => client.delete_job("j", &()).await,
        ApiMethod::RunJob => client.run_job("j", &()).await.map(drop),
        ApiMethod::GetExecution => client.get_execution("j").await.map(drop),
        ApiMethod::ListExecutions => client.list_executions("j").await.map(drop),
        ApiMethod::DeleteExecution => client.delete_execution("j").await,
        ApiMethod::CancelExecution => client.cancel_execution("j").await.map(drop),
        ApiMethod::ListJobs | ApiMethod::ReplaceJob => unreachable!("the client does not call it"),
    }
}

/// What a client tells: the calls that it repeats, and the quotas that it waits for.
#[derive(Default)]
struct Told {
    retried: Vec<ApiMethod>,
    throttled: Vec<Quota>,
}

async fn client(answers: Vec<Answer>) -> (CloudRunClient, Queue, Arc<Mutex<Told>>) {
    let queue = Queue::start(answers).await;
    let told: Arc<Mutex<Told>> = Arc::default();
    let noted = told.clone();
    let transport = Transport {
        http: http_client(false).unwrap(),
        endpoint: Endpoint::emulator(&queue.address, "us-east1").unwrap(),
        project: "p".into(),
        region: "us-east1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(Duration::from_millis(200))),
        quota_wait_max: Duration::from_secs(20),
        retry: RetryPolicy { initial_delay: Duration::from_millis(1), ..RetryPolicy::default() },
        attempt_timeout: Duration::from_secs(20),
        on_notice: Arc::new(move |notice| match notice {
            Notice::Retry(notice) => noted.lock().unwrap().retried.push(notice.error.method),
            Notice::Quota(quota) => noted.lock().unwrap().throttled.push(quota),
        }),
    };
    (CloudRunClient::new(transport), queue, told)
}

#[tokio::test]
async fn every_call_is_paced_and_tried_again_and_its_failure_is_typed() {
    const RATE: Answer = Answer::Http(
        429,
        r#"{"error": {"code": 429, "message": "Slow down.", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}"#,
    );

    const BUSY: Answer = Answer::Http(429, r#"{"error": {"code": 429, "message": "Busy."}}"#);
    const FINE: Answer = Answer::Http(200, r#"{"kind": "ExecutionList", "metadata": {"name": "j"}}"#);
    const DENIED: Answer = Answer::Http(403, r#"{"error": {"code": 403, "message": "No."}}"#);
    let mut calls = 0;
    let is_called = |method: &ApiMethod| !matches!(method, ApiMethod::ListJobs | ApiMethod::ReplaceJob);
    for call in ApiMethod::ALL.into_iter().filter(is_called) {
        let (client, queue, told) = client(vec![BUSY, FINE, DENIED, RATE, FINE]).await;
        let waits_itself = call == ApiMethod::RunJob;
        assert_eq!(make(&client, call).await.is_err(), waits_itself, "{call:?}");
        if waits_itself {
            make(&client, call).await.unwrap();
        }
        let expected = if waits_itself { vec![] } else { vec![call] };
        assert_eq!(told.lock().unwrap().retried, expected, "{call:?}");
        let error = make(&client, call).await.unwrap_err();
        assert_eq!((error.kind, error.method, error.status), (ErrorKind::PermissionDenied, call, Some(403)));
        assert_eq!(error.missing_permission(), Some(call.row().permission));
        assert_eq!(queue.requests().len(), 3);
        make(&client, call).await.unwrap();
        assert_eq!(told.lock().unwrap().throttled, [call.row().quota], "{call:?}");
        assert_eq!(queue.requests().len(), 5);
        calls += 1;
    }
    assert_eq!(calls, 8);
}

#[test]
fn nothing_but_the_transport_sends_requests() {
    let sends = [".send(", ".execute(", ".request(", "RequestBuilder", "reqwest::get", "hyper::"];
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut senders = vec![];
    for path in files(&own).into_iter().filter(|path| !path.starts_with(own.join("emulator"))) {
        let source = fs::read_to_string(&path).unwrap();
        // A channel's sender sends too, and is called so.
        let source = source.replace("sender.send(", "");
        if sends.iter().any(|words| source.contains(words)) {
            senders.push(path.strip_prefix(&own).unwrap().to_owned());
        }
    }
    // The client hands its requests to the transport's one `send`.
    senders.sort();
    assert_eq!(senders, [PathBuf::from("api/client.rs"), PathBuf::from("api/transport.rs")]);
    let client = fs::read_to_string(own.join("api/client.rs")).unwrap();
    assert_eq!(client.matches(".send(").count(), 1);
    assert!(client.contains("self.transport.send(&request)") && !client.contains("reqwest"));
    // And that one sends in one place.
    let transport = fs::read_to_string(own.join("api/transport.rs")).unwrap();
    assert_eq!(transport.matches(".send(").count(), 1);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
