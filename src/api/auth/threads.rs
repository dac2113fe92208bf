//! A separate runtime of few threads for work that reads files, calls gcloud or resolves host names on the way to a
//! token. Such work may block without end; on these threads it delays nothing but other tokens.

use std::sync::LazyLock;

use tokio::{runtime, task::JoinHandle};

static RUNTIME: LazyLock<Option<runtime::Runtime>> = LazyLock::new(|| {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(4).thread_name("cloud-run-tokens").enable_all().build().ok()
});

/// Runs a future on the runtime. Returns `None` when it panics or no thread can be started. Dropping the returned future
/// aborts the work.
pub(super) async fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    struct AbortOnDrop<T>(JoinHandle<T>);
    impl<T> Drop for AbortOnDrop<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = AbortOnDrop(RUNTIME.as_ref()?.spawn(future));
    (&mut task.0).await.ok()
}

/// Runs a function that blocks its thread. Returns `None` when it panics or no thread can be started. Dropping the
/// returned future does not stop it.
pub(super) async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    RUNTIME.as_ref()?.spawn_blocking(work).await.ok()
}
