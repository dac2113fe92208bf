//! The API's resources as serde types, shared by the client and the emulator.
//!
//! Only the fields that this project reads have a name here; all others are kept in `extra`, so that a resource
//! survives a round trip. Reading is lenient (a missing or null field is its default, an integer may be a string, as
//! int64 is in the API's JSON), because an answer that is odd in one place must not cost the rest of it.
//!
//! Field names and types: discovery document `run.v1.json`, `schemas`.

mod condition;
mod execution;
mod job;
mod lenient;
mod meta;
mod status;

pub use condition::{Condition, ConditionStatus, find_condition};
pub use execution::{Execution, ExecutionStatus};
pub use job::{
    CompletionStatus, Container, EnvVar, ExecutionReference, ExecutionSpec, ExecutionTemplateSpec, Job, JobSpec,
    JobStatus, TaskSpec, TaskTemplateSpec,
};
pub use meta::{List, ListMeta, ObjectMeta, OwnerReference};
pub use status::{Deletion, ErrorBody, ErrorStatus};

/// `apiVersion` of jobs and executions.
pub const API_VERSION: &str = "run.googleapis.com/v1";

/// Label that names the job an execution belongs to.
pub const JOB_LABEL: &str = "run.googleapis.com/job";

/// Label of an execution with the uid of its job.
pub const JOB_UID_LABEL: &str = "run.googleapis.com/jobUid";

/// Fields that no type here names, kept as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;
