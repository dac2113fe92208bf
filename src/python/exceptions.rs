//! The one place that names Python exceptions.

use pyo3::{
    exceptions::{PyConnectionError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    api::{ApiError, EndpointError, ErrorKind, LogError, Transport},
    lifecycle::machine::protocol::RunError,
};

/// The module of our exceptions. They are defined in Python, so that they can be pickled and copied.
const MODULE: &str = "prefect_gcp_cloud_run.exceptions";

/// A `ValueError` for an endpoint, a region or a project that can't be used.
pub(super) fn from_endpoint(error: &EndpointError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The project, region and name of a job, for exceptions.
#[derive(Debug)]
pub(super) struct JobLocation {
    project: String,
    region: String,
    job: String,
}

impl JobLocation {
    /// Of a job that this transport reaches.
    pub(super) fn new(transport: &Transport, job: &str) -> Self {
        Self { project: transport.project.clone(), region: transport.region.clone(), job: job.to_owned() }
    }
}

/// The exception for a failed call that was made for this job. Its class depends on the kind of error.
pub(super) fn from_api(py: Python<'_>, error: &ApiError, job: &str) -> PyErr {
    let exception = cloud_run_error(
        py,
        class_of(error.kind),
        &ExceptionFields {
            message: error.to_string(),
            project: &error.project,
            region: &error.region,
            name: &error.name,
            status: error.status,
            api_message: &error.message,
            job,
            permission: error.missing_permission().unwrap_or_default(),
            resource: error.missing_permission_on().unwrap_or_default(),
            hint: error.hint(),
        },
    );
    if error.kind == ErrorKind::Unavailable && error.status.is_none() {
        exception.set_cause(py, Some(PyConnectionError::new_err(error.message.clone())));
    }
    exception
}

/// The exception for a run that could not be started, or is no longer watched.
pub(super) fn from_run(py: Python<'_>, error: &RunError, location: &JobLocation) -> PyErr {
    let JobLocation { project, region, job } = location;
    let (class, status, api_message) = match error {
        RunError::Api(error) => return from_api(py, error, job),
        RunError::NotReady { condition, .. } | RunError::ReadyTimeout { condition, .. } => {
            ("CloudRunJobNotReadyError", None, condition.as_str())
        }
        RunError::RemovedBeforeStart { .. } => ("CloudRunJobRemovedError", None, ""),
        RunError::StartUnknown { cause, .. } => ("CloudRunStartUnknownError", cause.status, cause.message.as_str()),
    };
    let hint = error.hint(project, region);
    let message = format!("{error} {hint}").trim_end().to_owned();
    let fields = ExceptionFields {
        message,
        project,
        region,
        name: job,
        job,
        status,
        api_message,
        hint,
        ..ExceptionFields::default()
    };
    let exception = cloud_run_error(py, class, &fields);
    if let RunError::StartUnknown { cause, .. } = error {
        exception.set_cause(py, Some(from_api(py, cause, job)));
    }
    exception
}

/// The exception for a log that could not be read.
pub(super) fn from_log(py: Python<'_>, error: &LogError, location: &JobLocation) -> PyErr {
    let JobLocation { project, region, job } = location;
    let hint = match error.kind {
        ErrorKind::PermissionDenied => {
            "The worker's account needs logging.logEntries.list, which the role roles/logging.viewer has."
        }
        _ => "",
    };
    let fields = ExceptionFields {
        message: format!("{error}. {hint}").trim_end().to_owned(),
        project,
        region,
        name: &error.execution,
        job,
        status: error.status,
        api_message: &error.message,
        permission: if hint.is_empty() { "" } else { "logging.logEntries.list" },
        hint: hint.to_owned(),
        ..ExceptionFields::default()
    };
    cloud_run_error(py, class_of(error.kind), &fields)
}

/// The exception for a bug of ours. A panic would take the process down.
pub(super) fn internal(py: Python<'_>, location: &JobLocation, message: &str) -> PyErr {
    let (message, JobLocation { project, region, job }) = (message.to_owned(), location);
    cloud_run_error(
        py,
        "CloudRunError",
        &ExceptionFields { message, project, region, name: job, job, ..ExceptionFields::default() },
    )
}

fn class_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "CloudRunNotFoundError",
        ErrorKind::AlreadyExists => "CloudRunAlreadyExistsError",
        ErrorKind::PermissionDenied => "CloudRunPermissionError",
        ErrorKind::ApiDisabled => "CloudRunApiDisabledError",
        ErrorKind::InvalidRequest => "CloudRunInvalidRequestError",
        ErrorKind::NoSuchRegion => "CloudRunRegionError",
        ErrorKind::RateLimited | ErrorKind::LimitReached => "CloudRunQuotaError",
        ErrorKind::Authentication | ErrorKind::NoToken => "CloudRunAuthenticationError",
        ErrorKind::Unavailable => "CloudRunUnavailableError",
    }
}

#[derive(Default)]
struct ExceptionFields<'a> {
    message: String,
    project: &'a str,
    region: &'a str,
    name: &'a str,
    status: Option<u16>,
    api_message: &'a str,
    job: &'a str,
    permission: &'a str,
    resource: &'a str,
    hint: String,
}

fn cloud_run_error(py: Python<'_>, class: &str, fields: &ExceptionFields<'_>) -> PyErr {
    let build = || {
        let kwargs = PyDict::new(py);
        kwargs.set_item("project", fields.project)?;
        kwargs.set_item("region", fields.region)?;
        kwargs.set_item("name", fields.name)?;
        kwargs.set_item("status", fields.status)?;
        kwargs.set_item("api_message", fields.api_message)?;
        kwargs.set_item("job", fields.job)?;
        kwargs.set_item("permission", fields.permission)?;
        kwargs.set_item("resource", fields.resource)?;
        kwargs.set_item("hint", &fields.hint)?;
        let exception = py.import(MODULE)?.getattr(class)?.call((&fields.message,), Some(&kwargs))?;
        Ok(PyErr::from_value(exception))
    };
    build().unwrap_or_else(|error| error)
}
