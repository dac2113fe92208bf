//! A run or a kill in progress, as an asynchronous iterator of its events.
//!
//! Python can speak to a run: it confirms each start, and gives the run up.

use std::sync::{Arc, OnceLock};

use pyo3::{
    exceptions::{PyStopAsyncIteration, PyValueError},
    prelude::*,
};
use pyo3_async_runtimes::tokio::get_runtime;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::AbortHandle,
};

use super::{
    diagnosis::PyDiagnosis,
    exceptions::{self, JobLocation},
    janitor::log_sink,
    runtime::awaitable,
};
use crate::lifecycle::{
    control::{ConfirmStart, RunControl},
    machine::protocol::{GiveUpReason, Outcome, RunError},
    progress::{Ending, ExecutionFacts, Level, Progress, ProgressSink, unix_seconds},
};

/// See `_core.pyi`.
#[pyclass(frozen, get_all, module = "prefect_gcp_cloud_run._core")]
pub(super) struct RunEvent {
    kind: &'static str,
    level: i32,
    message: String,
    job_uid: Option<String>,
    execution: Option<PyExecutionFacts>,
    diagnosis: Option<PyDiagnosis>,
}

/// See `_core.pyi`.
#[pyclass(frozen, get_all, name = "ExecutionFacts", module = "prefect_gcp_cloud_run._core", skip_from_py_object)]
#[derive(Clone)]
pub(super) struct PyExecutionFacts {
    name: String,
    uid: Option<String>,
    started_at: Option<f64>,
    completed_at: Option<f64>,
    outcome: Option<&'static str>,
}

impl From<&ExecutionFacts> for PyExecutionFacts {
    fn from(facts: &ExecutionFacts) -> Self {
        Self {
            name: facts.name.clone(),
            uid: facts.uid.clone(),
            started_at: facts.start_time.as_deref().and_then(unix_seconds),
            completed_at: facts.completion_time.as_deref().and_then(unix_seconds),
            outcome: facts.ending.map(Ending::name),
        }
    }
}

#[pymethods]
impl RunEvent {
    fn __repr__(&self) -> String {
        format!("RunEvent(kind='{}', level={}, message={:?})", self.kind, self.level, self.message)
    }
}

impl From<Progress> for RunEvent {
    fn from(progress: Progress) -> Self {
        let (kind, level, message) = (progress.kind(), progress.level() as i32, progress.to_string());
        let job_uid = match &progress {
            Progress::Created { uid, .. } => uid.clone(),
            _ => None,
        };
        let execution = progress.execution().map(PyExecutionFacts::from);
        let diagnosis = match progress {
            Progress::Diagnosed { diagnosis } => Some(PyDiagnosis(*diagnosis)),
            _ => None,
        };
        Self { kind, level, message, job_uid, execution, diagnosis }
    }
}

enum RunMessage {
    Progress(Progress),
    /// The run asks whether it is to start its job.
    ConfirmStart,
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
            Some(RunMessage::ConfirmStart) => Bound::new(
                py,
                RunEvent {
                    kind: "confirm_start",
                    level: Level::Debug as i32,
                    message: "The job is ready; asking whether the flow run is still to be started".to_owned(),
                    job_uid: None,
                    execution: None,
                    diagnosis: None,
                },
            ),
            Some(RunMessage::End(Err(error))) => Err(exceptions::from_run(py, &error, location)),
            _ if self.has_ended => Err(PyStopAsyncIteration::new_err(())),
            _ => Err(exceptions::internal(py, location, "The run was closed before its end")),
        }
    }
}

type Messages = mpsc::UnboundedSender<Box<RunMessage>>;

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp_cloud_run._core")]
pub(super) struct Run {
    // Boxed, because a channel allocates space for 32 messages at its creation.
    messages: Arc<Mutex<mpsc::UnboundedReceiver<Box<RunMessage>>>>,
    outcome: Arc<OnceLock<Outcome>>,
    location: Arc<JobLocation>,
    task: AbortHandle,
    orders: Orders,
}

/// What Python tells a run.
#[derive(Clone, Default)]
struct Orders {
    /// How many starts were confirmed.
    confirmed: watch::Sender<u64>,
    give_up: watch::Sender<Option<GiveUpReason>>,
}

