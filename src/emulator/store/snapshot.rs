//! Snapshots of the store, from which stale reads are answered.

use std::{collections::HashMap, time::Instant};

use super::{
    collection::Collection,
    regions::{RegionState, Store},
};
use crate::{
    api::types::{Execution, Job, Task},
    emulator::wire::{ApiRefusal, ProjectRegion, ProjectRegionKey},
};

/// A copy of all jobs, executions and tasks at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) taken: Instant,
    regions: HashMap<ProjectRegionKey, RegionSnapshot>,
    /// Stands for projects and regions that had nothing at that moment.
    empty: RegionSnapshot,
}

#[derive(Debug, Default)]
struct RegionSnapshot {
    jobs: Collection<Job>,
    executions: Collection<Execution>,
    tasks: Collection<Task>,
}

/// The snapshot of an empty store.
impl Default for Snapshot {
    fn default() -> Self {
        Self { taken: Instant::now(), regions: HashMap::new(), empty: RegionSnapshot::default() }
    }
}

impl Snapshot {
    pub(crate) fn of(store: &Store) -> Self {
        let copy = |(key, region): (&ProjectRegionKey, &RegionState)| {
            let jobs = region.jobs.map(|record| record.job.clone());
            let executions = region.executions.map(|record| record.execution.clone());
            let tasks = region.tasks.map(Clone::clone);
            (key.clone(), RegionSnapshot { jobs, executions, tasks })
        };
        Self { regions: store.regions().map(copy).collect(), ..Self::default() }
    }

    fn at(&self, place: &ProjectRegion) -> &RegionSnapshot {
        self.regions.get(&place.key()).unwrap_or(&self.empty)
    }

    pub(crate) fn jobs(&self, place: &ProjectRegion) -> &Collection<Job> {
        &self.at(place).jobs
    }

    pub(crate) fn executions(&self, place: &ProjectRegion) -> &Collection<Execution> {
        &self.at(place).executions
    }

    pub(crate) fn tasks(&self, place: &ProjectRegion) -> &Collection<Task> {
        &self.at(place).tasks
    }

    pub(crate) fn job(&self, place: &ProjectRegion, name: &str) -> Result<&Job, ApiRefusal> {
        self.jobs(place).get(name).ok_or_else(|| place.no_such_job(name))
    }

    pub(crate) fn execution(&self, place: &ProjectRegion, name: &str) -> Result<&Execution, ApiRefusal> {
        self.executions(place).get(name).ok_or_else(|| place.no_such_execution(name))
    }

    pub(crate) fn task(&self, place: &ProjectRegion, name: &str) -> Result<&Task, ApiRefusal> {
        self.tasks(place).get(name).ok_or_else(|| place.no_such_task(name))
    }
}
