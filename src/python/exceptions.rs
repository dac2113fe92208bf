//! The one place that names Python exceptions.

use pyo3::{
    exceptions::{PyConnectionError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    api::{ApiError, EndpointError, ErrorKind, Transport},
    lifecycle::step::RunError,
};

/// Where our exceptions are defined: in Python, so that they pickle and copy.
const MODULE: &str = "prefect_gcp.exceptions";

/// An endpoint or a region that can't be used: a `ValueError`.
pub(super) fn from_endpoint(error: &EndpointError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Where something happens: the project, the region and the job.
#[derive(Debug)]
pub(super) struct Place {
    project: String,
    region: String,
    job: String,
}

impl Place {
    /// Of a job that is reached by this transport.
    pub(super) fn new(transport: &Transport, job: &str) -> Self {
        Self { project: transport.project.clone(), region: transport.region.clone(), job: job.to_owned() }
    }
}

/// A failed call, made for this job, as its kind's exception.
fn from_api(py: Python<'_>, error: &ApiError, job: &str) -> PyErr {
    let exception = cloud_run_error(
        py,
        class_of(error.kind),
        &Fields {
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

/// A run that could not be started or watched, in the project and region of its client.
pub(super) fn from_run(py: Python<'_>, error: &RunError, place: &Place) -> PyErr {
    let Place { project, region, job } = place;
    let (class, status, api_message) = match error {
        RunError::Api(error) => return from_api(py, error, job),
        RunError::NotReady { condition, .. } | RunError::ReadyTimeout { condition, .. } => {
            ("CloudRunJobNotReadyError", None, condition.as_str())
        }
        RunError::RemovedBeforeStart { .. } => ("CloudRunJobRemovedError", None, ""),
        RunError::StartUnknown { cause, .. } => ("CloudRunStartUnknownError", cause.status, cause.message.as_str()),
    };
    let (message, hint) = (error.to_string(), error.hint(project, region));
    let fields = Fields { message, project, region, name: job, job, status, api_message, hint, ..Fields::default() };
    let exception = cloud_run_error(py, class, &fields);
    if let RunError::StartUnknown { cause, .. } = error {
        exception.set_cause(py, Some(from_api(py, cause, job)));
    }
    exception
}

/// Something that must not happen, told without taking the process down.
pub(super) fn internal(py: Python<'_>, place: &Place, message: &str) -> PyErr {
    let (message, Place { project, region, job }) = (message.to_owned(), place);
    cloud_run_error(py, "CloudRunError", &Fields { message, project, region, name: job, job, ..Fields::default() })
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
struct Fields<'a> {
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

fn cloud_run_error(py: Python<'_>, class: &str, fields: &Fields<'_>) -> PyErr {
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
