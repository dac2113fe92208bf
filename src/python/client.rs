//! The API's client, for Python.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    exceptions::{self, Place},
    google_auth::GoogleAuth,
    json,
    run::Run,
};
use crate::{
    api::{
        Credentials, Endpoint, GcpAuth, JobBody, Principal, QuotaRegistry, RetryPolicy, Secret, TokenCache, Transport,
        check_project, http_client,
    },
    job::name,
    lifecycle::{
        driver::{self, Office},
        kill,
        step::{Outcome, Plan},
    },
};

/// The tokens of all principals of this process.
static TOKENS: LazyLock<TokenCache> =
    LazyLock::new(|| TokenCache::new(Arc::new(GcpAuth::with_fallback(Arc::new(GoogleAuth)))));

/// What the runs of this process have in common.
static OFFICE: LazyLock<Office> = LazyLock::new(Office::default);

/// The quotas that their calls wait for.
static QUOTAS: LazyLock<QuotaRegistry> = LazyLock::new(QuotaRegistry::default);

/// How long after our own time-out a start may still take effect and show in reads: more than reads lag.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(15);

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn check_api_endpoint(text: &str) -> PyResult<()> {
    Endpoint::new(text, "us-central1").map(drop).map_err(|error| exceptions::from_endpoint(&error))
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "prefect_gcp._core")]
pub(super) struct Client {
    transport: Transport,
    poll_interval: Duration,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        *, project, region, service_account_info=None, service_account_file=None, api_endpoint=None, emulator_host=None,
        poll_interval_seconds, request_timeout_seconds, retry_max_attempts, retry_max_seconds,
        retry_initial_delay_seconds, retry_max_delay_seconds, quota_wait_max_seconds, quota_period_seconds
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of a Python constructor")]
    fn new(
        project: String,
        region: String,
        service_account_info: Option<String>,
        service_account_file: Option<PathBuf>,
        api_endpoint: Option<&str>,
        emulator_host: Option<&str>,
        poll_interval_seconds: f64,
        request_timeout_seconds: f64,
        retry_max_attempts: u32,
        retry_max_seconds: f64,
        retry_initial_delay_seconds: f64,
        retry_max_delay_seconds: f64,
        quota_wait_max_seconds: f64,
        quota_period_seconds: f64,
    ) -> PyResult<Self> {
        check_project(&project).map_err(|error| exceptions::from_endpoint(&error))?;
        let endpoint = match emulator_host {
            Some(host) => Endpoint::emulator(host, &region),
            None => Endpoint::new(api_endpoint.unwrap_or(Endpoint::GOOGLE), &region),
        }
        .map_err(|error| exceptions::from_endpoint(&error))?;
        let credentials = match (service_account_info, service_account_file) {
            (Some(info), _) => Credentials::ServiceAccountInfo(Secret::new(info)),
            (None, Some(path)) => Credentials::ServiceAccountFile(path),
            (None, None) => Credentials::ApplicationDefault,
        };
        let place = endpoint.scope(&project);
        let is_local = endpoint.is_local();
        let transport = Transport {
            http: pooled(endpoint.may_use_proxy())?,
            endpoint,
            quotas: QUOTAS.queues(&place, seconds(quota_period_seconds)?),
            quota_wait_max: seconds(quota_wait_max_seconds)?,
            project,
            region,
            tokens: TOKENS.source(Principal::new(credentials, is_local)),
            retry: RetryPolicy {
                max_attempts: retry_max_attempts,
                max_elapsed: seconds(retry_max_seconds)?,
                initial_delay: seconds(retry_initial_delay_seconds)?,
                max_delay: seconds(retry_max_delay_seconds)?,
            },
            attempt_timeout: seconds(request_timeout_seconds)?,
            random: fastrand::f64,
            on_notice: Arc::new(|_notice| {}),
        };
        Ok(Self { transport, poll_interval: seconds(poll_interval_seconds)? })
    }

    #[pyo3(signature = (body, *, job, owner_label=None, keep_job, ready_timeout_seconds))]
    fn run_job(
        &self,
        body: &Bound<'_, PyAny>,
        job: String,
        owner_label: Option<(String, String)>,
        keep_job: bool,
        ready_timeout_seconds: f64,
    ) -> PyResult<Run> {
        check_job_name(&job)?;
        let body = JobBody::from(json::from_python(body)?);
        let ready_timeout = seconds(ready_timeout_seconds)?;
        let transport = self.transport.clone();
        let plan = Plan {
            project: transport.project.clone(),
            region: transport.region.clone(),
            job,
            owner_label,
            keep_job,
            ready_timeout,
            poll_interval: self.poll_interval,
            quota_timeout: transport.quota_wait_max,
            settles: transport.attempt_timeout + SERVICE_TIMEOUT,
            patience: transport.retry.max_elapsed,
            tries: transport.retry.max_attempts,
            seed: fastrand::u64(..),
        };
        let place = Place::new(&transport, &plan.job);
        Ok(Run::start(place, |observer| driver::run(transport, &OFFICE, body, plan, observer)))
    }

    #[pyo3(signature = (job, *, owner_label=None))]
    fn kill_job(&self, job: String, owner_label: Option<(String, String)>) -> PyResult<Run> {
        check_job_name(&job)?;
        let place = Place::new(&self.transport, &job);
        let transport = self.transport.clone();
        Ok(Run::start(place, |observer| async move {
            kill::kill(transport, &OFFICE.registry, &job, owner_label, observer).await?;
            Ok(Outcome::Removed)
        }))
    }

    fn __repr__(&self) -> String {
        format!("Client(project='{}', region='{}')", self.transport.project, self.transport.region)
    }
}

/// Names of jobs become parts of addresses, and come from templates, job variables and Prefect's server.
fn check_job_name(job: &str) -> PyResult<()> {
    if name::is_legal(job) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{job:?} is not a name of a Cloud Run job")))
}

/// The process's connections, through the environment's proxy and without it.
fn pooled(use_proxy: bool) -> PyResult<reqwest::Client> {
    static DIRECT: OnceLock<reqwest::Client> = OnceLock::new();
    static PROXIED: OnceLock<reqwest::Client> = OnceLock::new();
    let pool = if use_proxy { &PROXIED } else { &DIRECT };
    if let Some(client) = pool.get() {
        return Ok(client.clone());
    }
    let client = http_client(use_proxy)
        .map_err(|error| PyValueError::new_err(format!("no HTTPS client can be made: {error}")))?;
    Ok(pool.get_or_init(|| client).clone())
}

/// Longer is for ever; sums of a few such times are still times.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn seconds(value: f64) -> PyResult<Duration> {
    let longest = FOR_EVER.as_secs_f64();
    let seconds = Duration::try_from_secs_f64(if value > longest { longest } else { value });
    seconds.map_err(|_| PyValueError::new_err(format!("{value} is not a number of seconds")))
}
