use chrono::DateTime;
use proptest::{option, prelude::*};
use uuid::Uuid;

use super::{Action::*, *};
use crate::{job::mark::Mark, lifecycle::observer::facts::Executions};

const NOW: f64 = 1_800_000_000.0;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const FINAL: [StateType; 4] = [StateType::Cancelled, StateType::Completed, StateType::Failed, StateType::Crashed];

/// A job of an hour, whose worker would have given up half an hour ago, and whose execution ended ten minutes ago.
fn job(status: ExecutionsStatus) -> MarkedJob {
    use ExecutionsStatus::{Cancelled, Failed, Succeeded};
    let has_ended = matches!(status, Succeeded | Failed | Cancelled);
    MarkedJob {
        project: "p".into(),
        region: "r".into(),
        name: "j".into(),
        uid: "u".into(),
        mark: Mark {
            pool: Uuid::from_u128(1),
            flow_run: Uuid::from_u128(2),
            process: Uuid::from_u128(3),
            worker: "w".into(),
            keep: false,
            give_up_at: time(NOW - HOUR / 2.0),
        },
        created_at: NOW - HOUR,
        is_being_deleted: false,
        executions: Executions {
            status,
            completed_at: has_ended.then_some(NOW - 10.0 * MINUTE),
            ..Executions::default()
        },
    }
}

#[allow(clippy::cast_possible_truncation)]
fn time(seconds: f64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(seconds as i64, 0).unwrap()
}

fn in_state(state: StateType) -> FlowRunFacts {
    FlowRunFacts { state, state_timestamp: NOW - HOUR, infrastructure_pid: Some("j".into()) }
}

fn circumstances() -> Circumstances {
    Circumstances {
        now: NOW,
        is_watched: false,
        creator_is_gone: false,
        other_live_job: false,
        younger_live_job: false,
        is_complete: true,
        times_not_found: 0,
        tries_left: true,
        stop_deleted: false,
        cancelled_grace: MINUTE,
        settle: 2.0 * MINUTE,
        silent_settle: MINUTE,
    }
}

struct Case {
    job: MarkedJob,
    flow_run: Option<FlowRunFacts>,
    circumstances: Circumstances,
}

