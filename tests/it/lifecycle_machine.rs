//! The machine against a small model of the service, in which any call can fail and any read can lag.

use std::{collections::BTreeSet, time::Duration};

use crate::properties::cases;
use crate::world::{self, End, Fault, JOB, World, condition, plan, run, run_for, run_with};
use prefect_gcp_core::{
    api::{ApiMethod, ErrorKind, RetryBudget, types::ConditionStatus},
    lifecycle::{
        machine::protocol::{Command, GiveUpReason, Outcome, RunError},
        progress::{Level, Progress},
    },
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

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
fn before_the_start_a_person_reads_only_what_is_news() {
    let said = |ready_after| {
        let ran = run(&mut World { ready_after, ..World::default() }, plan(), &[]);
        let news = ran.reports.iter().filter(|progress| progress.level() >= Level::Info).map(Progress::kind);
        news.take_while(|kind| *kind != "running").collect::<Vec<_>>()
    };
    assert_eq!(said(SECOND), ["creating", "submitting", "started"]);
    // Who waits for long is told once what for.
    assert_eq!(said(30 * SECOND), ["creating", "awaiting_ready", "submitting", "started"]);
}

#[test]
fn a_failed_execution_is_reported_with_its_message() {
    let mut world = World { end: End::Failed, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Failed(message)) if message == "exit 1"));
    assert!(world.job.is_none());
}

#[test]
fn a_job_with_keep_job_is_kept() {
    let mut world = World::default();
    run(&mut world, world::Plan { keep_job: true, ..plan() }, &[]);
    assert!(world.job.is_some());
}

#[test]
fn the_first_reads_come_quickly_and_later_ones_at_the_poll_interval() {
    let mut world = World { ready_after: 30 * SECOND, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(ran.pauses.contains(&Duration::from_millis(250)));
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
fn other_reasons_of_ready_false_get_a_short_grace() {
    let failing = condition("Ready", ConditionStatus::False, "Internal", "Something.");
    let mut world = World { ready: Some(failing), ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::NotReady { .. })));
    assert!((10 * SECOND..20 * SECOND).contains(&ran.took), "{:?}", ran.took);
}

#[test]
fn a_job_that_never_becomes_ready_fails_at_the_timeout() {
    let mut world = World { ready_after: 10_000 * SECOND, ..World::default() };
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::ReadyTimeout { seconds: 60, .. })));
    assert_eq!(ran.took.as_secs(), 60);
    assert!(world.job.is_none());
}

#[test]
fn a_name_taken_by_somebody_elses_job_is_an_error_and_that_job_stays() {
    let mut world = World::with_other_job();
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::Api(error)) if error.kind == ErrorKind::AlreadyExists));
    assert!(world.job.is_some());
}

#[test]
fn a_job_of_ours_that_somebody_deleted_is_not_created_again() {
    let mut world = World::default();
    world.delete_job_at(Duration::ZERO);
    let ran = run(&mut world, plan(), &[Fault::RepeatedAfterEffect]);
    assert!(matches!(ran.result, Err(RunError::RemovedBeforeStart { .. })), "{:?}", ran.result);
    assert_eq!(world.starts, 0);
}

#[test]
fn a_single_404_does_not_end_the_run() {
    for at in [1, 15, 400] {
        // Before the job is ready, and while the region is full.
        let mut world = World { ready_after: 20 * SECOND, full_until: 900 * SECOND, ..World::default() };
        let met = std::cell::Cell::new(false);
        let ran = run_with(&mut world, plan(), |command, world| {
            let is_due = *command == Command::ReadJob && world.now > SECOND * at && !met.replace(true);
            if is_due { Fault::Missing } else { Fault::None }
        });
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
    }
}

#[test]
fn the_name_of_a_job_in_deletion_is_waited_for() {
    let mut world = World::with_other_job();
    world.delete_job_at(Duration::ZERO);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
}

#[test]
fn after_a_lost_create_response_the_job_is_found_to_be_ours() {
    let mut world = World::default();
    // The client repeats the create and finds the job that the first attempt made.
    let ran = run(&mut world, plan(), &[Fault::RepeatedAfterEffect]);
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert!(world.job.is_none());
}

#[test]
fn a_limit_that_refuses_a_create_after_a_lost_response_does_not_end_the_run() {
    for fault in [Fault::LimitedAfterEffect, Fault::LimitedBeforeEffect, Fault::LimitedBeforeLateEffect] {
        let mut world = World::default();
        let ran = run(&mut world, plan(), &[fault]);
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{fault:?}: {:?}", ran.result);
        assert!(world.job.is_none() && world.starts == 1, "{fault:?}");
    }
}

#[test]
fn waits_after_a_lost_create_count_against_the_wait_for_room() {
    let quota_wait_max = 60 * SECOND;
    let ran =
        run_with(&mut World::default(), world::Plan { quota_wait_max, ..plan() }, |command, world| match command {
            Command::CreateJob if world.now < SECOND => Fault::LimitedBeforeEffect,
            Command::CreateJob => Fault::Refused,
            _ => Fault::None,
        });
    assert!(ran.result.is_err());
    assert!(ran.took < plan().settle_time + quota_wait_max, "{:?}", ran.took);
}

#[test]
fn a_read_that_does_not_find_the_job_of_a_lost_create_is_confirmed_by_a_list() {
    let mut world = World::default();
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::CreateJob => Fault::LimitedAfterEffect,
        Command::ReadJob if world.starts == 0 && world.now < 90 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
    assert_eq!(world.calls.iter().filter(|(command, _)| *command == Command::CreateJob).count(), 1);
}

#[test]
fn after_a_lost_start_response_the_execution_is_found_and_not_started_again() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::LostAfterEffect)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert_eq!(world.starts, 1);
    assert!(ran.reports.iter().any(|progress| progress.kind() == "recovering"));
}

