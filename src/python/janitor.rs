//! The end of the process's deletions, and their log lines.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::get_runtime;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use super::{
    runtime::{awaitable, enter},
    settings::seconds,
};
use crate::lifecycle::{
    driver::ProcessState,
    progress::{Progress, ProgressSink},
};

/// How long the interpreter's exit waits for deletions, in addition to what was waited before.
const EXIT_WAIT: Duration = Duration::from_secs(8);
/// How long a line waits for Python to take the last message of its run.
const LAST_MESSAGE_WAIT: Duration = Duration::from_millis(500);
/// How long a drain waits for log lines to be written.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// The state that the runs of this process share.
pub(super) static PROCESS: LazyLock<ProcessState> = LazyLock::new(ProcessState::default);

/// Time spent on drains so far.
static DRAINED: Mutex<Duration> = Mutex::new(Duration::ZERO);

/// The log lines that are being written.
static LINES: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Calls a Python callable `(level, message)` for each line, on another thread, once Python has the last one of the run's
/// messages. The lines of one deletion are far enough apart to keep their order.
pub(super) fn log_sink<T: Send + 'static>(log: Py<PyAny>, messages: mpsc::UnboundedSender<T>) -> ProgressSink {
    let log = Arc::new(log);
    Arc::new(move |progress: Progress| {
        let (line, messages) = (Line::new(log.clone()), messages.clone());
        get_runtime().spawn(async move {
            // A caller that does not read them must not hold back what became of the job.
            _ = timeout(LAST_MESSAGE_WAIT, messages.closed()).await;
            enter(move |py| {
                if let Err(error) = line.log.call1(py, (progress.level() as i32, progress.to_string())) {
                    // A logger that fails must not end the deletion.
                    error.write_unraisable(py, None);
                }
            });
        });
    })
}

/// A line that is being written. Counted for as long as this value lives.
struct Line {
    log: Arc<Py<PyAny>>,
}

impl Line {
    fn new(log: Arc<Py<PyAny>>) -> Self {
        LINES.send_modify(|lines| *lines += 1);
        Self { log }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        LINES.send_modify(|lines| *lines = lines.saturating_sub(1));
    }
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn drain_deletions<'py>(
    py: Python<'py>,
    #[pyo3(from_py_with = seconds)] seconds: Duration,
    abandon: bool,
) -> PyResult<Bound<'py, PyAny>> {
    awaitable(py, drain(seconds, abandon))
}

/// Registers the exit hook.
pub(super) fn init(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(drain_at_exit, py)?,))?;
    Ok(())
}

/// Waits for the deletions that are left when the interpreter exits. Releases the GIL meanwhile.
#[pyfunction]
fn drain_at_exit(py: Python<'_>) {
    let left = EXIT_WAIT.saturating_sub(*DRAINED.lock().unwrap_or_else(PoisonError::into_inner));
    if !PROCESS.janitor.is_empty() {
        py.detach(|| get_runtime().block_on(drain(left, true)));
    }
}

async fn drain(limit: Duration, abandon: bool) {
    let began = Instant::now();
    if !abandon {
        return PROCESS.janitor.hurry(limit).await;
    }
    PROCESS.janitor.drain(limit).await;
    let mut lines = LINES.subscribe();
    // Fails only at the time-out: the sender is static.
    _ = timeout(LOG_WAIT, lines.wait_for(|lines| *lines == 0)).await;
    *DRAINED.lock().unwrap_or_else(PoisonError::into_inner) += began.elapsed();
}
