//! What the emulator tells about itself, beyond the API.

use serde_json::{Value, json};

use super::{cloud::Cloud, history::JobLife};
use crate::api::types::{Execution, Job};

/// The lives of all jobs, also of those that are gone, in the order of their creation: `{"jobs": […]}`.
pub(super) fn history(cloud: &Cloud) -> Value {
    json!({ "jobs": lives(cloud) })
}

/// The lives of all jobs in the order of their creation.
pub(super) fn lives(cloud: &Cloud) -> Vec<JobLife> {
    let state = cloud.state();
    let present = state.all().flat_map(|contents| contents.jobs.iter().map(|record| &record.life));
    let mut lives: Vec<JobLife> = state.gone.iter().chain(present).cloned().collect();
    drop(state);
    lives.sort_by(|one, other| created(one).cmp(created(other)));
    lives
}

fn created(life: &JobLife) -> &str {
    life.events.first().map_or("", |event| event.time.as_str())
}

/// All jobs of all projects and regions, oldest first.
pub(super) fn jobs(cloud: &Cloud) -> Vec<Job> {
    let mut jobs: Vec<Job> =
        cloud.state().all().flat_map(|contents| contents.jobs.iter().map(|record| record.job.clone())).collect();
    jobs.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
    jobs
}

/// All executions of all projects and regions, oldest first.
pub(super) fn executions(cloud: &Cloud) -> Vec<Execution> {
    let state = cloud.state();
    let records = state.all().flat_map(|contents| contents.executions.iter());
    let mut executions: Vec<Execution> = records.map(|record| record.execution.clone()).collect();
    drop(state);
    executions.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
    executions
}