#[test]
fn a_start_that_never_took_effect_is_repeated_after_the_settle_time() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::LostBeforeEffect)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert_eq!(world.starts, 1);
    assert!(ran.took >= plan().settle_time);
}

#[test]
fn a_start_that_takes_effect_late_is_not_repeated() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::LostBeforeLateEffect)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert_eq!(world.starts, 1);
}

#[test]
fn refused_reads_do_not_end_the_search_for_an_execution() {
    let mut world = World::default();
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::RunJob => Fault::LostAfterEffect,
        Command::ReadJob | Command::ListExecutions if world.starts > 0 && world.now < 12 * SECOND => Fault::Forbidden,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
    assert_eq!(world.starts, 1);
}

#[test]
fn an_execution_without_a_name_still_counts_as_an_execution() {
    let mut world = World { end: End::Late, ..World::default() };
    let faults = [[Fault::LostAfterEffect].as_slice(), &[Fault::Nameless; 200]].concat();
    let faults: Vec<_> = faults.into_iter().map(|fault| ("run", fault)).collect();
    let ran = run(&mut world, plan(), &world::faults_at(&faults));
    assert!(matches!(ran.result, Err(RunError::StartUnknown { .. })), "{:?}", ran.result);
    assert_eq!(world.starts, 1);
    assert!(ran.reports.iter().any(|progress| progress.kind() == "left_running"));
}

#[test]
fn an_outage_does_not_end_a_watch() {
    let mut world = World::default();
    let outage: Vec<_> =
        [Fault::Refused, Fault::Page].repeat(25).into_iter().map(|fault| ("execution", fault)).collect();
    let ran = run(&mut world, plan(), &world::faults_at(&outage));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)));
    assert!(ran.reports.iter().any(|progress| progress.kind() == "poll_failed"));
}

#[test]
fn lagging_reads_of_a_young_execution_do_not_end_its_watch() {
    let mut world = World::default();
    let faults = [[Fault::None].as_slice(), &[Fault::Stale; 8]].concat();
    let faults: Vec<_> = faults.into_iter().map(|fault| ("execution", fault)).collect();
    let ran = run(&mut world, plan(), &world::faults_at(&faults));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
}

#[test]
fn failures_that_say_nothing_about_the_execution_do_not_end_its_watch() {
    let mut world = World { end: End::Late, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::WatchExecution(_) if world.now < 1_800 * SECOND => Fault::Forbidden,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))), "{:?}", ran.result);
    let lines: Vec<_> = ran.reports.iter().filter(|progress| progress.kind() == "poll_failed").collect();
    // Short pauses at first, and one minute later.
    assert!((30..45).contains(&lines.len()), "{}", lines.len());
    assert!(
        lines[0].to_string().contains("Still watching")
            && lines[0].to_string().contains("grant it roles/run.developer")
    );
    assert!(world.job.is_none());
}

#[test]
fn a_watch_that_can_not_read_its_execution_ends_after_its_limit_and_leaves_the_job() {
    let mut world = World { end: End::Late, ..World::default() };
    let plan = world::Plan { watch_retry_max: 600 * SECOND, ..plan() };
    let ran = run_with(&mut world, plan, |command, _| match command {
        Command::WatchExecution(_) => Fault::Forbidden,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Err(RunError::Api(error)) if error.kind == ErrorKind::PermissionDenied));
    assert!(world.job.is_some() && (600 * SECOND..700 * SECOND).contains(&ran.took), "{:?}", ran.took);
    let line = ran.reports.last().map(ToString::to_string).unwrap();
    assert!(line.contains("gcloud run jobs delete my-job --region my-region --project my-project"), "{line}");
}

#[test]
fn an_execution_that_its_job_shows_running_is_not_gone() {
    let mut world = World { end: End::Late, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::WatchExecution(_) if world.now > 20 * SECOND && world.now < 1_000 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))) && !world.interrupted, "{:?}", ran.result);
    let told = ran.reports.iter().filter(|progress| progress.kind() == "reads_contradict").count();
    assert_eq!(told, 1);
}

#[test]
fn the_job_tells_how_an_execution_ended_that_reads_do_not_find() {
    for (end, expected) in [(End::Succeeded, true), (End::Failed, false), (End::Cancelled, false)] {
        let mut world = World { end, ..World::default() };
        let ran = run_with(&mut world, plan(), |command, _| match command {
            Command::WatchExecution(_) => Fault::Missing,
            _ => Fault::None,
        });
        let outcome = ran.result.unwrap();
        assert_eq!(outcome == Outcome::Succeeded, expected);
        assert!(expected || matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        assert!(world.job.is_none());
    }
}

#[test]
fn a_job_that_reads_do_not_find_for_some_time_and_a_list_lacks_is_gone() {
    let mut world = World { end: End::Late, ..World::default() };
    world.delete_job_at(60 * SECOND);
    // Nobody sees the job while it is being deleted.
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::WatchExecution(_) | Command::ReadJob if world.now > 60 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Removed)), "{:?}", ran.result);
    assert!(ran.took > 90 * SECOND, "{:?}", ran.took);
    assert!(world.calls.iter().any(|(command, _)| *command == Command::FindJob));
}

#[test]
fn a_list_that_shows_the_job_outweighs_reads_that_do_not_find_it() {
    let mut world = World { end: End::Late, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::WatchExecution(_) | Command::ReadJob if world.now > 60 * SECOND && world.now < 600 * SECOND => {
            Fault::Missing
        }
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))) && !world.interrupted, "{:?}", ran.result);
}

