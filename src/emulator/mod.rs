//! An emulator of Cloud Run jobs on this machine: the Admin API v1 for jobs and executions, in memory, on a loopback
//! address. Executions run their commands as local processes.
//!
//! # Guarantees
//!
//! - Responses have the form, the statuses and the words of the API. They use `api::types`, the types that the client
//!   reads.
//! - When an execution has ended, its processes have ended. When the emulator was stopped, all processes have ended.
//!   When the emulator was killed, they end too, with the exception that [`Emulator`] describes.
//!
//! # Limits
//!
//! No authentication, no images (it runs commands), no volumes; it does not enforce limits on CPU and memory.
//!
//! # Structure
//!
//! `http` serves requests, `wire` parses them, `validation` checks bodies, and `faults` may inject a fault. `store` holds
//! jobs and executions. `scheduler` and `tasks` decide when they change, and `executor` runs attempts of tasks. `state` is
//! the state that these modules share.

mod call_log;
mod config;
mod executor;
mod faults;
mod http;
mod scheduler;
mod simulation;
mod state;
mod store;
mod tasks;
mod validation;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

pub use self::{
    call_log::RecordedCall,
    config::{EmulatorConfig, ExecutorConfig},
    faults::{BodyForm, EmulatedQuotas, Fault, FaultRule, FaultTiming, Faults, StatusFault},
    simulation::{DURATION_ANNOTATION, MESSAGE_ANNOTATION, OUTCOME_ANNOTATION, SimulatedOutcome},
    store::{EventKind, HistoryEvent, JobLife},
};
use self::{
    executor::{Executor, Guardian, ProcessExecutor, STOP_GRACE, SimulatedExecutor},
    state::EmulatorState,
};
use crate::api::types::{Execution, Job};

/// A running emulator.
///
/// # Processes
///
/// [`stop`](Self::stop) ends all processes and waits for their end. An emulator that is dropped without it ends its
/// processes in the background, as long as the tokio runtime lives. When the runtime or the emulator's own process ends
/// first, a guardian process kills the processes that are left. Two kinds can escape: a process that was started a few
/// microseconds earlier, and a process that left its process group.
#[derive(Debug)]
pub struct Emulator {
    state: Arc<EmulatorState>,
    /// Set to true to stop the server.
    shutdown: watch::Sender<bool>,
    /// Taken by the first stop.
    server: Mutex<Option<JoinHandle<()>>>,
    /// Removed when the emulator is dropped. None when the configuration names a directory.
    _temporary_logs: Option<TempDir>,
}

/// Why an emulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address is in use, or does not belong to this machine.
    #[error("The emulator can't listen on {address}: {source}")]
    Bind {
        /// The address in the configuration.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The log directory does not exist and could not be created.
    #[error("The emulator can't use the log directory {}: {source}", path.display())]
    LogDir {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The guardian process, which kills orphans, could not be started.
    #[error("The emulator can't start its guardian process, /bin/sh: {0}")]
    Guardian(io::Error),
}

impl Emulator {
    /// Starts an emulator on the current tokio runtime. Returns once it listens.
    ///
    /// # Errors
    /// When it can't listen on the address, use the log directory, or start the guardian process.
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
                Executor::Simulated(SimulatedExecutor { duration: *duration, outcome: *outcome })
            }
        };
        let faults = config.faults.clone();
        let state = Arc::new(EmulatorState::new(config, address, log_dir, executor));
        state.set_faults(faults);
        let (shutdown, is_shut_down) = watch::channel(false);
        let server = tokio::spawn(http::serve(state.clone(), listener, address, is_shut_down));
        Ok(Self { state, shutdown, server: Mutex::new(Some(server)), _temporary_logs: temporary_logs })
    }

    /// The address that the emulator listens on.
    pub fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// The directory of the logs, one file `{execution}.log` for each execution.
    pub fn log_dir(&self) -> &Path {
        &self.state.log_dir
    }

    /// The jobs of all projects and regions, oldest first. They contain the environments of their containers.
    pub fn jobs(&self) -> Vec<Job> {
        self.state.store().all_jobs()
    }

    /// The executions of all projects and regions, oldest first. They contain the environments of their containers.
    pub fn executions(&self) -> Vec<Execution> {
        self.state.store().all_executions()
    }

    /// The history of all jobs, and of the last 10,000 deleted ones, in the order of their creation. Also at
    /// `GET /emulator/history`.
    pub fn history(&self) -> Vec<JobLife> {
        self.state.store().job_lives()
    }

    /// The last 10,000 calls, oldest first; empty unless [`EmulatorConfig::record_calls`] is set. Also at
    /// `GET /emulator/calls`.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.state.call_log().calls()
    }

    /// The number of calls of each method of the API, by its name: `jobs.run`, `executions.list`. Also at
    /// `GET /emulator/counts`.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state.call_log().counts()
    }

    /// Replaces the faults. Also by `POST /emulator/faults`.
    ///
    /// Must be called on a tokio runtime.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// The number of calls that each fault has hit since the faults were set, by its name: the fault of a rule
    /// (`status 503`, `reset after`), `quota`, `limit` or `expired token`. Also at `GET /emulator/faults`.
    pub fn faults_met(&self) -> BTreeMap<String, u64> {
        self.state.injector().counts()
    }

    /// Stops the emulator: it accepts no more calls, and ends all processes with SIGTERM, and with SIGKILL two seconds
    /// later. Returns when all processes have ended. A second call does nothing.
    pub async fn stop(&self) {
        let mut executions = self.state.shut_down();
        self.shutdown.send_replace(true);
        // Each ends soon after the grace period. The timeout is for a process that does not even react to SIGKILL, for
        // example because it hangs in a dead network file system.
        let _ = timeout(STOP_GRACE * 2, async { while executions.join_next().await.is_some() {} }).await;
        executions.shutdown().await;
        if let Some(server) = self.abort_server() {
            // The listener is closed only when its task is gone.
            let _ = server.await;
        }
        if let Executor::Process(executor) = &self.state.executor {
            executor.guardian.dismiss();
        }
    }
}

impl Emulator {
    fn abort_server(&self) -> Option<JoinHandle<()>> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        server.abort();
        Some(server)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Detached tasks go on, so that processes get SIGTERM and their grace period first.
        self.state.shut_down().detach_all();
        self.abort_server();
    }
}

/// Creates the log directory: `configured`, or a temporary one.
fn prepare_log_dir(configured: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), EmulatorError> {
    match configured {
        Some(path) => {
            let to_error = |source| EmulatorError::LogDir { path: path.to_owned(), source };
            std::fs::create_dir_all(path).map_err(to_error)?;
            Ok((path.canonicalize().map_err(to_error)?, None))
        }
        None => {
            let to_error = |source| EmulatorError::LogDir { path: std::env::temp_dir(), source };
            let directory = tempfile::Builder::new().prefix("cloud-run-emulator-").tempdir().map_err(to_error)?;
            Ok((directory.path().to_owned(), Some(directory)))
        }
    }
}
