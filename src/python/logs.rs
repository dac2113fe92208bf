//! Lines of an execution's log, for Python.

use pyo3::{prelude::*, types::PyList};

use super::exceptions::{self, JobLocation};
use crate::api::{LogError, LogLine};

/// See `_core.pyi`.
#[pyclass(frozen, get_all, name = "LogLine", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyLogLine {
    time: Option<f64>,
    severity: String,
    text: String,
    container: Option<String>,
    is_system: bool,
}

impl From<LogLine> for PyLogLine {
    fn from(line: LogLine) -> Self {
        let LogLine { time, severity, text, container, is_system } = line;
        Self { time, severity, text, container, is_system }
    }
}

/// What a read of a log gives: a list of its lines, or an exception.
pub(super) struct LogLines {
    pub(super) lines: Result<Vec<LogLine>, LogError>,
    pub(super) location: JobLocation,
}

impl<'py> IntoPyObject<'py> for LogLines {
    type Target = PyList;
    type Output = Bound<'py, PyList>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let lines = self.lines.map_err(|error| exceptions::from_log(py, &error, &self.location))?;
        let list = PyList::empty(py);
        for line in lines {
            list.append(Bound::new(py, PyLogLine::from(line))?)?;
        }
        Ok(list)
    }
}
