//! The machine against a small model of the service, which may fail at any call and lag at any read.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod world;

use std::time::Duration;

use prefect_gcp_core::{
    api::{ErrorKind, types::ConditionStatus},
    lifecycle::{
        progress::Progress,
        step::{Outcome, RunError},
    },
};
use proptest::prelude::*;
use world::{End, Fault, JOB, World, condition, plan, run};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_run_is_created_executed_once_and_removed() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert_eq!(world.starts, 1);
    assert!(world.job.is_none());
    let kinds: Vec<_> = ran.reports.iter().map(Progress::kind).collect();
    let expected = [
        "creating",
        "created",
        "awaiting_ready",
        "submitting",
        "started",
        "running",
        "succeeded",
        "log",
        "deleting",
        "deleted",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_failed_execution_is_told_with_its_message() {
    let mut world = World { end: End::Failed, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Failed(message)) if message == "exit 1"));
    assert!(world.job.is_none());
}

#[test]
fn a_job_to_be_kept_is_kept() {
    let mut world = World::default();
    run(&mut world, world::Plan { keep_job: true, ..plan() }, &[]);
    assert!(world.job.is_some());
}

#[test]
fn the_first_looks_come_quickly_and_the_later_ones_at_the_poll_interval() {
    let mut world = World { ready_after: 30 * SECOND, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(ran.pauses.contains(&Duration::from_millis(100)));
    assert_eq!(ran.pauses.iter().max(), Some(&plan().poll_interval));
}

#[test]
fn a_missing_image_ends_the_run_at_once_and_leaves_nothing() {
    let missing = condition("Ready", ConditionStatus::False, "ContainerMissing", "Image 'x' not found.");
    let mut world = World { ready: Some(missing), ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    let error = ran.result.unwrap_err();
    assert!(error.to_string().contains("Ready is False, ContainerMissing: Image 'x' not found."), "{error}");
    assert!(ran.took < SECOND);
    assert!(world.job.is_none());
}

#[test]
fn another_reason_gets_a_short_grace() {
    let failing = condition("Ready", ConditionStatus::False, "Internal", "Something.");
    let mut world = World { ready: Some(failing), ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::NotReady { .. })));
    assert!((10 * SECOND..20 * SECOND).contains(&ran.took), "{:?}", ran.took);
}

#[test]
fn a_job_that_never_gets_ready_is_given_up_at_the_timeout() {
    let mut world = World { ready_after: 10_000 * SECOND, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::ReadyTimeout { seconds: 60, .. })));
    assert_eq!(ran.took.as_secs(), 60);
    assert!(world.job.is_none());
}

#[test]
fn a_name_that_somebody_else_has_is_an_error_and_his_job_stays() {
    let mut world = World::with_foreign_job();
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::Api(error)) if error.kind == ErrorKind::AlreadyExists));
    assert!(world.job.is_some());
}

#[test]
fn a_name_that_is_being_freed_is_waited_for() {
    let mut world = World::with_foreign_job();
    world.delete_job_at(Duration::ZERO);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
}

#[test]
fn a_lost_answer_of_the_create_is_found_to_be_ours() {
    let mut world = World::default();
    // The client repeats the create, and meets the job that the first attempt made.
    let ran = run(&mut world, plan(), &[Fault::RepeatedAfterEffect]);
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert!(world.job.is_none());
}

#[test]
fn a_lost_answer_of_the_start_is_looked_up_and_not_repeated() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::LostAfterEffect)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert_eq!(world.starts, 1);
    assert!(ran.reports.iter().any(|progress| progress.kind() == "recovering"));
}

#[test]
fn a_start_that_never_happened_is_repeated_after_some_looks() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::LostBeforeEffect)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert!(ran.took >= 6 * SECOND);
}

#[test]
fn an_outage_does_not_end_a_watch() {
    let mut world = World::default();
    let outage: Vec<_> =
        [Fault::Refused, Fault::Page].repeat(25).into_iter().map(|fault| ("execution", fault)).collect();
    let ran = run(&mut world, plan(), &world::faults_at(&outage));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert!(ran.reports.iter().any(|progress| progress.kind() == "look_failed"));
}

#[test]
fn a_read_that_lags_behind_a_young_execution_does_not_end_its_watch() {
    let mut world = World::default();
    let faults = [[Fault::None].as_slice(), &[Fault::Stale; 8]].concat();
    let faults: Vec<_> = faults.into_iter().map(|fault| ("execution", fault)).collect();
    let ran = run(&mut world, plan(), &world::faults_at(&faults));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
}

