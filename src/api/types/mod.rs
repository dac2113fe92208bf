//! The API's resources as serde types. The client and the emulator share them.
//!
//! # Guarantees
//! - A round trip loses nothing: fields that no type here names are kept in `extra`.
//! - Parsing is lenient. A missing or null field has its default value, an integer may be a string (as every int64 in the
//!   API's JSON), and an unparsable item of a list is left out. So one odd field does not make a response useless.
//!
//! Field names and types: discovery document `run.v1.json`, `schemas`.

mod condition;
mod execution;
mod job;
mod lenient;
mod meta;
mod status;
mod task;

pub use condition::{Condition, ConditionStatus, find_condition};
pub use execution::{Execution, ExecutionStatus};
pub use job::{
    CompletionStatus, Container, EnvVar, ExecutionReference, ExecutionSpec, ExecutionTemplateSpec, Job, JobSpec,
    JobStatus, TaskSpec, TaskTemplateSpec,
};
pub use lenient::Extra;
pub use meta::{API_VERSION, EXECUTION_LABEL, JOB_LABEL, JOB_UID_LABEL, List, ListMeta, ObjectMeta, OwnerReference};
pub use status::{Deletion, ErrorBody, ErrorStatus};
pub use task::{AttemptStatus, Task, TaskAttemptResult, TaskStatus};
