//! One worker.

use super::*;

/// The least possible time for `calls` that all wait from the start.
fn least(kind: Kind, most: usize, calls: usize) -> f64 {
    let periods = ((calls - 1) / most) as f64;
    match kind {
        Kind::Window | Kind::Sliding => periods * MINUTE,
        Kind::Aligned => 17.0 + (periods - 1.0) * MINUTE,
        Kind::Bucket => (calls - most) as f64 / most as f64 * MINUTE,
    }
}

#[test]
fn without_a_refusal_calls_wait_for_responses_only() {
    fastrand::seed(1);
    let worker = &Scenario::alone(Service::new(Kind::Window, 10_000), 500).run()[0];
    assert_eq!(worker.refused.len(), 0);
    // 500 calls, 32 at a time, 0.15 s at most.
    assert!(worker.took() < 2.5, "{}", worker.took());
}

#[test]
fn a_quota_is_used_fully_and_seldom_exceeded() {
    for (kind, most, calls) in KINDS.iter().flat_map(|kind| {
        [(30, 1000), (30, 2000), (180, 1000), (180, 2000), (600, 6000)].map(|(most, calls)| (*kind, most, calls))
    }) {
        let (max_took, max_refused) = match (kind, most, calls) {
            (Kind::Window | Kind::Sliding, ..) => (1.05, 0.05),
            // The first window that is known begins late by a pause of a probe, and the last one is used for few calls.
            (Kind::Aligned, ..) => (1.15, 0.05),
            // Some tokens are left at the end. A small bucket refuses one call in about 25.
            (Kind::Bucket, 30, _) => (1.05, 0.08),
            (Kind::Bucket, ..) => (1.1, 0.05),
        };
        for seed in 1..=SEEDS {
            fastrand::seed(seed);
            let worker = &Scenario::alone(Service::new(kind, most), calls).run()[0];
            let (took, refused) = (worker.took() / least(kind, most, calls), worker.refused_share());
            assert!(took <= max_took && refused <= max_refused, "{kind:?} {most} {calls}: {took:.3} {refused:.3}");
        }
    }
}

#[test]
fn random_refusals_slow_nothing_down() {
    for chance in [0.02, 0.05, 0.1] {
        for seed in 1..=20 {
            fastrand::seed(seed);
            let service = Service { chance, ..Service::new(Kind::Bucket, MANY) };
            let worker = &Scenario::alone(service, 200).run()[0];
            // The second slowest of 200.
            let p99 = worker.done[197];
            assert!(p99 < 3.0, "{chance}: {p99}");
        }
    }
}

#[test]
fn the_configured_period_need_not_be_right() {
    for (kind, period, most) in KINDS
        .iter()
        .flat_map(|kind| [4.0, 20.0, 120.0].iter().flat_map(move |period| [30, 180].map(|most| (*kind, *period, most))))
    {
        for seed in 1..=SEEDS {
            fastrand::seed(seed);
            let service = Service { period, ..Service::new(kind, most) };
            let worker = &Scenario::alone(service, 1000).run()[0];
            let took = worker.took() / (least(kind, most, 1000) * period / MINUTE);
            let gap = worker.done.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            let case = format!("{kind:?} {period} {most}: {took:.2} times the least, gap {gap:.1} s");
            // No longer than the configured period, or than the real one and the pause between two probes.
            assert!(gap <= MINUTE.max(1.4 * period), "{case}");
            assert!(took <= if period < MINUTE { 7.0 } else { 1.4 }, "{case}");
            assert!(worker.refused_share() <= 0.25, "{case}, {:.3} refused", worker.refused_share());
        }
    }
}

#[test]
fn a_pause_that_every_refusal_asks_for_costs_little() {
    for (kind, most) in KINDS.iter().flat_map(|kind| [30, 180].map(|most| (*kind, most))) {
        for seed in 1..=SEEDS {
            fastrand::seed(seed);
            let service = Service { asks: Some(Duration::from_secs(60)), ..Service::new(kind, most) };
            let worker = &Scenario::alone(service, 2000).run()[0];
            let (took, refused) = (worker.took() / least(kind, most, 2000), worker.refused_share());
            // The pause is as long as a window, and some aligned windows end sooner.
            let max_took = if kind == Kind::Aligned { 1.5 } else { 1.2 };
            assert!(took <= max_took && refused <= 0.05, "{kind:?} {most}: {took:.3} {refused:.3}");
        }
    }
}
