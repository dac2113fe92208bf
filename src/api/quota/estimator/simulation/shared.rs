//! Several workers that don't know of each other.

use super::*;

/// The workers' shares, from five periods after the last one began, for ten periods.
fn after_five_periods(kind: Kind, most: usize, workers: usize) -> Worst {
    worst(|| {
        let mut scenario = Scenario::shared(Service::new(kind, most), workers, 0.0);
        let last = scenario.workers.iter().map(|(began, _)| *began).fold(0.0, f64::max);
        let (from, until) = (last + 5.0 * MINUTE, last + 15.0 * MINUTE);
        scenario.until = until;
        Shares::of(&scenario.run(), from, until)
    })
}

#[test]
fn workers_share_a_quota_fairly() {
    for (kind, most, workers) in KINDS
        .iter()
        .flat_map(|kind| [180, 600].iter().flat_map(move |most| [2, 3, 5].map(|workers| (*kind, *most, workers))))
    {
        let worst = after_five_periods(kind, most, workers);
        let case = format!("{kind:?} {most} {workers}: {worst:?}");
        assert!(worst.ratio <= 3.0 && worst.refused < 0.1 && worst.throughput > 0.85 * most as f64, "{case}");
    }
}

#[test]
fn few_calls_are_shared_fairly_at_the_cost_of_refusals() {
    // Each worker has 12 to 30 calls a minute; one refusal and its probes are a large part of them.
    for (kind, workers) in KINDS.iter().flat_map(|kind| [2, 3, 5].map(|workers| (*kind, workers))) {
        let worst = after_five_periods(kind, 60, workers);
        let case = format!("{kind:?} {workers}: {worst:?}");
        assert!(worst.ratio <= 3.0 && worst.refused < 0.26 && worst.throughput > 0.85 * 60.0, "{case}");
    }
}
