//! What an emulator can be told.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use super::faults::Faults;
use crate::api::Secret;

/// Settings of an [`Emulator`](super::Emulator). Start from the default and change what matters.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// Address to listen on; port 0 takes a free one. Default: `127.0.0.1:0`. Whoever can reach the address runs
    /// commands as the user that the emulator runs as.
    pub address: SocketAddr,
    /// Projects that exist, by id or number; calls for others are answered 403. Default: none given, and every project
    /// exists.
    pub projects: Vec<String>,
    /// Time from a job's creation or change until its image is looked up and it is ready or not. Default: 0.4 s, as
    /// captured from Cloud Run.
    pub ready_after: Duration,
    /// Time from an execution's creation (or its job's readiness, if that is later) until its tasks start.
    /// Default: 0.2 s.
    pub start_after: Duration,
    /// Time that a deleted job stays readable, and its name taken, after the last of its executions ended.
    /// Default: 0.2 s.
    pub delete_after: Duration,
    /// What runs the tasks. Default: processes.
    pub executor: ExecutorConfig,
    /// Time between SIGTERM and SIGKILL. Default: 10 s, as on Cloud Run. Stopping the emulator waits for 2 s at most.
    pub kill_grace: Duration,
    /// Directory of the logs, made if need be; one file `{execution}.log` each. Default: none given, and a temporary
    /// one is used and removed when the emulator is dropped.
    pub log_dir: Option<PathBuf>,
    /// `PATH` of containers that set none themselves. Default: the emulator's own.
    pub path: String,
    /// Secrets by name, for `valueFrom.secretKeyRef`. Every version of a secret has the one value. Default: none.
    pub secrets: BTreeMap<String, Secret>,
    /// Most items in a page of a list, whatever `limit` asks for; at least 1. Default: 1 000.
    pub page_size: usize,
    /// What goes wrong. Default: nothing.
    pub faults: Faults,
    /// Whether to remember calls (the last 10 000), with their bodies. Default: no.
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

/// What runs an execution's tasks.
#[derive(Clone, Debug)]
pub enum ExecutorConfig {
    /// The container's command, as a process on this machine.
    Process,
    /// Nothing: a task ends by itself after a while. Both values can be set for one job by annotations of its
    /// execution template: [`DURATION_ANNOTATION`](super::DURATION_ANNOTATION) and
    /// [`OUTCOME_ANNOTATION`](super::OUTCOME_ANNOTATION).
    Simulated {
        /// How long each try of a task takes; never longer than the task's timeout, which ends it as timed out.
        duration: Duration,
        /// How each try ends.
        outcome: Outcome,
    },
}

/// How a simulated try of a task ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outcome {
    /// With exit code 0.
    #[default]
    Success,
    /// With exit code 1.
    Failure,
    /// As if the task's timeout had been reached.
    Timeout,
}

impl FromStr for Outcome {
    type Err = String;

    /// Reads `success`, `failure` or `timeout`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "success" => Ok(Self::Success),
            "failure" => Ok(Self::Failure),
            "timeout" => Ok(Self::Timeout),
            _ => Err(format!("'{text}' is not one of: success, failure, timeout")),
        }
    }
}
