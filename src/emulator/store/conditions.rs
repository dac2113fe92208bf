//! Conditions as Cloud Run writes them. Reasons and messages come from captured objects.

use super::clock::now;
use crate::api::types::{Condition, ConditionStatus};

/// Sets a condition, and its transition time if its status changes.
pub(super) fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: ConditionStatus,
    reason: Option<&str>,
    message: Option<String>,
) {
    let time = now();
    let index = conditions.iter().position(|condition| condition.kind == kind).unwrap_or_else(|| {
        conditions.push(Condition {
            kind: kind.to_owned(),
            last_transition_time: Some(time.clone()),
            ..Condition::default()
        });
        conditions.len() - 1
    });
    let condition = &mut conditions[index];
    if condition.status != status {
        condition.last_transition_time = Some(time);
    }
    condition.status = status;
    condition.reason = reason.map(str::to_owned);
    condition.message = message;
}

/// The conditions of a new job, whose readiness is still unknown.
pub(super) fn new_job_conditions() -> Vec<Condition> {
    let mut conditions = Vec::new();
    set_condition(&mut conditions, "Ready", ConditionStatus::Unknown, None, None);
    conditions
}

/// The conditions of a new execution, which has not started.
pub(super) fn new_execution_conditions() -> Vec<Condition> {
    let mut conditions = Vec::new();
    let waiting = |what: &str| Some(format!("Waiting for {what}."));
    set_condition(&mut conditions, "Completed", ConditionStatus::Unknown, None, waiting("execution to complete"));
    set_condition(
        &mut conditions,
        "ResourcesAvailable",
        ConditionStatus::Unknown,
        None,
        waiting("resources to become available"),
    );
    set_condition(&mut conditions, "Started", ConditionStatus::Unknown, None, waiting("execution to start"));
    set_condition(&mut conditions, "ContainerReady", ConditionStatus::Unknown, None, None);
    conditions
}

/// The conditions of a new task, which has not started.
pub(super) fn new_task_conditions() -> Vec<Condition> {
    let mut conditions = Vec::new();
    for kind in ["Completed", "Started"] {
        set_condition(&mut conditions, kind, ConditionStatus::Unknown, None, None);
    }
    conditions
}

/// Marks an execution as started, `seconds` after its creation.
pub(super) fn set_started(conditions: &mut Vec<Condition>, seconds: f64) {
    set_condition(
        conditions,
        "ContainerReady",
        ConditionStatus::True,
        None,
        Some("Imported container image.".to_owned()),
    );
    let provisioned = "Provisioned imported containers.".to_owned();
    set_condition(conditions, "ResourcesAvailable", ConditionStatus::True, None, Some(provisioned));
    let started = format!("Started deployed execution in {seconds:.2}s.");
    set_condition(conditions, "Started", ConditionStatus::True, None, Some(started));
}

/// Adds the condition of an execution of which a task was retried. It stays `True` when the execution ends.
pub(crate) fn set_retry(conditions: &mut Vec<Condition>) {
    let message = "System will retry after 0:00:00 from lastTransitionTime for attempt 0.".to_owned();
    set_condition(conditions, "Retry", ConditionStatus::True, Some("ImmediateRetry"), Some(message));
    if let Some(condition) = conditions.iter_mut().find(|condition| condition.kind == "Retry") {
        condition.severity = Some("Info".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::find_condition;

    #[test]
    fn a_transition_time_changes_with_the_status_only() {
        let mut conditions = new_job_conditions();
        conditions[0].last_transition_time = Some("before".to_owned());
        set_condition(&mut conditions, "Ready", ConditionStatus::Unknown, Some("Waiting"), None);
        assert_eq!(conditions[0].last_transition_time.as_deref(), Some("before"));
        set_condition(&mut conditions, "Ready", ConditionStatus::True, None, None);
        assert_ne!(conditions[0].last_transition_time.as_deref(), Some("before"));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn a_retry_is_only_informational() {
        let mut conditions = new_execution_conditions();
        set_retry(&mut conditions);
        assert_eq!(find_condition(&conditions, "Retry").unwrap().severity.as_deref(), Some("Info"));
    }
}
