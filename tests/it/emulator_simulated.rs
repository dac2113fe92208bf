//! The emulator's simulated executor: its outcomes and its cost.

use std::time::Duration;

use crate::emulator_support::{Cloud, condition, job, simulated, task};
use prefect_gcp_core::emulator::{DURATION_ANNOTATION, OUTCOME_ANNOTATION, SimulatedOutcome};
use serde_json::json;

#[tokio::test]
async fn annotations_override_the_configured_duration_and_outcome() {
    let cloud = Cloud::start(simulated(Duration::from_secs(300), SimulatedOutcome::Failure)).await;
    for (name, annotations, timeout, status, words) in [
        ("success", json!({OUTCOME_ANNOTATION: "success", DURATION_ANNOTATION: "0.01"}), 600, "True", "success"),
        ("failure", json!({DURATION_ANNOTATION: "0"}), 600, "False", "exit code: 1"),
        (
            "timeout",
            json!({OUTCOME_ANNOTATION: "timeout", DURATION_ANNOTATION: "0"}),
            600,
            "False",
            "timeout was reached.",
        ),
        ("slow", json!({}), 1, "False", "The configured timeout was reached."),
    ] {
        let mut job = job(name, "true");
        job["spec"]["template"]["metadata"]["annotations"] = annotations;
        task(&mut job)["timeoutSeconds"] = json!(timeout);
        cloud.create(job).await;
        let completed = condition(&cloud.wait_ended(&cloud.run(name).await).await, "Completed");
        assert_eq!(completed["status"], status, "{name}");
        assert!(completed["message"].as_str().unwrap().contains(words), "{completed}");
    }
}

#[tokio::test]
async fn ten_thousand_simulated_tasks_at_once_are_cheap() {
    let cloud = Cloud::start(simulated(Duration::from_millis(500), SimulatedOutcome::Success)).await;
    let mut wide = job("wide", "true");
    wide["spec"]["template"]["spec"]["taskCount"] = json!(10_000);
    cloud.create(wide).await;
    cloud.create(job("narrow", "true")).await;
    let begin = std::time::Instant::now();
    let wide = cloud.run("wide").await;
    for _ in 0..200 {
        cloud.run("narrow").await;
    }
    let ended = cloud.wait_ended(&wide).await;
    assert_eq!(ended["status"]["succeededCount"], 10_000);
    let narrow = |execution: &prefect_gcp_core::api::types::Execution| execution.completed().is_none();
    while cloud.emulator.executions().iter().any(narrow) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
