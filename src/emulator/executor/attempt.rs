//! An attempt of a task, and how it ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    api::types::{AttemptStatus, Container, TaskAttemptResult},
    emulator::store::StopRequest,
};

/// Cloud Run's words for a task that used more memory than its limit.
const OUT_OF_MEMORY: &str = "The configured memory limit was reached.";
/// Cloud Run's words for a task whose timeout was reached.
pub(crate) const TIMED_OUT: &str = "The configured timeout was reached.";

/// One attempt of one task.
#[derive(Clone, Debug)]
pub(crate) struct TaskAttempt {
    pub(crate) job: Arc<str>,
    pub(crate) execution: Arc<str>,
    /// Index of the task, from 0.
    pub(crate) task: i64,
    /// Number of this attempt, from 0.
    pub(crate) number: i64,
    pub(crate) task_count: i64,
    pub(crate) timeout: Duration,
    /// The first container of the task that has a command. The emulator does not run the others.
    pub(crate) container: Arc<Container>,
    /// Annotations of the execution.
    pub(crate) annotations: Arc<BTreeMap<String, String>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TaskAttemptEnd {
    Succeeded,
    Failed(AttemptFailure),
    /// The task's timeout was reached.
    TimedOut,
    /// The execution was told to stop.
    Stopped,
}

/// Why an attempt failed. At most one of exit code and signal is set; neither if the platform ended the attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AttemptFailure {
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// The platform's words, as a sentence.
    pub(crate) message: String,
}

impl TaskAttemptEnd {
    /// The end of a container with an exit code other than 0, in Cloud Run's words.
    pub(super) fn exited(code: i32) -> Self {
        Self::failed(code, "The container exited with an error.")
    }

    /// The end of a container with this exit code.
    pub(super) fn failed(code: i32, message: impl Into<String>) -> Self {
        Self::Failed(AttemptFailure { exit_code: Some(code), signal: None, message: message.into() })
    }

    /// The end of a container by a signal.
    pub(super) fn signalled(signal: i32) -> Self {
        let message = format!("The container was terminated by signal {signal}.");
        Self::Failed(AttemptFailure { exit_code: None, signal: Some(signal), message })
    }

    /// The end of a container that used more memory than it may, in Cloud Run's words.
    pub(super) fn out_of_memory() -> Self {
        let message = OUT_OF_MEMORY.to_owned();
        Self::Failed(AttemptFailure { exit_code: None, signal: None, message })
    }

    /// The attempt's result as the API shows it; `None` for an attempt that was stopped. The codes are those of
    /// `google.rpc.Code`. Which of them Cloud Run uses is not documented.
    pub(crate) fn result(&self) -> Option<TaskAttemptResult> {
        let status = |code, message: &str| AttemptStatus {
            code: Some(code),
            message: Some(message.to_owned()),
            ..AttemptStatus::default()
        };
        Some(match self {
            Self::Stopped => return None,
            Self::Succeeded => TaskAttemptResult::default(),
            Self::TimedOut => TaskAttemptResult { status: status(4, TIMED_OUT), ..TaskAttemptResult::default() },
            Self::Failed(failure) => TaskAttemptResult {
                status: status(if failure.message == OUT_OF_MEMORY { 8 } else { 10 }, &failure.message),
                exit_code: failure.exit_code.map(i64::from),
                term_signal: failure.signal.map(i64::from),
                ..TaskAttemptResult::default()
            },
        })
    }
}

impl AttemptFailure {
    /// The exit code as a shell reports it; `None` if the platform ended the attempt.
    pub(crate) fn shell_code(&self) -> Option<i32> {
        self.exit_code.or(self.signal.map(|signal| 128 + signal))
    }
}

/// Waits for a request to stop that is at least this urgent.
pub(super) async fn wait_for_stop(stop: &mut watch::Receiver<StopRequest>, at_least: StopRequest) {
    if stop.wait_for(|request| *request >= at_least).await.is_err() {
        // The sender is gone, so no request will come.
        std::future::pending::<()>().await;
    }
}
