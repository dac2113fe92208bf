//! Decisions about marked jobs, for Python. See `_core.pyi`.

use pyo3::{exceptions::PyValueError, prelude::*};

use super::observer::PyMarkedJob;
use crate::lifecycle::observer::decision;

fn finite(what: &str, value: f64) -> PyResult<f64> {
    if value.is_finite() { Ok(value) } else { Err(PyValueError::new_err(format!("{what} is not a finite number"))) }
}

fn duration(what: &str, value: f64) -> PyResult<f64> {
    match finite(what, value)? {
        value if value >= 0.0 => Ok(value),
        _ => Err(PyValueError::new_err(format!("{what} is negative"))),
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, name = "FlowRunFacts", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyFlowRunFacts(decision::FlowRunFacts);

#[pymethods]
impl PyFlowRunFacts {
    #[new]
    #[pyo3(signature = (*, state_type, state_timestamp, infrastructure_pid))]
    fn new(state_type: &str, state_timestamp: f64, infrastructure_pid: Option<String>) -> PyResult<Self> {
        let state_timestamp = finite("state_timestamp", state_timestamp)?;
        let state = decision::StateType::parse(state_type);
        Ok(Self(decision::FlowRunFacts { state, state_timestamp, infrastructure_pid }))
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, name = "Circumstances", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyCircumstances(decision::Circumstances);

#[pymethods]
impl PyCircumstances {
    #[new]
    #[pyo3(signature = (
        *, now, is_watched=false, creator_is_gone=false, other_live_job=false, younger_live_job=false, is_complete=true,
        times_not_found=0, tries_left=true, stop_deleted=false, cancelled_grace=60.0, settle=120.0, silent_settle=60.0
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools, reason = "keyword arguments in Python")]
    fn new(
        now: f64,
        is_watched: bool,
        creator_is_gone: bool,
        other_live_job: bool,
        younger_live_job: bool,
        is_complete: bool,
        times_not_found: u32,
        tries_left: bool,
        stop_deleted: bool,
        cancelled_grace: f64,
        settle: f64,
        silent_settle: f64,
    ) -> PyResult<Self> {
        Ok(Self(decision::Circumstances {
            now: finite("now", now)?,
            is_watched,
            creator_is_gone,
            other_live_job,
            younger_live_job,
            is_complete,
            times_not_found,
            tries_left,
            stop_deleted,
            cancelled_grace: duration("cancelled_grace", cancelled_grace)?,
            settle: duration("settle", settle)?,
            silent_settle: duration("silent_settle", silent_settle)?,
        }))
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, get_all, name = "Decision", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyDecision {
    kind: &'static str,
    reason: &'static str,
}

#[pymethods]
impl PyDecision {
    fn __repr__(&self) -> String {
        format!("Decision(kind='{}', reason={:?})", self.kind, self.reason)
    }
}

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (job, flow_run, circumstances))]
pub(super) fn decide(
    job: &PyMarkedJob,
    flow_run: Option<&PyFlowRunFacts>,
    circumstances: &PyCircumstances,
) -> PyDecision {
    let creator_is_gone = circumstances.0.creator_is_gone || job.is_of_this_process();
    let circumstances = decision::Circumstances { creator_is_gone, ..circumstances.0.clone() };
    let decision::Decision { action, reason } =
        decision::decide(&job.0, flow_run.map(|flow_run| &flow_run.0), &circumstances);
    PyDecision { kind: action.name(), reason }
}
