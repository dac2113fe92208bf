//! Reading logs from Cloud Logging: what is asked for, in which order lines come, and what is asked for again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    emulator_support::{Cloud, JOBS, job, quick},
    queue::{Queue, Response},
};
use prefect_gcp_core::api::{
    Credentials, Endpoint, ErrorKind, GcpAuth, HttpPool, LogPace, LogQuery, LogReader, Principal, QuotaQueues,
    RetryPolicy, TokenSource, Transport,
};
use serde_json::{Value, json};

const QUERY: LogQuery<'_> = LogQuery { job: "j", execution: "j-abcde", since: Some(1.5), limit: 3 };

/// A reader in the region that the emulator takes a loopback address for.
fn reader(address: &str, project: &str, pace: LogPace) -> LogReader {
    let transport = Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(address, "us-central1").unwrap(),
        project: project.into(),
        region: "us-central1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(Duration::from_secs(60))),
        quota_wait_max: Duration::from_secs(60),
        retry: RetryPolicy::default(),
        attempt_timeout: Duration::from_secs(20),
        random: fastrand::f64,
        on_notice: Arc::new(|_| {}),
    };
    LogReader::new(transport, pace)
}

fn quick_pace() -> LogPace {
    LogPace::new(Duration::ZERO)
}

async fn read(queue: &Queue) -> Vec<String> {
    let lines = reader(&queue.address, "p", quick_pace()).read(QUERY).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}

#[tokio::test]
async fn the_last_lines_come_oldest_first_from_all_pages() {
    let queue = Queue::start(vec![
        Response::Http(200, r#"{"entries": [{"textPayload": "four"}], "nextPageToken": "t"}"#),
        // An empty page is not the end.
        Response::Http(200, r#"{"nextPageToken": "u"}"#),
        Response::Http(
            200,
            r#"{"entries": [{"textPayload": "two\nthree"}, {"textPayload": "one"}], "nextPageToken": "v"}"#,
        ),
    ])
    .await;
    assert_eq!(read(&queue).await, ["two", "three", "four"]);
    let requests = queue.requests();
    let bodies: Vec<Value> = requests.iter().map(|request| serde_json::from_str(&request.body).unwrap()).collect();
    let filter = "resource.type=\"cloud_run_job\" resource.labels.job_name=\"j\" resource.labels.location=\"us-central1\" \
                  labels.\"run.googleapis.com/execution_name\"=\"j-abcde\" timestamp>=\"1970-01-01T00:00:01.500000Z\"";
    let first = json!({
        "resourceNames": ["projects/p"], "filter": filter, "orderBy": "timestamp desc", "pageSize": 3,
    });
    assert_eq!(bodies[0], first);
    assert_eq!((&bodies[1]["pageToken"], &bodies[2]["pageToken"]), (&json!("t"), &json!("u")));
    assert!(requests[0].line.starts_with("POST /v2/entries:list?fields="), "{}", requests[0].line);
}

#[tokio::test]
async fn what_may_pass_is_asked_for_again_and_what_does_not_is_not() {
    tokio::time::pause();
    let queue = Queue::start(vec![
        Response::Http(503, "{}"),
        Response::Http(429, r#"{"error": {"code": 429, "message": "Quota exceeded."}}"#),
        Response::Http(200, r#"{"entries": [{"textPayload": "x"}]}"#),
        Response::Http(403, r#"{"error": {"code": 403, "message": "No."}}"#),
    ])
    .await;
    let began = tokio::time::Instant::now();
    let reader = reader(&queue.address, "p", quick_pace());
    assert_eq!(reader.read(QUERY).await.unwrap().len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(15), "a quota per minute needs a longer pause");
    let error = reader.read(QUERY).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::PermissionDenied, Some(403)));
    assert_eq!(error.to_string(), "The log of execution 'j-abcde' could not be read from Cloud Logging: No.");
    assert_eq!(queue.requests().len(), 4);
}

#[tokio::test]
async fn reads_of_a_project_follow_each_other_at_the_pace() {
    let queue = Queue::start(vec![Response::Http(200, "{}"); 3]).await;
    let pace = LogPace::new(Duration::from_millis(50));
    let began = Instant::now();
    let reads = (0..3).map(|_| {
        let reader = reader(&queue.address, "p", pace.clone());
        tokio::spawn(async move { reader.read(QUERY).await.unwrap() })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap(), []);
    }
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_name_that_would_change_the_filter_is_refused() {
    let queue = Queue::start(vec![]).await;
    let reader = reader(&queue.address, "p", quick_pace());
    for execution in ["", "e\" OR \"\"=\"", "e\\"] {
        let error = reader.read(LogQuery { execution, ..QUERY }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest, "{execution}");
    }
    assert_eq!(queue.requests().len(), 0);
}

#[tokio::test]
async fn the_emulator_serves_the_output_of_its_executions_also_of_deleted_jobs() {
    let cloud = Cloud::start(quick()).await;
    cloud.create(job("noisy", "for i in 1 2 3; do echo line $i; done; exit 3")).await;
    let path = cloud.run("noisy").await;
    let execution = cloud.wait_ended(&path).await;
    let name = execution["metadata"]["name"].as_str().unwrap();
    let reader = reader(&cloud.emulator.address().to_string(), "demo", quick_pace());
    let query = LogQuery { job: "noisy", execution: name, since: None, limit: 3 };
    let lines = reader.read(query).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.is_system)).collect();
    assert_eq!(texts[..2], [("line 2", false), ("line 3", false)]);
    assert!(texts[2].0.contains("failed with exit code 3") && texts[2].1, "{texts:?}");

    cloud.delete(&format!("{JOBS}/noisy")).await;
    cloud.wait_gone(&format!("{JOBS}/noisy")).await;
    assert_eq!(reader.read(query).await.unwrap(), lines);
    for other in [
        LogQuery { job: "other", ..query },
        LogQuery { execution: "noisy-other", ..query },
        LogQuery { since: Some(4e9), ..query },
    ] {
        assert_eq!(reader.read(other).await.unwrap(), [], "{other:?}");
    }
}

#[tokio::test]
async fn the_emulator_pages_and_refuses_what_it_does_not_understand() {
    let cloud = Cloud::start(quick()).await;
    cloud.create(job("noisy", "echo one; echo two")).await;
    cloud.wait_ended(&cloud.run("noisy").await).await;
    let list = async |body: Value| cloud.post("/v2/entries:list", body).await;
    let (_, first) = list(json!({"resourceNames": ["projects/demo"], "pageSize": 1})).await;
    assert_eq!(first["entries"][0]["textPayload"], "one");
    let token = first["nextPageToken"].clone();
    let (_, second) = list(json!({"resourceNames": ["projects/demo"], "pageSize": 1, "pageToken": token})).await;
    assert_eq!(second["entries"][0]["textPayload"], "two");
    for wrong in [
        json!({"resourceNames": ["demo"]}),
        json!({"resourceNames": ["projects/demo"], "filter": "severity>=ERROR"}),
        json!({"resourceNames": ["projects/demo"], "orderBy": "severity"}),
        json!({"resourceNames": ["projects/demo"], "pageToken": "x"}),
    ] {
        assert_eq!(list(wrong.clone()).await.0, 400, "{wrong}");
    }
}
