//! Estimates how many calls per period a quota admits, from its refusals: Google does not tell the number (30 to 3 000
//! per minute were seen in use).
//!
//! Until the first refusal, calls are sent at once, with a bounded number in flight. After a refusal, the estimate is the
//! number of calls that the quota accepted in the last period. After four periods without a refusal the estimate grows by
//! one, and then by two, four, eight and so on with each further period, until the quota refuses again.
//!
//! This module only computes: the current time is a parameter, as a duration since any fixed moment. The queue
//! ([`super::queue`]) does the waiting.

use std::{collections::VecDeque, time::Duration};

/// Maximum number of calls that await their responses at the same time. It bounds how many calls a quota of unknown
/// size refuses at once.
const MAX_IN_FLIGHT: usize = 32;
/// Periods without a refusal before the estimate grows.
const CALM_PERIODS: u32 = 4;
/// The first estimate is at least this: when one of the first calls is refused, other clients of the project may have
/// used the quota up.
const MIN_FIRST_ESTIMATE: usize = 10;

/// The estimate of one quota, and the calls of the last period that count against it.
#[derive(Debug)]
pub(super) struct QuotaEstimator {
    period: Duration,
    in_flight: usize,
    /// When the calls of the last period were sent, oldest first. Refused calls are not among them.
    sent: VecDeque<Duration>,
    /// `None` until the first refusal.
    estimate: Option<Estimate>,
    /// No call is admitted before this time.
    held_until: Duration,
    /// Refusals since the last accepted call that contradict the estimate, because others use the quota up.
    unexpected_refusals: u32,
}

/// What the refusals of a quota have shown.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// Calls that the quota admits in one period.
    calls: usize,
    /// The lower bound that was applied when the estimate was made.
    lower_bound: usize,
    /// How much the estimate grows next.
    growth: usize,
    /// When the estimate grows next.
    grows_at: Duration,
    /// When the estimate was made. Refusals of calls that were sent before only refine it.
    made_at: Duration,
}

/// Whether a call may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It may be sent now, and is counted as sent.
    Now,
    /// The quota is used up: ask again after this time.
    After(Duration),
    /// Too many calls are in flight: ask again after one of them has its response.
    AfterResponse,
}

impl QuotaEstimator {
    /// An estimator of a quota that counts calls per `period`.
    pub(super) fn new(period: Duration) -> Self {
        // 2 % longer: of two calls that are sent one period apart, the second may arrive less than a period after the
        // first.
        let period = period.saturating_add(period / 50);
        let held_until = Duration::ZERO;
        Self { period, in_flight: 0, sent: VecDeque::new(), estimate: None, held_until, unexpected_refusals: 0 }
    }

    /// Whether a call may be sent at `now`. A call that is admitted counts as sent.
    pub(super) fn admission(&mut self, now: Duration) -> Admission {
        self.drop_expired(now);
        self.grow(now);
        if now < self.held_until {
            return Admission::After(self.held_until - now);
        }
        // While the quota refuses everything, one call at a time is enough to notice when it recovers.
        let max_in_flight = if self.unexpected_refusals > 0 { 1 } else { MAX_IN_FLIGHT };
        if self.in_flight >= max_in_flight {
            return Admission::AfterResponse;
        }
        match (self.estimate, self.sent.front()) {
            (Some(estimate), Some(&oldest)) if self.sent.len() >= estimate.calls => {
                Admission::After((oldest + self.period).saturating_sub(now).max(Duration::from_millis(1)))
            }
            _ => {
                self.in_flight += 1;
                self.sent.push_back(now);
                Admission::Now
            }
        }
    }

    /// The quota accepted a call: it has a response, or failed in another way.
    pub(super) fn accepted(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.unexpected_refusals = 0;
    }

    /// The call that was admitted at `sent` is not sent after all.
    pub(super) fn withdrawn(&mut self, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.remove(sent);
    }

