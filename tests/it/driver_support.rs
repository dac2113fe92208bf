//! Shared by the driver's tests: an emulator that simulates executions quickly, and runs against it.

use std::{sync::Arc, time::Duration};

use prefect_gcp_core::{
    api::{Credentials, Endpoint, GcpAuth, HttpPool, Principal, QuotaQueues, RetryPolicy, TokenSource, Transport},
    emulator::{Emulator, EmulatorConfig, ExecutorConfig, Faults, SimulatedOutcome as Simulated},
    lifecycle::{
        control::RunControl,
        driver::{self, ProcessState},
        machine::protocol::{Outcome, Plan, RunError},
        progress::ProgressSink,
    },
};
use serde_json::{Value, json};

pub const REGION: &str = "us-central1";
pub const LABEL: &str = "prefect-io-flow-run-id";

pub async fn emulator(duration: Duration, outcome: Simulated) -> Emulator {
    let config = EmulatorConfig {
        ready_after: Duration::from_millis(20),
        start_after: Duration::from_millis(20),
        // As at Google, a deleted job can be read for a while.
        delete_after: Duration::from_millis(1500),
        executor: ExecutorConfig::Simulated { duration, outcome },
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.unwrap()
}

pub fn transport(emulator: &Emulator) -> Transport {
    Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(&emulator.address().to_string(), REGION).unwrap(),
        project: "p".into(),
        region: REGION.into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(Duration::from_secs(60))),
        quota_wait_max: Duration::from_secs(20),
        retry: RetryPolicy::default(),
        attempt_timeout: Duration::from_secs(5),
        random: fastrand::f64,
        on_notice: Arc::new(|_| {}),
    }
}

pub fn plan(job: &str) -> Plan {
    Plan {
        project: "p".into(),
        region: REGION.into(),
        job: job.into(),
        owner_label: None,
        has_unique_name: false,
        keep_job: false,
        ready_timeout: Duration::from_secs(10),
        poll_interval: Duration::from_millis(200),
        settle_time: Duration::from_secs(5),
        retry: RetryPolicy { max_elapsed: Duration::from_secs(20), ..RetryPolicy::default() },
        quota_wait_max: Duration::from_secs(20),
        watch_retry_max: Duration::from_secs(3600),
        seed: 7,
    }
}

pub fn body(job: &str) -> Value {
    let task = json!({"spec": {"maxRetries": 0, "containers": [{"image": "i", "command": ["c"]}]}});
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": job, "labels": {LABEL: "this"}},
        "spec": {"template": {"spec": {"template": task}}},
    })
}

/// A sink that drops everything.
pub fn quiet() -> ProgressSink {
    Arc::new(|_| {})
}

/// A run that no kill can find, and the deletion of its job.
pub async fn run(transport: Transport, body: Value, plan: Plan, sink: ProgressSink) -> Result<Outcome, RunError> {
    let process = ProcessState::default();
    let result = driver::run(transport, &process, body.into(), plan, RunControl::new(sink)).await;
    process.janitor.drain(Duration::from_secs(60)).await;
    result
}

pub async fn no_jobs(emulator: &Emulator) -> bool {
    for _ in 0..200 {
        if emulator.jobs().is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

pub fn faults(value: &Value) -> Faults {
    Faults::from_json(value.to_string().as_bytes()).unwrap()
}
