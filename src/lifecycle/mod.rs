//! What a flow run's job goes through, from its creation to its removal.
//!
//! [`machine`] decides and does no I/O, in the terms of [`step`]; [`driver`] does what it says; the
//! [`watcher`] looks at the executions of many runs at once; [`kill`] ends a job early, and tells its run through the
//! [`registry`]; [`progress`] puts it into words.

pub mod driver;
mod identity;
mod journal;
pub mod kill;
pub mod machine;
pub mod progress;
mod quota;
mod recovery;
pub mod registry;
mod removal;
mod state;
pub mod step;
mod submission;
pub mod watcher;
mod watching;
