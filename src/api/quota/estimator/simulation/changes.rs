//! A quota that changes, or that somebody else uses.

use super::*;

const CHANGE: f64 = 10.0 * MINUTE;

/// The part of a quota that must be used. A window that slides frees calls at the times at which they were sent: a worker that
/// is alone, but does not know it, asks for some of them late.
fn least_use(kind: Kind, workers: usize) -> f64 {
    if (kind, workers) == (Kind::Sliding, 1) { 0.75 } else { 0.85 }
}

/// The worst outcome from five periods after the change on.
fn after_change(kind: Kind, workers: usize, most: usize) -> Worst {
    worst(|| Shares::of(&change(kind, workers, most), CHANGE + 5.0 * MINUTE, CHANGE + 15.0 * MINUTE))
}

/// Runs workers that share 180 calls a minute until they are allowed `most`.
fn change(kind: Kind, workers: usize, most: usize) -> Vec<Worker> {
    let scenario = Scenario::shared(Service::new(kind, 180), workers, CHANGE + 15.0 * MINUTE);
    Scenario { change: Some((CHANGE, most)), ..scenario }.run()
}

/// The most refusals of all workers within four seconds.
fn most_refused_at_once(workers: &[Worker], from: f64) -> usize {
    let mut refused: Vec<_> = workers.iter().flat_map(|worker| &worker.refused).filter(|at| **at >= from).collect();
    refused.sort_by(|one, other| one.total_cmp(other));
    (0..refused.len())
        .map(|first| refused[first..].iter().take_while(|at| ***at < refused[first] + 4.0).count())
        .max()
        .unwrap_or(0)
}

#[test]
fn a_quota_that_falls_refuses_few_calls_at_once() {
    for (kind, workers, most) in KINDS
        .iter()
        .flat_map(|kind| [1, 3].iter().flat_map(move |workers| [0, 20, 60].map(|most| (*kind, *workers, most))))
    {
        for seed in 1..=SEEDS {
            fastrand::seed(seed);
            let refused = most_refused_at_once(&change(kind, workers, most), CHANGE);
            assert!(refused <= 4 * workers + 4, "{kind:?} {workers} {most}: {refused}");
        }
    }
}

#[test]
fn a_quota_that_falls_is_shared_and_used() {
    for (kind, workers) in KINDS.iter().flat_map(|kind| [1, 3].map(|workers| (*kind, workers))) {
        let worst = after_change(kind, workers, 60);
        let case = format!("{kind:?} {workers}: {worst:?}");
        assert!(
            worst.ratio <= 3.0 && worst.refused < 0.2 && worst.throughput > least_use(kind, workers) * 60.0,
            "{case}"
        );
    }
}

#[test]
fn a_quota_that_rises_is_used() {
    for (kind, workers, most) in KINDS
        .iter()
        .flat_map(|kind| [(1, 360), (1, 500), (1, 720), (3, 360)].map(|(workers, most)| (*kind, workers, most)))
    {
        let worst = after_change(kind, workers, most);
        // A fourfold quota is not yet used fully after five periods.
        let use_of_risen = if most == 720 { 0.75 } else { least_use(kind, workers) };
        let case = format!("{kind:?} {workers} {most}: {worst:?}");
        assert!(worst.ratio <= 3.0 && worst.refused < 0.1 && worst.throughput > use_of_risen * most as f64, "{case}");
    }
}

#[test]
fn what_somebody_else_leaves_is_used() {
    for (kind, workers) in KINDS.iter().flat_map(|kind| [1, 3].map(|workers| (*kind, workers))) {
        let (begin, end) = (5.0 * MINUTE, 20.0 * MINUTE);
        let mut after: Vec<Shares> = vec![];
        let during = worst(|| {
            // Half of the quota, without regard to refusals.
            let scenario = Scenario::shared(Service::new(kind, 180), workers, end + 15.0 * MINUTE);
            let workers = Scenario { somebody: Some((1.5, begin, end)), ..scenario }.run();
            after.push(Shares::of(&workers, end + 5.0 * MINUTE, end + 15.0 * MINUTE));
            Shares::of(&workers, begin + 5.0 * MINUTE, end)
        });
        let case = format!("{kind:?} {workers}: {during:?}");
        assert!(
            during.ratio <= 3.0 && during.refused < 0.15 && during.throughput > least_use(kind, workers) * 90.0,
            "{case}"
        );
        let average = after.iter().map(|outcome| outcome.throughput).sum::<f64>() / after.len() as f64;
        assert!(average > least_use(kind, workers) * 180.0, "{case}, {average} a minute later");
        assert!(after.iter().all(|outcome| outcome.ratio <= 3.0), "{case}, later {after:?}");
    }
}
