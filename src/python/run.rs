//! A run or a kill in progress, as an asynchronous iterator of its events.

use std::sync::{Arc, OnceLock};

use pyo3::{exceptions::PyStopAsyncIteration, prelude::*};
use pyo3_async_runtimes::tokio::get_runtime;
use tokio::{
    sync::{Mutex, mpsc},
    task::AbortHandle,
};

use super::{
    exceptions::{self, JobLocation},
    runtime::awaitable,
};
use crate::lifecycle::{
    machine::protocol::{Outcome, RunError},
    progress::{Progress, ProgressSink},
};

/// See `_core.pyi`.
#[pyclass(frozen, get_all, module = "prefect_gcp._core")]
pub(super) struct RunEvent {
    kind: &'static str,
    level: i32,
    message: String,
}

#[pymethods]
impl RunEvent {
    fn __repr__(&self) -> String {
        format!("RunEvent(kind='{}', level={}, message={:?})", self.kind, self.level, self.message)
    }
}

impl From<Progress> for RunEvent {
    fn from(progress: Progress) -> Self {
        Self { kind: progress.kind(), level: progress.level() as i32, message: progress.to_string() }
    }
}

enum RunMessage {
    Progress(Progress),
    End(Result<Outcome, RunError>),
}

/// One step of the iteration: an event, the end, or the exception that the run ended with.
struct NextEvent {
    message: Option<Box<RunMessage>>,
    has_ended: bool,
    location: Arc<JobLocation>,
}

impl<'py> IntoPyObject<'py> for NextEvent {
    type Target = RunEvent;
    type Output = Bound<'py, RunEvent>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let location = &*self.location;
        match self.message.map(|message| *message) {
            Some(RunMessage::Progress(progress)) => Bound::new(py, RunEvent::from(progress)),
            Some(RunMessage::End(Err(error))) => Err(exceptions::from_run(py, &error, location)),
            _ if self.has_ended => Err(PyStopAsyncIteration::new_err(())),
            _ => Err(exceptions::internal(py, location, "The run was closed before its end")),
        }
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp._core")]
pub(super) struct Run {
    // Boxed, because a channel allocates space for 32 messages at its creation.
    messages: Arc<Mutex<mpsc::UnboundedReceiver<Box<RunMessage>>>>,
    status_code: Arc<OnceLock<i32>>,
    location: Arc<JobLocation>,
    task: AbortHandle,
}

impl Run {
    /// Starts a run on the runtime's threads. It needs neither the GIL nor a thread of its own. `run` gets the sink for its
    /// progress.
    pub(super) fn start<F>(location: JobLocation, run: impl FnOnce(ProgressSink) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, RunError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let sink = {
            let sender = sender.clone();
            // Fails once Python has dropped the run.
            Arc::new(move |progress| _ = sender.send(Box::new(RunMessage::Progress(progress))))
        };
        let run = run(sink);
        let task = get_runtime().spawn(async move {
            let result = run.await;
            _ = sender.send(Box::new(RunMessage::End(result)));
        });
        Self {
            messages: Arc::new(Mutex::new(receiver)),
            status_code: Arc::default(),
            location: Arc::new(location),
            task: task.abort_handle(),
        }
    }
}

#[pymethods]
impl Run {
    #[getter]
    fn status_code(&self) -> Option<i32> {
        self.status_code.get().copied()
    }

    /// Stops watching. Dropping the run does the same.
    fn close(&self) {
        self.task.abort();
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (messages, status_code, location) =
            (self.messages.clone(), self.status_code.clone(), self.location.clone());
        awaitable(py, async move {
            let message = messages.lock().await.recv().await;
            if let Some(RunMessage::End(Ok(outcome))) = message.as_deref() {
                _ = status_code.set(code_of(outcome));
            }
            NextEvent { message, has_ended: status_code.get().is_some(), location }
        })
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(&self, _exc_type: &Bound<'_, PyAny>, _exc_value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.close();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The status codes that alerts and automations use.
fn code_of(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed(_) => 1,
        Outcome::Removed => -1,
    }
}