#[test]
fn the_younger_of_two_executions_is_cancelled_and_the_older_one_watched() {
    // The first start takes effect after the second one was sent.
    let mut world = World { end: End::Late, ..World::default() };
    let late = [("run", Fault::LostBeforeVeryLateEffect)];
    let ran = run(&mut world, plan(), &world::faults_at(&late));
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))), "{:?}", ran.result);
    assert_eq!(world.starts, 2);
    assert!(world.overlap < 60 * SECOND && !world.interrupted, "{:?}", world.overlap);
    let line = ran.reports.iter().find(|progress| progress.kind() == "second_execution").map(ToString::to_string);
    assert!(line.unwrap().ends_with("'my-job-abcd0'. The second one is cancelled"));
    assert!(world.job.is_none());
}

#[test]
fn an_execution_that_came_before_the_one_that_is_watched_is_watched_instead() {
    let mut world = World { end: End::Late, ..World::default() };
    // Two starts whose responses are lost; the first takes effect while the second is looked for.
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::RunJob if world.now < 40 * SECOND => Fault::LostBeforeVeryLateEffect,
        Command::RunJob if world.now < 60 * SECOND => Fault::LostAfterEffect,
        Command::ReadJob | Command::ListExecutions if (80..100).contains(&world.now.as_secs()) => Fault::Refused,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))), "{:?}", ran.result);
    assert!(!world.interrupted && world.overlap < 60 * SECOND, "{:?}", world.overlap);
}

#[test]
fn a_second_execution_that_can_not_be_cancelled_is_reported_with_the_command() {
    let mut world = World { end: End::Late, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::RunJob if world.starts == 0 && world.now < 20 * SECOND => Fault::LostBeforeVeryLateEffect,
        Command::CancelExecution(_) => Fault::Forbidden,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Failed(_))), "{:?}", ran.result);
    let line = ran.reports.iter().find(|progress| progress.kind() == "not_cancelled").map(ToString::to_string).unwrap();
    assert!(line.contains("gcloud run jobs executions cancel my-job-abcd1 --region my-region"), "{line}");
}

#[test]
fn a_run_given_up_before_its_start_ends_at_once_and_leaves_nothing() {
    // While the job is not ready, and while the region is full.
    for (ready_after, full_until) in [(50, 0), (1, 1000)] {
        for keep_job in [false, true] {
            let mut world = World {
                ready_after: SECOND * ready_after,
                full_until: SECOND * full_until,
                give_up_at: Some((20 * SECOND, GiveUpReason::FlowRunCancelled)),
                ..World::default()
            };
            let ran = run(&mut world, world::Plan { keep_job, ..plan() }, &[]);
            assert_eq!(ran.result.unwrap(), Outcome::NotStarted);
            assert!(world.job.is_none() && world.starts == 0);
        }
    }
}

#[test]
fn a_run_given_up_while_its_execution_runs_ends_only_if_the_worker_stops() {
    let given_up = |reason, end| {
        let mut world = World { end, give_up_at: Some((15 * SECOND, reason)), ..World::default() };
        let ran = run(&mut world, plan(), &[]);
        assert!(!world.interrupted);
        (ran.result.unwrap(), world.job.is_some())
    };
    assert_eq!(given_up(GiveUpReason::FlowRunCancelled, End::Succeeded), (Outcome::Succeeded, false));
    assert_eq!(given_up(GiveUpReason::FlowRunEnded, End::Succeeded), (Outcome::Succeeded, false));
    assert_eq!(given_up(GiveUpReason::WorkerStopping, End::Late), (Outcome::LeftRunning, true));
    // It has ended since the last read.
    let mut world = World { give_up_at: Some((22 * SECOND, GiveUpReason::WorkerStopping)), ..World::default() };
    let ran = run(&mut world, world::Plan { poll_interval: 60 * SECOND, ..plan() }, &[]);
    assert_eq!(ran.result.unwrap(), Outcome::Succeeded);
    assert!(world.job.is_none());
}

#[test]
fn a_deletion_goes_on_for_as_long_as_it_fails() {
    for fault in [Fault::Forbidden, Fault::Refused, Fault::LostBeforeEffect, Fault::Page] {
        let mut world = World::default();
        let ran = run_with(&mut world, plan(), |command, world| match command {
            Command::DeleteJob if world.now < 7_200 * SECOND => fault,
            _ => Fault::None,
        });
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)) && ran.took < 60 * SECOND, "the result comes first");
        assert!(world.job.is_none() && world.now < 3 * 3_600 * SECOND, "{fault:?}: {:?}", world.now);
        let deletes = world.calls.iter().filter(|(command, _)| *command == Command::DeleteJob).count();
        assert!(deletes < 400, "{fault:?}: {deletes} deletes");
        let lines = ran.reports.iter().filter(|progress| progress.kind() == "deletion_delayed").count();
        assert!((1..=3).contains(&lines), "{fault:?}: {lines} lines");
    }
}

#[test]
fn a_job_deleted_while_it_runs_is_told_apart_from_a_failed_one() {
    let mut world = World { end: End::Late, ..World::default() };
    world.delete_job_at(30 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Removed)));
    assert!(ran.reports.iter().any(|progress| progress.to_string().contains("was deleted")));
}

#[test]
fn the_deletion_of_a_young_job_is_noticed_within_the_read_lag() {
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
fn a_later_job_of_the_same_name_is_not_deleted() {
    let mut world = World { end: End::Late, ..World::default() };
    world.replace_job_at(30 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Ok(Outcome::Removed)));
    assert!(world.job.is_some_and(|job| !job.ours));
}

#[test]
fn a_job_that_replaced_ours_before_the_start_is_neither_started_nor_deleted() {
    let mut world = World { ready_after: 30 * SECOND, ..World::default() };
    world.replace_job_at(5 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::RemovedBeforeStart { .. })));
    assert!(world.job.is_some_and(|job| !job.ours));
    assert!(!world.calls.iter().any(|(command, _)| *command == Command::RunJob));
}

#[test]
fn a_cancelled_execution_is_told_apart_from_a_deleted_one_after_a_fault() {
    let mut world = World { end: End::Late, ..World::default() };
    world.delete_job_at(30 * SECOND);
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::ReadJob if world.now > 30 * SECOND && world.now < 32 * SECOND => Fault::Refused,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Removed)), "{:?}", ran.result);
}