impl Run {
    /// Starts a run on the runtime's threads. It needs neither the GIL nor a thread of its own. `run` gets its control.
    /// `log` is a Python callable `(level, message)` for the job's deletion.
    pub(super) fn start<F>(location: JobLocation, log: Py<PyAny>, run: impl FnOnce(RunControl) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, RunError>> + Send + 'static,
    {
        Self::spawn(location, |orders, messages| {
            let confirm: ConfirmStart = {
                let (confirmed, sender) = (orders.confirmed.clone(), messages.clone());
                Arc::new(move || {
                    let mut confirmed = confirmed.subscribe();
                    // Fails once Python has dropped the run, which aborts it.
                    _ = sender.send(Box::new(RunMessage::ConfirmStart));
                    // The closure keeps the sender, so there is no error.
                    Box::pin(async move { _ = confirmed.changed().await })
                })
            };
            run(RunControl {
                sink: sink_of(messages),
                deletion_sink: log_sink(log, messages.clone()),
                confirm_start: Some(confirm),
                give_up: orders.give_up.subscribe(),
            })
        })
    }

    /// The same for a kill, which gets a sink for its progress.
    pub(super) fn start_kill<F>(location: JobLocation, kill: impl FnOnce(ProgressSink) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, RunError>> + Send + 'static,
    {
        Self::spawn(location, |_, messages| kill(sink_of(messages)))
    }

    fn spawn<F>(location: JobLocation, work: impl FnOnce(&Orders, &Messages) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, RunError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let orders = Orders::default();
        let work = work(&orders, &sender);
        let task = get_runtime().spawn(async move {
            let result = work.await;
            _ = sender.send(Box::new(RunMessage::End(result)));
        });
        Self {
            messages: Arc::new(Mutex::new(receiver)),
            outcome: Arc::default(),
            location: Arc::new(location),
            task: task.abort_handle(),
            orders,
        }
    }
}

/// Sends progress to Python's iteration.
fn sink_of(messages: &Messages) -> ProgressSink {
    let sender = messages.clone();
    // Fails once Python has dropped the run.
    Arc::new(move |progress| _ = sender.send(Box::new(RunMessage::Progress(progress))))
}

#[pymethods]
impl Run {
    #[getter]
    fn status_code(&self) -> Option<i32> {
        self.outcome.get().and_then(code_of)
    }

    #[getter]
    fn outcome(&self) -> Option<&'static str> {
        self.outcome.get().map(name_of)
    }

    fn confirm_start(&self) {
        self.orders.confirmed.send_modify(|count| *count += 1);
    }

    fn give_up(&self, reason: &str) -> PyResult<()> {
        let reason = match reason {
            "cancelled" => GiveUpReason::FlowRunCancelled,
            "ended" => GiveUpReason::FlowRunEnded,
            "deleted" => GiveUpReason::FlowRunDeleted,
            "stopping" => GiveUpReason::WorkerStopping,
            _ => return Err(PyValueError::new_err(format!("{reason:?} is no reason to give a run up"))),
        };
        self.orders.give_up.send_if_modified(|current| {
            // A worker that stops lets go of more than any other reason does.
            let changes = *current != Some(GiveUpReason::WorkerStopping);
            if changes {
                *current = Some(reason);
            }
            changes
        });
        Ok(())
    }

    /// Stops watching. Dropping the run does the same.
    fn close(&self) {
        self.task.abort();
        // An iteration that holds the lock ends, because the task's senders are dropped.
        if let Ok(mut messages) = self.messages.try_lock() {
            messages.close();
        }
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (messages, outcome, location) = (self.messages.clone(), self.outcome.clone(), self.location.clone());
        awaitable(py, async move {
            let mut messages = messages.lock().await;
            let message = messages.recv().await;
            if let Some(RunMessage::End(end)) = message.as_deref() {
                _ = end.as_ref().map(|end| outcome.set(end.clone()));
                messages.close();
            }
            NextEvent { message, has_ended: outcome.get().is_some(), location }
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
fn code_of(outcome: &Outcome) -> Option<i32> {
    match outcome {
        Outcome::Succeeded => Some(0),
        Outcome::Failed(_) => Some(1),
        Outcome::Removed | Outcome::NotStarted => Some(-1),
        Outcome::LeftRunning => None,
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Removed => "removed",
        Outcome::NotStarted => "not_started",
        Outcome::LeftRunning => "left_running",
    }
}
