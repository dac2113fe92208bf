//! What a look at the account's access has found, for Python. See `_core.pyi`.

use pyo3::prelude::*;

use super::exceptions;
use crate::api::Access;

/// See `_core.pyi`.
#[pyclass(frozen, name = "Access", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyAccess(pub(super) Access);

#[pymethods]
impl PyAccess {
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let error = self.0.error.as_ref()?;
        Some(exceptions::from_api(py, error, "").into_value(py).into_bound(py).into_any())
    }

    #[getter]
    fn permissions(&self) -> Vec<(&'static str, &'static str, &'static str, Option<bool>)> {
        self.0.permissions.iter().map(|(needed, has)| (needed.name, needed.purpose, needed.role, *has)).collect()
    }

    #[getter]
    fn not_asked(&self) -> Option<&str> {
        self.0.not_asked.as_ref().map(|not_asked| not_asked.why.as_str())
    }

    #[getter]
    fn is_project_api_disabled(&self) -> bool {
        self.0.not_asked.as_ref().is_some_and(|not_asked| not_asked.is_api_disabled)
    }

    fn __repr__(&self) -> String {
        let granted = self.0.permissions.iter().filter(|(_, has)| *has == Some(true)).count();
        format!("Access(granted={granted}, needed={})", self.0.permissions.len())
    }
}
