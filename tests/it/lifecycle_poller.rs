//! Many runs at once: how many reads their executions take, and what quotas do to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::driver_support::{body, faults, no_jobs, plan, transport};
use prefect_gcp_core::{
    api::{CloudRunClient, Endpoint, QuotaQueues, Transport},
    emulator::{Emulator, EmulatorConfig, ExecutorConfig, Faults, SimulatedOutcome as Simulated},
    lifecycle::{
        control::RunControl,
        driver::{self, ProcessState},
        machine::protocol::{GiveUpReason, Outcome, Plan, RunError},
        progress::Progress,
    },
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

async fn emulator(duration: Duration) -> Emulator {
    let config = EmulatorConfig {
        ready_after: Duration::from_millis(20),
        start_after: Duration::from_millis(20),
        delete_after: Duration::from_millis(20),
        executor: ExecutorConfig::Simulated { duration, outcome: Simulated::Success },
        record_calls: true,
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.unwrap()
}

/// The runs of one process.
struct Runs {
    process: ProcessState,
    transport: Transport,
    tasks: JoinSet<Result<Outcome, RunError>>,
    /// What they reported: kind and log line.
    reported: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Runs {
    fn new(transport: Transport) -> Self {
        Self { process: ProcessState::default(), transport, tasks: JoinSet::new(), reported: Arc::default() }
    }

    fn start(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let (process, transport, reported) = (self.process.clone(), self.transport.clone(), self.reported.clone());
            let plan = Plan { poll_interval: 2 * SECOND, quota_wait_max: 600 * SECOND, ..plan(&name) };
            self.tasks.spawn(async move {
                let sink = Arc::new(move |progress: Progress| {
                    reported.lock().unwrap().push((progress.kind(), progress.to_string()));
                });
                driver::run(transport, &process, body(&name).into(), plan, RunControl::new(sink)).await
            });
        }
    }

    fn reports(&self, kind: &str) -> usize {
        self.reported.lock().unwrap().iter().filter(|(reported, _)| *reported == kind).count()
    }

    async fn await_reports(&self, kind: &str, times: usize) {
        let began = Instant::now();
        while self.reports(kind) < times {
            assert!(began.elapsed() < 120 * SECOND, "{} of {times} have reported '{kind}'", self.reports(kind));
            tokio::time::sleep(SECOND / 20).await;
        }
    }

    async fn all_succeed(&mut self) {
        while let Some(result) = self.tasks.join_next().await {
            assert_eq!(result.unwrap().unwrap(), Outcome::Succeeded);
        }
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("job-{number}"))
}

fn count(emulator: &Emulator, call: &str) -> u64 {
    emulator.counts().get(call).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_executions_are_watched_with_ten_reads_a_tick() {
    const TICKS: u64 = 5;
    let emulator = emulator(3600 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(1000));
    runs.await_reports("running", 1000).await;
    // Young executions are read more often.
    tokio::time::sleep(8 * SECOND).await;
    let before = emulator.counts();
    tokio::time::sleep(2 * SECOND * u32::try_from(TICKS).unwrap()).await;
    let after = emulator.counts();
    let calls: BTreeMap<_, _> = after
        .iter()
        .map(|(call, times)| (*call, times - before.get(call).copied().unwrap_or_default()))
        .filter(|(_, times)| *times > 0)
        .collect();
    // Only lists of a hundred executions each. The time may cut a tick at both ends.
    assert_eq!(calls.keys().copied().collect::<Vec<_>>(), ["executions.list"]);
    let lists = calls["executions.list"];
    assert!((10 * (TICKS - 1)..=10 * (TICKS + 1)).contains(&lists), "{lists} reads in {TICKS} ticks");
    for call in emulator.calls().iter().rev().take(10) {
        let value = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert!(value("labelSelector").unwrap().split(',').count() <= 100);
        let fields = value("fields").unwrap();
        assert!(fields.contains("status(conditions") && !fields.contains("spec"), "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_affects_only_the_runs_of_its_batch() {
    let emulator = emulator(4 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(150));
    runs.await_reports("started", 150).await;
    let fails = json!({"fault": {"status": {"code": 503}}, "calls": ["executions.list"], "times": 1});
    emulator.set_faults(faults(&json!({"rules": [fails]})));
    runs.all_succeed().await;
    let failed = runs.reports("poll_failed");
    assert!((1..=100).contains(&failed), "{failed} runs reported it");
}

/// Lists that are of no use are given up after 20 seconds.
#[tokio::test]
async fn lists_that_are_refused_for_some_time_are_given_up() {
    let emulator = emulator(26 * SECOND).await;
    let refused = json!({"fault": {"status": {"code": 403}}, "calls": ["executions.list"]});
    emulator.set_faults(faults(&json!({"rules": [refused]})));
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(20));
    runs.await_reports("polling_individually", 1).await;
    let lists = count(&emulator, "executions.list");
    assert!(lists >= 3);
    runs.all_succeed().await;
    assert_eq!(count(&emulator, "executions.list"), lists, "no list is tried for a minute");
    assert_eq!(runs.reports("polling_individually"), 1, "one report for all runs");
    assert_eq!(runs.reports("poll_failed"), 0);
}

#[tokio::test]
async fn lists_that_show_nothing_are_told_once_and_given_up() {
    let emulator = emulator(36 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(20));
    runs.await_reports("running", 20).await;
    emulator.set_faults(faults(&json!({"rules": [{"fault": "emptyList", "calls": ["executions.list"]}]})));
    runs.await_reports("polling_individually", 1).await;
    let lists = count(&emulator, "executions.list");
    runs.all_succeed().await;
    assert_eq!(count(&emulator, "executions.list"), lists);
    assert_eq!((runs.reports("lists_contradict"), runs.reports("polling_individually")), (1, 1));
    let reported = runs.reported.lock().unwrap();
    let (_, line) = reported.iter().find(|(kind, _)| *kind == "polling_individually").unwrap();
    assert!(line.ends_with(" times, a list lacked an execution that exists"), "{line}");
}

#[tokio::test]
async fn a_refused_list_does_not_end_the_lists() {
    for refusal in [
        json!({"code": 400}),
        json!({"code": 401}),
        json!({"code": 403}),
        json!({"code": 403, "body": "html"}),
        json!({"code": 404}),
    ] {
        let emulator = emulator(600 * SECOND).await;
        let mut runs = Runs::new(transport(&emulator));
        runs.start(names(30));
        runs.await_reports("running", 30).await;
        let rule = json!({"fault": {"status": refusal}, "calls": ["executions.list"], "times": 1});
        let before = emulator.counts();
        emulator.set_faults(faults(&json!({"rules": [rule]})));
        let more = |call: &str| count(&emulator, call) - before.get(call).copied().unwrap_or_default();
        let began = Instant::now();
        while more("executions.list") < 4 {
            assert!(began.elapsed() < 60 * SECOND, "{refusal}: {:?}", emulator.counts());
            tokio::time::sleep(SECOND / 20).await;
        }
        // Each run is read on its own once at most.
        assert!(more("executions.get") <= 30, "{refusal}: {:?}", emulator.counts());
        assert_eq!(runs.reports("polling_individually"), 0, "{refusal}");
        // A page that is not Google's says nothing about lists as such.
        let is_page = refusal.get("body").is_some();
        assert_eq!(runs.reports("poll_failed") > 0, is_page, "{refusal}");
        runs.tasks.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_one_tick_that_all_fail_are_not_replaced_by_single_reads() {
    let emulator = emulator(600 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(500));
    runs.await_reports("running", 500).await;
    let reads = count(&emulator, "executions.get");
    emulator.set_faults(faults(&json!({"rules": [{"fault": "reset", "calls": ["executions.list"], "times": 5}]})));
    let lists = count(&emulator, "executions.list");
    let began = Instant::now();
    while count(&emulator, "executions.list") < lists + 12 {
        assert!(began.elapsed() < 60 * SECOND);
        tokio::time::sleep(SECOND / 20).await;
    }
    assert_eq!(count(&emulator, "executions.get"), reads);
    assert!(runs.reports("poll_failed") > 100);
    runs.tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_executions_are_read_one_by_one_without_a_storm() {
    let emulator = emulator(600 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(300));
    runs.await_reports("running", 300).await;
    let refused = json!({"fault": {"status": {"code": 403}}, "calls": ["executions.list"]});
    let slow = json!({"fault": {"delay": 1}, "calls": ["executions.get"]});
    let reads = count(&emulator, "executions.get");
    emulator.set_faults(faults(&json!({"rules": [refused, slow]})));
    while count(&emulator, "executions.get") == reads {
        tokio::time::sleep(SECOND / 50).await;
    }
    let began = Instant::now();
    tokio::time::sleep(5 * SECOND / 2).await;
    // Twenty at a time, each of which takes a second.
    let reads = count(&emulator, "executions.get") - reads;
    assert!(reads <= 20 * (1 + began.elapsed().as_secs()), "{reads} reads");
    runs.tasks.shutdown().await;
}

#[tokio::test]
async fn some_seconds_of_false_news_about_executions_end_no_run() {
    for news in [
        json!({"status": {"code": 401}}),
        json!({"status": {"code": 403}}),
        json!({"status": {"code": 403, "body": "html"}}),
        json!({"status": {"code": 404}}),
    ] {
        let emulator = emulator(6 * SECOND).await;
        let mut runs = Runs::new(transport(&emulator));
        runs.start(names(20));
        runs.await_reports("running", 20).await;
        emulator.set_faults(faults(&json!({"rules": [{"fault": news, "calls": ["executions.*"], "for": 3}]})));
        runs.all_succeed().await;
        assert_eq!(runs.reports("polling_individually"), 0, "{news}");
    }
}

/// Runs a job of this name until `stop` ends, and then stops the worker.
async fn stopped(emulator: &Emulator, process: &ProcessState, transport: Transport, stop: impl Future) -> Outcome {
    let (give_up, receiver) = tokio::sync::watch::channel(None);
    let control = RunControl { give_up: receiver, ..RunControl::new(crate::driver_support::quiet()) };
    let plan = Plan { poll_interval: 60 * SECOND, ..plan("stopped") };
    let run = driver::run(transport, process, body("stopped").into(), plan, control);
    let stop = async {
        while !emulator.executions().iter().any(|execution| execution.metadata.name.starts_with("stopped")) {
            tokio::time::sleep(SECOND / 50).await;
        }
        stop.await;
        give_up.send(Some(GiveUpReason::WorkerStopping)).unwrap();
    };
    let (result, _) = tokio::join!(tokio::time::timeout(30 * SECOND, run), stop);
    result.unwrap().unwrap()
}

/// A transport whose attempts take longer than a test waits.
fn patient(emulator: &Emulator) -> Transport {
    Transport { attempt_timeout: 120 * SECOND, ..transport(emulator) }
}

fn of_lists(fault: &Value) -> Value {
    json!({"fault": fault, "calls": ["executions.list"]})
}

#[tokio::test]
async fn a_last_look_is_answered_at_once_also_when_lists_are_of_no_use() {
    let emulator = emulator(600 * SECOND).await;
    for fault in [json!({"status": {"code": 403}}), json!("emptyList"), json!({"stale": 60})] {
        emulator.set_faults(faults(&json!({"rules": [of_lists(&fault)]})));
        let process = ProcessState::default();
        let outcome = stopped(&emulator, &process, patient(&emulator), tokio::time::sleep(2 * SECOND)).await;
        assert_eq!(outcome, Outcome::LeftRunning, "{fault}");
        CloudRunClient::new(transport(&emulator)).delete_job("stopped", &()).await.unwrap();
        assert!(no_jobs(&emulator).await);
    }
}

#[tokio::test]
async fn a_last_look_does_not_wait_for_a_read_before_it() {
    let emulator = emulator(2 * SECOND).await;
    // The list before it has no response yet when the execution has ended.
    emulator.set_faults(faults(&json!({"rules": [of_lists(&json!("hang"))]})));
    let ended = async {
        while !emulator.executions().iter().all(|execution| execution.completed().is_some()) {
            tokio::time::sleep(SECOND / 50).await;
        }
        emulator.set_faults(Faults::default());
    };
    let outcome = stopped(&emulator, &ProcessState::default(), patient(&emulator), ended).await;
    assert_eq!(outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_last_look_does_not_wait_for_other_runs() {
    let emulator = emulator(600 * SECOND).await;
    let mut others = Runs::new(patient(&emulator));
    let wait_for = async |what: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < 60 * SECOND);
            tokio::time::sleep(SECOND / 50).await;
        }
    };
    let refused = of_lists(&json!({"status": {"code": 403}}));
    emulator.set_faults(faults(&json!({"rules": [refused]})));
    others.start(names(3));
    wait_for(&|| count(&emulator, "executions.get") >= 3).await;
    // From now on one batch is read at a time, and the next one waits for the response to its first read.
    let hangs = json!({"fault": "hang", "calls": ["executions.get"], "times": 1});
    emulator.set_faults(faults(&json!({"rules": [refused, hangs]})));
    wait_for(&|| emulator.faults_met().contains_key("hang")).await;
    let process = others.process.clone();
    let outcome = stopped(&emulator, &process, others.transport.clone(), tokio::time::sleep(SECOND)).await;
    assert_eq!(outcome, Outcome::LeftRunning);
    others.tasks.shutdown().await;
}

#[tokio::test]
async fn executions_are_read_one_by_one_when_all_lists_fail() {
    for fault in [json!({"status": {"code": 404, "body": "html"}}), json!({"status": {"code": 501}})] {
        let emulator = emulator(2 * SECOND).await;
        emulator.set_faults(faults(&json!({"rules": [{"fault": fault, "calls": ["executions.list"]}]})));
        let mut runs = Runs::new(transport(&emulator));
        runs.start(names(20));
        runs.all_succeed().await;
        assert!(count(&emulator, "executions.list") >= 3, "{fault}");
    }
}

#[tokio::test]
async fn a_list_that_answers_404_is_not_taken_for_missing_executions() {
    let emulator = emulator(4 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(20));
    runs.await_reports("running", 20).await;
    let missing = json!({"fault": {"status": {"code": 404}}, "calls": ["executions.list"]});
    emulator.set_faults(faults(&json!({"rules": [missing]})));
    runs.all_succeed().await;
}

#[tokio::test]
async fn an_execution_that_a_list_lacks_is_read_before_it_counts_as_deleted() {
    let emulator = emulator(20 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(3));
    runs.await_reports("running", 3).await;
    // Lists lack the executions for a while.
    let stale = json!({"fault": {"stale": 5.0}, "calls": ["executions.list"], "times": 2});
    emulator.set_faults(faults(&json!({"rules": [stale]})));
    let deleted = emulator.executions()[0].metadata.name.clone();
    CloudRunClient::new(transport(&emulator)).delete_execution(&deleted).await.unwrap();
    let mut removed = 0;
    while let Some(result) = runs.tasks.join_next().await {
        match result.unwrap().unwrap() {
            Outcome::Removed => removed += 1,
            outcome => assert_eq!(outcome, Outcome::Succeeded),
        }
    }
    assert_eq!(removed, 1);
    assert!(no_jobs(&emulator).await);
}

#[tokio::test]
async fn executions_of_dropped_runs_are_not_read_any_more() {
    let emulator = emulator(600 * SECOND).await;
    let mut runs = Runs::new(transport(&emulator));
    runs.start(names(5));
    runs.await_reports("running", 5).await;
    runs.tasks.shutdown().await;
    // A list may be in progress.
    tokio::time::sleep(SECOND / 2).await;
    let calls = emulator.counts();
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(emulator.counts(), calls);

    // New runs are polled again.
    runs.start((0..2).map(|number| format!("next-{number}")));
    runs.await_reports("running", 7).await;
    assert!(count(&emulator, "executions.list") > calls["executions.list"]);
}

/// A transport whose quotas have a period of one second.
fn with_short_quota_period(emulator: &Emulator, region: &str) -> Transport {
    Transport {
        endpoint: Endpoint::emulator(&emulator.address().to_string(), region).unwrap(),
        region: region.into(),
        quotas: Arc::new(QuotaQueues::new(SECOND)),
        quota_wait_max: 600 * SECOND,
        ..transport(emulator)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_get_through_small_quotas_without_a_storm() {
    for (count, quota) in [(1000, 180), (200, 30)] {
        let emulator = emulator(SECOND / 2).await;
        emulator.set_faults(faults(&json!({"quotas": {"writes": quota, "runs": quota, "minuteSeconds": 1}})));
        let mut runs = Runs::new(with_short_quota_period(&emulator, "us-central1"));
        runs.start(names(count));
        runs.all_succeed().await;
        let refused = emulator.faults_met().get("quota").copied().unwrap_or_default();
        let calls: u64 = emulator.counts().values().sum();
        // The simulation of quotas asserts 5 %. Here a machine that is slow for a moment adds some.
        assert!(refused * 100 <= calls * 10, "{refused} of {calls} calls were refused");
        // Each run reports once per quota that it waits, and no single refusal.
        let rate_limited = runs.reports("rate_limited");
        // At most one report for writes, one for starts, one for reads.
        assert!((1..=3 * count).contains(&rate_limited), "{rate_limited}");
        assert_eq!((runs.reports("retrying"), runs.reports("awaiting_capacity")), (0, 0));
        let reported = runs.reported.lock().unwrap();
        let line = reported.iter().find(|(kind, _)| *kind == "rate_limited").unwrap();
        let (begin, end) = (
            "Rate limited: the per-minute quota for ",
            " of project 'p' in region 'us-central1' is used up; waiting. ",
        );
        assert!(line.1.starts_with(begin) && line.1.contains(end), "{}", line.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_region_does_not_slow_down_another() {
    let emulator = emulator(SECOND / 10).await;
    emulator.set_faults(faults(&json!({"quotas": {"writes": 20, "runs": 20, "reads": 60, "minuteSeconds": 1}})));
    let mut slow = Runs::new(with_short_quota_period(&emulator, "us-central1"));
    slow.start(names(300));
    slow.await_reports("rate_limited", 200).await;
    let mut quick = Runs::new(with_short_quota_period(&emulator, "europe-west1"));
    quick.start(names(5));
    quick.all_succeed().await;
    assert_eq!(quick.reports("rate_limited"), 0);
    assert!(slow.tasks.len() > 150, "only {} wait", slow.tasks.len());
}
