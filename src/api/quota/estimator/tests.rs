use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
/// From a call to its response.
const LATENCY: Duration = Duration::from_millis(100);

/// The ways in which a service may count a quota.
#[derive(Clone, Copy, Debug)]
enum Service {
    /// At most `most` calls in the minute that begins with the first one.
    Window { most: usize, began: Duration, count: usize },
    /// A token bucket of `most` tokens that refills evenly within a minute.
    Bucket { most: f64, level: f64, filled: Duration },
}

impl Service {
    fn window(most: usize) -> Self {
        Self::Window { most, began: Duration::ZERO, count: 0 }
    }

    fn accepts(&mut self, now: Duration) -> bool {
        match self {
            Self::Window { most, began, count } => {
                if now >= *began + MINUTE {
                    (*began, *count) = (now, 0);
                }
                *count += 1;
                *count <= *most
            }
            Self::Bucket { most, level, filled } => {
                *level = (*level + *most * (now - *filled).as_secs_f64() / 60.0).min(*most);
                *filled = now;
                let accepts = *level >= 1.0;
                *level -= f64::from(u8::from(accepts));
                accepts
            }
        }
    }
}

struct Totals {
    took: Duration,
    refused: usize,
}

/// Sends `calls` that all wait from the start. From the time in `then` on, another service counts.
fn send_all(calls: usize, mut service: Service, mut then: Option<(Duration, Service)>) -> Totals {
    let mut estimator = QuotaEstimator::new(MINUTE);
    let (mut now, mut waiting, mut refused) = (Duration::ZERO, calls, 0);
    let mut responses: VecDeque<(Duration, Duration, bool)> = VecDeque::new();
    while waiting > 0 || !responses.is_empty() {
        while responses.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, sent, is_accepted)) = responses.pop_front() else { break };
            if is_accepted {
                estimator.accepted(sent);
            } else {
                estimator.refused(now, sent, None);
                (waiting, refused) = (waiting + 1, refused + 1);
            }
        }
        let admission = if waiting > 0 { estimator.admission(now) } else { Admission::AfterResponse };
        let next = responses.front().map(|(at, ..)| *at);
        now = match admission {
            Admission::Now => {
                waiting -= 1;
                let is_accepted = match then {
                    Some((from, ref mut other)) if now >= from => other.accepts(now),
                    _ => service.accepts(now),
                };
                responses.push_back((now + LATENCY, now, is_accepted));
                now + Duration::from_millis(1)
            }
            Admission::After(pause) => next.unwrap_or(Duration::MAX).min(now + pause),
            Admission::AfterResponse => next.unwrap_or(now),
        };
    }
    Totals { took: now, refused }
}

#[test]
fn without_a_refusal_calls_wait_for_responses_only() {
    let totals = send_all(500, Service::window(10_000), None);
    assert_eq!(totals.refused, 0);
    assert!(totals.took < Duration::from_secs(3), "{:?}", totals.took);
}

#[test]
fn a_quota_is_used_fully_and_seldom_exceeded() {
    for (calls, most) in [(2000, 30), (2000, 180), (2000, 600)] {
        let totals = send_all(calls, Service::window(most), None);
        let least = MINUTE * u32::try_from(calls / most - 1).unwrap();
        assert!(totals.took <= least.mul_f64(1.15) + 2 * MINUTE, "{most}: {:?} instead of {least:?}", totals.took);
        assert!(totals.refused * 100 <= calls * 4, "{most}: {} refused", totals.refused);
    }
}

#[test]
fn a_bucket_that_refills_evenly_is_used_fully_too() {
    for most in [30, 180] {
        let most_at_once = f64::from(most);
        let bucket = Service::Bucket { most: most_at_once, level: most_at_once, filled: Duration::ZERO };
        let totals = send_all(1000, bucket, None);
        let least = MINUTE * (1000 / most);
        assert!(totals.took <= least.mul_f64(1.3) + 2 * MINUTE, "{most}: {:?} instead of {least:?}", totals.took);
        assert!(totals.refused <= 100, "{most}: {} refused", totals.refused);
    }
}

#[test]
fn the_estimate_grows_with_the_quota() {
    let totals = send_all(3000, Service::window(10), Some((3 * MINUTE, Service::window(600))));
    assert!(totals.took < 20 * MINUTE, "{:?}", totals.took);
}

#[test]
fn a_quota_that_others_use_up_for_a_moment_recovers_soon() {
    for (calls, most) in [(50, 180), (300, 600)] {
        let used_up = Service::Window { most: 0, began: Duration::ZERO, count: 0 };
        let totals = send_all(calls, used_up, Some((Duration::from_secs(5), Service::window(most))));
        assert!(totals.took < 6 * MINUTE, "{calls}: {:?}", totals.took);
        assert!(totals.refused < 40, "{calls}: {}", totals.refused);
    }
}

