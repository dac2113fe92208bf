//! Views of the whole store, for the emulator's own pages and for tests.

use super::{history::JobLife, regions::Store};
use crate::api::types::{Execution, Job};

impl Store {
    /// The lives of all jobs, deleted jobs included, in the order of their creation.
    pub(crate) fn job_lives(&self) -> Vec<JobLife> {
        let present = self.regions().flat_map(|(_, region)| region.jobs.iter().map(|record| &record.life));
        let mut lives: Vec<JobLife> = self.deleted.iter().chain(present).cloned().collect();
        lives.sort_by(|one, other| created(one).cmp(created(other)));
        lives
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