#[test]
fn a_start_that_answers_404_is_repeated_if_the_job_exists() {
    let mut world = World::default();
    let ran = run(&mut world, plan(), &world::faults_at(&[("run", Fault::Stale)]));
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
    assert_eq!(world.starts, 1);
}

#[test]
fn a_run_waits_for_its_turn_in_a_full_region() {
    for full in ["starts", "creates"] {
        let mut world = World { full_until: 1800 * SECOND, ..World::default() };
        if full == "creates" {
            world.full_until = Duration::ZERO;
        }
        let ran = run_with(&mut world, plan(), |command, world| match command {
            Command::CreateJob if full == "creates" && world.now < 1800 * SECOND => Fault::Refused,
            _ => Fault::None,
        });
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
        assert_eq!(world.starts, 1);
        let told = |kind| ran.reports.iter().filter(|progress| progress.kind() == kind).count();
        // The driver reports the wait.
        assert_eq!((told("awaiting_capacity"), told("submitting"), told("started")), (0, 1, 1));
        assert!((1800 * SECOND..1900 * SECOND).contains(&ran.took));
        let sent = |wanted| world.calls.iter().filter(|(command, _)| *command == wanted).count();
        // One turn after each wait.
        let calls = if full == "starts" { sent(Command::RunJob) } else { sent(Command::CreateJob) };
        assert!((80..=95).contains(&calls), "{calls}");
    }
}

#[test]
fn the_wait_for_a_full_region_ends_after_quota_wait_max() {
    for full in ["starts", "creates"] {
        let mut world = World::default();
        let ran = run_with(&mut world, plan(), |command, _| match command {
            Command::CreateJob if full == "creates" => Fault::Refused,
            Command::RunJob => Fault::Refused,
            _ => Fault::None,
        });
        let Err(RunError::Api(error)) = &ran.result else { panic!("{:?}", ran.result) };
        assert_eq!((error.kind, error.exhausted), (ErrorKind::LimitReached, Some(RetryBudget::QuotaWait)));
        assert!((3500 * SECOND..3620 * SECOND).contains(&ran.took), "{full}: {:?}", ran.took);
        assert!(world.job.is_none() && world.starts == 0);
    }
}

#[test]
fn a_start_that_takes_effect_while_the_run_waits_for_its_turn_is_watched() {
    for full_until in [150, 1500] {
        let mut world = World::default();
        let ran = run_with(&mut world, plan(), |command, world| match command {
            Command::RunJob if world.now < 10 * SECOND => Fault::LostBeforeVeryLateEffect,
            Command::RunJob if world.now < full_until * SECOND => Fault::Refused,
            _ => Fault::None,
        });
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
        assert_eq!((world.starts, world.overlap), (1, Duration::ZERO));
        assert!(ran.took < 150 * SECOND, "{:?}", ran.took);
    }
}

#[test]
fn waits_for_a_quota_count_for_the_same_budget() {
    let ran = run_with(&mut World::default(), plan(), |command, _| match command {
        Command::RunJob => Fault::OverQuota,
        _ => Fault::None,
    });
    let Err(RunError::Api(error)) = &ran.result else { panic!("{:?}", ran.result) };
    assert_eq!((error.kind, error.exhausted), (ErrorKind::RateLimited, Some(RetryBudget::QuotaWait)));
    assert!((3400 * SECOND..3800 * SECOND).contains(&ran.took), "{:?}", ran.took);
}

#[test]
fn a_create_and_a_start_have_one_budget_for_their_per_minute_quotas() {
    let quota_wait_max = 150 * SECOND;
    let ran = run_with(&mut World::default(), world::Plan { quota_wait_max, ..plan() }, |command, _| match command {
        // Each waits for 100 seconds.
        Command::CreateJob => Fault::InItsTurn,
        Command::RunJob => Fault::OverQuota,
        _ => Fault::None,
    });
    let Err(RunError::Api(error)) = &ran.result else { panic!("{:?}", ran.result) };
    assert_eq!((error.kind, error.exhausted), (ErrorKind::RateLimited, Some(RetryBudget::QuotaWait)));
    assert!(ran.took < 210 * SECOND, "{:?}", ran.took);
}

#[test]
fn a_create_that_its_per_minute_quota_refuses_waits_on() {
    let mut world = World::default();
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::CreateJob if world.now < 600 * SECOND => Fault::OverQuota,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
}

