//! The extension module `prefect_gcp_cloud_run._core`. It only converts between Python and the core.

mod access;
mod client;
mod decision;
mod diagnosis;
mod emulator;
mod exceptions;
mod google_auth;
mod janitor;
mod job;
mod json;
mod logs;
mod observer;
mod run;
mod runtime;
mod settings;
mod template;
mod text;

/// Rust core of the Cloud Run worker; typed in `_core.pyi`.
#[pyo3::pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const TOKEN_SCOPE: &str = crate::api::TOKEN_SCOPE;

    #[pymodule_export]
    use super::access::PyAccess;
    #[pymodule_export]
    use super::client::{Client, check_api_endpoint};
    #[pymodule_export]
    use super::decision::{PyCircumstances, PyDecision, PyFlowRunFacts, decide};
    #[pymodule_export]
    use super::diagnosis::{PyDiagnosis, diagnose_start};
    #[pymodule_export]
    use super::emulator::EmulatorServer;
    #[pymodule_export]
    use super::google_auth::{default_credentials_file, read_key_file};
    #[pymodule_export]
    use super::janitor::drain_deletions;
    #[pymodule_export]
    use super::job::{
        added_labels, base_job_body, check_base_job_body, check_job_body, container_env, is_job_name, job_name,
        sanitize_labels,
    };
    #[pymodule_export]
    use super::logs::PyLogLine;
    #[pymodule_export]
    use super::observer::{JobMark, PyMarkedJob, process_id};
    #[pymodule_export]
    use super::run::{PyExecutionFacts, Run, RunEvent};
    #[pymodule_export]
    use super::settings::ClientCredentials;
    #[pymodule_export]
    use super::template::render_template;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::runtime::init(module.py())?;
        // Exit hooks run in the reverse order: the deletions end before the runtime closes.
        super::janitor::init(module.py())
    }
}
