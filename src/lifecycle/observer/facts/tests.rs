use serde_json::{Value, json};

use super::*;
use crate::job::mark::Mark;
use uuid::Uuid;

const END: &str = "2026-11-26T10:00:00.5Z";
const END_SECONDS: f64 = 1_795_687_200.5;

fn marked(status: &Value) -> Job {
    let mark = Mark {
        pool: Uuid::from_u128(1),
        flow_run: Uuid::from_u128(2),
        process: Uuid::from_u128(3),
        worker: "w".into(),
        keep: false,
        give_up_at: DateTime::UNIX_EPOCH,
    };
    let mut body = json!({
        "metadata": {"name": "j", "uid": "u", "creationTimestamp": "2026-11-26T09:00:00Z"},
        "spec": {"template": {}},
        "status": status,
    });
    assert!(mark.write(&mut body));
    serde_json::from_value(body).unwrap()
}

fn status(latest: &Value, count: i64) -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True"}], "executionCount": count, "latestCreatedExecution": latest})
}

fn by_status(job: &Value) -> (ExecutionsStatus, Option<f64>) {
    let executions = MarkedJob::new("p", "r", &marked(job)).unwrap().executions;
    (executions.status, executions.completed_at)
}

fn execution(name: &str, completed: &str, reason: Option<&str>) -> Execution {
    let conditions = json!([{"type": "Completed", "status": completed, "reason": reason, "lastTransitionTime": END}]);
    let metadata = json!({"name": name, "uid": format!("uid-{name}"), "labels": {"run.googleapis.com/jobUid": "u"}});
    serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}})).unwrap()
}

fn by_list(job: &Value, executions: &[Execution]) -> (ExecutionsStatus, Option<String>) {
    let found = Executions::from_list(&marked(job), executions);
    assert_eq!(found.completed_at.is_some(), found.name.is_some() && found.status != ExecutionsStatus::Active);
    (found.status, found.name)
}

#[test]
fn the_status_of_a_job_tells_how_its_only_execution_stands() {
    use ExecutionsStatus::{Active, Cancelled, Failed, None as Never, Succeeded};
    for (completion, expected) in [
        ("EXECUTION_PENDING", Active),
        ("EXECUTION_RUNNING", Active),
        ("EXECUTION_SUCCEEDED", Succeeded),
        ("EXECUTION_FAILED", Failed),
        ("EXECUTION_CANCELLED", Cancelled),
    ] {
        let latest = json!({"name": "j-1", "completionStatus": completion, "completionTimestamp": END});
        let end = (expected != Active).then_some(END_SECONDS);
        assert_eq!(by_status(&status(&latest, 1)), (expected, end), "{completion}");
    }
    assert_eq!(by_status(&status(&Value::Null, 0)), (Never, None));
}

#[test]
fn a_status_that_is_odd_tells_nothing() {
    let ended = json!({"name": "j-1", "completionStatus": "EXECUTION_FAILED", "completionTimestamp": END});
    let odd = [
        // An earlier execution may still run.
        status(&ended, 2),
        status(&json!({"name": "j-1", "completionStatus": "EXECUTION_FAILED"}), 1),
        status(&json!({"name": "j-1", "completionStatus": "EXECUTION_FAILED", "completionTimestamp": "soon"}), 1),
        status(&json!({"name": "j-1", "completionStatus": "EXECUTION_PAUSED", "completionTimestamp": END}), 1),
        status(&json!({"name": "j-1", "completionTimestamp": END}), 1),
        status(&json!({"completionStatus": "EXECUTION_RUNNING"}), 1),
        // Its execution was deleted.
        status(&Value::Null, 1),
        // An answer without a status.
        json!({}),
    ];
    for status in odd {
        assert_eq!(by_status(&status), (ExecutionsStatus::Unknown, None), "{status}");
    }
    // Of several, one runs for sure.
    let running = json!({"name": "j-2", "completionStatus": "EXECUTION_RUNNING"});
    assert_eq!(by_status(&status(&running, 2)).0, ExecutionsStatus::Active);
}

#[test]
fn a_list_of_executions_tells_what_the_status_does_not() {
    let two = status(&json!({"name": "b", "completionStatus": "EXECUTION_CANCELLED", "completionTimestamp": END}), 2);
    let cancelled = || execution("b", "False", Some("Cancelled"));
    let named = |status, name: &str| (status, Some(name.to_owned()));
    for (first, expected) in [
        (execution("a", "Unknown", None), ExecutionsStatus::Active),
        (execution("a", "True", None), ExecutionsStatus::Succeeded),
        (execution("a", "False", None), ExecutionsStatus::Failed),
    ] {
        assert_eq!(by_list(&two, &[cancelled(), first]), named(expected, "a"));
    }
    assert_eq!(by_list(&two, &[cancelled()]), named(ExecutionsStatus::Cancelled, "b"));
    assert_eq!(by_list(&two, &[]), (ExecutionsStatus::Removed, None));
    assert_eq!(by_list(&status(&Value::Null, 1), &[]), (ExecutionsStatus::Removed, None));
}

#[test]
fn a_list_of_executions_may_tell_nothing() {
    let nothing = (ExecutionsStatus::Unknown, None);
    let odd = status(&json!({"name": "b"}), 2);
    // One that can't be parsed; one that the list does not show yet; no sign of any.
    assert_eq!(by_list(&odd, &[execution("b", "True", None), Execution::default()]), nothing);
    assert_eq!(by_list(&odd, &[execution("a", "True", None)]), nothing);
    assert_eq!(by_list(&json!({}), &[]), nothing);
    // The execution of an earlier job of this name says nothing about this one.
    let mut other = execution("b", "Unknown", None);
    other.metadata.labels.insert("run.googleapis.com/jobUid".into(), "another".into());
    assert_eq!(by_list(&status(&Value::Null, 1), &[other]), (ExecutionsStatus::Removed, None));
}

#[test]
fn only_a_job_that_can_be_told_from_others_is_ours() {
    let good = marked(&status(&Value::Null, 0));
    let job = MarkedJob::new("p", "r", &good).unwrap();
    assert!(job.is_live() && job.is_same_job(&job));
    type Change = fn(&mut Job);
    let changes: [(Change, &str); 5] = [
        (|job| job.metadata.name.clear(), "it can't be parsed"),
        (|job| job.metadata.uid = None, "it has no uid"),
        (|job| job.metadata.creation_timestamp = Some("x".into()), "it has no time of creation"),
        (|job| job.metadata.annotations.clear(), "its mark has no valid 'prefect-gcp-cloud-run/give-up-at'"),
        (
            |job| {
                job.metadata.labels.clear();
                job.metadata.annotations.clear();
            },
            "it has no mark of a worker",
        ),
    ];
    for (change, why) in changes {
        let mut job = good.clone();
        change(&mut job);
        assert_eq!(MarkedJob::new("p", "r", &job), Err(why.to_owned()));
    }
    let mut deleting = good;
    deleting.metadata.deletion_timestamp = Some(END.into());
    assert!(!MarkedJob::new("p", "r", &deleting).unwrap().is_live());
}
