//! Many runs in a region that is full of executions or of jobs.

use std::time::{Duration, Instant};

use crate::driver_support::{body, emulator, faults, no_jobs, plan, quiet, transport};
use prefect_gcp_core::{
    emulator::{Emulator, Faults, SimulatedOutcome as Simulated},
    lifecycle::{
        control::RunControl,
        driver::{self, ProcessState},
        machine::protocol::{Outcome, Plan},
    },
};
use serde_json::json;
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

/// Runs of one worker.
struct Runs<'a> {
    emulator: &'a Emulator,
    process: ProcessState,
    tasks: JoinSet<Outcome>,
}

impl<'a> Runs<'a> {
    fn new(emulator: &'a Emulator) -> Self {
        Self { emulator, process: ProcessState::default(), tasks: JoinSet::new() }
    }

    fn start(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let (transport, process) = (transport(self.emulator), self.process.clone());
            let job = format!("run-{number:03}");
            let plan = Plan { quota_wait_max: 600 * SECOND, seed: number.into(), ..plan(&job) };
            self.tasks.spawn(async move {
                let control = RunControl::new(quiet());
                driver::run(transport, &process, body(&job).into(), plan, control).await.unwrap()
            });
        }
    }

    async fn all_succeed(self) {
        for outcome in self.tasks.join_all().await {
            assert_eq!(outcome, Outcome::Succeeded);
        }
        assert!(no_jobs(self.emulator).await);
    }
}

/// The numbers of the runs in the order of their starts.
fn started(emulator: &Emulator) -> Vec<u32> {
    let mut starts: Vec<_> = emulator
        .history()
        .iter()
        .flat_map(|life| {
            let job = life.job.clone();
            let created = life.events.iter().filter(|event| event.execution.is_some());
            created.take(1).map(move |event| (event.time.clone(), job.clone()))
        })
        .collect();
    starts.sort();
    starts.into_iter().map(|(_, job)| job.trim_start_matches("run-").parse().unwrap()).collect()
}

fn count(emulator: &Emulator, call: &str) -> u64 {
    emulator.counts().get(call).copied().unwrap_or_default()
}

async fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < 60 * SECOND);
        tokio::time::sleep(SECOND / 50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_start_in_the_order_in_which_they_came_and_few_starts_are_refused() {
    let emulator = emulator(SECOND, Simulated::Success).await;
    emulator.set_faults(faults(&json!({"quotas": {"runningExecutions": 5}})));
    let mut runs = Runs::new(&emulator);
    runs.start(0..40);
    until(|| count(&emulator, "jobs.run") > 5).await;
    runs.start(40..60);
    runs.all_succeed().await;
    let order = started(&emulator);
    assert_eq!(order.len(), 60);
    // Those that came later start later, but for a few at the border.
    let too_early = order[..35].iter().filter(|number| **number >= 40).count();
    assert_eq!(too_early, 0, "{order:?}");
    // Some starts were on their way when the region was first full.
    let refused = count(&emulator, "jobs.run") - 60;
    assert!(refused <= 50, "{refused} starts were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_jobs_ends_no_run() {
    let emulator = emulator(SECOND, Simulated::Success).await;
    emulator.set_faults(faults(&json!({"quotas": {"jobs": 10, "runningExecutions": 10}})));
    let mut runs = Runs::new(&emulator);
    runs.start(0..40);
    runs.all_succeed().await;
    assert_eq!(started(&emulator).len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_create_no_jobs_while_the_region_is_full() {
    let emulator = emulator(SECOND / 10, Simulated::Success).await;
    emulator.set_faults(faults(&json!({"quotas": {"runningExecutions": 0}})));
    let mut runs = Runs::new(&emulator);
    runs.start(0..30);
    tokio::time::sleep(3 * SECOND).await;
    // The region is known to be full, and enough jobs wait for their start.
    let created = count(&emulator, "jobs.create");
    assert!((20..=30).contains(&created), "{created}");
    runs.start(30..100);
    tokio::time::sleep(SECOND).await;
    assert_eq!(count(&emulator, "jobs.create"), created);
    emulator.set_faults(Faults::default());
    runs.all_succeed().await;
    assert_eq!(started(&emulator).len(), 100);
}
