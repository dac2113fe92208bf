//! What a run reports. `update.rs` says what there is to report, `wording.rs` has the log lines, `throttle.rs` keeps
//! failures that repeat from filling the log, `reporter.rs` hands progress over, and `facts.rs` is what is known of an
//! execution.

mod facts;
mod reporter;
mod throttle;
mod update;
mod wording;

pub use facts::{Ending, ExecutionFacts, unix_seconds};
pub(super) use reporter::Reporter;
pub use update::{Level, Phases, Progress, ProgressSink};
pub(super) use wording::{describe_condition, sentence};
