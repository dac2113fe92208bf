//! How fast calls follow each other while the line is open.

use std::{f64::consts::LN_2, time::Duration};

/// How often the rate of a [`Ramp`] doubles within a period.
const DOUBLINGS: f64 = 6.0;
/// The rate at which a [`Ramp`] begins is this, times the square root of the calls that were accepted in the last period.
const FIRST_RATE: f64 = 1.5;
/// A ramp that runs for so many periods without a refusal has met no quota.
const MAX_PERIODS: f64 = 2.0;
/// Fewer calls don't make a window: the same small number is accepted by chance too often. A ramp begins as if at least so
/// many had been accepted.
pub(super) const MIN_WINDOW: usize = 10;
/// A worker that is alone sends the calls of a window within this part of it. The others of a project can be accepted in the
/// rest, and show by that that the worker is not alone.
const WINDOW_USE: f64 = 0.25;
/// The same number of calls must be accepted so often again before a worker takes itself for alone.
pub(super) const MIN_REPEATS: u32 = 2;
/// So many windows lie between those in which one call more is sent than the last ones allowed.
const EXTRA_EVERY: u32 = 5;

/// The pace of the calls of one quota.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// No quota is known.
    Unlimited,
    /// Others may use the quota, too, or it counts in a way that is not known.
    Shared(Ramp),
    /// The quota allows a known number of calls in each window.
    Alone(Window),
}

/// A rate that begins low when the line opens and doubles at fixed times until the next refusal.
///
/// The beginning follows from the square root of what was accepted lately. It halves the difference between the shares of
/// two workers, as orders of magnitude, with every opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    /// When the call was sent that opened the line.
    pub(super) began: Duration,
    /// Calls per period at the beginning.
    rate: f64,
    /// Calls since the line opened, refused ones excluded.
    pub(super) calls: usize,
    /// The same between the two openings before, and how often in a row it was the same.
    before: (usize, u32),
}

/// A window in which a known number of calls is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The number of calls.
    pub(super) most: usize,
    /// How long it lasts.
    pub(super) length: Duration,
    /// When its first call was sent.
    pub(super) began: Duration,
    /// Calls so far, refused ones excluded.
    calls: usize,
    /// Windows until one call more is sent.
    extra_in: u32,
    /// When the one call more was sent. If it is accepted, the worker may not be alone, or the quota rose.
    pub(super) extra: Option<Duration>,
}

impl Pace {
    /// Counts a call that is sent at `now`.
    pub(super) fn sends(&mut self, now: Duration) {
        match self {
            Self::Unlimited => {}
            Self::Shared(ramp) => ramp.calls += 1,
            Self::Alone(window) => {
                if window.is_used_up() {
                    window.extra = Some(now);
                }
                window.calls += 1;
            }
        }
    }

    /// No longer counts the call that was sent at `sent`.
    pub(super) fn forget(&mut self, sent: Duration) {
        let (began, calls) = match self {
            Self::Unlimited => return,
            Self::Shared(ramp) => (ramp.began, &mut ramp.calls),
            Self::Alone(window) => (window.began, &mut window.calls),
        };
        if sent >= began {
            *calls = calls.saturating_sub(1);
        }
    }

    /// The pause after a call at `now`. `jitter` is 1 on average. `None` when the pace no longer limits anything.
    pub(super) fn pause(&self, now: Duration, period: Duration, jitter: f64) -> Option<Duration> {
        match self {
            Self::Unlimited => Some(Duration::ZERO),
            Self::Shared(ramp) => ramp.pause(now, period, jitter),
            // Without jitter: a quota that slides repeats the times of the window before.
            Self::Alone(window) => Some(window.length.div_f64(window.most.max(1) as f64 / WINDOW_USE)),
        }
    }
}

impl Ramp {
    /// A ramp that begins with the opening call at `began`. `taken` calls were accepted in the last period.
    pub(super) fn new(began: Duration, taken: usize) -> Self {
        let rate = FIRST_RATE * (taken.max(MIN_WINDOW) as f64).sqrt();
        Self { began, rate, calls: 1, before: (0, 0) }
    }

    /// The ramp after this one.
    pub(super) fn next(self, began: Duration, taken: usize) -> Self {
        Self { before: (self.calls, self.repeats()), ..Self::new(began, taken) }
    }

    /// How often in a row the same number of calls was accepted between two openings. Who shares a quota seldom sees that.
    pub(super) fn repeats(&self) -> u32 {
        let (calls, repeats) = self.before;
        if self.calls == calls && calls >= MIN_WINDOW { repeats + 1 } else { 0 }
    }

    fn pause(&self, now: Duration, period: Duration, jitter: f64) -> Option<Duration> {
        let passed = now.saturating_sub(self.began).as_secs_f64() / period.as_secs_f64();
        if passed > MAX_PERIODS {
            return None;
        }
        // The time in which the growing rate comes to one call.
        let growth = DOUBLINGS * LN_2;
        let rate = self.rate * (growth * passed).exp();
        Some(period.mul_f64((jitter * growth / rate).ln_1p() / growth))
    }
}

impl Window {
    /// The window that began with a call at `began`, of which it is known how many calls it accepts and how long it lasts.
    pub(super) fn new(most: usize, length: Duration, began: Duration) -> Self {
        Self { most, length, began, calls: 1, extra_in: 1, extra: None }
    }

    /// The window after this one. It begins with a call at `began`.
    pub(super) fn next(self, length: Duration, began: Duration) -> Self {
        let extra_in = if self.extra.is_some() { EXTRA_EVERY } else { self.extra_in.saturating_sub(1) };
        Self { length, began, calls: 1, extra_in, extra: None, ..self }
    }

    /// The end of the window, if it has no room for a call at `now`. Begins the next one if this one is over.
    pub(super) fn used_up_until(&mut self, now: Duration) -> Option<Duration> {
        let end = self.end();
        if now >= end {
            *self = Self { calls: 0, ..self.next(self.length, now) };
        }
        let sends_extra = self.extra_in == 0 && self.extra.is_none();
        (self.is_used_up() && !sends_extra).then_some(end)
    }

    /// When the window ends.
    pub(super) fn end(&self) -> Duration {
        self.began + self.length
    }

    /// Whether no call was accepted yet.
    pub(super) fn is_unused(&self) -> bool {
        self.calls == 0
    }

    /// Whether the known number of calls was accepted.
    pub(super) fn is_used_up(&self) -> bool {
        self.calls >= self.most
    }
}
