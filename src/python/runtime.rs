//! Rust futures as Python's, on a runtime that keeps out of Python once the interpreter ends.
//!
//! Results come to the event loop from threads of the runtime. One of those that still holds the interpreter when it
//! finalizes brings the process down, so an exit hook waits for those within and lets no more in.

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

/// Held for reading by each thread that is about to enter Python or within it; true once none may.
static CLOSED: RwLock<bool> = RwLock::new(false);

/// Makes the runtime: its threads are few and fixed, however many runs there are. Two drive them; the others hand
/// results to Python, look up host names and read files.
pub(super) fn init(py: Python<'_>) -> PyResult<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().worker_threads(2).max_blocking_threads(6).thread_name("cloud-run");
    pyo3_async_runtimes::tokio::init(builder);
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close, py)?,))?;
    Ok(())
}

/// Waits for the threads within Python, without the GIL that they need, and keeps all others out.
#[pyfunction]
fn close(py: Python<'_>) {
    py.detach(|| *CLOSED.write().unwrap_or_else(PoisonError::into_inner) = true);
}

/// An awaitable for the current event loop. `future` runs without the GIL; what it returns becomes a Python object, or an
/// exception, when the loop is told.
pub(super) fn awaitable<'py, T>(
    py: Python<'py>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'any> IntoPyObject<'any> + Send + 'static,
{
    generic::future_into_py::<Guarded, _, T>(py, async { Ok(future.await) })
}

/// The tokio runtime, behind the guard.
struct Guarded;

impl Runtime for Guarded {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F>(future: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        get_runtime().spawn(future)
    }

    /// Python is entered here and nowhere else.
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

/// Does something short in Python, soon, on a thread that may wait for the GIL; nothing once the interpreter ends.
pub(super) fn enter(work: impl FnOnce(Python<'_>) + Send + 'static) {
    drop(Guarded::spawn_blocking(|| Python::attach(work)));
}

/// Every call comes from a task of the event loop itself, which tells what there is to know.
impl ContextExt for Guarded {
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
