//! The emulator's simulated executor: its outcomes and its cost.

use std::time::Duration;

use crate::emulator_support::{Cloud, JOBS, TASKS, condition, job, simulated, task};
use prefect_gcp_core::emulator::{DURATION_ANNOTATION, MESSAGE_ANNOTATION, OUTCOME_ANNOTATION, SimulatedOutcome};
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
async fn a_task_shows_how_its_last_attempt_ended() {
    let cloud = Cloud::start(simulated(Duration::from_millis(10), SimulatedOutcome::Success)).await;
    let words = "The container exited with an error.";
    for (name, outcome, message, result) in [
        ("ok", "success", "", json!({"status": {}})),
        ("code", "exit-code=3", "", json!({"status": {"code": 10, "message": words}, "exitCode": 3})),
        ("own-words", "exit-code=3", "Boom.", json!({"status": {"code": 10, "message": "Boom."}, "exitCode": 3})),
        (
            "signal",
            "signal=9",
            "",
            json!({"status": {"code": 10, "message": "The container was terminated by signal 9."}, "termSignal": 9}),
        ),
        (
            "memory",
            "out-of-memory",
            "",
            json!({"status": {"code": 8, "message": "The configured memory limit was reached."}}),
        ),
        ("time", "timeout", "", json!({"status": {"code": 4, "message": "The configured timeout was reached."}})),
    ] {
        let mut job = job(name, "true");
        let mut annotations = json!({OUTCOME_ANNOTATION: outcome});
        if !message.is_empty() {
            annotations[MESSAGE_ANNOTATION] = json!(message);
        }
        job["spec"]["template"]["metadata"]["annotations"] = annotations;
        task(&mut job)["maxRetries"] = json!(2);
        cloud.create(job).await;
        let execution = cloud.wait_ended(&cloud.run(name).await).await;
        let execution = execution["metadata"]["name"].as_str().unwrap();
        let tasks = cloud.get(&format!("{TASKS}?labelSelector=run.googleapis.com/execution={execution}")).await.1;
        let shown = &tasks["items"][0];
        assert_eq!(shown["status"]["lastAttemptResult"], result, "{name}");
        assert_eq!(shown["status"]["retried"], if name == "ok" { json!(null) } else { json!(2) }, "{name}");
        assert_eq!(condition(shown, "Completed")["status"], if name == "ok" { "True" } else { "False" });
        assert_eq!(shown, &cloud.get(&format!("{TASKS}/{execution}-task0")).await.1);
    }
}

#[tokio::test]
async fn the_tasks_of_an_execution_go_with_it() {
    let cloud = Cloud::start(simulated(Duration::from_millis(10), SimulatedOutcome::Success)).await;
    for name in ["one", "two"] {
        let mut job = job(name, "true");
        job["spec"]["template"]["spec"]["taskCount"] = json!(3);
        cloud.create(job).await;
        cloud.wait_ended(&cloud.run(name).await).await;
    }
    let names = |tasks: &serde_json::Value| -> Vec<String> {
        let items = tasks["items"].as_array().unwrap().iter();
        items.map(|task| task["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&cloud.get(TASKS).await.1).len(), 6);
    cloud.delete(&format!("{JOBS}/one")).await;
    while names(&cloud.get(TASKS).await.1).iter().any(|name| name.starts_with("one-")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(names(&cloud.get(TASKS).await.1).len(), 3);
}

#[tokio::test]
async fn the_tasks_of_a_cancelled_execution_are_cancelled() {
    let cloud = Cloud::start(simulated(Duration::from_secs(300), SimulatedOutcome::Success)).await;
    let mut job = job("long", "true");
    job["spec"]["template"]["spec"]["taskCount"] = json!(2);
    job["spec"]["template"]["spec"]["parallelism"] = json!(1);
    cloud.create(job).await;
    let execution = cloud.run("long").await;
    cloud.wait_started(&execution).await;
    cloud.post(&format!("{execution}:cancel"), json!({})).await;
    cloud.wait_ended(&execution).await;
    for task in cloud.get(TASKS).await.1["items"].as_array().unwrap() {
        assert_eq!(condition(task, "Completed")["reason"], "Cancelled", "{task}");
        assert_eq!(task["status"]["lastAttemptResult"], json!(null));
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
