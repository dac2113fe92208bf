//! Settings of the emulator.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{faults::Faults, simulation::SimulatedOutcome};
use crate::secret::Secret;

/// Settings of an [`Emulator`](super::Emulator). Start from the default and change single fields.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// Address to listen on; port 0 takes a free one. Default: `127.0.0.1:0`. Whoever can connect to the address can
    /// run commands as the user of the emulator.
    pub address: SocketAddr,
    /// Projects that exist, by id or number. The emulator answers calls for other projects with 403. Default: empty,
    /// which means that every project exists.
    pub projects: Vec<String>,
    /// Time from the creation or change of a job until it becomes ready, or not ready because its image or a secret is
    /// missing. Default: 0.4 s, as captured from Cloud Run.
    pub ready_after: Duration,
    /// Time from the creation of an execution (or from the readiness of its job, if that is later) until its tasks
    /// start. Default: 0.2 s.
    pub start_after: Duration,
    /// Time that a deleted job stays readable, and its name taken, after its last execution ended. Default: 0.2 s.
    pub delete_after: Duration,
    /// How tasks run. Default: as processes.
    pub executor: ExecutorConfig,
    /// Time between SIGTERM and SIGKILL. Default: 10 s, as on Cloud Run. At most 2 s when the emulator stops.
    pub kill_grace: Duration,
    /// Directory of the logs, one file `{execution}.log` for each execution. The emulator creates it if necessary.
    /// Default: none, which means a temporary directory that goes away with the emulator.
    pub log_dir: Option<PathBuf>,
    /// `PATH` of containers that set none. Default: the `PATH` of the emulator's process.
    pub path: String,
    /// Secrets by name, for `valueFrom.secretKeyRef`. All versions of a secret have the same value. Default: none.
    pub secrets: BTreeMap<String, Secret>,
    /// Maximum number of items in a page of a list, whatever `limit` asks for; at least 1. Default: 1,000.
    pub page_size: usize,
    /// Faults to inject from the start. Default: none.
    pub faults: Faults,
    /// Whether to record calls (the last 10,000) with their bodies. Default: no.
    pub record_calls: bool,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            projects: Vec::new(),
            ready_after: Duration::from_millis(400),
            start_after: Duration::from_millis(200),
            delete_after: Duration::from_millis(200),
            executor: ExecutorConfig::Process,
            kill_grace: Duration::from_secs(10),
            log_dir: None,
            path: std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned()),
            secrets: BTreeMap::new(),
            page_size: 1000,
            faults: Faults::default(),
            record_calls: false,
        }
    }
}

/// How the tasks of executions run.
#[derive(Clone, Debug)]
pub enum ExecutorConfig {
    /// A task runs its container's command as a process on this machine.
    Process,
    /// A task runs nothing and ends by itself after a while. Annotations of a job's execution template override both
    /// settings: [`DURATION_ANNOTATION`](super::DURATION_ANNOTATION) and
    /// [`OUTCOME_ANNOTATION`](super::OUTCOME_ANNOTATION).
    Simulated {
        /// Duration of each attempt of a task. An attempt that reaches the task's timeout times out.
        duration: Duration,
        /// How each attempt ends.
        outcome: SimulatedOutcome,
    },
}
