//! What is known of an execution, for those who tell others about it.

use chrono::DateTime;

use crate::api::types::Execution;

/// What is known of a run's execution so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExecutionFacts {
    /// Its name.
    pub name: String,
    /// Its uid; `None` as long as no response has shown it.
    pub uid: Option<String>,
    /// When its tasks began, in RFC 3339; `None` if that is not known.
    pub start_time: Option<String>,
    /// When it ended, in RFC 3339; `None` if that is not known.
    pub completion_time: Option<String>,
    /// How it ended; `None` as long as it has not.
    pub ending: Option<Ending>,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Every task succeeded.
    Succeeded,
    /// A task failed.
    Failed,
    /// It was cancelled, or deleted before its end.
    Cancelled,
}

impl Ending {
    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl ExecutionFacts {
    /// Adds what a response shows. What it lacks stays: reads may lag.
    pub fn learn(&mut self, execution: &Execution) {
        if execution.metadata.name != self.name {
            *self = Self { name: execution.metadata.name.clone(), ..Self::default() };
        }
        let (uid, status) = (&execution.metadata.uid, &execution.status);
        for (known, shown) in [
            (&mut self.uid, uid),
            (&mut self.start_time, &status.start_time),
            (&mut self.completion_time, &status.completion_time),
        ] {
            if let Some(shown) = shown.as_ref().filter(|shown| !shown.is_empty()) {
                known.replace(shown.clone());
            }
        }
    }

    /// The facts of an execution that has ended like this.
    #[must_use]
    pub fn ended(&self, ending: Ending) -> Self {
        Self { ending: Some(ending), ..self.clone() }
    }
}

/// A time in RFC 3339 as seconds since 1970; `None` if it can't be parsed.
pub fn unix_seconds(time: &str) -> Option<f64> {
    let time = DateTime::parse_from_rfc3339(time).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 have 51 bits")]
    let seconds = time.timestamp_micros() as f64 / 1e6;
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn learned(facts: &mut ExecutionFacts, execution: Value) -> ExecutionFacts {
        facts.learn(&serde_json::from_value(execution).unwrap());
        facts.clone()
    }

    #[test]
    fn a_response_that_lacks_something_takes_nothing_away() {
        let mut facts = ExecutionFacts::default();
        learned(&mut facts, json!({"metadata": {"name": "e", "uid": "u"}, "status": {"startTime": "t1"}}));
        let facts = learned(&mut facts, json!({"metadata": {"name": "e"}, "status": {"completionTime": "t2"}}));
        assert_eq!((facts.uid.as_deref(), facts.start_time.as_deref()), (Some("u"), Some("t1")));
        assert_eq!((facts.completion_time.as_deref(), facts.ending), (Some("t2"), None));
    }

    #[test]
    fn another_execution_has_facts_of_its_own() {
        let mut facts = ExecutionFacts::default();
        learned(&mut facts, json!({"metadata": {"name": "e", "uid": "u"}}));
        let other = learned(&mut facts, json!({"metadata": {"name": "f"}}));
        assert_eq!(other, ExecutionFacts { name: "f".to_owned(), ..ExecutionFacts::default() });
    }

    #[test]
    fn a_time_becomes_seconds() {
        assert_eq!(unix_seconds("1970-01-01T00:01:00.5Z"), Some(60.5));
        assert_eq!(unix_seconds("soon"), None);
    }
}
