//! What a run's caller hears from it, and what it can tell the run.

use std::{future::pending, pin::Pin, sync::Arc};

use tokio::sync::watch;

use super::{machine::protocol::GiveUpReason, progress::ProgressSink};

/// Asks the caller whether a run is still to be started. The future ends if it is. If it is not, the caller gives the run
/// up, which drops the future.
pub type ConfirmStart = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The caller's end of a run.
#[derive(Clone)]
pub struct RunControl {
    /// Gets the progress of the run, up to its end.
    pub sink: ProgressSink,
    /// Gets the progress of the job's deletion, which goes on after the end of the run.
    pub deletion_sink: ProgressSink,
    /// Asked before each start. `None`: every start is confirmed.
    pub confirm_start: Option<ConfirmStart>,
    /// Set when the caller no longer wants the run.
    pub give_up: watch::Receiver<Option<GiveUpReason>>,
}

impl RunControl {
    /// For a caller that only listens.
    pub fn new(sink: ProgressSink) -> Self {
        let (_, give_up) = watch::channel(None);
        Self { deletion_sink: sink.clone(), sink, confirm_start: None, give_up }
    }

    /// Waits until the caller gives the run up for a reason that `counts`.
    pub(super) async fn given_up(&mut self, counts: impl Fn(GiveUpReason) -> bool) -> GiveUpReason {
        match self.give_up.wait_for(|reason| reason.is_some_and(&counts)).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // A caller that is gone can't give up.
            _ => pending().await,
        }
    }

    /// Waits until the caller confirms the start.
    pub(super) async fn confirm_start(&self) {
        if let Some(confirm) = &self.confirm_start {
            confirm().await;
        }
    }
}
