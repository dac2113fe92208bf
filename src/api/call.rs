//! The calls that the client makes, and what sets them apart.

use reqwest::Method;

/// A method of the Cloud Run Admin API v1 (discovery document, `resources.namespaces.resources`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// `jobs.create`
    CreateJob,
    /// `jobs.get`
    GetJob,
    /// `jobs.delete`
    DeleteJob,
    /// `jobs.run`
    RunJob,
    /// `executions.get`
    GetExecution,
    /// `executions.list`
    ListExecutions,
    /// `executions.delete`
    DeleteExecution,
    /// `executions.cancel`
    CancelExecution,
}

/// What Google counts apart, by project and region.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Quota {
    /// Read requests.
    Reads,
    /// Write requests.
    Writes,
    /// Job run requests.
    Runs,
}

impl Quota {
    /// The calls that it counts, as the quota page calls them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "read requests",
            Self::Writes => "write requests",
            Self::Runs => "job run requests",
        }
    }
}

impl Call {
    /// HTTP method.
    pub fn method(self) -> Method {
        match self {
            Self::CreateJob | Self::RunJob | Self::CancelExecution => Method::POST,
            Self::GetJob | Self::GetExecution | Self::ListExecutions => Method::GET,
            Self::DeleteJob | Self::DeleteExecution => Method::DELETE,
        }
    }

    /// The IAM permission that the caller needs.
    pub fn permission(self) -> &'static str {
        match self {
            Self::CreateJob => "run.jobs.create",
            Self::GetJob => "run.jobs.get",
            Self::DeleteJob => "run.jobs.delete",
            Self::RunJob => "run.jobs.run",
            Self::GetExecution => "run.executions.get",
            Self::ListExecutions => "run.executions.list",
            Self::DeleteExecution => "run.executions.delete",
            Self::CancelExecution => "run.executions.cancel",
        }
    }

    /// What the call does, to stand after "could not".
    pub fn purpose(self) -> &'static str {
        match self {
            Self::CreateJob => "create the job",
            Self::GetJob => "read the job",
            Self::DeleteJob => "delete the job",
            Self::RunJob => "run the job",
            Self::GetExecution => "read the execution",
            Self::ListExecutions => "list the executions",
            Self::DeleteExecution => "delete the execution",
            Self::CancelExecution => "cancel the execution",
        }
    }

    /// Whether the same call may be sent again when the first one may have taken effect. A job that is run twice runs
    /// twice, and the name of a deleted job may soon be another job's; a create that is repeated answers 409, which the
    /// caller can tell apart by [`super::ApiError::maybe_done`].
    pub fn is_repeatable(self) -> bool {
        !matches!(self, Self::RunJob | Self::DeleteJob)
    }

    /// Whether a refusal because of a quota is the caller's to wait for. A region's running executions may fill it for
    /// hours, which is no matter of attempts.
    pub fn is_queued(self) -> bool {
        self == Self::RunJob
    }

    /// The quota that counts it (<https://cloud.google.com/run/quotas>).
    pub fn quota(self) -> Quota {
        match self {
            Self::GetJob | Self::GetExecution | Self::ListExecutions => Quota::Reads,
            Self::RunJob => Quota::Runs,
            Self::CreateJob | Self::DeleteJob | Self::DeleteExecution | Self::CancelExecution => Quota::Writes,
        }
    }

    /// Whether it goes before others that wait for the same quota: it makes room, or tells many runs something at once.
    pub fn is_urgent(self) -> bool {
        matches!(self, Self::DeleteJob | Self::DeleteExecution | Self::CancelExecution | Self::ListExecutions)
    }

    /// Whether it changes anything.
    pub fn is_write(self) -> bool {
        self.method() != Method::GET
    }
}
