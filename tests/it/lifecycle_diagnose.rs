//! Diagnoses of runs against the emulator: what they say, what they cost, and when.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::driver_support::{body, emulator, faults, no_jobs, plan, run, transport};
use prefect_gcp_core::{
    api::CloudRunClient,
    diagnosis::Diagnosis,
    emulator::{Emulator, EmulatorConfig, ExecutorConfig, SimulatedOutcome as Simulated},
    lifecycle::{
        control::RunControl,
        diagnose::diagnose,
        driver::{self, ProcessState},
        machine::protocol::{Outcome, Plan},
        progress::Progress,
    },
};
use serde_json::{Value, json};

const SHORT: Duration = Duration::from_millis(20);

/// Runs a job, and returns its end and the diagnoses that were reported.
async fn diagnosed(emulator: &Emulator, body: Value, plan: Plan) -> (Result<Outcome, String>, Vec<Diagnosis>) {
    let seen: Arc<Mutex<Vec<Diagnosis>>> = Arc::default();
    let sink = {
        let seen = seen.clone();
        Arc::new(move |progress: Progress| {
            if let Progress::Diagnosed { diagnosis } = progress {
                seen.lock().unwrap().push(*diagnosis);
            }
        })
    };
    let end = run(transport(emulator), body, plan, sink).await.map_err(|error| error.to_string());
    let seen = seen.lock().unwrap().clone();
    (end, seen)
}

