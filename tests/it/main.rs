//! The integration tests of the core and the emulator: one binary, so that the core is linked once.
//!
//! All modules share a process. A test that changes the environment, or anything else of the whole process, needs a
//! binary of its own: a file beside this folder.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod access;
mod api_client;
mod api_types;
mod emulator_api;
mod emulator_faults;
mod emulator_lists;
mod emulator_processes;
mod emulator_simulated;
mod lifecycle_diagnose;
mod lifecycle_driver;
mod lifecycle_machine;
mod lifecycle_observer;
mod lifecycle_poller;
mod lifecycle_region;
mod logging;
mod odd_input;
mod one_path;
mod promises;

// What several of them use.
mod driver_support;
mod emulator_support;
mod properties;
mod queue;
mod world;
