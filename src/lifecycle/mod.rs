//! What a flow run's job goes through, from its creation to its removal.
//!
//! [`machine`] decides and does no I/O, in the terms of [`step`]; [`driver`] does what it says; [`kill`] ends a job
//! early; [`progress`] puts it into words.

pub mod driver;
mod identity;
pub mod kill;
pub mod machine;
pub mod progress;
mod recovery;
mod removal;
mod state;
pub mod step;
mod submission;
mod watching;
