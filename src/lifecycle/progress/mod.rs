//! What a run reports: [`update`] says what there is to report, [`wording`] puts it into log lines, and [`throttle`]
//! keeps failures that repeat from filling the log.

pub mod throttle;
mod update;
mod wording;

pub use update::{Level, Phases, Progress, ProgressSink};
pub(super) use wording::describe_condition;
