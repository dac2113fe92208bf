//! What a marked job says about itself: who created it, and how its executions stand.

use chrono::DateTime;

use crate::{
    api::types::{CompletionStatus, Condition, ConditionStatus, Execution, Job},
    job::{
        mark::{Mark, NoMark},
        name,
    },
};

/// A job with a mark, as a read showed it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkedJob {
    /// Project id.
    pub project: String,
    /// Region.
    pub region: String,
    /// Name of the job.
    pub name: String,
    /// Unique id of the job.
    pub uid: String,
    /// Its mark.
    pub mark: Mark,
    /// When it was created.
    pub created_at: f64,
    /// Whether its deletion was requested.
    pub is_being_deleted: bool,
    /// How its executions stand.
    pub executions: Executions,
}

/// How the executions of a job stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Executions {
    /// All of them together.
    pub status: ExecutionsStatus,
    /// Name of the one that `status` is about.
    pub name: Option<String>,
    /// Its unique id, if executions were read.
    pub uid: Option<String>,
    /// When the last of them ended, if all have.
    pub completed_at: Option<f64>,
}

/// All executions of a job together.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ExecutionsStatus {
    /// There never was one.
    None,
    /// One waits or runs.
    Active,
    /// All have ended, and one succeeded.
    Succeeded,
    /// All have ended. None succeeded, and one failed.
    Failed,
    /// All were cancelled.
    Cancelled,
    /// There was one, and it was deleted.
    Removed,
    /// The job's status does not tell.
    #[default]
    Unknown,
}

impl ExecutionsStatus {
    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }
}

impl MarkedJob {
    /// Reads a job of this project and region.
    ///
    /// # Errors
    /// Why the job is none of ours, as far as can be told.
    pub fn new(project: &str, region: &str, job: &Job) -> Result<Self, String> {
        let metadata = &job.metadata;
        if !name::is_legal(&metadata.name) {
            return Err("it can't be parsed".to_owned());
        }
        let mark = Mark::read(&metadata.labels, &metadata.annotations).map_err(|problem| match problem {
            NoMark::Unmarked => "it has no mark of a worker".to_owned(),
            NoMark::Malformed(key) => format!("its mark has no valid '{key}'"),
        })?;
        Ok(Self {
            project: project.to_owned(),
            region: region.to_owned(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone().filter(|uid| !uid.is_empty()).ok_or("it has no uid")?,
            mark,
            created_at: seconds(metadata.creation_timestamp.as_ref()).ok_or("it has no time of creation")?,
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            executions: Executions::from_status(job),
        })
    }

    /// Whether it runs its flow run, or may come to.
    pub fn is_live(&self) -> bool {
        let may_run = [ExecutionsStatus::None, ExecutionsStatus::Active, ExecutionsStatus::Unknown];
        !self.is_being_deleted && may_run.contains(&self.executions.status)
    }

    /// Whether both are the same job with the same mark, though their executions may differ.
    pub fn is_same_job(&self, other: &Self) -> bool {
        (&self.name, &self.uid) == (&other.name, &other.uid) && self.mark.is_of_same_run(&other.mark)
    }
}

impl Executions {
    /// What the job's own status tells.
    fn from_status(job: &Job) -> Self {
        let count = job.status.execution_count.unwrap_or_default();
        let Some(latest) = &job.status.latest_created_execution else {
            // Every job has conditions. An answer without them may lack more.
            let tells = count <= 0 && !job.status.conditions.is_empty();
            return Self {
                status: if tells { ExecutionsStatus::None } else { ExecutionsStatus::Unknown },
                ..Self::default()
            };
        };
        let completed_at = seconds(latest.completion_timestamp.as_ref());
        let status = match latest.completion_status {
            _ if latest.name.is_empty() => ExecutionsStatus::Unknown,
            Some(CompletionStatus::ExecutionPending | CompletionStatus::ExecutionRunning) => ExecutionsStatus::Active,
            // An earlier one may still run. Without the time of its end, nobody can tell what came after it.
            _ if count > 1 || completed_at.is_none() => ExecutionsStatus::Unknown,
            Some(CompletionStatus::ExecutionSucceeded) => ExecutionsStatus::Succeeded,
            Some(CompletionStatus::ExecutionFailed) => ExecutionsStatus::Failed,
            Some(CompletionStatus::ExecutionCancelled) => ExecutionsStatus::Cancelled,
            Some(CompletionStatus::CompletionStatusUnspecified) | None => ExecutionsStatus::Unknown,
        };
        let has_ended = !matches!(status, ExecutionsStatus::Active | ExecutionsStatus::Unknown);
        let name = Some(latest.name.clone()).filter(|name| !name.is_empty());
        Self { status, name, uid: None, completed_at: completed_at.filter(|_| has_ended) }
    }

