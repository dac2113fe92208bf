//! The Rust core of the Prefect worker for Google Cloud Run jobs.
//!
//! A module may use those below it in this list and none above it:
//!
//! - `python` (feature `python`): the extension `prefect_gcp_cloud_run._core`; the only module that names pyo3.
//! - [`emulator`]: a Cloud Run for one machine, on the same wire types as the client.
//! - [`lifecycle`]: what a flow run's job goes through, from creation to removal.
//! - [`diagnosis`]: why a job could not be started, or why its execution failed.
//! - [`api`]: the Cloud Run Admin API v1.
//! - [`job`]: what goes into a job: labels, environment, name, and the checks of its body.
//! - [`template`]: rendering of `{{ placeholder }}` templates.
//! - [`schema`]: the API's messages as data.
//! - [`limits`]: how much of what a job may have.
//! - [`path`]: places in trees, for errors.
//! - [`secret`]: text that must not be shown.

pub mod api;
pub mod diagnosis;
pub mod emulator;
pub mod job;
pub mod lifecycle;
pub mod limits;
pub mod path;
#[cfg(feature = "python")]
mod python;
pub mod schema;
pub mod secret;
pub mod template;
