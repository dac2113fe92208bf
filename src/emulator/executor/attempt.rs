//! An attempt of a task, and how it ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{api::types::Container, emulator::store::StopRequest};

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
    /// The first container of the task. The emulator does not run the others.
    pub(crate) container: Arc<Container>,
    /// Annotations of the execution.
    pub(crate) annotations: Arc<BTreeMap<String, String>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TaskAttemptEnd {
    Succeeded,
    /// With an exit code as a shell reports it, and a message.
    Failed(i32, String),
    /// The task's timeout was reached.
    TimedOut,
    /// The execution was told to stop.
    Stopped,
}

impl TaskAttemptEnd {
    /// The end of a container with an exit code other than 0, in Cloud Run's words.
    pub(super) fn exited(code: i32) -> Self {
        Self::Failed(code, "The container exited with an error.".to_owned())
    }
}

/// Waits for a request to stop that is at least this urgent.
pub(super) async fn wait_for_stop(stop: &mut watch::Receiver<StopRequest>, at_least: StopRequest) {
    if stop.wait_for(|request| *request >= at_least).await.is_err() {
        // The sender is gone, so no request will come.
        std::future::pending::<()>().await;
    }
}