#[tokio::test]
async fn a_failed_run_says_why_with_one_read_before_its_job_is_deleted() {
    for (outcome, label, exit_code, signal) in [
        (Simulated::ExitCode(3), "ExitCode 3", Some(3), None),
        (Simulated::Signal(11), "Signal 11", None, Some(11)),
        (Simulated::OutOfMemory, "OutOfMemory", None, None),
        (Simulated::Timeout, "Timeout", None, None),
    ] {
        let config = EmulatorConfig {
            ready_after: SHORT,
            start_after: SHORT,
            executor: ExecutorConfig::Simulated { duration: SHORT, outcome },
            record_calls: true,
            ..EmulatorConfig::default()
        };
        let emulator = Emulator::start(config).await.unwrap();
        let (end, seen) = diagnosed(&emulator, body("j"), plan("j")).await;
        assert!(matches!(end, Ok(Outcome::Failed(_))), "{end:?}");
        let [diagnosis] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((diagnosis.label().as_str(), diagnosis.exit_code, diagnosis.signal), (label, exit_code, signal));
        assert!(no_jobs(&emulator).await);
        let calls: Vec<_> = emulator.calls().into_iter().map(|call| format!("{} {}", call.method, call.path)).collect();
        let place = |is_wanted: fn(&str) -> bool| calls.iter().position(|call| is_wanted(call)).unwrap();
        let (read, deleted) = (place(|call| call.ends_with("/tasks")), place(|call| call.starts_with("DELETE ")));
        assert!(read < deleted, "{calls:?}");
        assert_eq!(emulator.counts()["tasks.list"], 1);
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_run_that_succeeds_costs_no_read_and_a_kept_job_is_diagnosed_too() {
    let emulator = emulator(SHORT, Simulated::Success).await;
    let (end, seen) = diagnosed(&emulator, body("j"), plan("j")).await;
    assert!(matches!(end, Ok(Outcome::Succeeded)) && seen.is_empty());
    assert!(!emulator.counts().contains_key("tasks.list"));
    emulator.stop().await;
    let emulator = crate::driver_support::emulator(SHORT, Simulated::ExitCode(2)).await;
    let (_, seen) = diagnosed(&emulator, body("j"), Plan { keep_job: true, ..plan("j") }).await;
    assert_eq!(seen.iter().map(Diagnosis::label).collect::<Vec<_>>(), ["ExitCode 2"]);
    assert_eq!(emulator.jobs().len(), 1);
    emulator.stop().await;
}

#[tokio::test]
async fn a_job_that_can_not_be_started_has_a_cause() {
    let mut no_image = body("j");
    no_image["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.invalid/i");
    let refused = |call: &str, code: u16, message: &str| json!({"rules": [{"fault": {"status": {"code": code, "message": message}}, "calls": [call]}]});
    let short = Plan { quota_wait_max: Duration::from_millis(300), ..plan("j") };
    for (body, rules, label) in [
        (no_image, json!({}), "ImageNotFound"),
        (
            body("j"),
            refused("jobs.create", 400, "resources.limits.cpu: Invalid value specified for cpu."),
            "InvalidResources",
        ),
        (body("j"), refused("jobs.create", 429, "No more."), "QuotaJobs"),
        (body("j"), refused("jobs.run", 429, "No more."), "QuotaExecutions"),
        (body("j"), refused("jobs.create", 400, "Something else."), "StartFailed"),
    ] {
        let emulator = emulator(SHORT, Simulated::Success).await;
        emulator.set_faults(faults(&rules));
        let (end, seen) = diagnosed(&emulator, body, short.clone()).await;
        let error = end.unwrap_err();
        assert_eq!(seen.iter().map(Diagnosis::label).collect::<Vec<_>>(), [label], "{error}");
        assert!(!seen[0].resolution.is_empty(), "{seen:?}");
        emulator.stop().await;
    }
}

#[tokio::test]
async fn tasks_that_can_not_be_read_delay_nothing_for_long() {
    for fault in [json!({"status": {"code": 403}}), json!("hang")] {
        let emulator = emulator(SHORT, Simulated::ExitCode(3)).await;
        emulator.set_faults(faults(&json!({"rules": [{"fault": fault, "calls": ["tasks.list"]}]})));
        let began = Instant::now();
        let (_, seen) = diagnosed(&emulator, body("j"), plan("j")).await;
        // Google's words have the number, too.
        assert_eq!(seen.iter().map(Diagnosis::label).collect::<Vec<_>>(), ["ExitCode 3"]);
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        assert!(no_jobs(&emulator).await);
        emulator.stop().await;
    }
}

#[tokio::test]
async fn the_job_of_a_run_that_is_dropped_during_its_diagnosis_is_deleted() {
    let emulator = emulator(SHORT, Simulated::Failure).await;
    emulator.set_faults(faults(&json!({"rules": [{"fault": {"delay": 0.5}, "calls": ["tasks.list"]}]})));
    let process = ProcessState::default();
    let (sender, mut failed) = tokio::sync::mpsc::unbounded_channel();
    let sink = Arc::new(move |progress: Progress| {
        if progress.kind() == "failed" {
            _ = sender.send(());
        }
    });
    let (shared, transport) = (process.clone(), transport(&emulator));
    let run = tokio::spawn(async move {
        driver::run(transport, &shared, body("j").into(), plan("j"), RunControl::new(sink)).await
    });
    failed.recv().await.unwrap();
    while process.janitor.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    assert!(no_jobs(&emulator).await);
    emulator.stop().await;
}

#[tokio::test]
async fn a_job_and_an_execution_are_diagnosed_from_reads() {
    let emulator = emulator(SHORT, Simulated::ExitCode(4)).await;
    let client = CloudRunClient::new(transport(&emulator));
    _ = diagnosed(&emulator, body("j"), Plan { keep_job: true, ..plan("j") }).await;
    let execution = emulator.executions()[0].metadata.name.clone();
    assert_eq!(diagnose(&client, "j", Some(&execution)).await.label(), "ExitCode 4");
    assert_eq!(diagnose(&client, "j", None).await.label(), "ExitCode 4", "the job tells its latest execution");
    assert_eq!(diagnose(&client, "j", Some("j-gone1")).await.label(), "Deleted");
    assert_eq!(diagnose(&client, "gone", None).await.label(), "Deleted");
    for (fault, execution, label) in [
        (json!({"status": {"code": 403}}), None, "StartFailed"),
        (json!({"status": {"code": 403}}), Some(execution.as_str()), "ExitCode"),
        (json!("hang"), Some(execution.as_str()), "ExitCode"),
    ] {
        emulator.set_faults(faults(&json!({"rules": [{"fault": fault}]})));
        let began = Instant::now();
        assert_eq!(diagnose(&client, "j", execution).await.label(), label);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    emulator.stop().await;
}
