//! What `doctor` asks Google for: the list of jobs, then the permissions, from the project or by reads.

use std::{sync::Arc, time::Duration};

use crate::queue::{Queue, Response};
use prefect_gcp_core::api::{
    Access, CloudRunClient, Credentials, Endpoint, ErrorKind, GcpAuth, HttpPool, Principal, QuotaQueues, RetryPolicy,
    TokenSource, Transport,
};

const JOBS: Response = Response::Http(200, r#"{"kind": "JobList"}"#);
const DISABLED: Response = Response::Http(
    403,
    r#"{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "The API has not been used in project 1 before.",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}]}}"#,
);
const DENIED: Response = Response::Http(
    403,
    r#"{"error": {"code": 403, "status": "PERMISSION_DENIED",
    "message": "Permission 'run.tasks.list' denied on resource 'namespaces/p/tasks' (or resource may not exist)."}}"#,
);
const LOGS_DENIED: Response = Response::Http(
    403,
    r#"{"error": {"code": 403, "status": "PERMISSION_DENIED",
    "message": "Permission denied for all log views"}}"#,
);
const NOT_FOUND: Response =
    Response::Http(404, r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "Resource does not exist."}}"#);

async fn check(account: Option<&str>, responses: Vec<Response>) -> (Access, Queue) {
    let queue = Queue::start(responses).await;
    let transport = Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(&queue.address, "us-east1").unwrap(),
        project: "my-project".into(),
        region: "us-east1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(Duration::from_secs(60))),
        quota_wait_max: Duration::ZERO,
        retry: RetryPolicy {
            max_attempts: 1,
            max_elapsed: Duration::from_secs(30),
            initial_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
        },
        attempt_timeout: Duration::from_secs(20),
        random: fastrand::f64,
        on_notice: Arc::new(|_| {}),
    };
    (CloudRunClient::new(transport).check_access(account).await, queue)
}

fn has(access: &Access, permission: &str) -> Option<bool> {
    access.permissions.iter().find(|(needed, _)| needed.name == permission).unwrap().1
}

#[tokio::test]
async fn the_project_is_asked_for_all_permissions_at_once() {
    let granted = r#"{"permissions": ["run.jobs.list", "run.jobs.create", "iam.serviceAccounts.actAs"]}"#;
    let (access, queue) = check(Some("a@b"), vec![JOBS, Response::Http(200, granted)]).await;
    assert!(access.error.is_none() && access.not_asked.is_none());
    assert_eq!(has(&access, "run.jobs.create"), Some(true));
    assert_eq!(has(&access, "run.jobs.run"), Some(false));
    assert_eq!(has(&access, "iam.serviceAccounts.actAs"), Some(true));
    let requests = queue.requests();
    assert!(requests[0].line.starts_with("GET /apis/run.googleapis.com/v1/namespaces/my-project/jobs?limit=1"));
    assert_eq!(requests[1].line, "POST /v3/projects/my-project:testIamPermissions");
    for (needed, _) in &access.permissions {
        assert!(requests[1].body.contains(&format!("\"{}\"", needed.name)), "{}", requests[1].body);
    }
}

#[tokio::test]
async fn the_right_to_act_as_an_account_is_asked_of_the_account_too() {
    let act_as = r#"{"permissions": ["iam.serviceAccounts.actAs"]}"#;
    let (access, queue) = check(Some("a@b"), vec![JOBS, Response::Http(200, "{}"), Response::Http(200, act_as)]).await;
    assert_eq!(has(&access, "iam.serviceAccounts.actAs"), Some(true));
    assert_eq!(queue.requests()[2].line, "POST /v1/projects/-/serviceAccounts/a@b:testIamPermissions");
    // Nobody knows which account: it may be granted there.
    let (access, _queue) = check(None, vec![JOBS, Response::Http(200, "{}")]).await;
    assert_eq!(has(&access, "iam.serviceAccounts.actAs"), None);
}

#[tokio::test]
async fn without_the_resource_manager_only_reads_are_sent() {
    // In the order of the permissions: jobs.get, executions.list, executions.get, tasks.list, then the log.
    let reads = [NOT_FOUND, JOBS, NOT_FOUND, DENIED, LOGS_DENIED];
    let (access, queue) = check(None, [JOBS, DISABLED].into_iter().chain(reads).collect()).await;
    let not_asked = access.not_asked.as_ref().unwrap();
    assert!(not_asked.is_api_disabled && not_asked.why.contains("has not been used"), "{not_asked:?}");
    for (permission, expected) in [
        ("run.jobs.list", Some(true)),
        ("run.jobs.get", Some(true)),
        ("run.executions.list", Some(true)),
        ("run.executions.get", Some(true)),
        ("run.tasks.list", Some(false)),
        ("logging.logEntries.list", Some(false)),
        ("run.jobs.create", None),
        ("run.jobs.run", None),
        ("run.jobs.delete", None),
        ("run.executions.cancel", None),
        ("iam.serviceAccounts.actAs", None),
    ] {
        assert_eq!(has(&access, permission), expected, "{permission}");
    }
    let asks = |line: &str| line.ends_with(":testIamPermissions") || line.ends_with("/v2/entries:list");
    for request in queue.requests() {
        let line = request.line.split('?').next().unwrap();
        assert!(line.starts_with("GET ") || asks(line), "{line}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_list_is_an_answer_and_a_disabled_api_ends_the_questions() {
    let (access, _queue) = check(None, vec![DENIED, Response::Http(200, r#"{"permissions": ["run.jobs.get"]}"#)]).await;
    assert_eq!(access.error.as_ref().unwrap().kind, ErrorKind::PermissionDenied);
    assert_eq!((has(&access, "run.jobs.get"), has(&access, "run.jobs.list")), (Some(true), Some(false)));
    let (access, queue) = check(None, vec![DISABLED]).await;
    assert_eq!(access.error.as_ref().unwrap().kind, ErrorKind::ApiDisabled);
    assert!(access.permissions.iter().all(|(_, has)| has.is_none()));
    assert_eq!(queue.requests().len(), 1);
}
