//! A last check before a call that can't be undone.

use std::{future::ready, pin::Pin, time::Duration};

use super::error::ApiResult;

/// A job that was read at most this long ago may be run or deleted without another read.
pub const FRESH_READ_MAX_AGE: Duration = Duration::from_secs(1);

/// Decides whether a write may be sent once its quota admits it, and hears of its attempts. `()` lets every call pass.
pub trait Guard: Send + Sync {
    /// How long ago the caller has read the job.
    fn read_age(&self) -> Duration {
        Duration::ZERO
    }

    /// Called before each attempt, with true, and after each one that failed: whether the call may have taken effect.
    fn attempted(&self, _maybe_done: bool) {}

    /// Waits until the call may be sent.
    fn wait_until_open(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ready(()))
    }

    /// Whether the job is still the one that the caller has read.
    ///
    /// Asked only when the caller's read is older than [`FRESH_READ_MAX_AGE`], because the call waited for its quota, for
    /// the guard or between attempts. With `false` the call fails with [`ErrorKind::NotFound`](super::ErrorKind::NotFound).
    /// With an error that may pass, the call waits for its quota again, and then this is asked again.
    fn still_valid(&self) -> Pin<Box<dyn Future<Output = ApiResult<bool>> + Send + '_>> {
        Box::pin(ready(Ok(true)))
    }

    /// Called when the call has waited for its quota or for this guard's check, with the length of that wait.
    fn waited(&self, _wait: Duration) {}
}

impl Guard for () {}