#[test]
fn a_wait_for_a_quota_is_no_wait_for_a_name() {
    let mut world = World::with_other_job();
    world.delete_job_at(150 * SECOND);
    let ran = run_with(&mut world, plan(), |command, world| match command {
        // Each waits for longer than a name that is taken is waited for.
        Command::CreateJob => Fault::InItsTurn,
        Command::ReadJob if world.now < 150 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
}

#[test]
fn waits_for_creates_and_starts_have_one_budget() {
    let mut world = World { full_until: 10_000 * SECOND, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::CreateJob if world.now < 3000 * SECOND => Fault::Refused,
        _ => Fault::None,
    });
    assert!(ran.result.is_err() && ran.took < 3620 * SECOND, "{:?}", ran.took);
}

#[test]
fn runs_that_wait_together_have_different_pauses() {
    let pauses = |seed| {
        run_with(&mut World::default(), world::Plan { seed, ..plan() }, |command, world| match command {
            Command::RunJob if world.now < 600 * SECOND => Fault::OverQuota,
            _ => Fault::None,
        })
        .pauses
    };
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
}

#[test]
fn a_job_deleted_while_its_region_is_full_ends_the_wait() {
    let mut world = World { full_until: 1800 * SECOND, ..World::default() };
    world.delete_job_at(100 * SECOND);
    let ran = run(&mut world, plan(), &[]);
    assert!(matches!(ran.result, Err(RunError::RemovedBeforeStart { killed: false, .. })));
    assert!(ran.took < 200 * SECOND);
}

#[test]
fn an_outage_during_the_wait_for_capacity_does_not_end_the_run() {
    let mut world = World { full_until: 1800 * SECOND, ..World::default() };
    let ran = run_with(&mut world, plan(), |command, world| match command {
        Command::ReadJob if world.now > 100 * SECOND && world.now < 1000 * SECOND => Fault::Refused,
        _ => Fault::None,
    });
    assert!(matches!(ran.result, Ok(Outcome::Succeeded)), "{:?}", ran.result);
}

#[test]
fn a_kill_ends_the_run_in_every_phase() {
    // Before the job is ready, while the region is full, while the execution runs.
    for (ready_after, full_until) in [(50, 0), (1, 1000), (1, 0)] {
        let mut world = World {
            end: End::Late,
            ready_after: SECOND * ready_after,
            full_until: SECOND * full_until,
            kill_at: Some(20 * SECOND),
            ..World::default()
        };
        let ran = run(&mut world, plan(), &[]);
        let has_started = world.starts == 1;
        assert_eq!(matches!(ran.result, Ok(Outcome::Removed)), has_started);
        let stopped = matches!(&ran.result, Err(error @ RunError::RemovedBeforeStart { killed: true, .. })
            if error.to_string().ends_with("before an execution started, because Prefect asked this worker to stop the flow run."));
        assert_eq!(stopped, !has_started, "{:?}", ran.result);
        // The model finishes the current pause first; the driver does not.
        assert!(!world.calls.iter().any(|(command, _)| *command == Command::DeleteJob));
    }
}

#[test]
fn the_diagram_shows_every_transition_and_no_other() {
    let source = include_str!("../../src/lifecycle/machine/mod.rs");
    let documented: BTreeSet<(String, String)> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//!     ")?.split_once(" --> "))
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .collect();
    let mut found = BTreeSet::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..30_000 {
        let pick =
            (proptest::collection::vec(fault(), 0..40), end(), interference(), any::<bool>(), 0u32..80, 0u32..60);
        let (faults, end, interference, keep_job, ready_after, full) = pick.new_tree(&mut runner).unwrap().current();
        let ready = (full % 7 == 0).then(|| {
            condition("Ready", ConditionStatus::False, if keep_job { "Internal" } else { "ContainerMissing" }, "")
        });
        let full_until = SECOND * if full > 40 { 30 * full } else { 0 };
        let give_up_at =
            (ready_after % 9 == 0).then_some((SECOND * (ready_after + full), GiveUpReason::WorkerStopping));
        let mut world =
            World { end, ready, full_until, ready_after: SECOND * ready_after, give_up_at, ..world(interference) };
        let quota_wait_max = SECOND * 20 * full;
        let ran = run(&mut world, world::Plan { keep_job, quota_wait_max, ..plan() }, &faults);
        found.extend(ran.states.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())));
    }
    // Transitions that random runs don't find.
    let mut lost = World::default();
    let five_starts = run_with(&mut lost, plan(), |command, _| match command {
        Command::RunJob => Fault::LostBeforeEffect,
        _ => Fault::None,
    });
    let mut forgotten = World { end: End::Late, forgets_at: 60 * SECOND, ..World::default() };
    let without_execution = run(&mut forgotten, plan(), &[]);
    assert_eq!((lost.starts, &without_execution.result.unwrap()), (0, &Outcome::Removed));
    let mut freed = World::with_other_job();
    freed.delete_job_at(Duration::ZERO);
    let with_a_freed_name = run(&mut freed, plan(), &[]);
    let mut unseen = World { end: End::CancelledSoon, ..World::default() };
    let cancelled_unseen = run_with(&mut unseen, plan(), |command, world| match command {
        Command::WatchExecution(_) => Fault::Missing,
        Command::ReadJob if world.starts > 0 && world.now < 60 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    let mut hidden = World { end: End::Late, ..World::default() };
    let hidden_for_a_while = run_with(&mut hidden, plan(), |command, world| match command {
        Command::WatchExecution(_) | Command::ReadJob if world.starts > 0 && world.now < 60 * SECOND => Fault::Missing,
        _ => Fault::None,
    });
    let sent = std::cell::Cell::new(false);
    let refused_until_late_start =
        run_with(&mut World { end: End::Late, ..World::default() }, plan(), |command, world| match command {
            Command::RunJob if !sent.replace(true) => Fault::LostBeforeVeryLateEffect,
            Command::RunJob if world.starts == 0 => Fault::OverQuota,
            _ => Fault::None,
        });
    let mut runs = vec![cancelled_unseen, hidden_for_a_while, refused_until_late_start];
    // A kill at every step of a run with two executions.
    let late_start = |command: &Command, world: &World| match command {
        Command::RunJob if world.starts == 0 && world.now < 20 * SECOND => Fault::LostBeforeVeryLateEffect,
        _ => Fault::None,
    };
    let steps = std::cell::RefCell::new(vec![]);
    run_with(&mut World { end: End::Late, ..World::default() }, plan(), |command, world| {
        steps.borrow_mut().push(world.now);
        late_start(command, world)
    });
    for at in steps.into_inner() {
        let mut twice = World { end: End::Late, kill_at: Some(at), ..World::default() };
        runs.push(run_with(&mut twice, plan(), late_start));
    }
    for states in runs.into_iter().map(|ran| ran.states).chain([
        five_starts.states,
        without_execution.states,
        with_a_freed_name.states,
    ]) {
        found.extend(states.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())));
    }
    let lines = |transitions: BTreeSet<&(String, String)>| {
        transitions.into_iter().map(|(from, to)| format!("//!     {from} --> {to}\n")).collect::<String>()
    };
    let missing = lines(found.difference(&documented).collect());
    let invented = lines(documented.difference(&found).collect());
    assert!(missing.is_empty() && invented.is_empty(), "not in the diagram:\n{missing}\nnever seen:\n{invented}");
}

