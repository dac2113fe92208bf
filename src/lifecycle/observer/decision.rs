//! Decides what to do about a marked job. No I/O, no clock.
//!
//! # Promises
//! - Nothing for a job that this process looks after, that is being deleted, or whose state or flow run is of an unknown kind.
//! - An active execution is stopped only if its flow run has been Cancelled for long, or was deleted and the setting says so.
//! - Crashed and Scheduled are proposed only for flow runs that are Pending or Running in this job, as far as anybody knows.
//! - A flow run whose job has no execution is given back only after the job is deleted, so that nobody can start it.
//! - A kept job is deleted only if it never had an execution and its flow run is given back.

use super::facts::{ExecutionsStatus, MarkedJob};

/// How long after its job's creation a flow run may come to its last Pending state by the same worker, in seconds. The clocks
/// of Google and of Prefect differ, and the worker tells Prefect about the job after it has created it.
const PENDING_MARGIN: f64 = 60.0;
/// How far the clocks of Google and of Prefect may differ, in seconds.
const CLOCK_MARGIN: f64 = 60.0;
/// How long after the end of its execution a flow run whose state seems as young as that end counts as abandoned, in seconds.
const CLOCK_WAIT: f64 = 600.0;
/// How often Prefect must answer 404 in a row before a flow run counts as deleted.
const TIMES_NOT_FOUND: u32 = 2;

/// The type of a flow run's state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "Prefect's names")]
pub enum StateType {
    Scheduled,
    Pending,
    Running,
    Paused,
    Cancelling,
    Cancelled,
    Completed,
    Failed,
    Crashed,
    /// One that this version does not know.
    Other,
}

impl StateType {
    /// The type with Prefect's name for it.
    pub fn parse(name: &str) -> Self {
        match name {
            "SCHEDULED" => Self::Scheduled,
            "PENDING" => Self::Pending,
            "RUNNING" => Self::Running,
            "PAUSED" => Self::Paused,
            "CANCELLING" => Self::Cancelling,
            "CANCELLED" => Self::Cancelled,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "CRASHED" => Self::Crashed,
            _ => Self::Other,
        }
    }

    fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Completed | Self::Failed | Self::Crashed)
    }
}

/// What Prefect says about a flow run. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRunFacts {
    /// The type of its state.
    pub state: StateType,
    /// When it came to this state.
    pub state_timestamp: f64,
    /// The name of its job.
    pub infrastructure_pid: Option<String>,
}

/// What else a decision depends on. Durations are in seconds. See `_core.pyi`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "documented in Python")]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct Circumstances {
    pub now: f64,
    pub is_watched: bool,
    /// Also for a job of this process that it does not watch.
    pub creator_is_gone: bool,
    pub other_live_job: bool,
    pub younger_live_job: bool,
    pub is_complete: bool,
    pub times_not_found: u32,
    pub tries_left: bool,
    pub stop_deleted: bool,
    pub cancelled_grace: f64,
    pub settle: f64,
    pub silent_settle: f64,
}

/// What to do about a job. See `_core.pyi`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "documented in Python")]
pub enum Action {
    Nothing,
    Watch,
    Delete,
    Stop,
    Crash,
    GiveBack,
    DeleteThenCrash,
}

impl Action {
    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Watch => "watch",
            Self::Delete => "delete",
            Self::Stop => "stop",
            Self::Crash => "crash",
            Self::GiveBack => "give_back",
            Self::DeleteThenCrash => "delete_then_crash",
        }
    }
}

/// An action, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The action.
    pub action: Action,
    /// Why, as a clause.
    pub reason: &'static str,
}

fn decision(action: Action, reason: &'static str) -> Decision {
    Decision { action, reason }
}

fn nothing(reason: &'static str) -> Decision {
    decision(Action::Nothing, reason)
}

/// Decides what to do about a job. `flow_run` is `None` if Prefect says that it does not exist.
pub fn decide(job: &MarkedJob, flow_run: Option<&FlowRunFacts>, circumstances: &Circumstances) -> Decision {
    if circumstances.is_watched {
        return nothing("this process looks after it");
    }
    if job.is_being_deleted {
        return nothing("it is being deleted");
    }
    if flow_run.is_some_and(|flow_run| flow_run.state == StateType::Other) {
        return nothing("its flow run is in a state of an unknown type");
    }
    match job.executions.status {
        ExecutionsStatus::Unknown => nothing("its status does not tell how its executions stand"),
        ExecutionsStatus::Active => about_active(flow_run, circumstances),
        ExecutionsStatus::None => about_unstarted(job, flow_run, circumstances),
        ExecutionsStatus::Succeeded
        | ExecutionsStatus::Failed
        | ExecutionsStatus::Cancelled
        | ExecutionsStatus::Removed => about_ended(job, flow_run, circumstances),
    }
}

fn about_active(flow_run: Option<&FlowRunFacts>, circumstances: &Circumstances) -> Decision {
    match flow_run {
        None if circumstances.times_not_found >= TIMES_NOT_FOUND && circumstances.stop_deleted => {
            decision(Action::Stop, "its flow run was deleted, and its execution still runs")
        }
        None => decision(Action::Watch, "its execution runs, though its flow run does not exist any more"),
        Some(FlowRunFacts { state: StateType::Cancelled, state_timestamp, .. })
            if circumstances.now - state_timestamp > circumstances.cancelled_grace =>
        {
            decision(Action::Stop, "its flow run is Cancelled, and its execution still runs")
        }
        Some(_) => decision(Action::Watch, "its execution runs"),
    }
}

