//! The API's client, for Python.

use std::{
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    access::PyAccess,
    diagnosis::PyDiagnosis,
    exceptions::{self, JobLocation},
    google_auth::GoogleAuth,
    janitor::PROCESS,
    json,
    logs::LogLines,
    observer::{self, JobMark, PyMarkedJob},
    run::Run,
    runtime::awaitable,
    settings::{ClientCredentials, ClientSettings, seconds},
};
use crate::{
    api::{
        CloudRunClient, Endpoint, GcpAuth, HttpPool, JobBody, LogPace, LogQuery, LogReader, Principal, QuotaRegistry,
        TokenCache, Transport, check_project,
    },
    job::{mark::MARK_LABELS, name},
    lifecycle::{
        diagnose::diagnose,
        driver, kill,
        machine::protocol::{Outcome, Plan},
        progress::Level,
    },
};

/// The tokens of all principals of this process.
static TOKENS: LazyLock<TokenCache> =
    LazyLock::new(|| TokenCache::new(Arc::new(GcpAuth::with_fallback(Arc::new(GoogleAuth)))));

/// The quotas that the calls of this process wait for.
static QUOTAS: LazyLock<QuotaRegistry> = LazyLock::new(QuotaRegistry::default);

/// The turns of this process's reads of logs.
static LOG_PACE: LazyLock<LogPace> = LazyLock::new(LogPace::default);

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn check_api_endpoint(text: &str) -> PyResult<()> {
    Endpoint::new(text, "us-central1").map(drop).map_err(|error| exceptions::from_endpoint(&error))
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp_cloud_run._core")]
pub(super) struct Client {
    transport: Transport,
    poll_interval: Duration,
    watch_retry_max: Duration,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (*, project, region, credentials, settings))]
    fn new(
        py: Python<'_>,
        project: String,
        region: String,
        credentials: &ClientCredentials,
        settings: ClientSettings,
    ) -> PyResult<Self> {
        check_project(&project).map_err(|error| exceptions::from_endpoint(&error))?;
        let endpoint = match &settings.emulator_host {
            Some(host) => Endpoint::emulator(host, &region),
            None => Endpoint::new(&settings.api_endpoint, &region),
        }
        .map_err(|error| exceptions::from_endpoint(&error))?;
        let principal = Principal::new(credentials.0.clone(), endpoint.is_local());
        let transport = Transport {
            // The first client reads the system's root certificates.
            http: py.detach(|| connections(endpoint.may_use_proxy()))?,
            quotas: QUOTAS.queues(&endpoint.scope(&project), settings.quota_period),
            quota_wait_max: settings.quota_wait_max,
            endpoint,
            project,
            region,
            tokens: TOKENS.source(principal),
            retry: settings.retry(),
            random: fastrand::f64,
            attempt_timeout: settings.request_timeout,
            on_notice: Arc::new(|_notice| {}),
        };
        Ok(Self { transport, poll_interval: settings.poll_interval, watch_retry_max: settings.watch_retry_max })
    }

    #[pyo3(signature = (body, *, job, has_unique_name=false, owner_label=None, keep_job, ready_timeout_seconds, log, mark=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn run_job(
        &self,
        body: &Bound<'_, PyAny>,
        job: String,
        has_unique_name: bool,
        owner_label: Option<(String, String)>,
        keep_job: bool,
        #[pyo3(from_py_with = seconds)] ready_timeout_seconds: Duration,
        log: Py<PyAny>,
        mark: Option<&JobMark>,
    ) -> PyResult<Run> {
        check_job_name(&job)?;
        let body_py = body.py();
        let mut body = json::from_python(body)?;
        let transport = self.transport.clone();
        let plan = Plan {
            project: transport.project.clone(),
            region: transport.region.clone(),
            job,
            owner_label,
            has_unique_name,
            keep_job,
            ready_timeout: ready_timeout_seconds,
            poll_interval: self.poll_interval,
            quota_wait_max: transport.quota_wait_max,
            watch_retry_max: self.watch_retry_max,
            settle_time: Plan::settle_time_of(transport.attempt_timeout),
            retry: transport.retry,
            seed: fastrand::u64(..),
        };
        if let Some(mark) = mark
            && !mark.for_plan(&plan).write(&mut body)
        {
            let line = format!(
                "Cloud Run Job '{}' has no room for the worker's mark: if this worker is lost, no other worker looks \
                 after the job. Remove labels from the work pool's template: the mark has {MARK_LABELS}",
                plan.job
            );
            log.call1(body_py, (Level::Warning as i32, line))?;
        }
        let body = JobBody::from(body);
        let location = JobLocation::new(&transport, &plan.job);
        Ok(Run::start(location, log, |control| driver::run(transport, &PROCESS, body, plan, control)))
    }

    #[pyo3(signature = (job, *, owner_label=None))]
    fn kill_job(&self, job: String, owner_label: Option<(String, String)>) -> PyResult<Run> {
        check_job_name(&job)?;
        let location = JobLocation::new(&self.transport, &job);
        let transport = self.transport.clone();
        Ok(Run::start_kill(location, |sink| async move {
            kill::kill(transport, &PROCESS.active_runs, &job, owner_label, sink).await?;
            Ok(Outcome::Removed)
        }))
    }

    #[pyo3(signature = (pool_id, *, log=None))]
    fn list_marked_jobs<'py>(
        &self,
        py: Python<'py>,
        pool_id: &str,
        log: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        observer::list(py, self.transport.clone(), pool_id, log)
    }

    fn read_marked_job<'py>(&self, py: Python<'py>, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
        observer::read(py, self.transport.clone(), job)
    }

    fn has_job<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        check_job_name(&name)?;
        observer::has_job(py, self.transport.clone(), name)
    }

    fn read_execution<'py>(&self, py: Python<'py>, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
        observer::read_execution(py, self.transport.clone(), job)
    }

    fn watch_marked_job<'py>(&self, py: Python<'py>, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
        observer::watch(py, self.transport.clone(), job, self.poll_interval, self.watch_retry_max)
    }

    fn delete_marked_job<'py>(&self, py: Python<'py>, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
        observer::delete(py, self.transport.clone(), job)
    }

    fn stop_marked_job<'py>(&self, py: Python<'py>, job: &PyMarkedJob) -> PyResult<Bound<'py, PyAny>> {
        observer::stop(py, self.transport.clone(), job)
    }

    fn is_running(&self, job: &PyMarkedJob) -> bool {
        observer::is_running(&self.transport, job)
    }

    #[pyo3(signature = (execution, *, job, since=None, limit))]
    fn read_logs<'py>(
        &self,
        py: Python<'py>,
        execution: String,
        job: String,
        since: Option<f64>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        check_job_name(&job)?;
        let reader = LogReader::new(self.transport.clone(), LOG_PACE.clone());
        let location = JobLocation::new(&self.transport, &job);
        awaitable(py, async move {
            let query = LogQuery { job: &job, execution: &execution, since, limit };
            LogLines { lines: reader.read(query).await, location }
        })
    }

    #[pyo3(signature = (job, execution=None))]
    fn diagnose<'py>(&self, py: Python<'py>, job: String, execution: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        check_job_name(&job)?;
        let client = CloudRunClient::new(self.transport.clone());
        awaitable(py, async move { PyDiagnosis(diagnose(&client, &job, execution.as_deref()).await) })
    }

    #[pyo3(signature = (*, service_account=None))]
    fn check_access<'py>(&self, py: Python<'py>, service_account: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        let client = CloudRunClient::new(self.transport.clone());
        awaitable(py, async move { PyAccess(client.check_access(service_account.as_deref()).await) })
    }

    fn __repr__(&self) -> String {
        format!("Client(project='{}', region='{}')", self.transport.project, self.transport.region)
    }
}

/// Job names become parts of URLs, and come from templates, job variables and Prefect's server.
fn check_job_name(job: &str) -> PyResult<()> {
    if name::is_legal(job) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{job:?} is not a valid Cloud Run job name")))
}

/// The process's connections: one pool through the environment's proxy, and one without it.
fn connections(use_proxy: bool) -> PyResult<HttpPool> {
    static DIRECT: OnceLock<HttpPool> = OnceLock::new();
    static PROXIED: OnceLock<HttpPool> = OnceLock::new();
    let pool = if use_proxy { &PROXIED } else { &DIRECT };
    if let Some(connections) = pool.get() {
        return Ok(connections.clone());
    }
    let connections = HttpPool::new(use_proxy)
        .map_err(|error| PyValueError::new_err(format!("The HTTPS client could not be created: {error}")))?;
    Ok(pool.get_or_init(|| connections).clone())
}
