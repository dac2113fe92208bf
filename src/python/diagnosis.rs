//! Diagnoses, for Python.

use pyo3::{exceptions::PyValueError, prelude::*};

use crate::diagnosis::{Diagnosis as Cause, Severity, TABLE};

/// See `_core.pyi`.
#[pyclass(frozen, eq, from_py_object, module = "prefect_gcp_cloud_run._core", name = "Diagnosis")]
#[derive(Clone, PartialEq)]
pub(super) struct PyDiagnosis(pub(super) Cause);

#[pymethods]
impl PyDiagnosis {
    #[new]
    #[pyo3(signature = (category, level, summary, detail, resolution, exit_code=None, signal=None))]
    fn new(
        category: &str,
        level: &str,
        summary: String,
        detail: String,
        resolution: String,
        exit_code: Option<i64>,
        signal: Option<i64>,
    ) -> PyResult<Self> {
        let row = TABLE.iter().find(|row| row.category.to_string() == category);
        let row = row.ok_or_else(|| PyValueError::new_err(format!("{category:?} is no category")))?;
        let severity = [Severity::Error, Severity::Warning].into_iter().find(|severity| severity.name() == level);
        let severity = severity.ok_or_else(|| PyValueError::new_err(format!("{level:?} is no level")))?;
        Ok(Self(Cause { category: row.category, severity, summary, detail, resolution, exit_code, signal }))
    }

    #[getter]
    fn category(&self) -> String {
        self.0.category.to_string()
    }

    #[getter]
    fn level(&self) -> &'static str {
        self.0.severity.name()
    }

    #[getter]
    fn summary(&self) -> &str {
        &self.0.summary
    }

    #[getter]
    fn detail(&self) -> &str {
        &self.0.detail
    }

    #[getter]
    fn resolution(&self) -> &str {
        &self.0.resolution
    }

    #[getter]
    fn exit_code(&self) -> Option<i64> {
        self.0.exit_code
    }

    #[getter]
    fn signal(&self) -> Option<i64> {
        self.0.signal
    }

    #[getter]
    fn message(&self) -> String {
        self.0.to_string()
    }

    /// So that it can be pickled and copied.
    #[allow(clippy::type_complexity, reason = "the arguments of `new`")]
    fn __getnewargs__(&self) -> (String, &'static str, &str, &str, &str, Option<i64>, Option<i64>) {
        let cause = &self.0;
        (self.category(), self.level(), &cause.summary, &cause.detail, &cause.resolution, cause.exit_code, cause.signal)
    }

    fn __repr__(&self) -> String {
        format!("Diagnosis({:?})", self.message())
    }
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn diagnose_start(words: &str) -> PyDiagnosis {
    PyDiagnosis(Cause::of_start(words))
}
