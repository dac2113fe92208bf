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

/// What three workers get in each minute, and how many of their calls are refused. They begin in different minutes.
///
/// Writes the table to the file that `QUOTA_SHARES` names, for `make plot-shares`.
#[test]
fn a_worker_that_begins_later_gets_its_share() {
    const MINUTES: usize = 20;
    const BEGIN: [f64; 3] = [0.0, 3.0 * MINUTE, 6.0 * MINUTE];
    let mut table = "quota,minute,first,second,third,refused\n".to_owned();
    for kind in KINDS {
        fastrand::seed(1);
        let mut scenario = Scenario::shared(Service::new(kind, 180), BEGIN.len(), MINUTES as f64 * MINUTE);
        scenario.workers = BEGIN.map(|at| (at, MANY)).to_vec();
        let workers = scenario.run();
        for minute in 0..MINUTES {
            let span = minute as f64 * MINUTE..(minute + 1) as f64 * MINUTE;
            let count = |times: &[f64]| times.iter().filter(|at| span.contains(*at)).count();
            let accepted: Vec<_> = workers.iter().map(|worker| count(&worker.accepted).to_string()).collect();
            let refused: usize = workers.iter().map(|worker| count(&worker.refused)).sum();
            table += &format!("{kind:?},{minute},{},{refused}\n", accepted.join(","));
        }
        let last_five = Shares::of(&workers, (MINUTES - 5) as f64 * MINUTE, MINUTES as f64 * MINUTE);
        assert!(last_five.ratio <= 3.0 && last_five.refused < 0.1, "{kind:?}: {last_five:?}");
    }
    if let Some(file) = std::env::var_os("QUOTA_SHARES") {
        std::fs::write(file, table).unwrap();
    }
}
