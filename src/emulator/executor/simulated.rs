//! Simulated attempts of tasks, which run nothing. Each costs one timer, so thousands of executions are cheap.

use std::time::Duration;

use tokio::sync::watch;

use super::attempt::{AttemptFailure, TaskAttempt, TaskAttemptEnd, wait_for_stop};
use crate::emulator::{
    simulation::{MESSAGE_ANNOTATION, SimulatedOutcome, annotated_duration, annotated_outcome},
    store::StopRequest,
};

/// Duration and outcome of attempts whose execution has no annotations for them.
#[derive(Debug)]
pub(crate) struct SimulatedExecutor {
    pub(crate) duration: Duration,
    pub(crate) outcome: SimulatedOutcome,
}

impl SimulatedExecutor {
    pub(super) async fn run(&self, attempt: &TaskAttempt, stop: &mut watch::Receiver<StopRequest>) -> TaskAttemptEnd {
        // Malformed annotations were refused when the job was created.
        let duration = annotated_duration(&attempt.annotations).ok().flatten().unwrap_or(self.duration);
        let outcome = annotated_outcome(&attempt.annotations).ok().flatten().unwrap_or(self.outcome);
        tokio::select! {
            () = tokio::time::sleep(duration.min(attempt.timeout)) => {}
            () = wait_for_stop(stop, StopRequest::Cancel) => return TaskAttemptEnd::Stopped,
        }
        let end = match outcome {
            _ if duration >= attempt.timeout => TaskAttemptEnd::TimedOut,
            SimulatedOutcome::Success => TaskAttemptEnd::Succeeded,
            SimulatedOutcome::Failure => TaskAttemptEnd::exited(1),
            SimulatedOutcome::Timeout => TaskAttemptEnd::TimedOut,
            SimulatedOutcome::ExitCode(code) => TaskAttemptEnd::exited(code),
            SimulatedOutcome::Signal(signal) => TaskAttemptEnd::signalled(signal),
            SimulatedOutcome::OutOfMemory => TaskAttemptEnd::out_of_memory(),
        };
        match (end, attempt.annotations.get(MESSAGE_ANNOTATION)) {
            (TaskAttemptEnd::Failed(failure), Some(message)) => {
                TaskAttemptEnd::Failed(AttemptFailure { message: message.clone(), ..failure })
            }
            (end, _) => end,
        }
    }
}
