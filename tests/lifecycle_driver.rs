//! The driver and a kill against the emulator, in one process.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prefect_gcp_core::{
    api::{Credentials, Endpoint, ErrorKind, RetryPolicy, TokenSource, Transport, http_client},
    emulator::{Emulator, EmulatorConfig, ExecutorConfig, Outcome as Simulated},
    lifecycle::{
        driver, kill,
        progress::Progress,
        step::{Outcome, Plan, RunError},
    },
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const REGION: &str = "us-central1";
const LABEL: &str = "prefect-io-flow-run-id";

async fn emulator(duration: Duration, outcome: Simulated) -> Emulator {
    let config = EmulatorConfig {
        ready_after: Duration::from_millis(20),
        start_after: Duration::from_millis(20),
        // As with Google, a deleted job can still be read for a while.
        delete_after: Duration::from_millis(1500),
        executor: ExecutorConfig::Simulated { duration, outcome },
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.unwrap()
}

fn transport(emulator: &Emulator) -> Transport {
    Transport {
        http: http_client(false).unwrap(),
        endpoint: Endpoint::emulator(&emulator.address().to_string(), REGION).unwrap(),
        project: "p".into(),
        region: REGION.into(),
        tokens: Arc::new(TokenSource::new(Credentials::ApplicationDefault)),
        retry: RetryPolicy::default(),
        attempt_timeout: Duration::from_secs(5),
        on_retry: Arc::new(|_| {}),
    }
}

fn plan(job: &str) -> Plan {
    Plan {
        project: "p".into(),
        region: REGION.into(),
        job: job.into(),
        owner_label: None,
        keep_job: false,
        ready_timeout: Duration::from_secs(10),
        poll_interval: Duration::from_millis(200),
        settles: Duration::from_secs(5),
        patience: Duration::from_secs(20),
        tries: 10,
    }
}

fn body(job: &str) -> Value {
    let task = json!({"spec": {"maxRetries": 0, "containers": [{"image": "i", "command": ["c"]}]}});
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": job, "labels": {LABEL: "this"}},
        "spec": {"template": {"spec": {"template": task}}},
    })
}

/// A run whose execution has started.
async fn started_run(emulator: &Emulator) -> JoinHandle<Result<Outcome, RunError>> {
    let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
    let observer = Arc::new(move |progress: Progress| {
        if progress.kind() == "started" {
            sender.send(()).unwrap();
        }
    });
    let run = tokio::spawn(driver::run(transport(emulator), body("j"), plan("j"), observer));
    started.recv().await.unwrap();
    run
}

async fn no_jobs(emulator: &Emulator) -> bool {
    for _ in 0..200 {
        if emulator.jobs().is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_run_goes_from_its_creation_to_its_removal() {
    for (simulated, expected) in [(Simulated::Success, true), (Simulated::Failure, false)] {
        let emulator = emulator(Duration::from_millis(300), simulated).await;
        let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let observer = {
            let seen = seen.clone();
            Arc::new(move |progress: Progress| seen.lock().unwrap().push(progress.kind()))
        };
        let outcome = driver::run(transport(&emulator), body("j"), plan("j"), observer).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Succeeded), expected, "{outcome:?}");
        let end = if expected { "succeeded" } else { "failed" };
        let seen = seen.lock().unwrap().clone();
        for kind in
            ["creating", "created", "awaiting_ready", "submitting", "started", end, "log", "deleting", "deleted"]
        {
            assert!(seen.contains(&kind), "no {kind} in {seen:?}");
        }
        assert!(no_jobs(&emulator).await);
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_killed_run_ends_as_removed_and_a_second_kill_finds_nothing() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    let run = started_run(&emulator).await;
    kill::kill(transport(&emulator), "j", None).await.unwrap();
    assert_eq!(run.await.unwrap().unwrap(), Outcome::Removed);
    assert!(no_jobs(&emulator).await);
    let error = kill::kill(transport(&emulator), "j", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    emulator.stop().await;
}

#[tokio::test]
async fn a_kill_spares_a_job_of_the_same_name_that_is_another_flow_runs() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    let run = started_run(&emulator).await;
    let label = |value: &str| Some((LABEL.to_owned(), value.to_owned()));
    let error = kill::kill(transport(&emulator), "j", label("another")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().contains("another flow run"), "{error}");
    assert!(emulator.executions()[0].completed().is_none());
    kill::kill(transport(&emulator), "j", label("this")).await.unwrap();
    assert_eq!(run.await.unwrap().unwrap(), Outcome::Removed);
    emulator.stop().await;
}

#[tokio::test]
async fn a_dropped_run_leaves_its_execution_alone() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    let run = started_run(&emulator).await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(emulator.executions().len(), 1);
    assert!(emulator.executions()[0].completed().is_none());
    emulator.stop().await;
}
