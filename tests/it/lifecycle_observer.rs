//! Jobs that another process left: their list, their deletion and the watch of their executions, against the emulator.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use prefect_gcp_core::{
    api::{CloudRunClient, ErrorKind, RetryPolicy, Transport},
    emulator::{Emulator, EmulatorConfig, EventKind, ExecutorConfig, Faults, SimulatedOutcome as Simulated},
    job::mark::{Mark, process_id},
    lifecycle::{
        driver::ProcessState,
        observer::{
            self,
            delete::{Deleted, delete, stop},
            facts::{ExecutionsStatus, MarkedJob},
            watch::watch,
        },
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::driver_support::{body, faults, no_jobs, transport};

const POOL: Uuid = Uuid::from_u128(1);
const ANOTHER_POOL: Uuid = Uuid::from_u128(2);

fn mark(pool: Uuid, keep: bool) -> Mark {
    let give_up_at: DateTime<Utc> = SystemTime::now().into();
    Mark { pool, flow_run: Uuid::from_u128(3), process: process_id(), worker: "w".into(), keep, give_up_at }
}

fn marked(name: &str, mark: &Mark) -> Value {
    let mut job = body(name);
    assert!(mark.write(&mut job));
    job
}

/// An emulator with these jobs, and a client that gives up soon.
struct Cloud {
    emulator: Emulator,
    transport: Transport,
    client: CloudRunClient,
    process: ProcessState,
}

impl Cloud {
    async fn with(duration: Duration, outcome: Simulated, jobs: &[Value]) -> Self {
        let emulator = Emulator::start(EmulatorConfig {
            ready_after: Duration::from_millis(5),
            start_after: Duration::from_millis(5),
            delete_after: Duration::from_millis(300),
            executor: ExecutorConfig::Simulated { duration, outcome },
            page_size: 2,
            ..EmulatorConfig::default()
        })
        .await
        .unwrap();
        let quick = RetryPolicy {
            max_attempts: 5,
            max_elapsed: Duration::from_secs(10),
            initial_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(100),
        };
        let transport = Transport { retry: quick, ..transport(&emulator) };
        let client = CloudRunClient::new(transport.clone());
        for job in jobs {
            client.create_job(job["metadata"]["name"].as_str().unwrap(), &job.clone().into(), &()).await.unwrap();
        }
        Self { emulator, transport, client, process: ProcessState::default() }
    }

    async fn short(jobs: &[Value]) -> Self {
        Self::with(Duration::from_millis(10), Simulated::Failure, jobs).await
    }

    async fn long(jobs: &[Value]) -> Self {
        Self::with(Duration::from_secs(600), Simulated::Success, jobs).await
    }

    fn fail(&self, rules: &Value) {
        self.emulator.set_faults(faults(&json!({"rules": rules})));
    }

    async fn listed(&self) -> Vec<MarkedJob> {
        observer::list(&self.transport, POOL).await.unwrap().0
    }

    /// The only marked job, once its executions stand like this.
    async fn job(&self, status: ExecutionsStatus) -> MarkedJob {
        for _ in 0..500 {
            let jobs = self.listed().await;
            if jobs.len() == 1 && jobs[0].executions.status == status {
                return jobs[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no job with {status:?}: {:?}", self.listed().await)
    }

    /// Starts a job, and returns it once its executions stand like this.
    async fn started(&self, name: &str, status: ExecutionsStatus) -> MarkedJob {
        self.client.run_job(name, &()).await.unwrap();
        self.job(status).await
    }

    async fn delete(&self, job: &MarkedJob) -> Result<Deleted, ErrorKind> {
        delete(&self.transport, &self.process, job).await.map_err(|error| error.kind)
    }

    /// How many deletions were requested.
    fn deletions(&self) -> usize {
        let lives = self.emulator.history();
        lives.iter().flat_map(|life| &life.events).filter(|event| event.kind == EventKind::DeletionRequested).count()
    }
}

#[tokio::test]
async fn a_list_has_the_jobs_of_the_pool_from_every_page_and_no_others() {
    let ours: Vec<_> = (0..5).map(|n| marked(&format!("ours-{n}"), &mark(POOL, false))).collect();
    let mut half = marked("half", &mark(POOL, false));
    half["metadata"]["annotations"].as_object_mut().unwrap().remove("prefect-gcp-cloud-run/process");
    let mut older = marked("older", &mark(POOL, false));
    older["metadata"]["labels"]["prefect-gcp-cloud-run"] = json!("0");
    let others = [body("ours-like"), half, marked("theirs", &mark(ANOTHER_POOL, false)), older];
    let cloud = Cloud::short(&[&others[..], &ours[..]].concat()).await;
    let (jobs, left_out) = observer::list(&cloud.transport, POOL).await.unwrap();
    let mut names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ours-0", "ours-1", "ours-2", "ours-3", "ours-4"]);
    assert_eq!(left_out.iter().map(|left| left.job.as_str()).collect::<Vec<_>>(), ["half"]);
    assert!(left_out[0].why.contains("prefect-gcp-cloud-run/process"), "{left_out:?}");
    // A listed job is what a read shows: the list asks for what is needed.
    assert_eq!(observer::read(&cloud.transport, &jobs[0]).await.unwrap().as_ref(), Some(&jobs[0]));
}

#[tokio::test]
async fn a_list_that_is_incomplete_or_lacks_a_page_is_an_error() {
    let ours: Vec<_> = (0..3).map(|n| marked(&format!("j{n}"), &mark(POOL, false))).collect();
    let cloud = Cloud::short(&ours).await;
    for fault in [json!("incompleteList"), json!({"status": {"code": 503}})] {
        // The first page comes, the second one does not.
        cloud.fail(&json!([{"fault": {"delay": 0.0}, "calls": ["jobs.list"], "times": 1},
            {"fault": fault, "calls": ["jobs.list"]}]));
        let error = observer::list(&cloud.transport, POOL).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn a_job_is_deleted_once_though_responses_get_lost() {
    for status in [ExecutionsStatus::None, ExecutionsStatus::Failed] {
        for fault in [json!("reset"), json!({"status": {"code": 503}})] {
            for when in ["before", "after"] {
                let cloud = Cloud::short(&[marked("j", &mark(POOL, false))]).await;
                let job = match status {
                    ExecutionsStatus::None => cloud.job(status).await,
                    _ => cloud.started("j", status).await,
                };
                cloud.fail(&json!([{"fault": fault, "calls": ["jobs.delete"], "times": 1, "when": when}]));
                // It is not known whose delete took effect if the response was lost.
                let is_lost = when == "after";
                assert_eq!(cloud.delete(&job).await, Ok(if is_lost { Deleted::Gone } else { Deleted::ByUs }));
                assert_eq!(cloud.deletions(), 1);
                assert!(no_jobs(&cloud.emulator).await);
                // What is gone is gone.
                assert_eq!(cloud.delete(&job).await, Ok(Deleted::Gone));
            }
        }
    }
}

#[tokio::test]
async fn another_job_of_the_name_is_never_deleted() {
    let cloud = Cloud::short(&[marked("j", &mark(POOL, false))]).await;
    let job = cloud.job(ExecutionsStatus::None).await;
    assert_eq!(cloud.delete(&job).await, Ok(Deleted::ByUs));
    assert!(no_jobs(&cloud.emulator).await);
    cloud.client.create_job("j", &marked("j", &mark(POOL, false)).into(), &()).await.unwrap();
    // Ours is gone, and the other one of the same flow run stays.
    assert_eq!(cloud.delete(&job).await, Ok(Deleted::Gone));
    assert!(stop(&cloud.transport, &cloud.process, &job).await.unwrap());
    assert_eq!(observer::read(&cloud.transport, &job).await.unwrap(), None);
    assert_eq!(cloud.deletions(), 1);
    assert_eq!(cloud.emulator.jobs().len(), 1);
}

#[tokio::test]
async fn a_name_that_changes_hands_while_the_response_is_lost_is_left_alone() {
    let cloud = Arc::new(Cloud::short(&[marked("j", &mark(POOL, false))]).await);
    let job = cloud.job(ExecutionsStatus::None).await;
    // The delete takes effect at once, and its response never comes.
    cloud.fail(&json!([{"fault": "hang", "calls": ["jobs.delete"], "times": 1, "when": "after"}]));
    let deleting = {
        let cloud = cloud.clone();
        tokio::spawn(async move { cloud.delete(&job).await })
    };
    while cloud.deletions() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(no_jobs(&cloud.emulator).await);
    cloud.client.create_job("j", &marked("j", &mark(POOL, false)).into(), &()).await.unwrap();
    assert_eq!(deleting.await.unwrap(), Ok(Deleted::Gone));
    assert_eq!((cloud.deletions(), cloud.emulator.jobs().len()), (1, 1));
}

#[tokio::test]
async fn a_job_that_has_changed_since_the_decision_stays() {
    // An execution was started since.
    let cloud = Cloud::long(&[marked("j", &mark(POOL, false))]).await;
    let idle = cloud.job(ExecutionsStatus::None).await;
    // A read that lags does not show the execution. The list of executions does.
    cloud.fail(&json!([{"fault": {"stale": 1}, "calls": ["jobs.get"]}]));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    assert_eq!(cloud.delete(&idle).await, Ok(Deleted::Changed));
    cloud.emulator.set_faults(Faults::default());
    assert_eq!(cloud.delete(&idle).await, Ok(Deleted::Changed));
    assert_eq!(cloud.delete(&running).await, Ok(Deleted::Changed));
    assert_eq!(cloud.deletions(), 0);

    // It ended since, so something else is to be decided.
    let cloud = Cloud::short(&[marked("j", &mark(POOL, false))]).await;
    let idle = cloud.job(ExecutionsStatus::None).await;
    let ended = cloud.started("j", ExecutionsStatus::Failed).await;
    assert_eq!(cloud.delete(&idle).await, Ok(Deleted::Changed));
    // Or it ran again.
    cloud.client.run_job("j", &()).await.unwrap();
    assert_eq!(cloud.delete(&ended).await, Ok(Deleted::Changed));
    assert_eq!(cloud.deletions(), 0);
}

#[tokio::test]
async fn a_job_that_has_lost_its_mark_or_is_to_be_kept_stays() {
    let other_mark = Mark { process: Uuid::from_u128(9), ..mark(POOL, false) };
    for job in [body("j"), marked("j", &mark(ANOTHER_POOL, false)), marked("j", &other_mark)] {
        let cloud = Cloud::short(&[job]).await;
        let uid = cloud.emulator.jobs()[0].metadata.uid.clone().unwrap();
        let seen = Cloud::short(&[marked("j", &mark(POOL, false))]).await.job(ExecutionsStatus::None).await;
        let seen = MarkedJob { uid, ..seen };
        assert_eq!(cloud.delete(&seen).await, Ok(Deleted::Changed));
        assert!(!stop(&cloud.transport, &cloud.process, &seen).await.unwrap());
        assert_eq!(observer::read(&cloud.transport, &seen).await.unwrap(), None);
        assert_eq!(cloud.deletions(), 0);
    }
    let cloud = Cloud::short(&[marked("j", &mark(POOL, true))]).await;
    let ended = cloud.started("j", ExecutionsStatus::Failed).await;
    assert_eq!(cloud.delete(&ended).await, Ok(Deleted::Changed));
    assert_eq!(cloud.deletions(), 0);
    // One that never ran is of no use.
    let cloud = Cloud::short(&[marked("j", &mark(POOL, true))]).await;
    assert_eq!(cloud.delete(&cloud.job(ExecutionsStatus::None).await).await, Ok(Deleted::ByUs));
}

#[tokio::test]
async fn a_deletion_that_fails_for_good_is_an_error() {
    let cloud = Cloud::short(&[marked("j", &mark(POOL, false))]).await;
    let job = cloud.job(ExecutionsStatus::None).await;
    cloud.fail(&json!([{"fault": {"status": {"code": 403}}, "calls": ["jobs.delete"]}]));
    assert_eq!(cloud.delete(&job).await, Err(ErrorKind::PermissionDenied));
    cloud.fail(&json!([{"fault": {"status": {"code": 403}}, "calls": ["jobs.get"]}]));
    assert_eq!(cloud.delete(&job).await, Err(ErrorKind::PermissionDenied));
    assert_eq!(cloud.deletions(), 0);
}

#[tokio::test]
async fn an_execution_is_stopped_with_its_job_or_cancelled_if_that_is_kept() {
    let cloud = Cloud::long(&[marked("j", &mark(POOL, false))]).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    assert!(stop(&cloud.transport, &cloud.process, &running).await.unwrap());
    assert!(no_jobs(&cloud.emulator).await);
    assert!(stop(&cloud.transport, &cloud.process, &running).await.unwrap());

    let cloud = Cloud::long(&[marked("j", &mark(POOL, true))]).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    cloud.fail(&json!([{"fault": "reset", "calls": ["executions.cancel"], "times": 1, "when": "after"}]));
    assert!(stop(&cloud.transport, &cloud.process, &running).await.unwrap());
    let ended = cloud.job(ExecutionsStatus::Cancelled).await;
    assert!(ended.mark.keep && ended.executions.completed_at.is_some());
    assert_eq!(cloud.deletions(), 0);
}

#[tokio::test]
async fn executions_are_read_where_the_status_of_their_job_does_not_tell() {
    let cloud = Cloud::long(&[marked("j", &mark(POOL, false))]).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    // As after a start whose response was lost: the younger one is cancelled, the older one runs.
    let younger = cloud.client.run_job("j", &()).await.unwrap().metadata.name;
    cloud.client.cancel_execution(&younger).await.unwrap();
    let job = cloud.job(ExecutionsStatus::Unknown).await;
    let read = observer::read(&cloud.transport, &job).await.unwrap().unwrap();
    assert_eq!((read.executions.status, &read.executions.name), (ExecutionsStatus::Active, &running.executions.name));
    assert!(read.executions.uid.is_some());
    assert_eq!(cloud.delete(&read).await, Ok(Deleted::Changed));
    assert_eq!(cloud.deletions(), 0);
}

/// A watch in progress.
fn begin(cloud: &Cloud, job: &MarkedJob) -> tokio::task::JoinHandle<Result<(), ErrorKind>> {
    let (transport, process, job) = (cloud.transport.clone(), cloud.process.clone(), job.clone());
    let (tick, patience) = (Duration::from_millis(100), Duration::from_secs(2));
    tokio::spawn(async move {
        watch(&transport, &process, &job, Duration::ZERO, tick, patience).await.map_err(|error| error.kind)
    })
}

async fn ends(watch: tokio::task::JoinHandle<Result<(), ErrorKind>>) -> Result<(), ErrorKind> {
    tokio::time::timeout(Duration::from_secs(30), watch).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_watch_ends_with_the_execution_and_shares_its_reads() {
    let jobs: Vec<_> = (0..10).map(|n| marked(&format!("j{n}"), &mark(POOL, false))).collect();
    let cloud = Cloud::with(Duration::from_secs(2), Simulated::Success, &jobs).await;
    for n in 0..10 {
        cloud.client.run_job(&format!("j{n}"), &()).await.unwrap();
    }
    let listed = cloud.listed().await;
    let watches: Vec<_> = listed.iter().map(|job| begin(&cloud, job)).collect();
    for watch in watches {
        assert_eq!(ends(watch).await, Ok(()));
    }
    assert!(cloud.emulator.executions().iter().all(|execution| execution.completed().is_some()));
    assert!(!cloud.emulator.counts().contains_key("executions.get"), "{:?}", cloud.emulator.counts());
}

#[tokio::test]
async fn a_watch_survives_failures_and_ends_when_the_job_is_gone() {
    let cloud = Cloud::long(&[marked("j", &mark(POOL, false))]).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    let outage = json!([{"fault": {"status": {"code": 503}}, "for": 1.0}]);
    cloud.fail(&outage);
    let watching = begin(&cloud, &running);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // An API that fails may answer 404 for a while, too.
    cloud.fail(&json!([{"fault": {"status": {"code": 404}}, "calls": ["executions.*"], "for": 0.5}]));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!watching.is_finished());
    assert!(stop(&cloud.transport, &cloud.process, &running).await.unwrap());
    assert_eq!(ends(watching).await, Ok(()));
    // A job without an execution is not waited for.
    let watching = begin(&cloud, &running);
    assert_eq!(ends(watching).await, Ok(()));
}

#[tokio::test]
async fn a_watch_that_can_read_nothing_gives_up() {
    let cloud = Cloud::long(&[marked("j", &mark(POOL, false))]).await;
    let running = cloud.started("j", ExecutionsStatus::Active).await;
    cloud.fail(&json!([{"fault": {"status": {"code": 403}}, "calls": ["reads"]}]));
    assert_eq!(ends(begin(&cloud, &running)).await, Err(ErrorKind::PermissionDenied));
    assert_eq!(cloud.emulator.executions().len(), 1);
}
