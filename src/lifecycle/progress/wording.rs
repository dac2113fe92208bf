//! The log lines of a run. Alerts on the upstream worker's log match parts of some of them: those must stay.

use std::{fmt, time::Duration};

use super::update::Progress;
use crate::api::{
    ApiMethod, ErrorKind, RetryNotice,
    types::{Condition, ConditionStatus},
};

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The lines up to the next comment are matched by alerts.
            Self::Creating { job } => write!(f, "Creating Cloud Run Job {job}"),
            Self::Submitting { job } => write!(f, "Submitting Cloud Run Job '{job}' for execution."),
            Self::Succeeded { job, .. } => write!(f, "Job Run {job} completed successfully"),
            Self::Failed { job, message, .. } => write!(f, "Job Run {job} did not complete successfully. {message}"),
            Self::Removed { job, killed, .. } => {
                write!(f, "Cloud Run Job '{job}' or its execution was deleted before the execution ended")?;
                f.write_str(if *killed { ", because Prefect asked this worker to stop the flow run" } else { "" })
            }
            Self::Log { uri } => write!(f, "Job Run logs can be found on GCP at: {uri}"),
            Self::Deleting { job, completed: true } => write!(f, "Deleting completed Cloud Run Job '{job}'"),

            // The lines from here on are ours alone.
            Self::Deleting { job, completed: false } => write!(f, "Deleting Cloud Run Job '{job}'"),
            Self::Diagnosed { diagnosis } => write!(f, "Diagnosis: {}", diagnosis),
            Self::Created { job, .. } => write!(f, "Cloud Run Job '{job}' created; waiting for it to become ready"),
            Self::AwaitingReady { job, condition: Some(condition), .. }
                if condition.status == ConditionStatus::False =>
            {
                let condition = sentence(&describe_condition(condition));
                write!(f, "Cloud Run Job '{job}' cannot run: {condition} Waiting for some seconds in case this passes")
            }
            Self::AwaitingReady { job, condition: Some(condition), .. } => {
                write!(f, "Cloud Run Job '{job}' is not ready yet: {}", describe_condition(condition))
            }
            Self::AwaitingReady { job, condition: None, .. } => write!(f, "Cloud Run Job '{job}' is not ready yet"),
            Self::AwaitingCapacity { error, max_wait } => {
                let max_wait = describe_duration(*max_wait);
                let created = error.method == ApiMethod::CreateJob;
                f.write_str(if created {
                    "Cloud Run accepts no more jobs for now; "
                } else {
                    "Cloud Run accepts no more executions for now; "
                })?;
                write!(f, "waiting for up to {max_wait}. {error}")
            }
            Self::CheckingLeftover { job, max_wait, error } => write!(
                f,
                "Cloud Run Job '{job}' may have been created although the create request failed; checking for up to {}. \
                 {}",
                describe_duration(*max_wait),
                error.brief()
            ),
            Self::Recovering { error } => {
                let what = match error.status {
                    None => "No response to the start request",
                    Some(_) => "The start request failed, but may have taken effect",
                };
                write!(f, "{what}; checking whether an execution was created. {}", error.brief())
            }
            Self::NotStarted { job } => {
                write!(f, "No execution of Cloud Run Job '{job}' was created; sending the start request again")
            }
            Self::StartedAnotherJob { job, execution } => write!(
                f,
                "Cloud Run Job '{job}' was replaced by another job of the same name just before its start. The start \
                 request started that job: execution '{execution}'. The worker leaves it alone"
            ),
            Self::Started { job, execution } => write!(f, "Cloud Run Job '{job}' started execution '{execution}'"),
            Self::Running { facts } => write!(f, "Execution '{}' is running", facts.name),
            Self::Killing { job } => write!(
                f,
                "Prefect asked this worker to stop the flow run of Cloud Run Job '{job}'; looking for the job to delete it"
            ),
            Self::Deleted { job } => write!(f, "Cloud Run Job '{job}' deleted"),
            Self::Kept { job } => write!(f, "Keeping Cloud Run Job '{job}', because keep_job is set"),
            // A delete that did not take place leaves no doubt.
            Self::Leaked { job, delete_command, error }
                if error.method == ApiMethod::DeleteJob && error.kind != ErrorKind::NotFound && !error.maybe_done =>
            {
                write!(f, "Cloud Run Job '{job}' still exists. Delete it: {delete_command}. {error}")
            }
            Self::Leaked { job, delete_command, error } => {
                write!(f, "Cloud Run Job '{job}' may still exist. If it does, delete it: {delete_command}. {error}")
            }
            Self::UnknownOwner { job, delete_command } => write!(
                f,
                "A Cloud Run Job '{job}' exists, but the worker can't tell whether this flow run or another one created \
                 it, because the jobs of this flow run carry no label of it. The worker did not delete it. If it belongs \
                 to this flow run, delete it: {delete_command}"
            ),
            Self::DeletionDelayed { job, pause, error } => write!(
                f,
                "Cloud Run Job '{job}' could not be deleted yet. The worker tries again in {:.1} s, and goes on for as long \
                 as it runs. {error}",
                pause.as_secs_f64()
            ),
            Self::ReadsContradict { job, execution } => write!(
                f,
                "Reads do not find execution '{execution}', but Cloud Run Job '{job}' shows that it exists. The worker goes \
                 on watching it"
            ),
            Self::LostSight { job, execution, delete_command } => write!(
                f,
                "Reads do not find execution '{execution}' any more, and Cloud Run Job '{job}' does not say what became of \
                 it. The worker no longer watches it, and did not delete the job. If the execution has ended, delete the \
                 job: {delete_command}"
            ),
            Self::SecondExecution { job, oldest, execution, has_ended } => write!(
                f,
                "Cloud Run Job '{job}' has a second execution '{execution}', because a start request took effect after \
                 the worker had sent another one. The worker watches the first one, '{oldest}'. The second one {}",
                if *has_ended { "has ended already" } else { "is cancelled" }
            ),
            Self::NotCancelled { execution, cancel_command, error } => write!(
                f,
                "The second execution '{execution}' could not be cancelled. Cancel it: {cancel_command}. {error}"
            ),
            Self::LeftForLater { job, delete_command } => write!(
                f,
                "The worker stops and no longer watches Cloud Run Job '{job}', whose execution may still run. The worker \
                 did not delete the job. After the execution has ended, delete it: {delete_command}"
            ),
            Self::LeftRunning { job, delete_command, error } => write!(
                f,
                "No longer watching Cloud Run Job '{job}', whose execution may still run. The job was not deleted. \
                 After the execution has ended, delete it: {delete_command}. {error}"
            ),
            Self::Retrying { notice: RetryNotice { error, pause }, unreported } => {
                write!(f, "Retrying in {:.1} s. {}", pause.as_secs_f64(), error.brief())?;
                write_unreported(f, *unreported)
            }
            Self::PollFailed { error, pause, unreported } => {
                let pause = pause.as_secs_f64();
                write!(f, "Still watching the execution; checking again in {pause:.1} s. ")?;
                // What waiting alone does not mend needs somebody to do something.
                if error.may_pass() {
                    write!(f, "{}", error.brief())?
                } else {
                    write!(f, "{error}")?
                }
                write_unreported(f, *unreported)
            }
            Self::RateLimited { quota, project, region } => write!(
                f,
                "Rate limited: the per-minute quota for {} of project '{project}' in region '{region}' is used up; \
                 waiting. If this takes too long, request a higher quota",
                quota.name()
            ),
            Self::PollingIndividually { error, contradictions } => {
                f.write_str(
                    "Lists of executions do not work for now; reading each execution on its own, which takes more of the \
                     read quota. The worker tries a list again after a minute, and then less often. ",
                )?;
                match error {
                    Some(error) => write!(f, "{error}"),
                    None => write!(f, "{contradictions} times, a list lacked an execution that exists"),
                }
            }
            Self::ListsContradict { execution } => write!(
                f,
                "A list of executions lacks execution '{execution}', which exists. The worker reads what lists lack on its \
                 own. It says this once for all runs in this project and region"
            ),
            Self::Summary { job, phases, has_ended, retries } => {
                write!(f, "Cloud Run Job '{job}' was pending for {:.1} s", phases.pending.as_secs_f64())?;
                let running = if *has_ended { "running" } else { "watched" };
                for (phase, time) in [("ready", phases.ready), (running, phases.running)] {
                    time.map_or(Ok(()), |time| write!(f, ", {phase} for {:.1} s", time.as_secs_f64()))?;
                }
                match retries {
                    0 => f.write_str("; no retries"),
                    1 => f.write_str("; 1 retry"),
                    _ => write!(f, "; {retries} retries"),
                }
            }
        }
    }
}