    /// The quota refused the call that was admitted at `sent`. `pause` is the pause that the server asked for.
    pub(super) fn refused(&mut self, now: Duration, sent: Duration, pause: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.drop_expired(now);
        self.remove(sent);
        let accepted = self.sent.len();
        let (lower_bound, made_at) = match self.estimate {
            // One of several calls that were in flight together. Each of their refusals makes the number more exact.
            Some(estimate) if sent <= estimate.made_at => (estimate.lower_bound, estimate.made_at),
            // One refusal halves the estimate at most.
            Some(estimate) => ((estimate.calls / 2).max(1), now),
            None => (MIN_FIRST_ESTIMATE, now),
        };
        // Fewer calls were accepted than the bound: others may use the quota up for a moment. Then the estimate is a
        // guess that doubles after one period, and a growing pause replaces the usual wait for the oldest call.
        let is_guess = accepted < lower_bound;
        let calls = accepted.max(lower_bound);
        let (growth, calm_periods) = if is_guess { (calls, 1) } else { (1, CALM_PERIODS) };
        let grows_at = now + self.period * calm_periods;
        self.estimate = Some(Estimate { calls, lower_bound, growth, grows_at, made_at });
        let own_pause = match is_guess {
            true => (self.period / 16).saturating_mul(1 << self.unexpected_refusals.min(4)),
            // The next call is admitted when the oldest one is a period old.
            false => Duration::ZERO,
        };
        self.unexpected_refusals += u32::from(is_guess);
        self.held_until = self.held_until.max(now + own_pause.max(pause.unwrap_or_default()));
    }

    /// Whether the quota has ever refused a call.
    pub(super) fn has_refused(&self) -> bool {
        self.estimate.is_some()
    }

    fn remove(&mut self, sent: Duration) {
        if let Some(index) = self.sent.iter().rposition(|moment| *moment == sent) {
            self.sent.remove(index);
        }
    }

    fn drop_expired(&mut self, now: Duration) {
        while self.sent.front().is_some_and(|sent| *sent + self.period <= now) {
            self.sent.pop_front();
        }
    }

    /// Raises the estimate when it is time and the current one is fully used.
    fn grow(&mut self, now: Duration) {
        let Some(estimate) = self.estimate.as_mut().filter(|estimate| now >= estimate.grows_at) else { return };
        if self.sent.len() >= estimate.calls {
            estimate.calls += estimate.growth;
            estimate.growth *= 2;
            estimate.grows_at = now + self.period;
        }
    }
}

#[cfg(test)]
mod tests {
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
                    estimator.accepted();
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
        for call in 0..100 {
            assert_eq!(estimator.admission(Duration::from_millis(call)), Admission::Now);
            estimator.accepted();
        }
        let mut refuse_at = |now: Duration| {
            assert_eq!(estimator.admission(now), Admission::Now);
            estimator.refused(now + LATENCY, now, None);
            estimator.estimate.map(|estimate| estimate.calls)
        };
        assert_eq!(refuse_at(Duration::from_secs(1)), Some(100));
        assert_eq!(refuse_at(3 * MINUTE), Some(50));
    }

    #[test]
    fn a_pause_that_the_server_asks_for_is_kept() {
        let mut estimator = QuotaEstimator::new(MINUTE);
        assert_eq!(estimator.admission(Duration::ZERO), Admission::Now);
        estimator.refused(LATENCY, Duration::ZERO, Some(2 * MINUTE));
        assert_eq!(estimator.admission(MINUTE), Admission::After(MINUTE + LATENCY));
    }

    proptest! {
        /// Whatever the responses are, a call is admitted again in the end.
        #[test]
        fn no_call_waits_forever(responses in proptest::collection::vec((any::<bool>(), 0u64..90), 1..200)) {
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
                        if is_accepted { estimator.accepted() } else { estimator.refused(now, sent, Some(MINUTE)) }
                    }
                }
            }
            prop_assert_eq!(estimator.in_flight, 0);
        }
    }
}
