//! Makes Rust futures awaitable in Python, on a runtime that does not enter Python after the interpreter has exited.
//!
//! Threads of the runtime hand results to the event loop. A thread that holds the GIL while the interpreter finalizes
//! crashes the process. So an exit hook waits for the threads inside Python and keeps all others out.

use std::{
    pin::Pin,
    sync::{PoisonError, RwLock},
};

use pyo3::{IntoPyObject, prelude::*};
use pyo3_async_runtimes::{
    TaskLocals,
    generic::{self, ContextExt, Runtime},
    tokio::get_runtime,
};
use tokio::task::{JoinError, JoinHandle};

/// Read-locked by each thread that is inside Python or about to enter it. True once no thread may enter.
static CLOSED: RwLock<bool> = RwLock::new(false);

/// Creates the runtime. It has few threads, however many runs there are: two drive the runs, and up to six hand results to
/// Python, resolve host names and read files.
pub(super) fn init(py: Python<'_>) -> PyResult<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().worker_threads(2).max_blocking_threads(6).thread_name("cloud-run");
    pyo3_async_runtimes::tokio::init(builder);
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close, py)?,))?;
    Ok(())
}

/// Waits for the threads inside Python and keeps all others out. Releases the GIL meanwhile, because they need it.
#[pyfunction]
fn close(py: Python<'_>) {
    py.detach(|| *CLOSED.write().unwrap_or_else(PoisonError::into_inner) = true);
}

/// An awaitable for the current event loop. `future` runs without the GIL. Its result is converted to a Python object or an
/// exception when it is handed to the event loop.
pub(super) fn awaitable<'py, T>(
    py: Python<'py>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'any> IntoPyObject<'any> + Send + 'static,
{
    generic::future_into_py::<GuardedRuntime, _, T>(py, async { Ok(future.await) })
}

/// The tokio runtime, with guarded access to Python.
struct GuardedRuntime;

impl Runtime for GuardedRuntime {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F>(future: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        get_runtime().spawn(future)
    }

    /// The only place where threads of the runtime enter Python.
    fn spawn_blocking<F>(enter: F) -> Self::JoinHandle
    where
        F: FnOnce() + Send + 'static,
    {
        get_runtime().spawn_blocking(|| {
            let is_closed = CLOSED.read().unwrap_or_else(PoisonError::into_inner);
            if !*is_closed {
                enter();
            }
        })
    }
}

/// Runs something short in Python, on a thread that may wait for the GIL. Does nothing after the interpreter has exited.
pub(super) fn enter(work: impl FnOnce(Python<'_>) + Send + 'static) {
    drop(GuardedRuntime::spawn_blocking(|| Python::attach(work)));
}

/// Every call comes from a task of the event loop, so no task locals have to be kept.
impl ContextExt for GuardedRuntime {
    fn scope<F, R>(_locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}
