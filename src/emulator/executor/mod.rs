//! What runs the tries of an execution's tasks.

mod environment;
mod group;
mod guardian;
pub(super) mod process;
mod simulated;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

pub(super) use self::{environment::secret_of, guardian::Guardian, process::ProcessExecutor, simulated::Simulated};
use super::executions::Stop;
use crate::api::types::Container;

/// One try of one task.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) job: Arc<str>,
    pub(super) execution: Arc<str>,
    pub(super) task: i64,
    pub(super) attempt: i64,
    pub(super) task_count: i64,
    pub(super) timeout: Duration,
    /// The first container, which alone is run.
    pub(super) container: Arc<Container>,
    /// Those of the execution.
    pub(super) annotations: Arc<BTreeMap<String, String>>,
}

/// How a try of a task ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum AttemptEnd {
    Succeeded,
    /// With this exit code, as a shell counts it, and a sentence.
    Failed(i32, String),
    /// The task's timeout was reached.
    TimedOut,
    /// The execution was told to stop.
    Stopped,
}

/// The executor that the configuration asks for.
#[derive(Debug)]
pub(super) enum Executor {
    Process(ProcessExecutor),
    Simulated(Simulated),
}

impl Executor {
    /// Runs one try to its end; no later than a little after `stop` asks for it.
    pub(super) async fn run(&self, attempt: &Attempt, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        match self {
            // Boxed, so that a simulated try does not take the room of a process.
            Self::Process(executor) => Box::pin(executor.run(attempt, stop)).await,
            Self::Simulated(executor) => executor.run(attempt, stop).await,
        }
    }

    /// Most tasks of one execution at a time, whatever its parallelism.
    pub(super) fn most_tasks(&self) -> i64 {
        match self {
            // A machine is not a data centre; Cloud Run too runs fewer when it has not the room.
            Self::Process(_) => 64,
            Self::Simulated(_) => i64::MAX,
        }
    }

    /// Adds a line of the emulator's own to the execution's log.
    pub(super) fn log(&self, execution: &str, line: &str) {
        if let Self::Process(executor) = self {
            executor.log(execution, line);
        }
    }
}

/// Waits until the execution is told to stop.
async fn stopped(stop: &mut watch::Receiver<Stop>, at_least: Stop) {
    if stop.wait_for(|wish| *wish >= at_least).await.is_err() {
        // Whoever could tell it is gone, and so nobody will.
        std::future::pending::<()>().await;
    }
}
