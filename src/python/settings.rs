//! The worker's settings and credentials, as Python hands them over.

use std::{path::PathBuf, time::Duration};

use pyo3::{exceptions::PyValueError, prelude::*};

use crate::api::{Credentials, RetryPolicy, Secret};

/// Longer durations become this one, which is as good as forever. Sums of a few of them don't overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The attributes of `prefect_gcp.settings.CloudRunWorkerSettings`, read by name.
///
/// To add a setting, add a field to that class and to this one.
#[derive(FromPyObject)]
pub(super) struct ClientSettings {
    pub(super) api_endpoint: String,
    pub(super) emulator_host: Option<String>,
    #[pyo3(attribute("poll_interval_seconds"), from_py_with = seconds)]
    pub(super) poll_interval: Duration,
    #[pyo3(attribute("request_timeout_seconds"), from_py_with = seconds)]
    pub(super) request_timeout: Duration,
    retry_max_attempts: u32,
    #[pyo3(attribute("retry_max_seconds"), from_py_with = seconds)]
    retry_max: Duration,
    #[pyo3(attribute("retry_initial_delay_seconds"), from_py_with = seconds)]
    retry_initial_delay: Duration,
    #[pyo3(attribute("retry_max_delay_seconds"), from_py_with = seconds)]
    retry_max_delay: Duration,
    #[pyo3(attribute("watch_retry_max_seconds"), from_py_with = seconds)]
    pub(super) watch_retry_max: Duration,
    #[pyo3(attribute("quota_wait_max_seconds"), from_py_with = seconds)]
    pub(super) quota_wait_max: Duration,
    #[pyo3(attribute("quota_period_seconds"), from_py_with = seconds)]
    pub(super) quota_period: Duration,
}

impl ClientSettings {
    /// The budget of each call.
    pub(super) fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.retry_max_attempts,
            max_elapsed: self.retry_max,
            initial_delay: self.retry_initial_delay,
            max_delay: self.retry_max_delay,
        }
    }
}

/// A number of seconds.
///
/// # Errors
/// `ValueError` if it is negative or not a number. `TypeError` if it is not a Python number.
pub(super) fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let value: f64 = value.extract()?;
    let max = MAX_DURATION.as_secs_f64();
    Duration::try_from_secs_f64(if value > max { max } else { value })
        .map_err(|_| PyValueError::new_err(format!("{value} is not a valid number of seconds")))
}

/// See `_core.pyi`.
#[pyclass(frozen, name = "Credentials", module = "prefect_gcp_cloud_run._core")]
pub(super) struct ClientCredentials(pub(super) Credentials);

#[pymethods]
impl ClientCredentials {
    #[new]
    #[pyo3(signature = (*, service_account_info=None, service_account_file=None))]
    fn new(service_account_info: Option<String>, service_account_file: Option<PathBuf>) -> Self {
        Self(match (service_account_info, service_account_file) {
            (Some(info), _) => Credentials::ServiceAccountInfo(Secret::new(info)),
            (None, Some(path)) => Credentials::ServiceAccountFile(path),
            (None, None) => Credentials::ApplicationDefault,
        })
    }

    fn __repr__(&self) -> &'static str {
        match self.0 {
            Credentials::ServiceAccountInfo(_) => "Credentials(service_account_info=…)",
            Credentials::ServiceAccountFile(_) => "Credentials(service_account_file=…)",
            Credentials::ApplicationDefault => "Credentials()",
        }
    }
}
