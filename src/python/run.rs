//! A run or a kill in progress, as an asynchronous iterator of its events.

use std::sync::{Arc, OnceLock};

use pyo3::{exceptions::PyStopAsyncIteration, prelude::*};
use pyo3_async_runtimes::tokio::get_runtime;
use tokio::{
    sync::{Mutex, mpsc},
    task::AbortHandle,
};

use super::{
    exceptions::{self, Place},
    runtime::awaitable,
};
use crate::lifecycle::{
    driver::Observer,
    progress::Progress,
    step::{Outcome, RunError},
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

enum Message {
    Progress(Progress),
    End(Result<Outcome, RunError>),
}

/// What the iteration gives: an event, its end, or the exception that the run ended with.
struct Next {
    message: Option<Box<Message>>,
    has_ended: bool,
    place: Arc<Place>,
}

impl<'py> IntoPyObject<'py> for Next {
    type Target = RunEvent;
    type Output = Bound<'py, RunEvent>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let place = &*self.place;
        match self.message.map(|message| *message) {
            Some(Message::Progress(progress)) => Bound::new(py, RunEvent::from(progress)),
            Some(Message::End(Err(error))) => Err(exceptions::from_run(py, &error, place)),
            _ if self.has_ended => Err(PyStopAsyncIteration::new_err(())),
            _ => Err(exceptions::internal(py, place, "the run was closed before its end")),
        }
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp._core")]
pub(super) struct Run {
    // Boxed, because a channel has room for 32 of them from the start.
    messages: Arc<Mutex<mpsc::UnboundedReceiver<Box<Message>>>>,
    status_code: Arc<OnceLock<i32>>,
    place: Arc<Place>,
    task: AbortHandle,
}

impl Run {
    /// Starts it on the runtime's threads; it needs neither the GIL nor a thread of its own. `run` makes it, given whom to
    /// tell of its progress.
    pub(super) fn start<F>(place: Place, run: impl FnOnce(Observer) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, RunError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let observer = {
            let sender = sender.clone();
            // Nobody listens any more once Python has let go of the run.
            Arc::new(move |progress| _ = sender.send(Box::new(Message::Progress(progress))))
        };
        let run = run(observer);
        let task = get_runtime().spawn(async move {
            let result = run.await;
            _ = sender.send(Box::new(Message::End(result)));
        });
        Self {
            messages: Arc::new(Mutex::new(receiver)),
            status_code: Arc::default(),
            place: Arc::new(place),
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

    /// Stops watching, as does dropping the run.
    fn close(&self) {
        self.task.abort();
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (messages, status_code, place) = (self.messages.clone(), self.status_code.clone(), self.place.clone());
        awaitable(py, async move {
            let message = messages.lock().await.recv().await;
            if let Some(Message::End(Ok(outcome))) = message.as_deref() {
                _ = status_code.set(code_of(outcome));
            }
            Next { message, has_ended: status_code.get().is_some(), place }
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

/// The result codes that alerts and automations know.
fn code_of(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed(_) => 1,
        Outcome::Removed => -1,
    }
}