/// A job that has no execution: its worker waits for readiness or for room, or is gone.
fn about_unstarted(job: &MarkedJob, flow_run: Option<&FlowRunFacts>, circumstances: &Circumstances) -> Decision {
    #[allow(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
    let has_given_up = circumstances.now > job.mark.give_up_at.timestamp() as f64;
    // Its worker may have sent the start just before it went.
    let is_left = circumstances.creator_is_gone && circumstances.now - job.created_at >= circumstances.settle;
    if !has_given_up && !is_left {
        return nothing("its worker may still start it");
    }
    let why = if has_given_up {
        "its worker has not started it in time"
    } else {
        "its worker is gone and has not started it"
    };
    let Some(flow_run) = flow_run else {
        return when_not_found(job, circumstances, why);
    };
    if flow_run.state != StateType::Pending {
        return delete(job, why);
    }
    if !is_of_this_job(job, flow_run) {
        return delete(job, "its flow run has another job");
    }
    if circumstances.other_live_job {
        // The youngest one stays. If each gave way to the other, the flow run would have none.
        return if flow_run.infrastructure_pid.is_none() && circumstances.younger_live_job {
            delete(job, "it was not started, and its flow run has a younger job")
        } else {
            nothing("its flow run has another job, which is looked at first")
        };
    }
    if !may_be_the_only_job(flow_run, circumstances) {
        return nothing("its flow run may have another job where the list failed");
    }
    // Another worker has taken the flow run since, and will create a job of its own.
    if flow_run.state_timestamp > job.created_at + PENDING_MARGIN {
        return delete(job, "its flow run was submitted again since");
    }
    // A job that never ran is of no use to anybody, kept or not, and must not be started after that.
    decision(if circumstances.tries_left { Action::GiveBack } else { Action::DeleteThenCrash }, why)
}

/// A job whose executions have all ended.
fn about_ended(job: &MarkedJob, flow_run: Option<&FlowRunFacts>, circumstances: &Circumstances) -> Decision {
    // When an execution was deleted is not known.
    let end = job.executions.completed_at.unwrap_or(circumstances.now - circumstances.settle);
    let since_end = circumstances.now - end;
    let is_silent = job.executions.status == ExecutionsStatus::Succeeded;
    let is_unfinished =
        flow_run.is_some_and(|flow_run| matches!(flow_run.state, StateType::Pending | StateType::Running));
    let wait = match (is_silent && is_unfinished, circumstances.creator_is_gone) {
        // Its own worker reports nothing after a success.
        (true, _) => circumstances.silent_settle,
        (false, true) => 0.0,
        (false, false) => circumstances.settle,
    };
    // A time that is no number counts as too early.
    if since_end.is_nan() || since_end < wait {
        return nothing("its execution has just ended: its own worker comes first");
    }
    let Some(flow_run) = flow_run else {
        return when_not_found(job, circumstances, "its execution has ended, and its flow run does not exist any more");
    };
    if !is_unfinished {
        let why = if flow_run.state.is_final() {
            "its execution and its flow run have ended"
        } else {
            "its execution has ended, and its flow run goes on without it"
        };
        return delete(job, why);
    }
    if !is_of_this_job(job, flow_run) {
        return delete(job, "its execution has ended, and its flow run has another job");
    }
    if circumstances.other_live_job {
        return nothing("its flow run has another job, which is looked at first");
    }
    if !may_be_the_only_job(flow_run, circumstances) {
        return nothing("its flow run may have another job where the list failed");
    }
    let later = flow_run.state_timestamp - end;
    if later.is_nan() || later >= 0.0 {
        if job.executions.completed_at.is_none() {
            return nothing("its execution was deleted at an unknown time: its own worker comes first");
        }
        if later > CLOCK_MARGIN {
            return delete(job, "its execution has ended, and its flow run came to its state later");
        }
        // The clocks may differ: then the state is older than it seems. What runs elsewhere moves on meanwhile.
        if later.is_nan() || since_end < CLOCK_WAIT || flow_run.infrastructure_pid.is_none() {
            return nothing("its flow run came to its state when its execution ended: it may go on elsewhere");
        }
    }
    let why = match job.executions.status {
        ExecutionsStatus::Succeeded => "its container ended and reported nothing",
        ExecutionsStatus::Failed => "its execution failed",
        ExecutionsStatus::Removed => "its execution was deleted",
        _ => "its execution was cancelled",
    };
    decision(Action::Crash, why)
}

/// Whether the flow run has no other job, as far as the lists show: one that failed shows nothing.
fn may_be_the_only_job(flow_run: &FlowRunFacts, circumstances: &Circumstances) -> bool {
    circumstances.is_complete || flow_run.infrastructure_pid.is_some()
}

/// Whether this job is the flow run's, as far as Prefect knows.
fn is_of_this_job(job: &MarkedJob, flow_run: &FlowRunFacts) -> bool {
    flow_run.infrastructure_pid.as_ref().is_none_or(|pid| *pid == job.name)
}

fn when_not_found(job: &MarkedJob, circumstances: &Circumstances, why: &'static str) -> Decision {
    if circumstances.times_not_found >= TIMES_NOT_FOUND {
        return delete(job, why);
    }
    nothing("its flow run was not found once: the next pass looks again")
}

/// The deletion of a job that nobody needs, unless it is to be kept.
fn delete(job: &MarkedJob, why: &'static str) -> Decision {
    if job.mark.keep { nothing("it is to be kept") } else { decision(Action::Delete, why) }
}

#[cfg(test)]
mod tests;
