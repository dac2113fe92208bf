//! The driver and a kill against the emulator, in one process.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::driver_support::{LABEL, body, emulator, faults, no_jobs, plan, quiet, run, transport};
use prefect_gcp_core::{
    api::{ErrorKind, RetryPolicy, Transport},
    emulator::{Emulator, EmulatorConfig, EventKind, Faults, SimulatedOutcome as Simulated},
    lifecycle::{
        active_runs::ActiveRuns,
        control::RunControl,
        driver::{self, ProcessState},
        kill,
        machine::protocol::{Outcome, Plan, RunError},
        progress::Progress,
    },
};
use serde_json::json;
use tokio::task::JoinHandle;

/// A run whose execution has started.
async fn started_run(emulator: &Emulator) -> JoinHandle<Result<Outcome, RunError>> {
    let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
    let sink = Arc::new(move |progress: Progress| {
        if progress.kind() == "started" {
            sender.send(()).unwrap();
        }
    });
    let run = tokio::spawn(run(transport(emulator), body("j"), plan("j"), sink));
    started.recv().await.unwrap();
    run
}

#[tokio::test]
async fn a_run_goes_from_the_creation_to_the_deletion_of_its_job() {
    for (simulated, expected) in [(Simulated::Success, true), (Simulated::Failure, false)] {
        let emulator = emulator(Duration::from_millis(300), simulated).await;
        let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let sink = {
            let seen = seen.clone();
            Arc::new(move |progress: Progress| seen.lock().unwrap().push(progress.kind()))
        };
        let outcome = run(transport(&emulator), body("j"), plan("j"), sink).await.unwrap();
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
    kill::kill(transport(&emulator), &ActiveRuns::default(), "j", None, quiet()).await.unwrap();
    assert_eq!(run.await.unwrap().unwrap(), Outcome::Removed);
    assert!(no_jobs(&emulator).await);
    let error = kill::kill(transport(&emulator), &ActiveRuns::default(), "j", None, quiet()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    emulator.stop().await;
}

#[tokio::test]
async fn a_kill_spares_another_flow_runs_job_of_the_same_name() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    let run = started_run(&emulator).await;
    let label = |value: &str| Some((LABEL.to_owned(), value.to_owned()));
    let error =
        kill::kill(transport(&emulator), &ActiveRuns::default(), "j", label("another"), quiet()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().contains("another flow run"), "{error}");
    assert!(emulator.executions()[0].completed().is_none());
    kill::kill(transport(&emulator), &ActiveRuns::default(), "j", label("this"), quiet()).await.unwrap();
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

/// A run that kills can find, and what it reports.
struct KillableRun {
    process: ProcessState,
    run: JoinHandle<Result<Outcome, RunError>>,
    reports: tokio::sync::mpsc::UnboundedReceiver<Progress>,
}

impl KillableRun {
    fn start(emulator: &Emulator) -> Self {
        Self::start_by(transport(emulator))
    }

    fn start_by(transport: Transport) -> Self {
        let process = ProcessState::default();
        let (sender, reports) = tokio::sync::mpsc::unbounded_channel();
        // Longer than the test: only a kill can end the run in time.
        let owner_label = Some((LABEL.to_owned(), "this".to_owned()));
        let plan = Plan { poll_interval: Duration::from_secs(60), owner_label, ..plan("j") };
        let shared = process.clone();
        let run = tokio::spawn(async move {
            let sink = Arc::new(move |progress| _ = sender.send(progress));
            driver::run(transport, &shared, body("j").into(), plan, RunControl::new(sink)).await
        });
        Self { process, run, reports }
    }

    async fn reports(&mut self, kind: &str) -> Progress {
        loop {
            let progress = tokio::time::timeout(Duration::from_secs(20), self.reports.recv()).await.unwrap().unwrap();
            if progress.kind() == kind {
                return progress;
            }
        }
    }

    /// Kills the run and returns its end, which must come within a second.
    async fn killed(self, emulator: &Emulator) -> Result<Outcome, RunError> {
        let label = Some((LABEL.to_owned(), "this".to_owned()));
        kill::kill(transport(emulator), &self.process.active_runs, "j", label, quiet()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(1), self.run).await.unwrap().unwrap()
    }
}

fn is_killed_before_start(result: &Result<Outcome, RunError>) -> bool {
    matches!(result, Err(RunError::RemovedBeforeStart { killed: true, .. }))
}

#[tokio::test]
async fn a_kill_ends_its_run_before_the_next_poll() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    let mut run = KillableRun::start(&emulator);
    run.reports("started").await;
    // The run can't find out by reading its execution.
    emulator.set_faults(faults(&json!({"rules": [{"fault": "hang", "calls": ["executions.get"]}]})));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(run.killed(&emulator).await.unwrap(), Outcome::Removed);
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn a_kill_before_the_start_stops_the_start() {
    let config = EmulatorConfig { ready_after: Duration::from_secs(3), ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.unwrap();
    let mut run = KillableRun::start(&emulator);
    run.reports("awaiting_ready").await;
    let result = run.killed(&emulator).await;
    assert!(is_killed_before_start(&result), "{result:?}");
    assert!(no_jobs(&emulator).await && emulator.executions().is_empty());
}

#[tokio::test]
async fn a_kill_of_a_job_that_is_being_created_waits_for_it() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    // Long enough for the kill to miss the job and for the run to start it afterwards.
    let late = |seconds: f64, call: &str| json!({"fault": {"delay": seconds}, "calls": [call]});
    emulator.set_faults(faults(&json!({"rules": [late(3.0, "jobs.create"), late(1.0, "jobs.delete")]})));
    let run = KillableRun::start(&emulator);
    while !emulator.counts().contains_key("jobs.create") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let result = run.killed(&emulator).await;
    assert!(is_killed_before_start(&result), "{result:?}");
    assert!(no_jobs(&emulator).await);
    let begun = |kind| emulator.history()[0].events.iter().any(|event| event.kind == kind);
    assert!(!begun(EventKind::ExecutionCreated));
}

#[tokio::test]
async fn a_kill_of_a_run_that_has_not_sent_its_create_gives_the_create_up() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    // The first call learns that the quota is used up. The second one waits for it.
    emulator.set_faults(faults(&json!({"quotas": {"writes": 0}})));
    let mut run = KillableRun::start(&emulator);
    run.reports("rate_limited").await;
    let label = Some((LABEL.to_owned(), "this".to_owned()));
    let kill = kill::kill(transport(&emulator), &run.process.active_runs, "j", label, quiet());
    let error = tokio::time::timeout(Duration::from_secs(5), kill).await.expect("the kill waits").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let result = tokio::time::timeout(Duration::from_secs(1), run.run).await.unwrap().unwrap();
    assert!(is_killed_before_start(&result), "{result:?}");
    emulator.set_faults(Faults::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(emulator.history().is_empty());
}

#[tokio::test]
async fn a_kill_and_the_clean_up_after_a_lost_create_do_not_wait_for_each_other() {
    let emulator = emulator(Duration::from_secs(600), Simulated::Success).await;
    // The first attempt creates the job. No attempt gets a success.
    let lost = json!({"fault": {"status": {"code": 503}}, "calls": ["jobs.create"], "when": "after", "times": 1});
    let busy = json!({"fault": {"status": {"code": 503}}, "calls": ["jobs.create"]});
    let late = json!({"fault": {"delay": 1.0}, "calls": ["jobs.get"]});
    emulator.set_faults(faults(&json!({"rules": [lost, busy, late]})));
    let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let mut run = KillableRun::start_by(Transport { retry, ..transport(&emulator) });
    run.reports("retrying").await;
    let kill = kill::kill(transport(&emulator), &run.process.active_runs, "j", None, quiet());
    let (killed, result) = tokio::time::timeout(Duration::from_secs(30), async { (kill.await, run.run.await) })
        .await
        .expect("the kill and the run wait for each other");
    // Either of them may delete the job; the other one finds it gone.
    assert!(killed.is_ok() || killed.unwrap_err().kind == ErrorKind::NotFound);
    assert!(result.unwrap().is_err());
    assert!(no_jobs(&emulator).await && emulator.executions().is_empty());
}

#[tokio::test]
async fn a_run_waits_for_a_full_region_until_it_is_killed_or_there_is_capacity() {
    let full = faults(&json!({"quotas": {"runningExecutions": 0}}));
    let emulator = emulator(Duration::from_millis(100), Simulated::Success).await;
    emulator.set_faults(full.clone());
    let mut run = KillableRun::start(&emulator);
    let line = run.reports("awaiting_capacity").await.to_string();
    assert!(line.contains("for up to 20 s") && line.contains("1,000 running executions"), "{line}");
    let result = run.killed(&emulator).await;
    assert!(is_killed_before_start(&result), "{result:?}");
    assert!(no_jobs(&emulator).await);

    let mut run = KillableRun::start(&emulator);
    run.reports("awaiting_capacity").await;
    emulator.set_faults(Faults::default());
    run.reports("succeeded").await;
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn a_repeated_failure_is_one_log_line_and_the_last_line_counts_the_retries() {
    let emulator = emulator(Duration::from_millis(100), Simulated::Success).await;
    let busy = json!({"fault": {"status": {"code": 503}}, "calls": ["jobs.get"], "times": 3});
    emulator.set_faults(faults(&json!({"rules": [busy]})));
    let mut run = KillableRun::start(&emulator);
    let mut lines = vec![];
    while let Some(progress) = run.reports.recv().await {
        lines.push((progress.kind(), progress.to_string()));
    }
    let retries: Vec<_> = lines.iter().filter(|(kind, _)| *kind == "retrying").collect();
    assert_eq!(retries.len(), 1, "{lines:?}");
    assert!(retries[0].1.starts_with("Retrying in ") && retries[0].1.contains("HTTP 503"), "{}", retries[0].1);
    let (_, last) = lines.iter().find(|(kind, _)| *kind == "summary").unwrap();
    assert!(last.starts_with("Cloud Run Job 'j' was pending for ") && last.ends_with("; 3 retries"), "{last}");
}

#[tokio::test]
async fn a_waiting_run_needs_little_memory() {
    let emulator = emulator(Duration::from_secs(1), Simulated::Success).await;
    let process = ProcessState::default();
    let run = driver::run(transport(&emulator), &process, body("j").into(), plan("j"), RunControl::new(quiet()));
    let size = size_of_val(&run);
    assert!(size < 4000, "{size} bytes");
}
