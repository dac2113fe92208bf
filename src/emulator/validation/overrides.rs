//! Overrides of one execution, in the body of `jobs.run` (schema `Overrides`).

use serde_json::Value;

use super::job::check_execution_spec;
use crate::{
    api::types::{Container, EnvVar, ExecutionSpec},
    emulator::wire::ApiRefusal,
};

/// Applies the overrides in a request, whose types have been checked, to an execution, and checks the result. Without
/// overrides it changes and checks nothing.
pub(crate) fn apply_overrides(spec: &mut ExecutionSpec, request: &Value) -> Result<(), ApiRefusal> {
    let Some(overrides) = request.get("overrides") else { return Ok(()) };
    if let Some(delay) = overrides.get("delayExecution") {
        // The execution shows it. It starts at once all the same: Google promises only that it does within twelve hours.
        spec.extra.insert("delayExecution".to_owned(), delay.clone());
    }
    let integer =
        |name: &str| overrides.get(name).and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
    spec.task_count = integer("taskCount").or(spec.task_count);
    let task = &mut spec.template.spec;
    task.timeout_seconds = integer("timeoutSeconds").or(task.timeout_seconds);
    let items = overrides.get("containerOverrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let container = match item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            None => task.containers.first_mut(),
            Some(name) => task.containers.iter_mut().find(|container| container_name(container) == Some(name)),
        };
        let Some(container) = container else {
            let field = format!("overrides.containerOverrides[{index}].name");
            return Err(ApiRefusal::invalid_field(field, "names no container of the job."));
        };
        override_container(container, item);
    }
    check_execution_spec(spec)
}

fn container_name(container: &Container) -> Option<&str> {
    container.extra.get("name").and_then(Value::as_str)
}

/// Replaces the arguments, and adds or replaces variables.
fn override_container(container: &mut Container, item: &Value) {
    let args: Vec<String> =
        item.get("args").and_then(|args| serde_json::from_value(args.clone()).ok()).unwrap_or_default();
    if !args.is_empty() || item.get("clearArgs") == Some(&Value::Bool(true)) {
        container.args = args;
    }
    let env: Vec<EnvVar> = item.get("env").and_then(|env| serde_json::from_value(env.clone()).ok()).unwrap_or_default();
    for variable in env {
        match container.env.iter_mut().find(|present| present.name == variable.name) {
            Some(present) => *present = variable,
            None => container.env.push(variable),
        }
    }
}
