//! Ends a job early.

use crate::api::{ApiError, CloudRunClient, Transport};

/// Deletes the job, which stops its executions: Cloud Run sends SIGTERM and, ten seconds later, SIGKILL.
///
/// # Errors
/// When the job is not there (and no attempt of ours can have removed it), or the call failed for good.
pub async fn kill(transport: Transport, job: &str) -> Result<(), Box<ApiError>> {
    CloudRunClient::new(transport).delete_job(job).await
}
