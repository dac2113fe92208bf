//! The promises of a run, each against the emulator with faults on. `lifecycle_machine.rs` has them as properties.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod driver_support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use driver_support::{LABEL, body, emulator, faults, no_jobs, plan, run, transport};
use prefect_gcp_core::{
    api::{CloudRunClient, ErrorKind},
    emulator::{Emulator, EventKind, Outcome as Simulated},
    lifecycle::{
        kill,
        progress::Progress,
        registry::Registry,
        step::{Outcome, Plan, RunError},
    },
};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a job against an emulator that does wrong, and returns how it ended and what it told.
async fn ran(emulator: &Emulator, wrong: Value) -> (Result<Outcome, RunError>, Vec<&'static str>) {
    emulator.set_faults(faults(&wrong));
    let told: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let noted = told.clone();
    let observer = Arc::new(move |progress: Progress| noted.lock().unwrap().push(progress.kind()));
    let owner_label = Some((LABEL.to_owned(), "this".to_owned()));
    let plan = Plan { settles: SECOND, owner_label, ..plan("j") };
    let result = run(transport(emulator), body("j"), plan, observer).await;
    let told = told.lock().unwrap().clone();
    (result, told)
}

fn executions_begun(emulator: &Emulator) -> usize {
    let lives = emulator.history();
    lives.iter().flat_map(|life| &life.events).filter(|event| event.kind == EventKind::ExecutionCreated).count()
}

async fn quick() -> Emulator {
    emulator(Duration::from_millis(200), Simulated::Success).await
}

/// A job of the same name that is another flow run's.
async fn foreign_job(emulator: &Emulator) {
    let client = CloudRunClient::new(transport(emulator));
    let mut body = body("j");
    body["metadata"]["labels"][LABEL] = json!("another");
    client.create_job("j", &body).await.unwrap();
}

#[tokio::test]
async fn never_twice() {
    for (fault, when) in [("reset", "after"), ("reset", "before"), ("hang", "after")] {
        let emulator = quick().await;
        // The reads that are to tell lag behind, too.
        let lost = json!({"fault": fault, "when": when, "calls": ["jobs.run"], "times": 1});
        let stale = json!({"fault": {"stale": 0.5}, "calls": ["executions.list", "jobs.get"], "ratio": 0.5});
        let (result, told) = ran(&emulator, json!({"rules": [lost, stale]})).await;
        assert_eq!(result.unwrap(), Outcome::Succeeded, "{fault} {when}");
        assert!(told.contains(&"recovering"));
        assert_eq!(executions_begun(&emulator), 1, "{fault} {when}");
    }
}

#[tokio::test]
async fn never_lost() {
    for (fault, when) in [("reset", "after"), ("reset", "before")] {
        for call in ["jobs.create", "jobs.delete"] {
            let emulator = quick().await;
            let wrong = json!({"rules": [{"fault": fault, "when": when, "calls": [call], "times": 2}]});
            let (result, told) = ran(&emulator, wrong).await;
            assert_eq!(result.unwrap(), Outcome::Succeeded, "{call} {fault} {when}");
            assert!(no_jobs(&emulator).await && told.contains(&"deleted"), "{call} {fault} {when}");
        }
    }
}

#[tokio::test]
async fn never_stolen() {
    let emulator = quick().await;
    foreign_job(&emulator).await;
    let lost = json!({"fault": "reset", "calls": ["jobs.create"], "times": 2});
    let (result, told) = ran(&emulator, json!({"rules": [lost]})).await;
    assert!(matches!(&result, Err(RunError::Api(error)) if error.kind == ErrorKind::AlreadyExists), "{result:?}");
    assert_eq!((emulator.jobs().len(), executions_begun(&emulator)), (1, 0));
    assert!(!told.contains(&"deleting"));
}

#[tokio::test]
async fn transient_is_not_fatal() {
    let statuses =
        [408, 429, 500, 502, 503, 504].map(|code| json!({"fault": {"status": {"code": code}}, "ratio": 0.05}));
    for seed in 0..3 {
        let emulator = quick().await;
        let (result, _) = ran(&emulator, json!({"seed": seed, "rules": statuses})).await;
        assert_eq!(result.unwrap(), Outcome::Succeeded);
        assert_eq!(executions_begun(&emulator), 1);
    }
}

#[tokio::test]
async fn ready_is_decided() {
    let emulator = quick().await;
    let reads = json!({"fault": {"status": {"code": 503}}, "calls": ["reads"], "ratio": 0.5, "times": 4});
    emulator.set_faults(faults(&json!({"rules": [reads]})));
    let mut body = body("j");
    body["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.invalid/x");
    let error = run(transport(&emulator), body, plan("j"), Arc::new(|_| {})).await.unwrap_err();
    assert!(error.to_string().contains("ContainerMissing: Image 'registry.invalid/x' not found."), "{error}");
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn cancellation_is_prompt() {
    let emulator = emulator(600 * SECOND, Simulated::Success).await;
    emulator.set_faults(faults(&json!({"rules": [{"fault": "hang", "calls": ["executions.get"]}]})));
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let observer = Arc::new(move |progress: Progress| _ = sender.send(progress.kind()));
    let task = tokio::spawn(run(transport(&emulator), body("j"), plan("j"), observer));
    while told.recv().await.unwrap() != "started" {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(began.elapsed() < SECOND);
    assert_eq!((emulator.jobs().len(), executions_begun(&emulator)), (1, 1));
    assert!(emulator.executions()[0].completed().is_none());
}

#[tokio::test]
async fn a_kill_survives_lost_answers_and_outages() {
    let after = |fault: &str, when: &str| json!({"fault": fault, "when": when, "calls": ["jobs.delete"], "times": 1});
    for rules in [
        json!([after("reset", "after")]),
        json!([after("reset", "before"), {"fault": {"status": {"code": 503}}, "calls": ["reads"], "times": 3}]),
        json!([{"fault": {"refuse": 1.0}, "calls": ["jobs.delete"], "times": 1}]),
    ] {
        let emulator = emulator(600 * SECOND, Simulated::Success).await;
        foreign_job(&emulator).await;
        emulator.set_faults(faults(&json!({"rules": rules})));
        let kill = async || kill::kill(transport(&emulator), &Registry::default(), "j", None).await;
        kill().await.unwrap();
        assert!(no_jobs(&emulator).await, "{rules}");
        assert_eq!(kill().await.unwrap_err().kind, ErrorKind::NotFound);
    }
}
