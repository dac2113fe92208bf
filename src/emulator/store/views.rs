//! Views of the whole store, for the emulator's own pages and for tests.

use chrono::{DateTime, Utc};

use super::{
    history::{EventKind, JobLife},
    regions::Store,
};
use crate::{
    api::types::{Execution, Job},
    emulator::wire::project_number,
};

/// An execution that may have a log.
#[derive(Clone, Debug)]
pub(crate) struct LogSource {
    pub(crate) region: String,
    pub(crate) job: String,
    pub(crate) execution: String,
    /// When it was created.
    pub(crate) since: DateTime<Utc>,
}

impl Store {
    /// The lives of all jobs, deleted jobs included, in the order of their creation.
    pub(crate) fn job_lives(&self) -> Vec<JobLife> {
        let present = self.regions().flat_map(|(_, region)| region.jobs.iter().map(|record| &record.life));
        let mut lives: Vec<JobLife> = self.deleted.iter().chain(present).cloned().collect();
        lives.sort_by(|one, other| created(one).cmp(created(other)));
        lives
    }

    /// The executions of a project that `is_wanted` selects, also those that were deleted.
    pub(crate) fn log_sources(&self, project: &str, is_wanted: impl Fn(&LogSource) -> bool) -> Vec<LogSource> {
        let number = project_number(project);
        let present = self.regions().flat_map(|(_, region)| region.jobs.iter().map(|record| &record.life));
        let lives = self.deleted.iter().chain(present).filter(|life| project_number(&life.project) == number);
        let sources = lives.flat_map(|life| {
            life.events.iter().filter(|event| event.kind == EventKind::ExecutionCreated).filter_map(|event| {
                Some(LogSource {
                    region: life.region.clone(),
                    job: life.job.clone(),
                    execution: event.execution.clone()?,
                    since: DateTime::parse_from_rfc3339(&event.time).ok()?.to_utc(),
                })
            })
        });
        sources.filter(is_wanted).collect()
    }

    /// The jobs of all projects and regions, oldest first.
    pub(crate) fn all_jobs(&self) -> Vec<Job> {
        let records = self.regions().flat_map(|(_, region)| region.jobs.iter());
        let mut jobs: Vec<Job> = records.map(|record| record.job.clone()).collect();
        jobs.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
        jobs
    }

    /// The executions of all projects and regions, oldest first.
    pub(crate) fn all_executions(&self) -> Vec<Execution> {
        let records = self.regions().flat_map(|(_, region)| region.executions.iter());
        let mut executions: Vec<Execution> = records.map(|record| record.execution.clone()).collect();
        executions.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
        executions
    }
}

fn created(life: &JobLife) -> &str {
    life.events.first().map_or("", |event| event.time.as_str())
}
