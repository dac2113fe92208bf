//! The wire types parse all that the API sends, also what its schema does not allow, and lose nothing of it.

use prefect_gcp_core::api::types::{ConditionStatus, Execution, Job, List};
use serde_json::{Value, json};

fn job(value: Value) -> Job {
    serde_json::from_value(value).unwrap()
}

#[test]
fn unknown_fields_survive_a_round_trip() {
    let value = json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "new": 1,
        "metadata": {
            "name": "j", "namespace": "123", "new": [1], "generation": 2, "labels": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "new": true}],
        },
        "spec": {"new": {}, "template": {"new": 1, "metadata": {"annotations": {"c": "d"}}, "spec": {
            "new": 1, "taskCount": 1, "template": {"new": 1, "spec": {
                "new": 1, "maxRetries": 0, "timeoutSeconds": "600", "serviceAccountName": "a@b",
                "containers": [{
                    "image": "i", "command": ["c"], "args": ["a"], "new": {"deep": [{}]},
                    "resources": {"limits": {"cpu": "1000m"}},
                    "env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": {"key": "1"}}}],
                }],
            }},
        }}},
        "status": {
            "new": 1, "observedGeneration": 2, "executionCount": 1,
            "conditions": [{"type": "Ready", "status": "True", "new": 1, "lastTransitionTime": "t"}],
            "latestCreatedExecution": {"name": "e", "completionStatus": "EXECUTION_RUNNING", "new": 1},
        },
    });
    assert_eq!(serde_json::to_value(job(value.clone())).unwrap(), value);
}

#[test]
fn integers_may_be_strings_and_missing_fields_null() {
    let odd = job(json!({
        "metadata": {"name": "j", "generation": "3", "labels": null},
        "spec": null,
        "status": {"observedGeneration": "3", "conditions": null, "executionCount": {}},
    }));
    assert_eq!(odd.metadata.generation, Some(3));
    assert_eq!(odd.status.execution_count, None);
    assert!(odd.status.conditions.is_empty());
    assert_eq!(job(json!({})), Job::default());
    assert_eq!(job(json!({"metadata": null, "status": null})), Job::default());
}

#[test]
fn only_a_condition_of_the_current_generation_makes_a_job_ready() {
    let ready = |generation: i64, observed: i64| {
        let status = json!({"observedGeneration": observed, "conditions": [{"type": "Ready", "status": "True"}]});
        job(json!({"metadata": {"generation": generation}, "status": status})).ready().map(|ready| ready.status)
    };
    assert_eq!(ready(2, 2), Some(ConditionStatus::True));
    assert_eq!(ready(2, 1), None);
}

#[test]
fn only_the_completed_condition_ends_an_execution() {
    let execution = |conditions: Value| -> Execution {
        serde_json::from_value(json!({"status": {"conditions": conditions, "completionTime": "t"}})).unwrap()
    };
    let others = json!([{"type": "Retry", "status": "True"}, {"type": "Started", "status": "False"}, 7, null]);
    assert_eq!(execution(others).completed(), None);
    for undecided in ["Unknown", "Maybe", ""] {
        assert_eq!(execution(json!([{"type": "Completed", "status": undecided}])).completed(), None);
    }
    assert!(execution(json!([{"type": "Completed", "status": "False"}])).completed().is_some());
}

#[test]
fn an_item_that_cannot_be_parsed_does_not_affect_others() {
    let page: List<Execution> =
        serde_json::from_value(json!({"items": [1, {"metadata": {"name": "e"}}, null]})).unwrap();
    assert_eq!(page.items.len(), 1);
    let empty: List<Execution> = serde_json::from_value(json!({})).unwrap();
    assert!(empty.items.is_empty() && empty.metadata.continue_token.is_none());
}
