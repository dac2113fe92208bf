//! The environment of a container: `PATH`, its own variables and those that Cloud Run sets. Nothing else.

use std::collections::BTreeMap;

use super::attempt::TaskAttempt;
use crate::{
    api::Secret,
    emulator::wire::{MISSING_SECRET_HINT, secret_of},
};

/// The environment of an attempt. The error is a message that names a missing secret.
///
/// Leaves references such as `$(VAR)` as they are: "Variable references are not supported in Cloud Run" (discovery
/// document, `EnvVar.value`, `Container.args`).
pub(super) fn environment_of(
    attempt: &TaskAttempt,
    secrets: &BTreeMap<String, Secret>,
    path: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), path.to_owned())]);
    for variable in &attempt.container.env {
        let value = match secret_of(variable) {
            Some(name) => {
                let missing = || format!("Secret '{name}' was not found. {MISSING_SECRET_HINT}");
                secrets.get(name).ok_or_else(missing)?.reveal().to_owned()
            }
            None => variable.value.clone().unwrap_or_default(),
        };
        environment.insert(variable.name.clone(), value);
    }
    for (name, value) in [
        ("CLOUD_RUN_JOB", attempt.job.to_string()),
        ("CLOUD_RUN_EXECUTION", attempt.execution.to_string()),
        ("CLOUD_RUN_TASK_INDEX", attempt.task.to_string()),
        ("CLOUD_RUN_TASK_ATTEMPT", attempt.number.to_string()),
        ("CLOUD_RUN_TASK_COUNT", attempt.task_count.to_string()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    Ok(environment)
}
