//! The jobs and executions that the emulator holds, by project and region, and their history.
//!
//! Everything here is synchronous and cheap. `scheduler` and `tasks` decide when something changes.

mod clock;
mod collection;
mod conditions;
mod executions;
mod history;
mod jobs;
mod metadata;
mod records;
mod regions;
mod snapshot;
mod tasks;
mod views;

pub use self::history::{EventKind, HistoryEvent, JobLife};
pub(super) use self::{
    collection::Collection,
    conditions::set_retry,
    executions::{ExecutionEnd, StartedExecution},
    records::{JobReadiness, StopRequest},
    regions::Store,
    snapshot::Snapshot,
    tasks::TaskEnd,
    views::LogSource,
};
