//! Conditions as Cloud Run writes them; words from captured objects.

use super::store::now;
use crate::api::types::{Condition, ConditionStatus};

/// Sets a condition, and its transition time when its status changes.
pub(super) fn set(
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

/// The conditions of a job whose image is being looked up.
pub(super) fn of_new_job() -> Vec<Condition> {
    let mut conditions = Vec::new();
    set(&mut conditions, "Ready", ConditionStatus::Unknown, None, None);
    conditions
}

/// The conditions of an execution that nothing has begun for.
pub(super) fn of_new_execution() -> Vec<Condition> {
    let mut conditions = Vec::new();
    let waiting = |what: &str| Some(format!("Waiting for {what}."));
    set(&mut conditions, "Completed", ConditionStatus::Unknown, None, waiting("execution to complete"));
    set(
        &mut conditions,
        "ResourcesAvailable",
        ConditionStatus::Unknown,
        None,
        waiting("resources to become available"),
    );
    set(&mut conditions, "Started", ConditionStatus::Unknown, None, waiting("execution to start"));
    set(&mut conditions, "ContainerReady", ConditionStatus::Unknown, None, None);
    conditions
}

/// Marks an execution as begun, `seconds` after its creation.
pub(super) fn start(conditions: &mut Vec<Condition>, seconds: f64) {
    set(conditions, "ContainerReady", ConditionStatus::True, None, Some("Imported container image.".to_owned()));
    let provisioned = "Provisioned imported containers.".to_owned();
    set(conditions, "ResourcesAvailable", ConditionStatus::True, None, Some(provisioned));
    let started = format!("Started deployed execution in {seconds:.2}s.");
    set(conditions, "Started", ConditionStatus::True, None, Some(started));
}

/// Says that a failed task is tried again. The condition stays `True` on an execution that ended.
pub(super) fn retry(conditions: &mut Vec<Condition>) {
    let message = "System will retry after 0:00:00 from lastTransitionTime for attempt 0.".to_owned();
    set(conditions, "Retry", ConditionStatus::True, Some("ImmediateRetry"), Some(message));
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
        let mut conditions = of_new_job();
        conditions[0].last_transition_time = Some("before".to_owned());
        set(&mut conditions, "Ready", ConditionStatus::Unknown, Some("Waiting"), None);
        assert_eq!(conditions[0].last_transition_time.as_deref(), Some("before"));
        set(&mut conditions, "Ready", ConditionStatus::True, None, None);
        assert_ne!(conditions[0].last_transition_time.as_deref(), Some("before"));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn a_retry_is_of_no_weight() {
        let mut conditions = of_new_execution();
        retry(&mut conditions);
        assert_eq!(find_condition(&conditions, "Retry").unwrap().severity.as_deref(), Some("Info"));
    }
}
