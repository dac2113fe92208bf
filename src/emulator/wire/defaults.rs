//! The values that Cloud Run fills in where a job leaves them out, as captured objects show them.

use serde_json::json;

use super::project_region::ProjectRegion;
use crate::{
    api::types::ExecutionTemplateSpec,
    limits::{DEFAULT_CPU, DEFAULT_MEMORY},
};

/// Tasks of an execution.
pub(crate) const DEFAULT_TASK_COUNT: i64 = 1;
/// How often a failed task is retried.
pub(crate) const DEFAULT_MAX_RETRIES: i64 = 3;
/// Timeout of one attempt of a task, in seconds.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: i64 = 600;

/// Fills in what a job's template leaves out, the resource limits of its containers included.
pub(crate) fn fill_in_defaults(template: &mut ExecutionTemplateSpec, place: &ProjectRegion) {
    template.spec.task_count.get_or_insert(DEFAULT_TASK_COUNT);
    let task = &mut template.spec.template.spec;
    task.max_retries.get_or_insert(DEFAULT_MAX_RETRIES);
    task.timeout_seconds.get_or_insert(DEFAULT_TIMEOUT_SECONDS);
    task.service_account_name.get_or_insert_with(|| format!("{}-compute@developer.gserviceaccount.com", place.number));
    for container in &mut task.containers {
        let resources = container.extra.entry("resources").or_insert_with(|| json!({}));
        let Some(resources) = resources.as_object_mut() else { continue };
        let Some(limits) = resources.entry("limits").or_insert_with(|| json!({})).as_object_mut() else { continue };
        limits.entry("cpu").or_insert_with(|| json!(DEFAULT_CPU));
        limits.entry("memory").or_insert_with(|| json!(DEFAULT_MEMORY));
    }
}