/// Whether it reports a job that may be left behind.
fn reports_a_job_left(progress: &Progress) -> bool {
    matches!(progress, Progress::Leaked { .. } | Progress::UnknownOwner { .. })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        2 => Just(Fault::LostBeforeEffect),
        2 => Just(Fault::LostAfterEffect),
        1 => Just(Fault::LostBeforeLateEffect),
        1 => Just(Fault::LostBeforeVeryLateEffect),
        1 => Just(Fault::RepeatedAfterEffect),
        1 => Just(Fault::LimitedAfterEffect),
        1 => Just(Fault::LimitedBeforeEffect),
        1 => Just(Fault::LimitedBeforeLateEffect),
        2 => Just(Fault::Refused),
        1 => Just(Fault::RefusedForAWhile),
        1 => Just(Fault::OverQuota),
        1 => Just(Fault::InItsTurn),
        1 => Just(Fault::Forbidden),
        1 => Just(Fault::Page),
        2 => Just(Fault::Stale),
        1 => Just(Fault::Missing),
        1 => Just(Fault::Nameless),
        2 => (0..world::ODD.len()).prop_map(Fault::Odd),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Succeeded),
        Just(End::Failed),
        Just(End::Cancelled),
        Just(End::CancelledSoon),
        Just(End::Late)
    ]
}

/// What somebody else does to the job, and after how many seconds.
#[derive(Clone, Copy, Debug)]
enum Interference {
    None,
    HasTheName,
    Deletes(u64),
    Replaces(u64),
    /// A kill in this process.
    Kills(u64),
}

fn interference() -> impl Strategy<Value = Interference> {
    prop_oneof![
        2 => Just(Interference::None),
        1 => Just(Interference::HasTheName),
        2 => (0u64..200).prop_map(Interference::Deletes),
        2 => (0u64..200).prop_map(Interference::Replaces),
        2 => (0u64..200).prop_map(Interference::Kills),
    ]
}

fn world(interference: Interference) -> World {
    let mut world =
        if matches!(interference, Interference::HasTheName) { World::with_other_job() } else { World::default() };
    match interference {
        Interference::Deletes(at) => world.delete_job_at(SECOND * at as u32),
        Interference::Replaces(at) => world.replace_job_at(SECOND * at as u32),
        Interference::Kills(at) => world.kill_at = Some(SECOND * at as u32),
        Interference::None | Interference::HasTheName => {}
    }
    world
}

/// Found by `nothing_is_run_twice_lost_or_stolen`: somebody deletes the job that our first create made. The machine creates
/// it again, and a lagging read shows the first one.
#[test]
fn a_lagging_read_of_an_earlier_job_does_not_end_the_run() {
    for deleted_at in [0, 1, 2, 3] {
        let mut world = World { ready_after: SECOND, ..World::default() };
        world.delete_job_at(SECOND * deleted_at);
        let reads = std::cell::Cell::new(0);
        let ran = run_with(&mut world, world::Plan { owner_label: None, ..plan() }, |command, world| match command {
            Command::CreateJob if world.now < SECOND => Fault::RepeatedAfterEffect,
            Command::ReadJob if world.job.as_ref().is_some_and(|job| job.ours && !job.deleting) => {
                reads.set(reads.get() + 1);
                if reads.get() <= 3 { Fault::Stale } else { Fault::None }
            }
            _ => Fault::None,
        });
        let is_reported = ran.reports.iter().any(|progress| matches!(progress, Progress::UnknownOwner { .. }));
        assert!(matches!(ran.result, Ok(Outcome::Succeeded)) || is_reported, "{deleted_at}: {:?}", ran.result);
        assert!(world.job.is_none() || is_reported, "{deleted_at}: lost");
    }
}

/// Found by `nothing_is_run_twice_lost_or_stolen`: a lagging read hides that the job was replaced just before the start, so
/// the start request starts the other job.
#[test]
fn a_job_that_replaced_ours_just_before_the_start_is_not_deleted() {
    for is_labelled in [true, false] {
        let mut world = World { ready_after: 20 * SECOND, ..World::default() };
        world.replace_job_at(25 * SECOND);
        let owner_label = plan().owner_label.filter(|_| is_labelled);
        let ran = run_with(&mut world, world::Plan { owner_label, ..plan() }, |command, world| match command {
            Command::ReadJob if world.now > 20 * SECOND => Fault::Stale,
            _ => Fault::None,
        });
        assert!(matches!(ran.result, Err(RunError::RemovedBeforeStart { .. })), "{:?}", ran.result);
        assert!(ran.reports.iter().any(|progress| progress.kind() == "started_another_job"), "{:?}", ran.states);
        assert!(world.job.is_some_and(|job| !job.ours) && !world.other_job_touched);
    }
}

/// Found by `nothing_is_run_twice_lost_or_stolen`: somebody deletes the job that our first create made, and the run of the
/// second one fails. A lagging read shows the first one to its deletion.
#[test]
fn a_lagging_read_of_an_earlier_job_does_not_end_the_deletion() {
    let mut world = World { ready_after: SECOND, ..World::default() };
    world.delete_job_at(Duration::ZERO);
    let faults =
        [Fault::RepeatedAfterEffect, Fault::Nameless, Fault::Stale, Fault::Stale, Fault::Forbidden, Fault::Stale];
    let ran = run(&mut world, world::Plan { owner_label: None, ..plan() }, &faults);
    assert!(ran.result.is_err());
    assert!(world.job.is_none());
}

