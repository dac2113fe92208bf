//! Cloud Run's documented limits of a job.
//!
//! One table: [`limits_of`] gives the limits of a message of the API. `run_v1.rs` is the part that is generated from the
//! discovery document, and [`table`] is the rest. Each row has its source. The worker checks a finished job body against
//! the table before it creates anything, and the emulator checks requests against it
//! (`MessageSchema::exceeded` in `src/schema/`).

mod labels;
mod limit;
mod resources;
mod rule;
mod run_v1;
mod table;

pub use limit::{Consequence, Limit, LimitProblem, Rule};
pub use resources::{CpuSize, DEFAULT_CPU, DEFAULT_MEMORY, ResourceLimits, ResourceProblem};
pub use table::{MAX_ARGS, MAX_LABEL_LENGTH, MAX_LABELS, MAX_VARIABLE_BYTES, MAX_VARIABLES, limits_of};
