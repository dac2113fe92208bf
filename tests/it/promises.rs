//! The promises of a run, each tested against the emulator while it injects faults. `lifecycle_machine.rs` has them as
//! properties of the state machine.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::driver_support::{LABEL, body, emulator, faults, no_jobs, plan, quiet, run, transport};
use prefect_gcp_core::{
    api::{CloudRunClient, ErrorKind, Transport},
    emulator::{Emulator, EmulatorConfig, EventKind, SimulatedOutcome as Simulated},
    lifecycle::{
        active_runs::ActiveRuns,
        control::RunControl,
        driver::{self, ProcessState},
        kill,
        machine::protocol::{Outcome, Plan, RunError},
        progress::Progress,
    },
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a job while the emulator injects `rules`, and returns how the run ended and the kinds of its progress.
async fn run_with_faults(emulator: &Emulator, rules: Value) -> (Result<Outcome, RunError>, Vec<&'static str>) {
    emulator.set_faults(faults(&rules));
    let reported: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let sink = reported.clone();
    let observer = Arc::new(move |progress: Progress| sink.lock().unwrap().push(progress.kind()));
    let owner_label = Some((LABEL.to_owned(), "this".to_owned()));
    let plan = Plan { settle_time: SECOND, owner_label, ..plan("j") };
    let result = run(transport(emulator), body("j"), plan, observer).await;
    let reported = reported.lock().unwrap().clone();
    (result, reported)
}

fn executions_created(emulator: &Emulator) -> usize {
    let lives = emulator.history();
    lives.iter().flat_map(|life| &life.events).filter(|event| event.kind == EventKind::ExecutionCreated).count()
}

async fn quick() -> Emulator {
    emulator(Duration::from_millis(200), Simulated::Success).await
}

/// Creates a job of the same name that belongs to another flow run.
async fn foreign_job(emulator: &Emulator) {
    let client = CloudRunClient::new(transport(emulator));
    let mut body = body("j");
    body["metadata"]["labels"][LABEL] = json!("another");
    client.create_job("j", &body.into(), &()).await.unwrap();
}

#[tokio::test]
async fn never_twice() {
    let failed = json!({"status": {"code": 503, "body": "html"}});
    let odd = json!({"status": {"code": 200, "body": "empty"}});
    let late = json!({"delay": 5.5});
    for (fault, when) in [
        (json!("reset"), "after"),
        (json!("reset"), "before"),
        (json!("hang"), "after"),
        (failed, "after"),
        (odd, "after"),
        // The call takes effect after its caller has given up.
        (late, "before"),
    ] {
        let emulator = quick().await;
        // The reads that find out what happened are stale at times, too.
        let lost = json!({"fault": fault, "when": when, "calls": ["jobs.run"], "times": 1});
        let stale = json!({"fault": {"stale": 0.5}, "calls": ["executions.list", "jobs.get"], "ratio": 0.5});
        let (result, reported) = run_with_faults(&emulator, json!({"rules": [lost, stale]})).await;
        assert_eq!(result.unwrap(), Outcome::Succeeded, "{fault} {when}");
        assert!(reported.contains(&"recovering") && !emulator.faults_met().is_empty(), "{fault} {when}");
        assert_eq!(executions_created(&emulator), 1, "{fault} {when}");
    }
}

#[tokio::test]
async fn never_two_executions_for_long() {
    let emulator = emulator(14 * SECOND, Simulated::Success).await;
    // The service takes eight seconds over a start. The worker waits for less than that before it sends another one.
    let slow = json!({"rules": [{"fault": {"delay": 8.0}, "calls": ["jobs.run"], "times": 1}]});
    emulator.set_faults(faults(&slow));
    let reported: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = reported.clone();
    let observer = Arc::new(move |progress: Progress| sink.lock().unwrap().push(progress.to_string()));
    let transport = Transport { attempt_timeout: SECOND, ..transport(&emulator) };
    let plan = Plan { settle_time: 2 * SECOND, ..plan("j") };
    assert_eq!(run(transport, body("j"), plan, observer).await.unwrap(), Outcome::Succeeded);
    assert_eq!(executions_created(&emulator), 2);
    let of_kind = |kind| emulator.history()[0].events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((of_kind(EventKind::ExecutionSucceeded), of_kind(EventKind::ExecutionCancelled)), (1, 1));
    let reported = reported.lock().unwrap().clone();
    assert!(reported.iter().any(|line| line.contains("has a second execution")), "{reported:?}");
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn never_lost() {
    let failed = json!({"status": {"code": 500, "body": "empty"}});
    let page = json!({"status": {"code": 404, "body": "html"}});
    for (fault, when, calls) in [
        (json!("reset"), "after", ["jobs.create", "jobs.delete"].as_slice()),
        (json!("reset"), "before", &["jobs.create", "jobs.delete"]),
        (json!("hang"), "after", &["jobs.create", "jobs.delete"]),
        (failed, "after", &["jobs.create", "jobs.delete"]),
        // Not for a create: to a create, this is the response of a region that does not exist.
        (page, "before", &["jobs.run", "jobs.delete"]),
    ] {
        for call in calls {
            let emulator = quick().await;
            let lost = json!({"fault": fault, "when": when, "calls": [call], "times": 2});
            let stale = json!({"fault": {"stale": 0.5}, "calls": ["jobs.get"], "ratio": 0.3});
            let (result, reported) = run_with_faults(&emulator, json!({"rules": [lost, stale]})).await;
            assert_eq!(result.unwrap(), Outcome::Succeeded, "{call} {fault} {when}");
            assert!(no_jobs(&emulator).await && reported.contains(&"deleted"), "{call} {fault} {when}");
        }
    }
}

#[tokio::test]
async fn never_stolen() {
    let emulator = quick().await;
    foreign_job(&emulator).await;
    let lost = json!({"fault": "reset", "calls": ["jobs.create"], "times": 2});
    let (result, reported) = run_with_faults(&emulator, json!({"rules": [lost]})).await;
    assert!(matches!(&result, Err(RunError::Api(error)) if error.kind == ErrorKind::AlreadyExists), "{result:?}");
    assert_eq!((emulator.jobs().len(), executions_created(&emulator)), (1, 0));
    assert!(!reported.contains(&"deleting"));
}

#[tokio::test]
async fn transient_is_not_fatal() {
    let statuses = [200, 408, 429, 499, 500, 502, 503, 504].map(|code| json!({"status": {"code": code}}));
    let others = [json!("reset"), json!({"refuse": 0.3}), json!({"delay": 0.3}), json!({"stale": 0.5})];
    for fault in statuses.iter().chain(&others) {
        let emulator = quick().await;
        let rule = json!({"fault": fault, "times": 3});
        // Only reads: the tests above cover lost creates and starts, and take long.
        let calls = json!(["jobs.get", "executions.list", "executions.get"]);
        let mut rules = json!({"rules": [rule]});
        rules["rules"][0]["calls"] = calls;
        let (result, _) = run_with_faults(&emulator, rules).await;
        assert_eq!(result.unwrap(), Outcome::Succeeded, "{fault}");
        assert_eq!(executions_created(&emulator), 1);
        assert!(!emulator.faults_met().is_empty(), "{fault}");
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
async fn the_wait_for_readiness_ends() {
    let config = EmulatorConfig { ready_after: 600 * SECOND, ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.unwrap();
    let reads = json!({"fault": {"status": {"code": 503}}, "calls": ["reads"], "ratio": 0.3});
    emulator.set_faults(faults(&json!({"rules": [reads]})));
    let plan = Plan { ready_timeout: 2 * SECOND, ..plan("j") };
    let error = run(transport(&emulator), body("j"), plan, quiet()).await.unwrap_err();
    assert!(matches!(error, RunError::ReadyTimeout { seconds: 2, .. }), "{error}");
    emulator.set_faults(faults(&json!({})));
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn cancellation_is_prompt() {
    let emulator = emulator(600 * SECOND, Simulated::Success).await;
    emulator.set_faults(faults(&json!({"rules": [{"fault": "hang", "calls": ["executions.list"]}]})));
    let (sender, mut updates) = tokio::sync::mpsc::unbounded_channel();
    let observer = Arc::new(move |progress: Progress| _ = sender.send(progress.kind()));
    let task = tokio::spawn(run(transport(&emulator), body("j"), plan("j"), observer));
    while updates.recv().await.unwrap() != "started" {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(began.elapsed() < SECOND);
    assert_eq!((emulator.jobs().len(), executions_created(&emulator)), (1, 1));
    assert!(emulator.executions()[0].completed().is_none());
}

/// Ten thousand runs, each cancelled at a random time, whatever faults it has met by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellation_is_prompt_at_any_moment() {
    const CASES: usize = 10_000;
    const AT_ONCE: usize = 500;
    let emulator = emulator(SECOND / 50, Simulated::Success).await;
    let rules = ["reset", "hang"].map(|fault| json!({"fault": fault, "ratio": 0.03}));
    let busy = json!({"fault": {"status": {"code": 503}}, "ratio": 0.1});
    emulator.set_faults(faults(&json!({"rules": [rules[0], rules[1], busy]})));
    let (transport, process) = (transport(&emulator), ProcessState::default());
    let mut random = fastrand::Rng::with_seed(7);
    let mut longest = Duration::ZERO;
    for batch in 0..CASES / AT_ONCE {
        let mut cases = JoinSet::new();
        for case in 0..AT_ONCE {
            let (transport, process, name) = (transport.clone(), process.clone(), format!("j-{batch}-{case}"));
            let moment = Duration::from_micros(random.u64(0..1_000_000));
            cases.spawn(async move {
                let plan = plan(&name);
                let run = tokio::spawn(async move {
                    let body = body(&name);
                    driver::run(transport, &process, body.into(), plan, RunControl::new(quiet())).await
                });
                tokio::time::sleep(moment).await;
                let began = Instant::now();
                run.abort();
                _ = run.await;
                began.elapsed()
            });
        }
        while let Some(took) = cases.join_next().await {
            longest = longest.max(took.unwrap());
        }
    }
    assert!(longest < SECOND, "{longest:?}");
    // No call follows a cancellation, and no cancelled run has deleted a job whose execution had not succeeded.
    process.janitor.drain(60 * SECOND).await;
    tokio::time::sleep(SECOND).await;
    let calls = emulator.counts();
    assert!(calls["jobs.run"] > 1000 && calls["jobs.delete"] > 100, "{calls:?}");
    tokio::time::sleep(SECOND).await;
    assert_eq!(emulator.counts(), calls);
    for life in emulator.history() {
        let at = |kind| life.events.iter().position(|event| event.kind == kind);
        let began = life.events.iter().filter(|event| event.kind == EventKind::ExecutionCreated).count();
        assert!(began <= 1, "{life:?}");
        if began == 1
            && let Some(deleted) = at(EventKind::DeletionRequested)
        {
            let ended = at(EventKind::ExecutionSucceeded).or(at(EventKind::ExecutionCancelled));
            assert!(at(EventKind::ExecutionSucceeded).is_some_and(|ended| ended < deleted), "{ended:?} {life:?}");
        }
    }
}

#[tokio::test]
async fn a_kill_survives_lost_responses_and_outages() {
    let after = |fault: &str, when: &str| json!({"fault": fault, "when": when, "calls": ["jobs.delete"], "times": 1});
    for rules in [
        json!([after("reset", "after")]),
        json!([after("reset", "before"), {"fault": {"status": {"code": 503}}, "calls": ["reads"], "times": 3}]),
        json!([{"fault": {"refuse": 1.0}, "calls": ["jobs.delete"], "times": 1}]),
    ] {
        let emulator = emulator(600 * SECOND, Simulated::Success).await;
        foreign_job(&emulator).await;
        emulator.set_faults(faults(&json!({"rules": rules})));
        let kill = async || kill::kill(transport(&emulator), &ActiveRuns::default(), "j", None, quiet()).await;
        kill().await.unwrap();
        assert!(no_jobs(&emulator).await, "{rules}");
        assert_eq!(kill().await.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_kill_whose_delete_response_is_lost_succeeds_despite_stale_reads() {
    let emulator = emulator(600 * SECOND, Simulated::Success).await;
    foreign_job(&emulator).await;
    let lost = json!({"fault": "reset", "when": "after", "calls": ["jobs.delete"], "times": 1});
    let stale = json!({"fault": {"stale": 3}, "calls": ["reads"]});
    emulator.set_faults(faults(&json!({"rules": [lost, stale]})));
    kill::kill(transport(&emulator), &ActiveRuns::default(), "j", None, quiet()).await.unwrap();
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn a_kill_of_a_job_that_stale_reads_do_not_show_stops_its_start() {
    let config = EmulatorConfig { ready_after: 4 * SECOND, ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.unwrap();
    let process = ProcessState::default();
    // Stale reads show the state before the job was created.
    emulator.set_faults(faults(&json!({"rules": [{"fault": {"stale": 3}, "calls": ["reads"]}]})));
    let (sender, mut updates) = tokio::sync::mpsc::unbounded_channel();
    let observer = Arc::new(move |progress: Progress| _ = sender.send(progress.kind()));
    let task = {
        let (transport, process) = (transport(&emulator), process.clone());
        tokio::spawn(async move {
            driver::run(transport, &process, body("j").into(), plan("j"), RunControl::new(observer)).await
        })
    };
    while updates.recv().await.unwrap() != "created" {}
    kill::kill(transport(&emulator), &process.active_runs, "j", None, quiet()).await.unwrap();
    let result = tokio::time::timeout(SECOND, task).await.unwrap().unwrap();
    assert!(matches!(result, Err(RunError::RemovedBeforeStart { killed: true, .. })), "{result:?}");
    assert!(no_jobs(&emulator).await && executions_created(&emulator) == 0);
}

#[tokio::test]
async fn a_job_that_can_not_be_deleted_is_not_reported_as_deleted() {
    let emulator = quick().await;
    let missing = json!({"status": {"code": 404, "message": "Resource 'j' of kind 'JOB' does not exist."}});
    let rules = json!({"rules": [{"fault": missing, "calls": ["jobs.delete"]}]});
    emulator.set_faults(faults(&rules));
    let (process, reported) = (ProcessState::default(), Arc::new(Mutex::new(vec![])));
    let sink = reported.clone();
    let control = RunControl::new(Arc::new(move |progress: Progress| sink.lock().unwrap().push(progress.kind())));
    let result = driver::run(transport(&emulator), &process, body("j").into(), plan("j"), control).await;
    assert_eq!(result.unwrap(), Outcome::Succeeded);
    process.janitor.drain(2 * SECOND).await;
    let reported = reported.lock().unwrap().clone();
    assert!(reported.contains(&"leaked") && !reported.contains(&"deleted"), "{reported:?}");
    assert_eq!(emulator.jobs().len(), 1);
}