    /// What a complete list of the job's executions tells, where the status of the job does not.
    pub(super) fn from_list(job: &Job, executions: &[Execution]) -> Self {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        // Executions of an earlier job of this name may be listed for a while.
        let is_ours = |execution: &&Execution| {
            execution.job_uids().next().is_none() || execution.job_uids().any(|job| job == uid)
        };
        let ours: Vec<_> = executions.iter().filter(is_ours).collect();
        if ours.iter().any(|execution| execution.metadata.name.is_empty()) {
            return Self::default();
        }
        if let Some(active) = ours.iter().find(|execution| execution.completed().is_none()) {
            return Self::of(ExecutionsStatus::Active, active, None);
        }
        // A list may lag behind a start. The job names its latest execution, and may say that it has ended.
        let latest = job.status.latest_created_execution.as_ref();
        let lacks_latest = latest.is_some_and(|latest| {
            let has_ended = matches!(
                latest.completion_status,
                Some(
                    CompletionStatus::ExecutionSucceeded
                        | CompletionStatus::ExecutionFailed
                        | CompletionStatus::ExecutionCancelled
                )
            );
            !has_ended && ours.iter().all(|execution| execution.metadata.name != latest.name)
        });
        if lacks_latest {
            return Self::default();
        }
        if ours.is_empty() {
            let status = if job.has_executions() { ExecutionsStatus::Removed } else { ExecutionsStatus::Unknown };
            return Self { status, ..Self::default() };
        }
        let ends: Option<Vec<f64>> = ours.iter().map(|execution| end_of(execution)).collect();
        let Some(last) = ends.and_then(|ends| ends.into_iter().reduce(f64::max)) else { return Self::default() };
        let found = [ExecutionsStatus::Succeeded, ExecutionsStatus::Failed, ExecutionsStatus::Cancelled]
            .into_iter()
            .find_map(|status| Some((status, ours.iter().find(|execution| ending_of(execution) == status)?)));
        found.map_or_else(Self::default, |(status, execution)| Self::of(status, execution, Some(last)))
    }

    fn of(status: ExecutionsStatus, execution: &Execution, completed_at: Option<f64>) -> Self {
        let metadata = &execution.metadata;
        Self { status, name: Some(metadata.name.clone()), uid: metadata.uid.clone(), completed_at }
    }
}

fn ending_of(execution: &Execution) -> ExecutionsStatus {
    match execution.completed() {
        Some(Condition { status: ConditionStatus::True, .. }) => ExecutionsStatus::Succeeded,
        Some(condition) if condition.reason.as_deref() == Some("Cancelled") => ExecutionsStatus::Cancelled,
        Some(_) => ExecutionsStatus::Failed,
        None => ExecutionsStatus::Active,
    }
}

fn end_of(execution: &Execution) -> Option<f64> {
    let transition = || seconds(execution.completed()?.last_transition_time.as_ref());
    seconds(execution.status.completion_time.as_ref()).or_else(transition)
}

/// A time of the API, in seconds since 1970.
fn seconds(timestamp: Option<&String>) -> Option<f64> {
    let time = DateTime::parse_from_rfc3339(timestamp?).ok()?;
    #[allow(clippy::cast_precision_loss, reason = "microseconds of this millennium are exact")]
    Some(time.timestamp_micros() as f64 / 1e6)
}

#[cfg(test)]
mod tests;
