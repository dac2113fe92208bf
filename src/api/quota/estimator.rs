//! Estimates how many calls per period a quota admits, from its refusals: Google does not tell the number (30 to 3 000
//! per minute were seen in use).
//!
//! Until the first refusal, calls are sent at once, with a bounded number in flight. After a refusal, the estimate is the
//! number of calls that the quota accepted in the last period. After four periods without a refusal the estimate grows by
//! one, and then by two, four, eight and so on with each further period, until the quota refuses again.
//!
//! A refusal may come with a pause that the server asks for. It holds the queue for two periods at most, and from the end of
//! the first one on, one call at a time is sent all the same (a probe): when the quota accepts it, the rest of the pause no
//! longer applies.
//!
//! This module only computes: the current time is a parameter, as a duration since any fixed moment. The queue
//! ([`super::queue`]) does the waiting.

use std::{collections::VecDeque, time::Duration};

use crate::api::retry_after::RetryAfter;

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
    /// A little longer than the quota's own.
    period: Duration,
    /// The quota's own period.
    quota_period: Duration,
    in_flight: usize,
    /// When the calls of the last period were sent, oldest first. Refused calls are not among them.
    sent: VecDeque<Duration>,
    /// `None` until the first refusal.
    estimate: Option<Estimate>,
    /// No call is admitted before this time, except for a probe.
    held_until: Duration,
    /// A probe is admitted from this time on.
    probe_at: Duration,
    /// When the probe was sent whose response is awaited.
    probe: Option<Duration>,
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
        let longer = period.saturating_add(period / 50);
        Self {
            period: longer,
            quota_period: period,
            in_flight: 0,
            sent: VecDeque::new(),
            estimate: None,
            held_until: Duration::ZERO,
            probe_at: Duration::ZERO,
            probe: None,
            unexpected_refusals: 0,
        }
    }

    /// Whether a call may be sent at `now`. A call that is admitted counts as sent.
    pub(super) fn admission(&mut self, now: Duration) -> Admission {
        self.drop_expired(now);
        self.grow(now);
        if now < self.held_until {
            let until = if self.probe.is_some() { self.held_until } else { self.probe_at.min(self.held_until) };
            if now < until {
                return Admission::After(until - now);
            }
            self.probe = Some(now);
            return self.admit(now);
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
            _ => self.admit(now),
        }
    }

    fn admit(&mut self, now: Duration) -> Admission {
        self.in_flight += 1;
        self.sent.push_back(now);
        Admission::Now
    }

    /// The quota accepted the call that was admitted at `sent`: it has a response, or failed in another way.
    pub(super) fn accepted(&mut self, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.ends_probe(sent) {
            self.held_until = Duration::ZERO;
        }
        self.unexpected_refusals = 0;
    }

    /// The call that was admitted at `sent` is not sent after all.
    pub(super) fn withdrawn(&mut self, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ends_probe(sent);
        self.remove(sent);
    }

    /// The quota refused the call that was admitted at `sent`. `pause` is the pause that the server asked for.
    pub(super) fn refused(&mut self, now: Duration, sent: Duration, pause: Option<RetryAfter>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ends_probe(sent);
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
        let pause = pause.map_or(Duration::ZERO, |pause| pause.for_queue(self.quota_period));
        self.held_until = self.held_until.max(now + own_pause.max(pause));
        self.probe_at = now + self.period;
    }

    /// Whether the quota has ever refused a call.
    pub(super) fn has_refused(&self) -> bool {
        self.estimate.is_some()
    }

    /// Whether the call that was admitted at `sent` is the probe. It no longer is from now on.
    fn ends_probe(&mut self, sent: Duration) -> bool {
        self.probe.take_if(|probe| *probe == sent).is_some()
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
mod tests;
