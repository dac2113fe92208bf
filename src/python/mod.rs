//! The extension module `prefect_gcp._core`: conversions between Python and the core, and nothing else.

mod emulator;

/// Rust core of the Cloud Run worker; typed in `_core.pyi`.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    use super::emulator::EmulatorServer;
}
