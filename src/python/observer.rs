//! Marks and marked jobs, for Python. See `_core.pyi`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyList};
use uuid::Uuid;

use super::{
    exceptions::{self, JobLocation},
    janitor::PROCESS,
    run::PyExecutionFacts,
    runtime::awaitable,
};
use crate::{
    api::{ApiResult, Transport},
    job::mark::{self, Mark},
    lifecycle::{
        machine::protocol::{Plan, RunError},
        observer::{
            self,
            delete::{self, Deleted},
            facts,
            reading::LeftOut,
            watch,
        },
        progress::{ExecutionFacts, Level},
    },
};

/// How much later than its own waits allow a run may still start its job: its calls may be repeated, twice over.
const GIVE_UP_MARGIN: Duration = Duration::from_secs(300);

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn process_id() -> String {
    mark::process_id().to_string()
}

fn id(what: &str, text: &str) -> PyResult<Uuid> {
    mark::parse_id(text).ok_or_else(|| PyValueError::new_err(format!("{what} {text:?} is not a UUID in lower case")))
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp_cloud_run._core")]
pub(super) struct JobMark {
    pool: Uuid,
    flow_run: Uuid,
    worker: String,
}

#[pymethods]
impl JobMark {
    #[new]
    #[pyo3(signature = (*, pool_id, flow_run_id, worker))]
    fn new(pool_id: &str, flow_run_id: &str, worker: String) -> PyResult<Self> {
        Ok(Self { pool: id("the pool's id", pool_id)?, flow_run: id("the flow run's id", flow_run_id)?, worker })
    }

    fn __repr__(&self) -> String {
        format!("JobMark(pool_id='{}', flow_run_id='{}', worker={:?})", self.pool, self.flow_run, self.worker)
    }
}

impl JobMark {
    /// The mark of the job that a run with this plan creates now.
    pub(super) fn for_plan(&self, plan: &Plan) -> Mark {
        let at_most = plan.ready_timeout + plan.quota_wait_max + 2 * plan.retry.max_elapsed + GIVE_UP_MARGIN;
        let give_up_at = TimeDelta::from_std(at_most).ok().and_then(|wait| Utc::now().checked_add_signed(wait));
        Mark {
            pool: self.pool,
            flow_run: self.flow_run,
            process: mark::process_id(),
            worker: self.worker.clone(),
            keep: plan.keep_job,
            give_up_at: give_up_at.unwrap_or(LATEST),
        }
    }
}

/// As good as never. The latest time that RFC 3339 can write.
const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(time) => time,
    None => DateTime::UNIX_EPOCH,
};

/// See `_core.pyi`.
#[pyclass(frozen, name = "MarkedJob", module = "prefect_gcp_cloud_run._core")]
pub(super) struct PyMarkedJob(pub(super) Arc<facts::MarkedJob>);

#[pymethods]
impl PyMarkedJob {
    #[getter]
    fn project(&self) -> &str {
        &self.0.project
    }

    #[getter]
    fn region(&self) -> &str {
        &self.0.region
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn uid(&self) -> &str {
        &self.0.uid
    }

    #[getter]
    fn pool_id(&self) -> String {
        self.0.mark.pool.to_string()
    }

    #[getter]
    fn flow_run_id(&self) -> String {
        self.0.mark.flow_run.to_string()
    }

    #[getter]
    fn process(&self) -> String {
        self.0.mark.process.to_string()
    }

    #[getter]
    pub(super) fn is_of_this_process(&self) -> bool {
        self.0.mark.process == mark::process_id()
    }

    #[getter]
    fn worker(&self) -> &str {
        &self.0.mark.worker
    }

    #[getter]
    fn keep(&self) -> bool {
        self.0.mark.keep
    }

    #[getter]
    #[allow(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
    fn give_up_at(&self) -> f64 {
        self.0.mark.give_up_at.timestamp() as f64
    }

    #[getter]
    fn created_at(&self) -> f64 {
        self.0.created_at
    }

    #[getter]
    fn execution(&self) -> Option<&str> {
        self.0.executions.name.as_deref()
    }

    #[getter]
    fn execution_uid(&self) -> Option<&str> {
        self.0.executions.uid.as_deref()
    }

    #[getter]
    fn status(&self) -> &'static str {
        self.0.executions.status.name()
    }

    #[getter]
    fn completed_at(&self) -> Option<f64> {
        self.0.executions.completed_at
    }

    #[getter]
    fn is_being_deleted(&self) -> bool {
        self.0.is_being_deleted
    }

    #[getter]
    fn is_live(&self) -> bool {
        self.0.is_live()
    }

    fn __repr__(&self) -> String {
        let facts::MarkedJob { project, region, name, .. } = &*self.0;
        let status = self.0.executions.status.name();
        format!("MarkedJob(project='{project}', region='{region}', name='{name}', status='{status}')")
    }
}

/// The result of calls about a job or a pool, which becomes a Python object or an exception.
struct Answer<T> {
    result: ApiResult<T>,
    location: JobLocation,
}

