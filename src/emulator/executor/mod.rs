//! Runs attempts of tasks: as processes, or simulated.

mod attempt;
mod environment;
mod guardian;
mod process;
mod process_group;
mod simulated;

use tokio::sync::watch;

pub(super) use self::{
    attempt::{TIMED_OUT, TaskAttempt, TaskAttemptEnd},
    guardian::Guardian,
    process::{ProcessExecutor, log_path},
    process_group::STOP_GRACE,
    simulated::SimulatedExecutor,
};
use super::store::StopRequest;

/// The executor that the configuration asks for.
#[derive(Debug)]
pub(super) enum Executor {
    Process(ProcessExecutor),
    Simulated(SimulatedExecutor),
}

impl Executor {
    /// Runs an attempt to its end. When `stop` asks for it, ends the attempt after the grace period at the latest.
    pub(super) async fn run(&self, attempt: &TaskAttempt, stop: &mut watch::Receiver<StopRequest>) -> TaskAttemptEnd {
        match self {
            // Boxed, so that the future of a simulated attempt does not have the size of a process's.
            Self::Process(executor) => Box::pin(executor.run(attempt, stop)).await,
            Self::Simulated(executor) => executor.run(attempt, stop).await,
        }
    }

    /// Maximum number of concurrent tasks of one execution, whatever its parallelism.
    pub(super) fn max_concurrent_tasks(&self) -> i64 {
        match self {
            // One machine can't run thousands of processes. Cloud Run also runs fewer tasks when it lacks capacity.
            Self::Process(_) => 64,
            Self::Simulated(_) => i64::MAX,
        }
    }

    /// Adds a line from the emulator to the log of an execution. Simulated executions have no log.
    pub(super) fn log(&self, execution: &str, line: &str) {
        if let Self::Process(executor) = self {
            executor.log(execution, line);
        }
    }
}
