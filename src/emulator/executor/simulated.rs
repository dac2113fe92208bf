//! Tries of tasks that only take time: thousands of executions cost a timer each.

use std::time::Duration;

use tokio::sync::watch;

use super::{Attempt, AttemptEnd, stopped};
use crate::emulator::{
    config::Outcome,
    executions::Stop,
    validate::{simulated_duration, simulated_outcome},
};

/// Duration and outcome of tries, unless the execution's annotations say otherwise.
#[derive(Debug)]
pub(in crate::emulator) struct Simulated {
    pub(in crate::emulator) duration: Duration,
    pub(in crate::emulator) outcome: Outcome,
}

impl Simulated {
    pub(super) async fn run(&self, attempt: &Attempt, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        // Annotations that can't be read were refused when the job was created.
        let duration = simulated_duration(&attempt.annotations).ok().flatten().unwrap_or(self.duration);
        let outcome = simulated_outcome(&attempt.annotations).ok().flatten().unwrap_or(self.outcome);
        tokio::select! {
            () = tokio::time::sleep(duration.min(attempt.timeout)) => {}
            () = stopped(stop, Stop::Cancelled) => return AttemptEnd::Stopped,
        }
        match outcome {
            _ if duration >= attempt.timeout => AttemptEnd::TimedOut,
            Outcome::Success => AttemptEnd::Succeeded,
            Outcome::Failure => AttemptEnd::Failed(1, "The container exited with an error.".to_owned()),
            Outcome::Timeout => AttemptEnd::TimedOut,
        }
    }
}
