//! How many calls a quota takes, learned from its refusals: nobody tells what it is (seen in use: 30 to 3 000 a minute).
//!
//! At first calls go out at once, a few at a time. Once one is refused, no more are sent in a period than were taken in
//! the last one; when a whole period passes without a refusal, a few more are, and then twice as many more, until the
//! quota refuses again. This module computes; [`super::pacing`] waits.

use std::{collections::VecDeque, time::Duration};

/// Most calls that wait for their answers at a time, so that a quota that is not known yet refuses few.
const MOST_IN_FLIGHT: usize = 32;
/// Periods without a refusal until more calls are tried after one.
const CALM_PERIODS: u32 = 4;
/// A quota is not taken for smaller than this when one of its first calls is refused: others have used it up, maybe.
const SMALLEST_GUESS: usize = 10;

/// The pace of the calls that one quota counts.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    in_flight: usize,
    /// When the calls of the last period were sent that were not refused, oldest first.
    sent: VecDeque<Duration>,
    limit: Option<Limit>,
    /// No call before this.
    held_until: Duration,
    /// Refusals since a call was taken, of calls that should have been: others use the quota up.
    in_vain: u32,
}

/// What is known of a quota that has refused a call.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Calls in a period.
    calls: usize,
    /// What it was not taken for smaller than.
    least: usize,
    /// How many more are tried next.
    raise: usize,
    /// From when on more are tried.
    raise_at: Duration,
    /// When it was learned. What was sent before can be refused without teaching anything new.
    learned_at: Duration,
}

/// What to do with a call that is to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Send it.
    Now,
    /// Not before so long, because of the quota.
    After(Duration),
    /// Not before another call has its answer.
    AfterAnother,
}

impl Pace {
    /// Of a quota of so many calls in each `period`.
    pub(super) fn new(period: Duration) -> Self {
        // A bit more: a call that is sent a period after another may arrive earlier than that.
        let period = period.saturating_add(period / 50);
        Self { period, in_flight: 0, sent: VecDeque::new(), limit: None, held_until: Duration::ZERO, in_vain: 0 }
    }

    /// Whether a call may be sent at `now`. One that may counts as sent.
    pub(super) fn turn(&mut self, now: Duration) -> Turn {
        self.forget(now);
        self.raise(now);
        if now < self.held_until {
            return Turn::After(self.held_until - now);
        }
        // While all is refused, one at a time is enough to learn of the end of it.
        let most_in_flight = if self.in_vain > 0 { 1 } else { MOST_IN_FLIGHT };
        if self.in_flight >= most_in_flight {
            return Turn::AfterAnother;
        }
        match (self.limit, self.sent.front()) {
            (Some(limit), Some(&oldest)) if self.sent.len() >= limit.calls => {
                Turn::After((oldest + self.period).saturating_sub(now).max(Duration::from_millis(1)))
            }
            _ => {
                self.in_flight += 1;
                self.sent.push_back(now);
                Turn::Now
            }
        }
    }

    /// A call got an answer, or none, but no refusal.
    pub(super) fn taken(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_vain = 0;
    }

    /// The call that was let through at `sent` is not sent after all.
    pub(super) fn given_back(&mut self, sent: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.forget_one(sent);
    }

    /// The quota refused the call that was sent at `sent`; `pause` is its wish.
    pub(super) fn refused(&mut self, now: Duration, sent: Duration, pause: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.forget(now);
        self.forget_one(sent);
        let taken = self.sent.len();
        let (least, learned_at) = match self.limit {
            // One of several that were sent together: each tells the number more exactly.
            Some(limit) if sent <= limit.learned_at => (limit.least, limit.learned_at),
            Some(limit) => ((limit.calls / 2).max(1), now),
            None => (SMALLEST_GUESS, now),
        };
        let is_guess = taken < least;
        let calls = taken.max(least);
        let (raise, calm) = if is_guess { (calls, 1) } else { (1, CALM_PERIODS) };
        self.limit = Some(Limit { calls, least, raise, raise_at: now + self.period * calm, learned_at });
        let own_pause = match is_guess {
            true => (self.period / 16).saturating_mul(1 << self.in_vain.min(4)),
            // The next turn comes when the oldest call is a period old.
            false => Duration::ZERO,
        };
        self.in_vain += u32::from(is_guess);
        self.held_until = self.held_until.max(now + own_pause.max(pause.unwrap_or_default()));
    }

    /// Whether it has ever refused a call.
    pub(super) fn is_known(&self) -> bool {
        self.limit.is_some()
    }

    fn forget_one(&mut self, sent: Duration) {
        if let Some(index) = self.sent.iter().rposition(|moment| *moment == sent) {
            self.sent.remove(index);
        }
    }

    fn forget(&mut self, now: Duration) {
        while self.sent.front().is_some_and(|sent| *sent + self.period <= now) {
            self.sent.pop_front();
        }
    }

    /// Tries more once it has been calm, if what is known to be taken was made use of.
    fn raise(&mut self, now: Duration) {
        let Some(limit) = self.limit.as_mut().filter(|limit| now >= limit.raise_at) else { return };
        if self.sent.len() >= limit.calls {
            limit.calls += limit.raise;
            limit.raise *= 2;
            limit.raise_at = now + self.period;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    /// From a call to its answer.
    const ANSWER: Duration = Duration::from_millis(100);

    /// A quota as a service may count it.
    #[derive(Clone, Copy, Debug)]
    enum Quota {
        /// So many calls from the first one until a minute later.
        Window { most: usize, began: Duration, count: usize },
        /// So many calls at once, filled up evenly within a minute.
        Bucket { most: f64, level: f64, filled: Duration },
    }

    impl Quota {
        fn window(most: usize) -> Self {
            Self::Window { most, began: Duration::ZERO, count: 0 }
        }

        fn takes(&mut self, now: Duration) -> bool {
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
                    let takes = *level >= 1.0;
                    *level -= f64::from(u8::from(takes));
                    takes
                }
            }
        }
    }

