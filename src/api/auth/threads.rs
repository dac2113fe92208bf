//! A runtime of few threads for all that reads files, calls gcloud and looks host names up on the way to a token. It may
//! wait for each without end: here that holds up nothing but other tokens.

use std::sync::LazyLock;

use tokio::{runtime, task::JoinHandle};

static RUNTIME: LazyLock<Option<runtime::Runtime>> = LazyLock::new(|| {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(4).thread_name("cloud-run-tokens").enable_all().build().ok()
});

/// Does it there; none when it panics, or when there are no threads. It ends when the caller gives up.
pub(super) async fn elsewhere<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    struct Task<T>(JoinHandle<T>);
    impl<T> Drop for Task<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = Task(RUNTIME.as_ref()?.spawn(future));
    (&mut task.0).await.ok()
}

/// The same for what blocks its thread.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    RUNTIME.as_ref()?.spawn_blocking(work).await.ok()
}
