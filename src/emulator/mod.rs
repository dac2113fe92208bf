//! A Cloud Run for one machine: the Admin API v1 for jobs and executions, in memory, on a loopback address.
//!
//! Guarantees: answers have the form, statuses and words of the API's (`api::types` are the very types that the client
//! reads); what an execution started has ended when the execution has, when the emulator was stopped, and, with the
//! exception that [`Emulator`] names, when it was killed. Does not do: authentication, images (it runs commands),
//! volumes, limits on CPU and memory.

mod call;
mod cloud;
mod collection;
mod conditions;
mod config;
mod door;
mod errors;
mod executions;
mod executor;
mod fate;
mod faults;
mod fields;
mod handlers;
mod history;
mod lifecycle;
mod page;
mod past;
mod project;
mod region;
mod resources;
mod schema;
mod selector;
mod server;
mod store;
mod validate;
mod views;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use self::{
    cloud::Cloud,
    door::{Door, Reset},
    executor::{Executor, Guardian, ProcessExecutor, Simulated},
};
pub use self::{
    cloud::RecordedCall,
    config::{EmulatorConfig, ExecutorConfig, Outcome},
    faults::{BodyForm, Fault, FaultRule, Faults, Quotas, StatusFault, When},
    history::{Event, EventKind, JobLife},
    validate::{DURATION_ANNOTATION, OUTCOME_ANNOTATION},
};
use crate::api::types::{Execution, Job};

/// Time between SIGTERM and SIGKILL when the emulator stops: its user waits.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A running emulator.
///
/// Dropped without [`stop`](Self::stop), it ends its processes in the background, as long as the tokio runtime lives;
/// after that, and when the emulator's own process is killed, a guardian process kills what is left. A process that was
/// started within the microseconds before that, or that left its process group, can escape.
#[derive(Debug)]
pub struct Emulator {
    cloud: Arc<Cloud>,
    /// Tells the server to finish.
    shutdown: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Removed with the emulator, unless the configuration names a directory.
    _temporary_logs: Option<TempDir>,
}

/// Why an emulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address is in use, or not one of this machine.
    #[error("The emulator can't listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no directory for logs, and none could be made.
    #[error("The emulator can't use the log directory {}: {source}", path.display())]
    LogDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process that kills orphans could not be started.
    #[error("The emulator can't start its guardian process, /bin/sh: {0}")]
    Guardian(io::Error),
}

impl Emulator {
    /// Starts an emulator on the current tokio runtime, and returns once it listens.
    ///
    /// # Errors
    /// When the address can't be listened on, there is no place for logs, or no process can be started.
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        let bind = |source| EmulatorError::Bind { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let (log_dir, temporary_logs) = prepare_log_dir(config.log_dir.as_deref())?;
        let executor = match &config.executor {
            ExecutorConfig::Process => Executor::Process(ProcessExecutor {
                guardian: Arc::new(Guardian::start().map_err(EmulatorError::Guardian)?),
                log_dir: log_dir.clone(),
                path: config.path.clone(),
                secrets: config.secrets.clone(),
                kill_grace: config.kill_grace,
            }),
            ExecutorConfig::Simulated { duration, outcome } => {
                Executor::Simulated(Simulated { duration: *duration, outcome: *outcome })
            }
        };
        let faults = config.faults.clone();
        let cloud = Arc::new(Cloud::new(config, address, log_dir, executor));
        cloud.set_faults(faults);
        let door = Door::new(listener, address, cloud.closed_until());
        let router = server::router(cloud.clone());
        let (shutdown, mut told) = watch::channel(false);
        let server = tokio::spawn(async move {
            let told = async move {
                // An error means that the emulator is gone: the same thing.
                let _ = told.wait_for(|told| *told).await;
            };
            // `serve` does not fail: it waits and goes on when accepting does.
            let service = router.into_make_service_with_connect_info::<Reset>();
            let _ = axum::serve(door, service).with_graceful_shutdown(told).await;
        });
        Ok(Self { cloud, shutdown, server, _temporary_logs: temporary_logs })
    }

    /// The address that the emulator listens on.
    pub fn address(&self) -> SocketAddr {
        self.cloud.address
    }

    /// The directory of the executions' logs, one file `{execution}.log` each.
    pub fn log_dir(&self) -> &Path {
        &self.cloud.log_dir
    }

    /// All jobs of all projects and regions, oldest first. They hold their containers' environments.
    pub fn jobs(&self) -> Vec<Job> {
        views::jobs(&self.cloud)
    }

    /// All executions of all projects and regions, oldest first. They hold their containers' environments.
    pub fn executions(&self) -> Vec<Execution> {
        views::executions(&self.cloud)
    }

    /// The lives of all jobs, also of (the last 10 000) deleted ones, in the order of their creation. Also at
    /// `GET /emulator/history`.
    pub fn history(&self) -> Vec<JobLife> {
        views::lives(&self.cloud)
    }

    /// The (last 10 000) calls, oldest first; none unless [`EmulatorConfig::record_calls`] is set. Also at
    /// `GET /emulator/calls`.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.cloud.calls()
    }

    /// How often each method of the API was called (`jobs.run`, `executions.list` …). Also at `GET /emulator/counts`.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.cloud.counts()
    }

    /// Switches these faults on, in the place of those before. Also by `POST /emulator/faults`.
    ///
    /// Must be called on a tokio runtime.
    pub fn set_faults(&self, faults: Faults) {
        self.cloud.set_faults(faults);
    }

    /// How often calls met what, since these faults were switched on: each rule's fault (`status 503`, `reset after`),
    /// `quota`, `limit`, `expired token`. Also at `GET /emulator/faults`.
    pub fn faults_met(&self) -> BTreeMap<String, u64> {
        self.cloud.fate().met()
    }

    /// Stops the emulator: takes no more calls, and ends all processes, with SIGTERM and two seconds later SIGKILL.
    /// Returns when none is left. A second call does nothing.
    pub async fn stop(&self) {
        let mut executions = self.cloud.halt();
        self.shutdown.send_replace(true);
        // Each ends within the grace and a moment; the limit is for a process that even SIGKILL does not end, as when
        // it hangs in a dead network file system.
        let _ = timeout(STOP_GRACE * 2, async { while executions.join_next().await.is_some() {} }).await;
        executions.shutdown().await;
        self.server.abort();
        // The listener is closed only when its task is gone.
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
        if let Executor::Process(executor) = &self.cloud.executor {
            executor.guardian.dismiss();
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Detached, so that processes get their SIGTERM first; each ends within the grace.
        self.cloud.halt().detach_all();
        self.server.abort();
    }
}

fn prepare_log_dir(wanted: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), EmulatorError> {
    match wanted {
        Some(path) => {
            let refused = |source| EmulatorError::LogDir { path: path.to_owned(), source };
            std::fs::create_dir_all(path).map_err(refused)?;
            Ok((path.canonicalize().map_err(refused)?, None))
        }
        None => {
            let refused = |source| EmulatorError::LogDir { path: std::env::temp_dir(), source };
            let directory = tempfile::Builder::new().prefix("cloud-run-emulator-").tempdir().map_err(refused)?;
            Ok((directory.path().to_owned(), Some(directory)))
        }
    }
}