/// Says how many failures the throttle left out, so that the log has no silent gap.
fn write_unreported(f: &mut fmt::Formatter<'_>, unreported: u32) -> fmt::Result {
    if unreported == 0 { Ok(()) } else { write!(f, " ({unreported} more of these since the last line)") }
}

/// A duration in its largest unit that leaves no rest: `6 h`, `90 min`, `20 s`. Fractions of a second are shown below one
/// second only.
fn describe_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} s", duration.as_secs_f64()),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// The text with a full stop, unless it ends with one.
pub(in crate::lifecycle) fn sentence(text: &str) -> String {
    if text.ends_with('.') || text.ends_with(".)") { text.to_owned() } else { format!("{text}.") }
}

/// A condition as `Ready is False, ContainerMissing: Image 'x' not found.`
pub(in crate::lifecycle) fn describe_condition(condition: &Condition) -> String {
    let mut text = format!("{} is {:?}", condition.kind, condition.status);
    for (separator, part) in [(", ", &condition.reason), (": ", &condition.message)] {
        if let Some(part) = part.as_deref().filter(|part| !part.is_empty()) {
            text = text + separator + part;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_largest_whole_unit() {
        for (seconds, text) in
            [(21_600, "6 h"), (5_400, "90 min"), (60, "1 min"), (61, "61 s"), (20, "20 s"), (0, "0 s")]
        {
            assert_eq!(describe_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(describe_duration(Duration::from_millis(500)), "0.5 s");
    }
}