#[test]
fn a_refusal_ends_a_watch_and_leaves_the_execution_alone() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("execution", Fault::Forbidden)]));
    assert!(matches!(ran.result, Err(RunError::Api(error)) if error.kind == ErrorKind::PermissionDenied));
    assert!(world.job.is_some());
}

#[test]
fn a_job_deleted_while_it_runs_is_told_apart_from_one_that_failed() {
    let mut world = World { end: End::Late, ..World::default() };
    world.delete_job_at(30 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Removed)));
    assert!(ran.reports.iter().any(|progress| progress.to_string().contains("was deleted")));
}

#[test]
fn a_kill_of_a_young_execution_is_noticed_before_reads_have_settled() {
    let mut world = World { end: End::Late, ..World::default() };
    world.delete_job_at(3 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Removed)));
    assert!(ran.took < 8 * SECOND, "{:?}", ran.took);
}

#[test]
fn a_cancelled_execution_of_a_job_that_stays_has_failed() {
    let mut world = World { end: End::Cancelled, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))));
    assert!(world.job.is_none());
}

#[test]
fn a_job_deleted_before_its_start_is_an_error() {
    let mut world = World { ready_after: 30 * SECOND, ..World::default() };
    world.delete_job_at(5 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::RemovedBeforeStart { .. })));
    assert_eq!(world.starts, 0);
}

#[test]
fn a_job_of_the_same_name_that_came_later_is_not_deleted() {
    let mut world = World { end: End::Late, ..World::default() };
    world.replace_job_at(30 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Removed)));
    assert!(world.job.is_some_and(|job| !job.ours));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        2 => Just(Fault::LostBeforeEffect),
        2 => Just(Fault::LostAfterEffect),
        1 => Just(Fault::RepeatedAfterEffect),
        2 => Just(Fault::Refused),
        1 => Just(Fault::Forbidden),
        1 => Just(Fault::Page),
        2 => Just(Fault::Stale),
        1 => Just(Fault::Nameless),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Succeeded), Just(End::Failed), Just(End::Cancelled), Just(End::Late)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn nothing_is_run_twice_lost_or_stolen(
        faults in proptest::collection::vec(fault(), 0..40),
        end in end(),
        foreign in any::<bool>(),
        keep_job in any::<bool>(),
        deleted_at in proptest::option::of(0u64..200),
        ready_after in 0u64..80,
    ) {
        let mut world = if foreign { World::with_foreign_job() } else { World::default() };
        world.end = end;
        world.ready_after = SECOND * ready_after as u32;
        if let Some(at) = deleted_at {
            world.delete_job_at(SECOND * at as u32);
        }

        let ran = run(&mut world, world::Plan { keep_job, ..plan() }, &faults);

        prop_assert!(world.starts <= 1, "started {} times", world.starts);
        prop_assert!(!world.foreign_deleted, "deleted {JOB}, which is not ours");
        let left = world.job.as_ref().is_some_and(|job| job.ours && !job.deleting);
        let told = ran.reports.iter().any(|progress| matches!(progress, Progress::Leaked { .. } | Progress::Kept { .. }));
        // An API that refuses us can't be asked to delete either, and what may run is not to be stopped.
        let refused = faults.contains(&Fault::Forbidden) && ran.result.is_err();
        let unknown = matches!(ran.result, Err(RunError::StartUnknown { .. }));
        prop_assert!(!left || told || refused || unknown, "lost: {:?}", ran.result);
    }

    #[test]
    fn faults_that_pass_cost_no_run(faults in proptest::collection::vec(fault(), 0..12)) {
        let passing = |fault: &Fault| !matches!(fault, Fault::Forbidden);
        let faults: Vec<_> = faults.into_iter().filter(passing).collect();
        let mut world = World::default();
        let ran = run(&mut world, plan(), &faults);
        match ran.result {
            Ok(outcome) => prop_assert_eq!(outcome, Outcome::Succeeded),
            // The client has spent a whole budget on each of these before the machine hears of it.
            Err(error) => prop_assert!(
                matches!(&error, RunError::Api(error) if error.kind.is_transient())
                    || matches!(&error, RunError::StartUnknown { .. }),
                "{}", error
            ),
        }
        prop_assert!(world.starts <= 1);
    }
}
