//! Pictures of what was there, for reads that lag behind.

use std::{collections::HashMap, time::Instant};

use super::{
    collection::Collection,
    errors::ApiError,
    store::{Place, PlaceKey, State},
};
use crate::api::types::{Execution, Job};

/// What was there at some moment.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) taken: Instant,
    places: HashMap<PlaceKey, Resources>,
    nothing: Resources,
}

#[derive(Debug, Default)]
struct Resources {
    jobs: Collection<Job>,
    executions: Collection<Execution>,
}

/// Nothing at all.
impl Default for Past {
    fn default() -> Self {
        Self { taken: Instant::now(), places: HashMap::new(), nothing: Resources::default() }
    }
}

impl Past {
    pub(super) fn of(state: &State) -> Self {
        let picture = |(key, contents): (&PlaceKey, &super::store::Contents)| {
            let jobs = contents.jobs.map(|record| record.job.clone());
            let executions = contents.executions.map(|record| record.execution.clone());
            (key.clone(), Resources { jobs, executions })
        };
        Self { places: state.places().map(picture).collect(), ..Self::default() }
    }

    fn at(&self, place: &Place) -> &Resources {
        self.places.get(&place.key()).unwrap_or(&self.nothing)
    }

    pub(super) fn jobs(&self, place: &Place) -> &Collection<Job> {
        &self.at(place).jobs
    }

    pub(super) fn executions(&self, place: &Place) -> &Collection<Execution> {
        &self.at(place).executions
    }

    pub(super) fn job(&self, place: &Place, name: &str) -> Result<&Job, ApiError> {
        self.jobs(place).get(name).ok_or_else(|| place.no_such_job(name))
    }

    pub(super) fn execution(&self, place: &Place, name: &str) -> Result<&Execution, ApiError> {
        self.executions(place).get(name).ok_or_else(|| place.no_such_execution(name))
    }
}
