//! The time from a refusal to the next accepted call.

use std::time::Duration;

/// So many calls must be refused before they count as the work of a quota.
const MIN_REFUSED: u32 = 4;
/// Calls that were sent after the first refused one must be accepted so often before the refusal counts as chance, even
/// though no probe was sent.
const MIN_ACCEPTED: u32 = 3;

/// A closed line, and what is learned while it is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closure {
    began: Duration,
    /// When the first refused call was sent.
    first: Duration,
    /// Calls of the last period that were accepted, when the line closed.
    pub(super) taken: usize,
    /// Refused calls, probes included.
    pub(super) refused: u32,
    /// Accepted calls that were sent after the first refused one.
    pub(super) accepted: u32,
    /// Refused probes.
    pub(super) probes: u32,
    /// When the probe was sent whose response is awaited.
    pub(super) probe: Option<Duration>,
    /// No probe is sent before this time.
    probe_at: Duration,
    /// The pause before the next probe, on average.
    pause: Duration,
    max_pause: Duration,
    /// Whether the server asked for a pause.
    is_asked: bool,
}

impl Closure {
    /// A line that closes at `now`, because the call that was sent at `first` was refused. That may be chance: the first pause is
    /// short.
    pub(super) fn new(now: Duration, first: Duration, period: Duration) -> Self {
        Self {
            began: now,
            first,
            taken: 0,
            refused: 0,
            accepted: 0,
            probes: 0,
            probe: None,
            probe_at: now,
            pause: period / 120,
            max_pause: period / 8,
            is_asked: false,
        }
    }

    /// The refusal is no chance: the pauses are longer, `max_pause` on average at most.
    pub(super) fn expect_quota(&mut self, max_pause: Duration, period: Duration) {
        if self.probes == 0 {
            (self.pause, self.max_pause) = (period / 12, max_pause);
        }
    }

    /// A line that closes at `now` without a refusal, until the window ends at `end`. `taken` calls were accepted in the
    /// last period.
    pub(super) fn planned(now: Duration, end: Duration, taken: usize, period: Duration) -> Self {
        Self { taken, probe_at: end, ..Self::new(now, now, period) }
    }

    /// When the next probe may be sent, while so many calls are in flight.
    pub(super) fn next_probe(&self, in_flight: usize, period: Duration) -> Duration {
        match self.probe {
            // Its response may never come.
            Some(sent) => sent.saturating_add(period),
            // The responses of calls in flight tell a quota from chance.
            None if in_flight > 0 => self.probe_at.max(self.began + period / 16),
            None => self.probe_at,
        }
    }

    /// The call that was sent at `sent` was accepted. Returns whether that opens the line.
    pub(super) fn accepted(&mut self, sent: Duration) -> bool {
        let was_probe = self.probe == Some(sent);
        self.accepted += u32::from(!was_probe && sent > self.first);
        was_probe
    }

    /// Whether the refusals are the work of a quota, rather than chance.
    pub(super) fn shows_quota(&self) -> bool {
        self.refused >= MIN_REFUSED && self.refused > self.accepted
    }

    /// Whether the calls that were sent after the first refused one show that it was refused by chance.
    pub(super) fn is_chance(&self) -> bool {
        !self.is_asked && self.probe.is_none() && self.accepted >= MIN_ACCEPTED && self.accepted > 2 * self.refused
    }

    /// The call that was sent at `sent` was refused. `taken` calls of the last period were accepted.
    pub(super) fn refused(&mut self, sent: Duration, was_probe: bool, taken: usize) {
        self.refused += 1;
        if was_probe {
            self.probes += 1;
            self.pause = (self.pause * 2).min(self.max_pause);
        } else if self.probe.is_none() {
            // Calls that were in flight together: each of their refusals makes the number more exact.
            self.taken = taken;
            self.first = self.first.min(sent);
        }
    }

    /// A random time around the next pause. `random` is from 0 to 1.
    pub(super) fn after_pause(&self, now: Duration, random: f64) -> Duration {
        now + self.pause.mul_f64(0.1 + 1.8 * random)
    }

    /// Puts the next probe off to `time`, and to the time that the server asked for.
    pub(super) fn probe_not_before(&mut self, time: Duration, asked: Option<Duration>) {
        self.is_asked |= asked.is_some();
        self.probe_at = self.probe_at.max(time).max(asked.unwrap_or_default());
    }

    /// Whether the line was closed for so long, until `now`, that a window may have ended.
    pub(super) fn ends_window(&self, now: Duration, period: Duration) -> bool {
        self.probes > 0 || now.saturating_sub(self.began) > period / 2
    }

    /// Whether the call that was sent at `sent` is the probe. It no longer is from now on.
    pub(super) fn ends_probe(&mut self, sent: Duration) -> bool {
        self.probe.take_if(|probe| *probe == sent).is_some()
    }
}