impl Case {
    fn new(status: ExecutionsStatus, state: impl Into<Option<StateType>>) -> Self {
        Self { job: job(status), flow_run: state.into().map(in_state), circumstances: circumstances() }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn ended_ago(self, seconds: f64) -> Self {
        self.with(|case| case.job.executions.completed_at = Some(NOW - seconds))
    }

    fn kept(self) -> Self {
        self.with(|case| case.job.mark.keep = true)
    }

    fn state_ago(self, seconds: f64) -> Self {
        self.with(|case| {
            if let Some(flow_run) = &mut case.flow_run {
                flow_run.state_timestamp = NOW - seconds;
            }
        })
    }

    fn pid(self, pid: Option<&str>) -> Self {
        self.with(|case| {
            if let Some(flow_run) = &mut case.flow_run {
                flow_run.infrastructure_pid = pid.map(Into::into);
            }
        })
    }

    fn about(self, change: impl FnOnce(&mut Circumstances)) -> Self {
        self.with(|case| change(&mut case.circumstances))
    }

    fn waits(self) -> Self {
        self.with(|case| case.job.mark.give_up_at = time(NOW + HOUR))
    }

    #[track_caller]
    fn leads_to(&self, expected: Action) {
        let Decision { action, reason } = decide(&self.job, self.flow_run.as_ref(), &self.circumstances);
        assert_eq!(action, expected, "{reason}");
    }
}

const OTHERS: [StateType; 3] = [StateType::Scheduled, StateType::Paused, StateType::Cancelling];
const UNFINISHED: [StateType; 2] = [StateType::Pending, StateType::Running];
const ENDED: [ExecutionsStatus; 4] =
    [ExecutionsStatus::Succeeded, ExecutionsStatus::Failed, ExecutionsStatus::Cancelled, ExecutionsStatus::Removed];

#[test]
fn what_somebody_looks_after_or_nobody_understands_is_left_alone() {
    for status in [ExecutionsStatus::None, ExecutionsStatus::Active, ExecutionsStatus::Failed] {
        Case::new(status, StateType::Running).about(|it| it.is_watched = true).leads_to(Nothing);
        Case::new(status, StateType::Running).with(|case| case.job.is_being_deleted = true).leads_to(Nothing);
        Case::new(status, StateType::Other).leads_to(Nothing);
    }
    Case::new(ExecutionsStatus::Unknown, StateType::Running).leads_to(Nothing);
    Case::new(ExecutionsStatus::Unknown, StateType::Crashed).leads_to(Nothing);
}

#[test]
fn an_active_execution_is_watched_in_every_state_of_its_flow_run() {
    let active = |state| Case::new(ExecutionsStatus::Active, state);
    for state in FINAL.into_iter().chain(OTHERS).chain(UNFINISHED).filter(|state| *state != StateType::Cancelled) {
        active(state).leads_to(Watch);
        active(state).about(|it| it.creator_is_gone = true).leads_to(Watch);
    }
    active(StateType::Cancelled).state_ago(30.0).leads_to(Watch);
    active(StateType::Cancelled).state_ago(61.0).leads_to(Stop);
    active(StateType::Cancelled).kept().leads_to(Stop);
    for (times, stops, expected) in [(1, true, Watch), (2, false, Watch), (2, true, Stop)] {
        let deleted = Case::new(ExecutionsStatus::Active, None);
        deleted.about(|it| (it.times_not_found, it.stop_deleted) = (times, stops)).leads_to(expected);
    }
}

#[test]
fn a_job_without_an_execution_is_its_workers_until_that_has_given_up_or_is_gone() {
    let unstarted = |state| Case::new(ExecutionsStatus::None, state);
    for state in FINAL.into_iter().chain(OTHERS).chain(UNFINISHED) {
        unstarted(state).waits().leads_to(Nothing);
    }
    unstarted(StateType::Pending).leads_to(GiveBack);
    let gone = || unstarted(StateType::Pending).waits().about(|it| it.creator_is_gone = true);
    gone().leads_to(GiveBack);
    gone().with(|case| case.job.created_at = NOW - 30.0).leads_to(Nothing);
    unstarted(StateType::Pending).pid(None).leads_to(GiveBack);
    unstarted(StateType::Pending).about(|it| it.tries_left = false).leads_to(DeleteThenCrash);
    for state in FINAL.into_iter().chain(OTHERS).chain([StateType::Running]) {
        unstarted(state).leads_to(Delete);
        unstarted(state).kept().leads_to(Nothing);
    }
    // A job that never ran is of no use.
    unstarted(StateType::Pending).kept().leads_to(GiveBack);
    unstarted(StateType::Pending).kept().about(|it| it.tries_left = false).leads_to(DeleteThenCrash);
    for (times, expected) in [(1, Nothing), (2, Delete)] {
        Case::new(ExecutionsStatus::None, None).about(|it| it.times_not_found = times).leads_to(expected);
    }
}

#[test]
fn a_flow_run_that_has_another_job_is_not_given_back() {
    let pending = || Case::new(ExecutionsStatus::None, StateType::Pending);
    pending().pid(Some("another")).leads_to(Delete);
    pending().about(|it| it.other_live_job = true).leads_to(Nothing);
    pending().pid(None).about(|it| it.other_live_job = true).leads_to(Nothing);
    pending().pid(None).about(|it| (it.other_live_job, it.younger_live_job) = (true, true)).leads_to(Delete);
    pending().pid(None).about(|it| it.is_complete = false).leads_to(Nothing);
    pending().about(|it| it.is_complete = false).leads_to(GiveBack);
    // Another worker has taken it since.
    pending().state_ago(30.0 * MINUTE).leads_to(Delete);
}

#[test]
fn an_ended_execution_is_cleaned_up() {
    for status in ENDED {
        for state in FINAL.into_iter().chain(OTHERS) {
            Case::new(status, state).leads_to(Delete);
            Case::new(status, state).kept().leads_to(Nothing);
        }
        for (times, expected) in [(1, Nothing), (2, Delete)] {
            Case::new(status, None).about(|it| it.times_not_found = times).leads_to(expected);
        }
        Case::new(status, None).kept().about(|it| it.times_not_found = 2).leads_to(Nothing);
        for state in UNFINISHED {
            Case::new(status, state).leads_to(Crash);
            Case::new(status, state).pid(None).leads_to(Crash);
            Case::new(status, state).kept().leads_to(Crash);
        }
    }
}

#[test]
fn the_runs_own_worker_comes_first() {
    let failed = |state, seconds| Case::new(ExecutionsStatus::Failed, state).ended_ago(seconds);
    failed(StateType::Running, 90.0).leads_to(Nothing);
    failed(StateType::Running, 130.0).leads_to(Crash);
    failed(StateType::Crashed, 90.0).leads_to(Nothing);
    failed(StateType::Crashed, 130.0).leads_to(Delete);
    failed(StateType::Running, 1.0).about(|it| it.creator_is_gone = true).leads_to(Crash);
    failed(StateType::Crashed, 1.0).about(|it| it.creator_is_gone = true).leads_to(Delete);
    // It reports nothing after a success, and neither does the container.
    let succeeded = |seconds| Case::new(ExecutionsStatus::Succeeded, StateType::Running).ended_ago(seconds);
    succeeded(50.0).leads_to(Nothing);
    succeeded(50.0).about(|it| it.creator_is_gone = true).leads_to(Nothing);
    succeeded(70.0).leads_to(Crash);
}

#[test]
fn a_flow_run_that_lives_elsewhere_is_not_crashed() {
    for status in ENDED {
        // When an execution was deleted is not known, so it is looked at again later.
        let is_unknown = status == ExecutionsStatus::Removed;
        for state in UNFINISHED {
            Case::new(status, state).pid(Some("another")).leads_to(Delete);
            Case::new(status, state).about(|it| it.other_live_job = true).leads_to(Nothing);
            Case::new(status, state).state_ago(MINUTE).leads_to(if is_unknown { Nothing } else { Delete });
            Case::new(status, state).state_ago(MINUTE).kept().leads_to(Nothing);
        }
    }
}

#[test]
fn clocks_may_differ_by_a_minute() {
    for status in [ExecutionsStatus::Succeeded, ExecutionsStatus::Failed, ExecutionsStatus::Cancelled] {
        for state in UNFINISHED {
            // Prefect's clock is half a minute ahead.
            let case = |ended| Case::new(status, state).ended_ago(ended).state_ago(ended - 30.0);
            case(5.0 * MINUTE).leads_to(Nothing);
            case(11.0 * MINUTE).leads_to(Crash);
            case(11.0 * MINUTE).pid(None).leads_to(Nothing);
        }
    }
}

fn any_job() -> impl Strategy<Value = MarkedJob> {
    use ExecutionsStatus::*;
    let status = prop::sample::select(vec![None, Active, Succeeded, Failed, Cancelled, Removed, Unknown]);
    let age = || prop_oneof![-10.0..300.0, 0.0..2.0 * HOUR];
    (status, age(), option::of(age()), any::<bool>(), prop::bool::weighted(0.1), -2.0 * HOUR..2.0 * HOUR).prop_map(
        |(status, age, ended, keep, is_being_deleted, give_up)| {
            let mut job = job(status);
            job.created_at = NOW - age;
            job.executions.completed_at = ended.map(|ended| NOW - ended);
            job.mark.keep = keep;
            job.mark.give_up_at = time(NOW + give_up);
            MarkedJob { is_being_deleted, ..job }
        },
    )
}

fn any_flow_run() -> impl Strategy<Value = Option<FlowRunFacts>> {
    let states = FINAL.into_iter().chain(OTHERS).chain(UNFINISHED).chain([StateType::Other]).collect::<Vec<_>>();
    let pid = prop::sample::select(vec![Option::None, Some("j"), Some("another")]);
    let facts = (prop::sample::select(states), prop_oneof![-10.0..300.0, 0.0..2.0 * HOUR], pid);
    option::weighted(
        0.9,
        facts.prop_map(|(state, age, pid)| FlowRunFacts {
            state,
            state_timestamp: NOW - age,
            infrastructure_pid: pid.map(Into::into),
        }),
    )
}

fn any_circumstances() -> impl Strategy<Value = Circumstances> {
    let flags = prop::array::uniform7(any::<bool>());
    (flags, 0..4_u32, prop::array::uniform3(0.0..300.0)).prop_map(|(flags, times_not_found, durations)| Circumstances {
        now: NOW,
        is_watched: flags[0],
        creator_is_gone: flags[1],
        other_live_job: flags[2],
        times_not_found,
        tries_left: flags[3],
        stop_deleted: flags[4],
        younger_live_job: flags[5],
        is_complete: flags[6],
        cancelled_grace: durations[0],
        settle: durations[1],
        silent_settle: durations[2],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn the_promises_hold(job in any_job(), flow_run in any_flow_run(), circumstances in any_circumstances()) {
        let Decision { action, reason } = decide(&job, flow_run.as_ref(), &circumstances);
        let state = flow_run.as_ref().map(|flow_run| flow_run.state);
        let pid = flow_run.as_ref().and_then(|flow_run| flow_run.infrastructure_pid.as_deref());
        let proposes = matches!(action, Crash | GiveBack | DeleteThenCrash);
        let deletes = matches!(action, Delete | GiveBack | DeleteThenCrash | Stop);
        prop_assert!(!reason.is_empty());
        if circumstances.is_watched || job.is_being_deleted || state == Some(StateType::Other) {
            prop_assert_eq!(action, Nothing);
        }
        match job.executions.status {
            ExecutionsStatus::Unknown => prop_assert_eq!(action, Nothing),
            ExecutionsStatus::Active => {
                prop_assert!(matches!(action, Nothing | Watch | Stop));
                if action == Stop {
                    let is_cancelled = flow_run.as_ref().is_some_and(|flow_run| {
                        flow_run.state == StateType::Cancelled
                            && NOW - flow_run.state_timestamp > circumstances.cancelled_grace
                    });
                    let is_deleted = state.is_none() && circumstances.stop_deleted && circumstances.times_not_found > 1;
                    prop_assert!(is_cancelled || is_deleted);
                }
            }
            ExecutionsStatus::None => prop_assert!(!matches!(action, Watch | Stop)),
            _ => prop_assert!(matches!(action, Nothing | Delete | Crash)),
        }
        if state.is_none() && circumstances.times_not_found < 2 {
            prop_assert!(!deletes);
        }
        if proposes {
            prop_assert!(matches!(state, Some(StateType::Pending | StateType::Running)));
            prop_assert!(pid.is_none_or(|pid| pid == job.name));
            prop_assert!(!circumstances.other_live_job && (circumstances.is_complete || pid.is_some()));
        }
        if matches!(action, GiveBack | DeleteThenCrash) {
            prop_assert_eq!(state, Some(StateType::Pending));
            prop_assert_eq!(job.executions.status, ExecutionsStatus::None);
        }
        if let (Crash, Some(end), Some(flow_run)) = (action, job.executions.completed_at, &flow_run)
            && job.executions.status != ExecutionsStatus::None
        {
            let may_be_a_clock = flow_run.state_timestamp <= end + MINUTE && NOW - end >= 10.0 * MINUTE && pid.is_some();
            prop_assert!(flow_run.state_timestamp < end || may_be_a_clock);
        }
        if job.mark.keep && job.executions.status != ExecutionsStatus::Active {
            prop_assert!(!deletes || matches!(action, GiveBack | DeleteThenCrash));
        }
    }

    #[test]
    fn what_is_decided_once_stays_decided_until_something_changes(
        job in any_job(), flow_run in any_flow_run(), circumstances in any_circumstances()
    ) {
        // Time alone never takes a job away from deletion, nor ends with a watch.
        let later = Circumstances { now: NOW + HOUR, ..circumstances.clone() };
        let first = decide(&job, flow_run.as_ref(), &circumstances).action;
        let second = decide(&job, flow_run.as_ref(), &later).action;
        prop_assert!(first == second || matches!(first, Nothing | Watch));
    }
}
