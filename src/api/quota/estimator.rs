//! Decides when the next call of a quota may be sent. Google does not tell how many calls a quota allows (30 to 3 000 per
//! minute were seen in use), nor who else uses it, so all that is known comes from refusals.
//!
//! - Until a quota shows itself, calls are sent at once, with a bounded number in flight.
//! - A refusal closes the line. After a random pause one call, the probe, is sent; the line opens when it is accepted.
//! - When most of the calls around the refusal were accepted, the refusal was chance, and nothing changes.
//! - Otherwise there is a quota, and calls are paced ([`pace`]): slowly at first after each opening, then faster and faster
//!   until the next refusal. The pace never depends on an old limit, and all workers that share the quota go through the same
//!   steps, which makes their shares alike.
//! - A worker that finds the same number of calls accepted in each window is alone: it sends that many, closes the line
//!   itself until the window ends, and so is seldom refused.
//!
//! The configured period only scales pauses. The length of a window is measured.
//!
//! This module only computes: the current time is a parameter, as a duration since any fixed moment, and so is the source of
//! random numbers. The queue ([`super::queue`]) does the waiting.

use std::{collections::VecDeque, time::Duration};

use self::{
    closure::Closure,
    pace::{Pace, Ramp, Window},
};
use crate::api::retry_after::RetryAfter;

mod closure;
mod pace;

/// Maximum number of calls that await their responses at the same time. It bounds how many calls a quota of unknown
/// size refuses at once.
const MAX_IN_FLIGHT: usize = 32;

/// The pace of one quota, and what it depends on.
#[derive(Debug)]
pub(super) struct QuotaEstimator {
    /// The configured period of the quota.
    period: Duration,
    /// Gives random numbers from 0 to 1.
    random: fn() -> f64,
    in_flight: usize,
    /// When the calls of the last period were sent, oldest first. Refused calls are not among them.
    sent: VecDeque<Duration>,
    pace: Pace,
    /// No call is sent before this time.
    next_at: Duration,
    /// Present while the line is closed.
    closure: Option<Closure>,
    /// When the call was sent whose acceptance opened the line last. Refusals of earlier calls teach nothing new.
    opened_by: Duration,
}

/// Whether a call may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It may be sent now, and is counted as sent.
    Now,
    /// The quota is used up, or the call would be too early: ask again after this time.
    After(Duration),
    /// Too many calls are in flight: ask again after one of them has its response.
    AfterResponse,
}

impl QuotaEstimator {
    /// An estimator of a quota that counts calls per `period`, as far as is known. `random` gives numbers from 0 to 1.
    pub(super) fn new(period: Duration, random: fn() -> f64) -> Self {
        Self {
            period,
            random,
            in_flight: 0,
            sent: VecDeque::new(),
            pace: Pace::Unlimited,
            next_at: Duration::ZERO,
            closure: None,
            opened_by: Duration::ZERO,
        }
    }

    /// Whether a call may be sent at `now`. A call that is admitted counts as sent.
    pub(super) fn admission(&mut self, now: Duration) -> Admission {
        self.drop_expired(now);
        if self.closure.is_none()
            && let Pace::Alone(window) = &mut self.pace
            && let Some(end) = window.used_up_until(now)
        {
            self.closure = Some(Closure::planned(now, end, self.sent.len(), self.period));
        }
        if let Some(closure) = &mut self.closure {
            let probe_at = closure.next_probe(self.in_flight, self.period);
            if now < probe_at {
                return after(probe_at - now);
            }
            closure.probe = Some(now);
            return self.admit(now);
        }
        if self.in_flight >= MAX_IN_FLIGHT {
            return Admission::AfterResponse;
        }
        if now < self.next_at {
            return after(self.next_at - now);
        }
        self.pace.sends(now);
        self.plan_next(now);
        self.admit(now)
    }

    fn admit(&mut self, now: Duration) -> Admission {
        self.in_flight += 1;
        self.sent.push_back(now);
        Admission::Now
    }

    /// The quota accepted the call that was admitted at `sent`: it has a response, or failed in another way.
    pub(super) fn accepted(&mut self, now: Duration, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(closure) = &mut self.closure {
            let is_unlimited = matches!(self.pace, Pace::Unlimited);
            if closure.accepted(sent) || (is_unlimited && closure.is_chance()) {
                self.open(now, sent);
            }
        }
        // More than the windows before allowed: what is known about them no longer holds.
        if matches!(&self.pace, Pace::Alone(window) if window.extra == Some(sent)) {
            self.pace = Pace::Shared(Ramp::new(now, self.sent.len()));
            self.plan_next(now);
        }
    }

    /// The call that was admitted at `sent` is not sent after all.
    pub(super) fn withdrawn(&mut self, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.remove(sent);
    }