/// Found by `nothing_is_run_twice_lost_or_stolen`: a create is lost while an earlier job of the name is being deleted, and takes
/// effect after that.
#[test]
fn an_earlier_job_in_deletion_does_not_end_the_search_for_a_create_in_doubt() {
    let mut world = World::with_other_job();
    world.delete_job_at(Duration::ZERO);
    let ran = run(&mut world, plan(), &[Fault::LostBeforeLateEffect]);
    assert!(ran.result.is_err());
    assert!(world.job.is_none(), "{:?}", world.calls);
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn nothing_is_run_twice_lost_or_stolen(
        faults in proptest::collection::vec(fault(), 0..40),
        end in end(),
        interference in interference(),
        keep_job in any::<bool>(),
        has_label in proptest::bool::weighted(0.8),
        ready_after in 0u64..80,
        full_until in 0u32..1000,
    ) {
        let full_until = SECOND * full_until.saturating_sub(500);
        let mut world = World { end, full_until, ready_after: SECOND * ready_after as u32, ..world(interference) };
        let owner_label = plan().owner_label.filter(|_| has_label);

        let ran = run(&mut world, world::Plan { keep_job, owner_label, ..plan() }, &faults);

        // A start that comes later than the run waited for it may meet the deletion after another failure.
        let is_very_late = faults.contains(&Fault::LostBeforeVeryLateEffect) && ran.result.is_err();
        prop_assert!(!world.interrupted || is_very_late, "an execution was stopped by {:?}", ran.result);
        prop_assert!(never_twice(&world, &ran.reports), "{} starts, {:?} at once", world.starts, world.overlap);
        prop_assert!(!world.other_job_touched, "deleted or ran {JOB}, which is not ours");
        let left = world.job.as_ref().is_some_and(|job| job.ours && !job.deleting);
        let told = ran.reports.iter().any(|progress| {
            reports_a_job_left(progress) || matches!(progress, Progress::LeftRunning { .. } | Progress::Kept { .. })
        });
        prop_assert!(!left || told, "lost: {:?}", ran.result);
    }

    #[test]
    fn readiness_is_decided_within_the_timeout(
        faults in proptest::collection::vec(fault(), 0..30),
        status in prop_oneof![Just(ConditionStatus::Unknown), Just(ConditionStatus::False)],
        reason in prop_oneof![Just("ContainerMissing"), Just("Internal"), Just("")],
    ) {
        let ready = Some(condition("Ready", status, reason, "Some words."));
        let mut world = World { ready, ..World::default() };
        let ran = run(&mut world, plan(), &faults);
        prop_assert!(world.starts == 0 && ran.result.is_err());
        // The timeout, and the time that the deletion takes while the API fails. Creates may wait for their quota.
        let max = plan().ready_timeout + 2 * plan().retry.max_elapsed + plan().settle_time;
        prop_assert!(ran.took - world.waited_in_total <= max, "{:?}", ran.took);
        if let Err(error @ RunError::NotReady { .. }) = &ran.result {
            prop_assert!(status == ConditionStatus::False && error.to_string().contains("Some words."), "{}", error);
        }
        if let Err(RunError::ReadyTimeout { .. }) = &ran.result {
            prop_assert!(status == ConditionStatus::Unknown || !faults.is_empty());
        }
    }

    #[test]
    fn a_dropped_run_leaves_its_execution_alone(
        faults in proptest::collection::vec(fault(), 0..20), calls in 0usize..60, end in end(),
    ) {
        let mut world = World { end, ..World::default() };
        run_for(&mut world, plan(), &faults, calls);
        prop_assert!(!world.interrupted);
        let has_ended = world.calls.iter().any(|(command, _)| *command == Command::DeleteJob);
        prop_assert!(world.job.is_some() || has_ended || world.starts == 0);
    }

    #[test]
    fn a_killed_run_ends_at_once_and_never_starts_an_execution(
        faults in proptest::collection::vec(fault(), 0..20), at in 0u64..100, ready_after in 0u64..80,
    ) {
        let mut world = World {
            end: End::Late, kill_at: Some(SECOND * at as u32), ready_after: SECOND * ready_after as u32, ..World::default()
        };
        let ran = run(&mut world, plan(), &faults);
        if world.kill_at.is_none() {
            let is_told = match &ran.result {
                Ok(Outcome::Removed) => world.starts >= 1,
                Err(RunError::RemovedBeforeStart { maybe_started, .. }) => world.starts == 0 || *maybe_started,
                // The run was about to end anyway.
                Err(_) => ran.states.iter().any(|state| matches!(*state, "CleaningUp" | "CheckingLeftover")),
                Ok(_) => false,
            };
            prop_assert!(is_told, "{:?}", ran.result);
        }
    }

    #[test]
    fn transient_faults_do_not_end_a_run(
        faults in proptest::collection::vec(fault(), 0..12), full in any::<bool>(), end in end(),
    ) {
        // More than two pauses of 15 s, with those of the other faults, are longer than the wait for a taken name.
        let mut long_pauses = 0;
        let is_transient = |fault: &Fault| {
            long_pauses += u32::from(*fault == Fault::RefusedForAWhile);
            !matches!(fault, Fault::Forbidden) && (*fault != Fault::RefusedForAWhile || long_pauses < 3)
        };
        let faults: Vec<_> = faults.into_iter().filter(is_transient).collect();
        let mut world = World { end, full_until: SECOND * if full { 900 } else { 0 }, ..World::default() };
        let plan = world::Plan { ready_timeout: 600 * SECOND, ..plan() };
        let ran = run(&mut world, plan, &faults);
        match ran.result {
            Ok(Outcome::Succeeded) => prop_assert_eq!(end, End::Succeeded),
            Ok(Outcome::Failed(_)) => prop_assert!(end != End::Succeeded),
            Ok(end) => prop_assert!(false, "nobody asked for {end:?}"),
            // The client spends its whole budget on a create before the machine gets the failure.
            Err(error) => prop_assert!(
                matches!(&error, RunError::Api(error) if error.may_pass() && error.method == ApiMethod::CreateJob),
                "{}", error
            ),
        }
        let is_left = world.job.as_ref().is_some_and(|job| !job.deleting);
        let is_told = ran.reports.iter().any(reports_a_job_left);
        prop_assert!(!is_left || is_told, "left without a report");
        prop_assert!(never_twice(&world, &ran.reports), "{} starts, {:?} at once", world.starts, world.overlap);
        let is_spent = |(command, fault): &(Command, Fault)| match command {
            Command::CreateJob => {
                !matches!(fault, Fault::None | Fault::Stale | Fault::Nameless | Fault::Missing | Fault::Odd(_))
            }
            _ => false,
        };
        prop_assert!(world.starts >= 1 || world.calls.iter().any(is_spent), "given up without need");
    }

    #[test]
    fn a_run_that_is_given_up_starts_nothing_afterwards_and_leaves_nothing(
        faults in proptest::collection::vec(fault(), 0..30),
        at in 0u32..200,
        reason in give_up_reason(),
        end in end(),
        ready_after in 0u32..80,
        full in any::<bool>(),
        keep_job in any::<bool>(),
    ) {
        let mut world = World {
            end,
            ready_after: SECOND * ready_after,
            full_until: SECOND * if full { 150 } else { 0 },
            give_up_at: Some((SECOND * at, reason)),
            ..World::default()
        };
        let ran = run(&mut world, world::Plan { keep_job, ..plan() }, &faults);
        let is_left = world.job.as_ref().is_some_and(|job| !job.deleting);
        let is_told = ran.reports.iter().any(|progress| {
            reports_a_job_left(progress)
                || matches!(progress, Progress::Kept { .. } | Progress::LeftRunning { .. } | Progress::LeftForLater { .. })
        });
        prop_assert!(!is_left || is_told, "lost: {:?}", ran.result);
        // A start that comes later than the run waited for it may meet the deletion.
        let is_very_late = faults.contains(&Fault::LostBeforeVeryLateEffect);
        prop_assert!(!world.interrupted || is_very_late, "an execution was stopped by {:?}", ran.result);
        match ran.result {
            Ok(Outcome::NotStarted) => {
                prop_assert!(world.starts == 0 || is_very_late);
                prop_assert!(!is_left || ran.reports.iter().any(reports_a_job_left), "a job that never ran was left");
            }
            Ok(Outcome::LeftRunning) => prop_assert_eq!(reason, GiveUpReason::WorkerStopping),
            Ok(Outcome::Removed) => prop_assert!(false, "nobody removed it"),
            Ok(_) | Err(_) => {}
        }
    }

    #[test]
    fn no_news_but_that_of_the_execution_ends_its_watch(
        spells in proptest::collection::vec(spell(), 1..4),
        end in prop_oneof![Just(End::Succeeded), Just(End::Failed), Just(End::Late)],
        later in proptest::collection::vec(fault(), 0..10),
    ) {
        let mut world = World { end, ..World::default() };
        let ran = run_with(&mut world, plan(), |command, world| {
            // The execution has begun by then.
            let spell = spells.iter().find(|spell| (spell.from..spell.until).contains(&world.now.as_secs()));
            let counted = world.calls.len() % 17;
            spell.and_then(|spell| spell.fault_of(command)).or_else(|| {
                let is_read = !matches!(command, Command::CreateJob | Command::RunJob | Command::DeleteJob);
                later.get(counted).copied().filter(|fault| is_read && !matches!(fault, Fault::Odd(_) | Fault::Nameless))
                    .filter(|_| world.now > 10 * SECOND)
            }).unwrap_or(Fault::None)
        });
        match ran.result {
            Ok(Outcome::Succeeded) => prop_assert_eq!(end, End::Succeeded),
            Ok(Outcome::Failed(_)) => prop_assert!(end != End::Succeeded),
            other => prop_assert!(false, "{other:?}"),
        }
        prop_assert!(!world.interrupted && world.starts == 1);
        prop_assert!(world.job.is_none());
    }
}

