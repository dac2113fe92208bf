//! The extension module `prefect_gcp._core`. It only converts between Python and the core.

mod client;
mod emulator;
mod exceptions;
mod google_auth;
mod janitor;
mod job;
mod json;
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
    use super::client::{Client, check_api_endpoint};
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
    use super::run::{Run, RunEvent};
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