impl<'py, T: IntoAnswer> IntoPyObject<'py> for Answer<T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.result {
            Ok(answer) => answer.into_answer(py),
            Err(error) => Err(exceptions::from_run(py, &RunError::Api(error), &self.location)),
        }
    }
}

trait IntoAnswer {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

impl IntoAnswer for () {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(py.None().into_bound(py))
    }
}

impl IntoAnswer for bool {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(self.into_pyobject(py)?.to_owned().into_any())
    }
}

impl IntoAnswer for Deleted {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let name = match self {
            Self::ByUs => "deleted",
            Self::Gone => "gone",
            Self::Changed => "changed",
        };
        Ok(name.into_pyobject(py)?.into_any())
    }
}

impl IntoAnswer for Option<facts::MarkedJob> {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Some(job) => Ok(Bound::new(py, PyMarkedJob(Arc::new(job)))?.into_any()),
            None => ().into_answer(py),
        }
    }
}

impl IntoAnswer for Option<ExecutionFacts> {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Some(facts) => Ok(Bound::new(py, PyExecutionFacts::from(&facts))?.into_any()),
            None => ().into_answer(py),
        }
    }
}

/// A list, and what tells about the jobs that it leaves out.
struct Listed {
    jobs: Vec<facts::MarkedJob>,
    left_out: Vec<LeftOut>,
    log: Option<Py<PyAny>>,
}

impl IntoAnswer for Listed {
    fn into_answer(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        for LeftOut { job, why } in self.left_out {
            if let Some(log) = &self.log {
                let line = format!("Cloud Run Job {job:?} carries a part of a worker's mark and is left alone: {why}");
                log.call1(py, (Level::Debug as i32, line))?;
            }
        }
        let jobs: PyResult<Vec<_>> =
            self.jobs.into_iter().map(|job| Bound::new(py, PyMarkedJob(Arc::new(job)))).collect();
        Ok(PyList::new(py, jobs?)?.into_any())
    }
}

pub(super) fn list<'py>(
    py: Python<'py>,
    transport: Transport,
    pool_id: &str,
    log: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (pool, location) = (id("the pool's id", pool_id)?, JobLocation::new(&transport, ""));
    awaitable(py, async move {
        let result = observer::list(&transport, pool).await;
        Answer { result: result.map(|(jobs, left_out)| Listed { jobs, left_out, log }), location }
    })
}

pub(super) fn read<'py>(py: Python<'py>, transport: Transport, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
    let (job, location) = job.at(&transport)?;
    awaitable(py, async move { Answer { result: observer::read(&transport, &job).await, location } })
}

pub(super) fn read_execution<'py>(
    py: Python<'py>,
    transport: Transport,
    job: &PyMarkedJob,
) -> PyResult<Bound<'py, PyAny>> {
    let (job, location) = job.at(&transport)?;
    awaitable(py, async move { Answer { result: observer::read_execution(&transport, &job).await, location } })
}

pub(super) fn has_job<'py>(py: Python<'py>, transport: Transport, name: String) -> PyResult<Bound<'py, PyAny>> {
    let location = JobLocation::new(&transport, &name);
    awaitable(py, async move { Answer { result: observer::has_job(&transport, &name).await, location } })
}

pub(super) fn delete<'py>(py: Python<'py>, transport: Transport, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
    let (job, location) = job.at(&transport)?;
    awaitable(py, async move { Answer { result: delete::delete(&transport, &PROCESS, &job).await, location } })
}

pub(super) fn stop<'py>(py: Python<'py>, transport: Transport, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
    let (job, location) = job.at(&transport)?;
    awaitable(py, async move { Answer { result: delete::stop(&transport, &PROCESS, &job).await, location } })
}

pub(super) fn watch<'py>(
    py: Python<'py>,
    transport: Transport,
    job: &PyMarkedJob,
    poll_interval: Duration,
    retry_max: Duration,
) -> PyResult<Bound<'py, PyAny>> {
    let (job, location) = job.at(&transport)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::try_from_secs_f64(job.created_at).unwrap_or_default());
    awaitable(py, async move {
        Answer { result: watch::watch(&transport, &PROCESS, &job, age, poll_interval, retry_max).await, location }
    })
}

pub(super) fn is_running(transport: &Transport, job: &PyMarkedJob) -> bool {
    let address = transport.job_address(&job.0.name);
    PROCESS.has_run(&address)
}

impl PyMarkedJob {
    /// The job, for calls through this transport.
    ///
    /// # Errors
    /// When it is of another project or region: the transport would find another job of its name.
    fn at(&self, transport: &Transport) -> PyResult<(Arc<facts::MarkedJob>, JobLocation)> {
        if (&self.0.project, &self.0.region) != (&transport.project, &transport.region) {
            return Err(PyValueError::new_err(format!(
                "{} is not in project '{}' and region '{}'",
                self.__repr__(),
                transport.project,
                transport.region
            )));
        }
        Ok((self.0.clone(), JobLocation::new(transport, &self.0.name)))
    }
}
