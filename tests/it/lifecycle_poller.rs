//! Many runs at once: how many reads their executions take, and what quotas do to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::driver_support::{body, faults, no_jobs, plan, transport};
use prefect_gcp_core::{
    api::{CloudRunClient, Endpoint, QuotaQueues, Transport},
    emulator::{Emulator, EmulatorConfig, ExecutorConfig, SimulatedOutcome as Simulated},
    lifecycle::{
        control::RunControl,
        driver::{self, ProcessState},
        machine::protocol::{Outcome, Plan, RunError},
        progress::Progress,
    },
};
use serde_json::json;
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

#[tokio::test]
async fn runs_read_their_own_execution_when_lists_are_rejected_for_some_time() {
    let emulator = emulator(24 * SECOND).await;
    for code in [403] {
        let refused = json!({"fault": {"status": {"code": code}}, "calls": ["executions.list"]});
        emulator.set_faults(faults(&json!({"rules": [refused]})));
        let mut runs = Runs::new(transport(&emulator));
        let reads = count(&emulator, "executions.get");
        runs.start(names(20));
        runs.all_succeed().await;
        assert_eq!(runs.reports("polling_individually"), 1, "one report for all runs");
        assert!(count(&emulator, "executions.get") >= reads + 20);
    }
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
        assert!(refused * 100 <= calls * 5, "{refused} of {calls} calls were refused");
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