/// Two executions run at the same time for a moment only, unless the younger can't be cancelled.
fn never_twice(world: &World, reports: &[Progress]) -> bool {
    let is_told = reports.iter().any(|progress| matches!(progress, Progress::NotCancelled { .. }));
    world.starts <= 1 || world.overlap < 120 * SECOND || is_told
}

fn give_up_reason() -> impl Strategy<Value = GiveUpReason> {
    prop_oneof![
        1 => Just(GiveUpReason::FlowRunCancelled),
        1 => Just(GiveUpReason::FlowRunEnded),
        1 => Just(GiveUpReason::FlowRunDeleted),
        2 => Just(GiveUpReason::WorkerStopping),
    ]
}

/// A time in which some reads fail in one way.
#[derive(Clone, Copy, Debug)]
struct Spell {
    from: u64,
    until: u64,
    fault: Fault,
    of_executions: bool,
    of_jobs: bool,
    of_lists: bool,
}

impl Spell {
    fn fault_of(&self, command: &Command) -> Option<Fault> {
        let is_hit = match command {
            Command::WatchExecution(_) => self.of_executions,
            Command::ReadJob => self.of_jobs,
            Command::FindJob | Command::ListExecutions => self.of_lists,
            _ => false,
        };
        is_hit.then_some(self.fault)
    }
}

fn spell() -> impl Strategy<Value = Spell> {
    let faults = [
        Fault::Missing,
        Fault::Stale,
        Fault::Forbidden,
        Fault::Page,
        Fault::Refused,
        Fault::RefusedForAWhile,
        Fault::OverQuota,
        Fault::LostBeforeEffect,
    ];
    let kinds = (proptest::sample::select(faults.to_vec()), any::<bool>(), any::<bool>(), any::<bool>());
    (10u64..40, 1u64..900, kinds).prop_map(|(from, lasts, (fault, of_executions, of_jobs, of_lists))| Spell {
        from,
        until: from + lasts,
        fault,
        of_executions,
        of_jobs,
        of_lists,
    })
}