#[test]
fn a_refusal_halves_the_estimate_at_most() {
    let mut estimator = QuotaEstimator::new(MINUTE);
    for call in (0..100).map(Duration::from_millis) {
        assert_eq!(estimator.admission(call), Admission::Now);
        estimator.accepted(call);
    }
    let mut refuse_at = |now: Duration| {
        assert_eq!(estimator.admission(now), Admission::Now);
        estimator.refused(now + LATENCY, now, None);
        estimator.estimate.map(|estimate| estimate.calls)
    };
    assert_eq!(refuse_at(Duration::from_secs(1)), Some(100));
    assert_eq!(refuse_at(3 * MINUTE), Some(50));
}

/// An estimator whose first call was refused at [`LATENCY`], with this `Retry-After`.
fn refused_for(pause: Duration) -> QuotaEstimator {
    let mut estimator = QuotaEstimator::new(MINUTE);
    assert_eq!(estimator.admission(Duration::ZERO), Admission::Now);
    estimator.refused(LATENCY, Duration::ZERO, Some(pause.into()));
    estimator
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept() {
    let mut estimator = refused_for(MINUTE);
    assert_eq!(estimator.admission(MINUTE / 2), Admission::After(MINUTE / 2 + LATENCY));
    assert_eq!(estimator.admission(MINUTE + LATENCY), Admission::Now);
}

#[test]
fn a_long_pause_holds_the_queue_for_two_periods() {
    for asked in [2 * MINUTE, 60 * MINUTE, Duration::MAX] {
        let mut estimator = refused_for(asked);
        let probe = 2 * MINUTE - Duration::from_secs(1);
        assert_eq!(estimator.admission(probe), Admission::Now);
        // The probe's response never comes.
        assert_eq!(estimator.admission(probe), Admission::After(Duration::from_secs(1) + LATENCY));
        estimator.withdrawn(probe);
        assert_eq!(estimator.admission(2 * MINUTE + LATENCY), Admission::Now);
    }
}

#[test]
fn one_probe_is_sent_during_a_long_pause() {
    let mut estimator = refused_for(60 * MINUTE);
    let Admission::After(pause) = estimator.admission(MINUTE) else { panic!("admitted") };
    let probe = MINUTE + pause;
    assert!(probe < 2 * MINUTE, "{probe:?}");
    assert_eq!(estimator.admission(probe), Admission::Now);
    assert!(matches!(estimator.admission(probe), Admission::After(_)));
    // One that is not sent makes room for another.
    estimator.withdrawn(probe);
    assert_eq!(estimator.admission(probe), Admission::Now);
    // An accepted one ends the pause.
    estimator.accepted(probe);
    for call in 1..=5 {
        assert_eq!(estimator.admission(probe + Duration::from_millis(call)), Admission::Now);
    }
}

#[test]
fn a_probe_that_is_refused_begins_the_pause_again() {
    let mut estimator = refused_for(60 * MINUTE);
    let probe = 3 * MINUTE / 2;
    assert_eq!(estimator.admission(probe), Admission::Now);
    estimator.refused(probe + LATENCY, probe, Some((60 * MINUTE).into()));
    assert!(matches!(estimator.admission(probe + MINUTE), Admission::After(_)));
    assert_eq!(estimator.admission(probe + 2 * MINUTE), Admission::Now);
}

#[test]
fn a_call_that_was_sent_before_the_pause_does_not_end_it() {
    let mut estimator = QuotaEstimator::new(MINUTE);
    let early = Duration::from_millis(1);
    assert_eq!((estimator.admission(Duration::ZERO), estimator.admission(early)), (Admission::Now, Admission::Now));
    estimator.refused(LATENCY, Duration::ZERO, Some((60 * MINUTE).into()));
    estimator.accepted(early);
    assert!(matches!(estimator.admission(MINUTE), Admission::After(_)));
}

proptest! {
    /// Whatever the responses are, a call is admitted again in the end.
    #[test]
    fn no_call_waits_forever(
        responses in proptest::collection::vec((any::<bool>(), 0u64..90), 1..200),
        asked in any::<u64>(),
    ) {
        let mut estimator = QuotaEstimator::new(MINUTE);
        let mut now = Duration::ZERO;
        for (is_accepted, later) in responses {
            now += Duration::from_secs(later);
            for _ in 0..2 {
                if let Admission::After(pause) = estimator.admission(now) {
                    prop_assert!(pause <= 2 * MINUTE);
                    now += pause;
                } else {
                    let sent = now;
                    now += LATENCY;
                    if is_accepted {
                        estimator.accepted(sent);
                    } else {
                        estimator.refused(now, sent, Some(Duration::from_secs(asked).into()));
                    }
                }
            }
        }
        prop_assert_eq!(estimator.in_flight, 0);
    }
}
