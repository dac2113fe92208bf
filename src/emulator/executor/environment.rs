//! The environment of a container: its own variables, Cloud Run's, and PATH. Nothing else.

use std::collections::BTreeMap;

use super::Attempt;
use crate::{
    api::{Secret, types::EnvVar},
    emulator::validate::secret_name,
};

/// The environment of one try; the error names a secret that does not exist.
///
/// References such as `$(VAR)` stay as they are: "Variable references are not supported in Cloud Run" (discovery
/// document, `EnvVar.value`, `Container.args`).
pub(super) fn of(
    attempt: &Attempt,
    secrets: &BTreeMap<String, Secret>,
    path: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), path.to_owned())]);
    for variable in &attempt.container.env {
        let value = match secret_of(variable) {
            Some(name) => secrets.get(name).ok_or_else(|| missing_secret(name))?.reveal().to_owned(),
            None => variable.value.clone().unwrap_or_default(),
        };
        environment.insert(variable.name.clone(), value);
    }
    for (name, value) in [
        ("CLOUD_RUN_JOB", attempt.job.to_string()),
        ("CLOUD_RUN_EXECUTION", attempt.execution.to_string()),
        ("CLOUD_RUN_TASK_INDEX", attempt.task.to_string()),
        ("CLOUD_RUN_TASK_ATTEMPT", attempt.attempt.to_string()),
        ("CLOUD_RUN_TASK_COUNT", attempt.task_count.to_string()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    Ok(environment)
}

/// The secret that a variable takes its value from, by its last name: `s` of `projects/p/secrets/s` too.
pub(in crate::emulator) fn secret_of(variable: &EnvVar) -> Option<&str> {
    let name = variable.extra.get("valueFrom").and_then(secret_name)?;
    name.rsplit('/').next()
}

fn missing_secret(name: &str) -> String {
    format!("Secret '{name}' was not found. (The emulator knows those given with --secret NAME=VALUE.)")
}
