//! Whether a poller uses lists, by how its lists fare. No I/O.
//!
//! Lists that are of no use while single reads work are given up: the poller then reads each execution on its own, and
//! tries a list again from time to time. A list is of no use if it fails, or if it shows none of the executions that
//! reads show. Some seconds of that may come from something in between, so it takes several lists over some time.

use std::time::Duration;

use tokio::time::Instant;

/// How many lists must be of no use, over how much time and without a useful one between, before lists are given up.
const MIN_USELESS: u32 = 3;
const USELESS_FOR: Duration = Duration::from_secs(20);
/// After how many poll intervals without a list that succeeds executions are read one by one. The lists of one tick often
/// fail together.
const MAX_FAILING_TICKS: u32 = 3;
/// First and longest time from when lists are given up, or were tried, until the next one is tried.
const FIRST_PROBE: Duration = Duration::from_secs(60);
const MAX_PROBE: Duration = Duration::from_secs(30 * 60);

/// How the lists of one poller fare.
#[derive(Debug, Default)]
pub(super) struct ListHealth {
    /// When a list first failed since the last useful one.
    failing_since: Option<Instant>,
    /// Whether that is long ago.
    is_failing_for_long: bool,
    /// How many lists were of no use while reads worked since the last useful one, and since when.
    useless: Option<(u32, Instant)>,
    given_up: Option<GivenUp>,
    /// How often a read showed an execution that a list lacked.
    contradictions: u64,
}

/// Lists are not used for now.
#[derive(Debug)]
struct GivenUp {
    /// When the next one is tried.
    probe_at: Instant,
    /// The pause before the next try, if that one is of no use either.
    next_pause: Duration,
}

impl ListHealth {
    /// Whether the next read may be a list.
    pub(super) fn may_list(&self, now: Instant) -> bool {
        self.given_up.as_ref().is_none_or(|given_up| now >= given_up.probe_at)
    }

    /// Whether lists have trouble, so that one batch is read at a time: a thousand runs must not be read one by one at once.
    pub(super) fn is_troubled(&self) -> bool {
        self.is_failing_for_long || self.useless.is_some() || self.given_up.is_some()
    }

    /// How often a read showed an execution that a list lacked.
    pub(super) fn contradictions(&self) -> u64 {
        self.contradictions
    }

    /// Records a useful list.
    pub(super) fn succeeded(&mut self) {
        *self = Self { contradictions: self.contradictions, ..Self::default() };
    }

    /// Records a list that failed. `tick` is the poll interval. Returns whether lists have failed for so long that the
    /// executions are to be read one by one.
    pub(super) fn failed(&mut self, now: Instant, tick: Duration) -> bool {
        self.postpone_probe(now);
        let since = *self.failing_since.get_or_insert(now);
        self.is_failing_for_long |= now >= since + MAX_FAILING_TICKS * tick;
        self.is_failing_for_long || self.given_up.is_some()
    }

    /// Records that a read worked right after a list that failed. Returns whether lists are given up because of that.
    pub(super) fn was_useless(&mut self, now: Instant) -> bool {
        if self.given_up.is_some() {
            return false;
        }
        let (count, since) = self.useless.unwrap_or((0, now));
        self.useless = Some((count + 1, since));
        let gives_up = count + 1 >= MIN_USELESS && now >= since + USELESS_FOR;
        if gives_up {
            self.given_up = Some(GivenUp { probe_at: now + FIRST_PROBE, next_pause: 2 * FIRST_PROBE });
        }
        gives_up
    }

    /// Records a list that showed none of the executions that reads show. Returns whether lists are given up because of that.
    pub(super) fn showed_nothing(&mut self, now: Instant) -> bool {
        self.postpone_probe(now);
        self.was_useless(now)
    }

    /// Records that a read shows an execution that a list lacked. Returns whether it is the first time.
    pub(super) fn contradicted(&mut self) -> bool {
        self.contradictions += 1;
        self.contradictions == 1
    }

    /// After a probe that was of no use.
    fn postpone_probe(&mut self, now: Instant) {
        if let Some(given_up) = &mut self.given_up {
            given_up.probe_at = now + given_up.next_pause;
            given_up.next_pause = (2 * given_up.next_pause).min(MAX_PROBE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_secs(2);

    /// Lists that were given up, and when.
    fn given_up() -> (ListHealth, Instant) {
        let (mut lists, start) = (ListHealth::default(), Instant::now());
        for second in [0, 10] {
            assert!(!lists.was_useless(start + second * SECOND));
        }
        assert!(lists.was_useless(start + USELESS_FOR));
        (lists, start + USELESS_FOR)
    }

    #[test]
    fn lists_are_given_up_after_several_useless_ones_over_some_time() {
        let (lists, now) = given_up();
        assert!(!lists.may_list(now) && lists.is_troubled());

        let (mut lists, start) = (ListHealth::default(), Instant::now());
        assert!((0..100).all(|_| !lists.was_useless(start)), "many at once");
        assert!(lists.may_list(start) && lists.is_troubled());
        lists.succeeded();
        assert!(!lists.is_troubled());
        assert!(!lists.was_useless(start + USELESS_FOR), "a useful one between");
        assert!(!lists.was_useless(start + 3 * USELESS_FOR), "two over a long time");
    }

    #[test]
    fn a_list_is_tried_after_one_two_four_and_at_most_thirty_minutes() {
        let (mut lists, mut now) = given_up();
        for minutes in [1, 2, 4, 8, 16, 30, 30] {
            let probe = now + minutes * 60 * SECOND;
            assert!(!lists.may_list(probe - SECOND), "{minutes}");
            assert!(lists.may_list(probe), "{minutes}");
            // A probe that fails, and one that shows nothing.
            if minutes % 4 == 0 {
                assert!(!lists.showed_nothing(probe));
            } else {
                assert!(lists.failed(probe, TICK));
                assert!(!lists.was_useless(probe), "told once");
            }
            now = probe;
        }
        lists.succeeded();
        assert!(lists.may_list(now) && !lists.is_troubled());
        assert!(!lists.was_useless(now));
    }

    #[test]
    fn lists_fail_for_long_after_three_ticks_without_a_success() {
        let (mut lists, start) = (ListHealth::default(), Instant::now());
        assert!((0..10).all(|_| !lists.failed(start, TICK)), "the lists of one tick");
        assert!(!lists.failed(start + 2 * TICK, TICK) && !lists.is_troubled());
        assert!(lists.failed(start + 3 * TICK, TICK) && lists.is_troubled());
        lists.succeeded();
        assert!(!lists.failed(start + 4 * TICK, TICK) && !lists.is_troubled());
    }

    #[test]
    fn contradictions_are_counted_and_told_once() {
        let mut lists = ListHealth::default();
        assert!(lists.contradicted() && !lists.contradicted());
        lists.succeeded();
        assert!(!lists.contradicted());
        assert_eq!(lists.contradictions(), 3);
    }
}