    /// The quota refused the call that was admitted at `sent`. `pause` is the pause that the server asked for.
    pub(super) fn refused(&mut self, now: Duration, sent: Duration, pause: Option<RetryAfter>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let was_probe = self.remove(sent);
        self.drop_expired(now);
        if self.closure.is_none() && sent < self.opened_by {
            return;
        }
        let closure = self.closure.get_or_insert_with(|| Closure::new(now, sent, self.period));
        closure.refused(sent, was_probe, self.sent.len());
        match self.pace {
            Pace::Unlimited if closure.shows_quota() => closure.expect_quota(self.period / 4, self.period),
            // Who finds an open line late gets a smaller share.
            Pace::Shared(_) => closure.expect_quota(self.period / 6, self.period),
            Pace::Unlimited | Pace::Alone(_) => {}
        }
        let after_pause = closure.after_pause(now, (self.random)());
        let probe_at = match &self.pace {
            // A window may have begun with the oldest call.
            Pace::Unlimited => match self.sent.front().map(|oldest| *oldest + with_margin(self.period)) {
                Some(end) if end > now => after_pause.min(end),
                _ => after_pause,
            },
            Pace::Alone(window) if window.is_used_up() && window.end() > now => window.end(),
            Pace::Alone(_) | Pace::Shared(_) => after_pause,
        };
        // A pause that the server asks for may be long. One probe is sent after a period all the same.
        let asked = pause.map(|pause| now + pause.for_queue(self.period).min(self.period));
        closure.probe_not_before(probe_at, asked);
    }

    /// Opens the line, because the call that was sent at `sent` was accepted.
    fn open(&mut self, now: Duration, sent: Duration) {
        let Some(closure) = self.closure.take() else { return };
        self.opened_by = sent;
        let taken = closure.taken;
        let ends_window = closure.ends_window(now, self.period);
        let window = |calls, began| Window::new(calls, self.window_length(sent, began), sent);
        self.pace = match self.pace {
            Pace::Unlimited if !closure.shows_quota() => Pace::Unlimited,
            Pace::Unlimited if ends_window && taken >= pace::MIN_WINDOW => {
                let began = self.sent.front().copied().unwrap_or(sent);
                Pace::Alone(window(taken, began))
            }
            // Few refusals, and no call of the window was accepted: the one before ended a moment later.
            Pace::Alone(known) if known.is_unused() && !closure.shows_quota() => {
                Pace::Alone(known.next(known.length, sent))
            }
            // One refusal in the middle of a window: chance.
            Pace::Alone(known) if !known.is_used_up() && closure.refused < 2 => Pace::Alone(known),
            Pace::Alone(known) if known.is_used_up() => {
                let length = if closure.probes > 0 { self.window_length(sent, known.began) } else { known.length };
                Pace::Alone(known.next(length, sent))
            }
            Pace::Shared(ramp) if ends_window && ramp.repeats() >= pace::MIN_REPEATS => {
                Pace::Alone(window(ramp.calls, ramp.began))
            }
            Pace::Shared(ramp) => Pace::Shared(ramp.next(sent, taken)),
            Pace::Unlimited | Pace::Alone(_) => Pace::Shared(Ramp::new(sent, taken)),
        };
        self.plan_next(now);
    }

    /// The length of a window that began at `began` and had ended at `end`. The end is noticed late, so that a length near the
    /// configured one is taken for it.
    fn window_length(&self, end: Duration, began: Duration) -> Duration {
        let seen = end.saturating_sub(began);
        let is_usual = seen > self.period.mul_f64(0.75) && seen < self.period.mul_f64(1.25);
        if is_usual { with_margin(self.period) } else { seen }
    }

    fn plan_next(&mut self, now: Duration) {
        match self.pace.pause(now, self.period, 0.5 + (self.random)()) {
            Some(pause) => self.next_at = now + pause,
            None => (self.pace, self.next_at) = (Pace::Unlimited, now),
        }
    }

    /// Whether a quota has shown itself, or the line is closed.
    pub(super) fn is_limited(&self) -> bool {
        self.closure.is_some() || !matches!(self.pace, Pace::Unlimited)
    }

    /// Forgets a call that does not count against the quota. Returns whether it was the probe.
    fn remove(&mut self, sent: Duration) -> bool {
        if let Some(index) = self.sent.iter().rposition(|moment| *moment == sent) {
            self.sent.remove(index);
        }
        let was_probe = self.closure.as_mut().is_some_and(|closure| closure.ends_probe(sent));
        if !was_probe {
            self.pace.forget(sent);
        }
        was_probe
    }

    fn drop_expired(&mut self, now: Duration) {
        while self.sent.front().is_some_and(|sent| *sent + with_margin(self.period) <= now) {
            self.sent.pop_front();
        }
    }
}

/// A little longer: of two calls that are sent one period apart, the second may arrive less than a period after the first.
fn with_margin(period: Duration) -> Duration {
    period.saturating_add(period / 100)
}

fn after(pause: Duration) -> Admission {
    Admission::After(pause.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