    struct Told {
        took: Duration,
        refused: usize,
    }

    /// What becomes of `calls` that are all there from the start. From `then` on another quota counts.
    fn send_all(calls: usize, mut quota: Quota, mut then: Option<(Duration, Quota)>) -> Told {
        let mut pace = Pace::new(MINUTE);
        let (mut now, mut waiting, mut refused) = (Duration::ZERO, calls, 0);
        let mut answers: VecDeque<(Duration, Duration, bool)> = VecDeque::new();
        while waiting > 0 || !answers.is_empty() {
            while answers.front().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, sent, is_taken)) = answers.pop_front() else { break };
                if is_taken {
                    pace.taken();
                } else {
                    pace.refused(now, sent, None);
                    (waiting, refused) = (waiting + 1, refused + 1);
                }
            }
            let turn = if waiting > 0 { pace.turn(now) } else { Turn::AfterAnother };
            let answer = answers.front().map(|(at, ..)| *at);
            now = match turn {
                Turn::Now => {
                    waiting -= 1;
                    let is_taken = match then {
                        Some((from, ref mut other)) if now >= from => other.takes(now),
                        _ => quota.takes(now),
                    };
                    answers.push_back((now + ANSWER, now, is_taken));
                    now + Duration::from_millis(1)
                }
                Turn::After(pause) => answer.unwrap_or(Duration::MAX).min(now + pause),
                Turn::AfterAnother => answer.unwrap_or(now),
            };
        }
        Told { took: now, refused }
    }

    #[test]
    fn without_a_refusal_nothing_waits_but_for_answers() {
        let told = send_all(500, Quota::window(10_000), None);
        assert_eq!(told.refused, 0);
        assert!(told.took < Duration::from_secs(3), "{:?}", told.took);
    }

    #[test]
    fn a_quota_is_made_use_of_and_seldom_met() {
        for (calls, most) in [(2000, 30), (2000, 180), (2000, 600)] {
            let told = send_all(calls, Quota::window(most), None);
            let least = MINUTE * u32::try_from(calls / most - 1).unwrap();
            assert!(told.took <= least.mul_f64(1.15) + 2 * MINUTE, "{most}: {:?} instead of {least:?}", told.took);
            assert!(told.refused * 100 <= calls * 4, "{most}: {} refused", told.refused);
        }
    }

    #[test]
    fn a_bucket_that_fills_evenly_is_made_use_of_too() {
        for most in [30, 180] {
            let most_at_once = f64::from(most);
            let bucket = Quota::Bucket { most: most_at_once, level: most_at_once, filled: Duration::ZERO };
            let told = send_all(1000, bucket, None);
            let least = MINUTE * (1000 / most);
            assert!(told.took <= least.mul_f64(1.3) + 2 * MINUTE, "{most}: {:?} instead of {least:?}", told.took);
            assert!(told.refused <= 100, "{most}: {} refused", told.refused);
        }
    }

    #[test]
    fn more_is_sent_again_when_there_is_more_room() {
        let told = send_all(3000, Quota::window(10), Some((3 * MINUTE, Quota::window(600))));
        assert!(told.took < 20 * MINUTE, "{:?}", told.took);
    }

    #[test]
    fn what_others_use_up_for_a_moment_is_soon_forgotten() {
        for (calls, most) in [(50, 180), (300, 600)] {
            let used_up = Quota::Window { most: 0, began: Duration::ZERO, count: 0 };
            let told = send_all(calls, used_up, Some((Duration::from_secs(5), Quota::window(most))));
            assert!(told.took < 6 * MINUTE, "{calls}: {:?}", told.took);
            assert!(told.refused < 40, "{calls}: {}", told.refused);
        }
    }

    #[test]
    fn a_refusal_halves_at_most_what_is_known() {
        let mut pace = Pace::new(MINUTE);
        for call in 0..100 {
            assert_eq!(pace.turn(Duration::from_millis(call)), Turn::Now);
            pace.taken();
        }
        let mut refuse_at = |now: Duration| {
            assert_eq!(pace.turn(now), Turn::Now);
            pace.refused(now + ANSWER, now, None);
            pace.limit.map(|limit| limit.calls)
        };
        assert_eq!(refuse_at(Duration::from_secs(1)), Some(100));
        assert_eq!(refuse_at(3 * MINUTE), Some(50));
    }

    #[test]
    fn a_wish_for_a_pause_is_granted() {
        let mut pace = Pace::new(MINUTE);
        assert_eq!(pace.turn(Duration::ZERO), Turn::Now);
        pace.refused(ANSWER, Duration::ZERO, Some(2 * MINUTE));
        assert_eq!(pace.turn(MINUTE), Turn::After(MINUTE + ANSWER));
    }

    proptest! {
        /// Whatever happens, there is a turn again: nothing waits for ever.
        #[test]
        fn nobody_waits_for_ever(answers in proptest::collection::vec((any::<bool>(), 0u64..90), 1..200)) {
            let mut pace = Pace::new(MINUTE);
            let mut now = Duration::ZERO;
            for (is_taken, later) in answers {
                now += Duration::from_secs(later);
                for _ in 0..2 {
                    if let Turn::After(pause) = pace.turn(now) {
                        prop_assert!(pause <= 2 * MINUTE);
                        now += pause;
                    } else {
                        let sent = now;
                        now += ANSWER;
                        if is_taken { pace.taken() } else { pace.refused(now, sent, Some(MINUTE)) }
                    }
                }
            }
            prop_assert_eq!(pace.in_flight, 0);
        }
    }
}
