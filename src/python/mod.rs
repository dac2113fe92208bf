//! The extension module `prefect_gcp._core`: conversions between Python and the core, and nothing else.

mod client;
mod emulator;
mod exceptions;
mod job;
mod run;

/// Rust core of the Cloud Run worker; typed in `_core.pyi`.
#[pyo3::pymodule]
mod _core {
    use pyo3::prelude::*;
    use tokio::runtime::Builder;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::emulator::EmulatorServer;
    #[pymodule_export]
    use super::job::{check_body_skeleton, container_env, is_job_name, merge_labels, sanitize_labels};
    #[pymodule_export]
    use super::run::{Run, RunEvent};

    /// The runtime's threads are few and fixed, however many runs there are: two that drive them, and some that hand
    /// results to Python, look up host names and read files.
    #[pymodule_init]
    #[allow(clippy::unnecessary_wraps, reason = "the form of a module's initializer")]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        let mut builder = Builder::new_multi_thread();
        builder.enable_all().worker_threads(2).max_blocking_threads(6).thread_name("cloud-run");
        pyo3_async_runtimes::tokio::init(builder);
        Ok(())
    }
}
