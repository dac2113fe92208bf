//! The emulator for Python, with a blocking interface.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
};
use pyo3_async_runtimes::tokio::get_runtime;
use serde::Serialize;

use crate::{
    api::Secret,
    emulator::{Emulator, EmulatorConfig, EmulatorError, ExecutorConfig, Faults, SimulatedOutcome},
};

/// A running emulator. `_core.pyi` has its types and documentation.
#[pyclass(frozen, module = "prefect_gcp_cloud_run._core")]
pub(super) struct EmulatorServer {
    emulator: Emulator,
}

#[pymethods]
impl EmulatorServer {
    #[new]
    #[pyo3(signature = (*, address, path, projects, secrets, ready_after, start_after, delete_after, kill_grace, log_dir,
                        simulated, page_size, faults, record_calls))]
    #[allow(
        clippy::too_many_arguments,
        reason = "they are keyword arguments, and prefect_gcp.emulator is the only caller"
    )]
    fn new(
        py: Python<'_>,
        address: &str,
        path: String,
        projects: Vec<String>,
        secrets: BTreeMap<String, String>,
        ready_after: f64,
        start_after: f64,
        delete_after: f64,
        kill_grace: f64,
        log_dir: Option<PathBuf>,
        simulated: Option<(f64, String)>,
        page_size: usize,
        faults: &str,
        record_calls: bool,
    ) -> PyResult<Self> {
        let executor = match simulated {
            None => ExecutorConfig::Process,
            Some((duration, outcome)) => ExecutorConfig::Simulated {
                duration: seconds("duration", duration)?,
                outcome: outcome.parse::<SimulatedOutcome>().map_err(PyValueError::new_err)?,
            },
        };
        let config = EmulatorConfig {
            address: address
                .parse::<SocketAddr>()
                .map_err(|_| PyValueError::new_err(format!("The address must be IP:PORT, got '{address}'")))?,
            projects,
            ready_after: seconds("ready_after", ready_after)?,
            start_after: seconds("start_after", start_after)?,
            delete_after: seconds("delete_after", delete_after)?,
            executor,
            kill_grace: seconds("kill_grace", kill_grace)?,
            log_dir,
            path,
            secrets: secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            page_size,
            faults: read_faults(faults)?,
            record_calls,
        };
        let emulator = py.detach(|| get_runtime().block_on(Emulator::start(config))).map_err(to_os_error)?;
        Ok(Self { emulator })
    }

    #[getter]
    fn address(&self) -> String {
        self.emulator.address().to_string()
    }

    #[getter]
    fn log_dir(&self) -> PathBuf {
        self.emulator.log_dir().to_owned()
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| get_runtime().block_on(self.emulator.stop()));
    }

    fn set_faults(&self, py: Python<'_>, faults: &str) -> PyResult<()> {
        let faults = read_faults(faults)?;
        py.detach(|| {
            let _runtime = get_runtime().enter();
            self.emulator.set_faults(faults);
        });
        Ok(())
    }

    fn faults_met(&self) -> BTreeMap<String, u64> {
        self.emulator.faults_met()
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.emulator.counts()
    }

    fn jobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, || self.emulator.jobs())
    }

    fn executions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, || self.emulator.executions())
    }

    fn history<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, || self.emulator.history())
    }

    fn calls<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, || self.emulator.calls())
    }
}

/// Converts the result of `read` to Python objects. Releases the GIL while `read` waits for locks and copies.
fn to_python<T: Serialize + Send>(py: Python<'_>, read: impl FnOnce() -> T + Send) -> PyResult<Bound<'_, PyAny>> {
    let value = py.detach(read);
    Ok(pythonize::pythonize(py, &value)?)
}

fn read_faults(json: &str) -> PyResult<Faults> {
    Faults::from_json(json.as_bytes()).map_err(|problem| PyValueError::new_err(format!("faults: {problem}")))
}

/// Converts a setting in seconds.
fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} must be a number of seconds of at least 0, got {value}")))
}

/// Sets the system's `errno` if there is one, so that callers can recognise an address in use.
fn to_os_error(error: EmulatorError) -> PyErr {
    let (EmulatorError::Bind { source, .. } | EmulatorError::LogDir { source, .. } | EmulatorError::Guardian(source)) =
        &error;
    match source.raw_os_error() {
        Some(code) => PyOSError::new_err((code, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}
