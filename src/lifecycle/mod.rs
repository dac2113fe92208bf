//! The lifecycle of a flow run's job, from its creation to its deletion.
//!
//! [`machine`] decides and does no I/O. [`driver`] sends the calls that it decides on. The [`poller`] reads the
//! executions of many runs at once. The [`janitor`] deletes the jobs of runs that have ended. [`kill`] deletes a job
//! early, and tells the job's run through [`active_runs`]. The [`observer`] is for jobs that another process has left. A
//! run's caller speaks to it through [`control`]. [`progress`] words the log lines. [`diagnose`] finds out why a run failed.

pub mod active_runs;
mod backoff;
mod calls;
pub mod control;
pub mod diagnose;
pub mod driver;
pub mod janitor;
pub mod kill;
mod list_health;
pub mod machine;
pub mod observer;
pub mod poller;
pub mod progress;
mod region;
pub mod region_queue;
pub mod subscriptions;
