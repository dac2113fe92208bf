//! The store: jobs and executions of every project and region.

use std::collections::HashMap;

use chrono::Utc;

use super::{
    collection::Collection,
    history::DeletedJobs,
    records::{ExecutionRecord, JobRecord},
};
use crate::{
    api::types::Task,
    emulator::wire::{ApiRefusal, ProjectRegion, ProjectRegionKey},
};

/// The jobs, executions and tasks of one project and region.
#[derive(Debug, Default)]
pub(crate) struct RegionState {
    pub(crate) jobs: Collection<JobRecord>,
    pub(crate) executions: Collection<ExecutionRecord>,
    pub(crate) tasks: Collection<Task>,
}

/// The jobs and executions of all projects and regions, and the history of deleted jobs.
#[derive(Debug, Default)]
pub(crate) struct Store {
    regions: HashMap<ProjectRegionKey, RegionState>,
    pub(super) deleted: DeletedJobs,
    last_serial: u64,
}

impl Store {
    /// The next serial: microseconds since 1970, always higher than the one before. Serials order resources by age and
    /// are their resource versions.
    pub(super) fn next_serial(&mut self) -> u64 {
        let micros = u64::try_from(Utc::now().timestamp_micros()).unwrap_or_default();
        self.last_serial = micros.max(self.last_serial + 1);
        self.last_serial
    }

    /// The jobs and executions of a project and region, which may have none yet.
    pub(crate) fn at(&mut self, place: &ProjectRegion) -> &mut RegionState {
        self.regions.entry(place.key()).or_default()
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = (&ProjectRegionKey, &RegionState)> {
        self.regions.iter()
    }

    pub(crate) fn regions_mut(&mut self) -> impl Iterator<Item = &mut RegionState> {
        self.regions.values_mut()
    }

    /// The number of jobs in a project and region.
    pub(crate) fn job_count(&mut self, place: &ProjectRegion) -> usize {
        self.at(place).jobs.len()
    }

    /// The number of unfinished executions in a project and region.
    pub(crate) fn running_execution_count(&mut self, place: &ProjectRegion) -> usize {
        self.at(place).executions.iter().filter(|execution| !execution.is_finished()).count()
    }

    pub(crate) fn job(&mut self, place: &ProjectRegion, name: &str) -> Result<&mut JobRecord, ApiRefusal> {
        self.at(place).jobs.get_mut(name).ok_or_else(|| place.no_such_job(name))
    }

    pub(crate) fn execution(&mut self, place: &ProjectRegion, name: &str) -> Result<&mut ExecutionRecord, ApiRefusal> {
        self.at(place).executions.get_mut(name).ok_or_else(|| place.no_such_execution(name))
    }
}
