//! How often and after which pauses a call is tried again. This module computes; [`super::transport`] sleeps.

use std::time::Duration;

/// The budget of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Most attempts, the first included.
    pub max_attempts: u32,
    /// Longest time that attempts and the pauses between them take, up to the start of the last. Waiting for a quota does
    /// not count.
    pub max_elapsed: Duration,
    /// Upper bound of the first pause; it doubles with every attempt.
    pub initial_delay: Duration,
    /// Upper bound of every pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts within two minutes, pauses of at most 0.5 s at first and 30 s at last.
    fn default() -> Self {
        Self {
            max_attempts: 10,
            max_elapsed: Duration::from_secs(120),
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The pause before the next attempt, or `None` when the budget is spent.
    ///
    /// `attempts` have been made in `elapsed`; `retry_after` is the server's wish, which is never undercut: one that
    /// reaches beyond the budget spends it. `random` is in 0..1 (full jitter: every pause from none to the bound is as
    /// likely, so that many callers don't come back together; not even those that were told the same wish).
    pub fn next_delay(
        &self,
        attempts: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        if attempts >= self.max_attempts {
            return None;
        }
        let bound = self.initial_delay.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.max_delay);
        let delay = bound.mul_f64(random.clamp(0.0, 1.0)).saturating_add(retry_after.unwrap_or_default());
        (elapsed.saturating_add(delay) <= self.max_elapsed).then_some(delay)
    }
}

/// Growing pauses between looks at something that takes its time, each half as long again as the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    has_paused: bool,
}

impl Backoff {
    /// Pauses from `first` up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max, has_paused: false }
    }

    /// Whether no pause was made yet.
    pub fn is_fresh(&self) -> bool {
        !self.has_paused
    }

    /// The pause to make now; the following one is longer.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.has_paused = true;
        self.next = pause.mul_f64(1.5).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_up_to_its_maximum() {
        let policy = RetryPolicy::default();
        let bounds: Vec<_> =
            (1..9).filter_map(|n| policy.next_delay(n, Duration::ZERO, None, 1.0)).map(|d| d.as_secs_f64()).collect();
        assert_eq!(bounds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    }

    #[test]
    fn the_budget_ends_by_attempts_and_by_time() {
        let policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        assert!(policy.next_delay(2, Duration::ZERO, None, 0.5).is_some());
        assert_eq!(policy.next_delay(3, Duration::ZERO, None, 0.5), None);
        assert_eq!(policy.next_delay(1, policy.max_elapsed + SECOND, None, 0.0), None);
    }

    #[test]
    fn the_servers_wish_is_never_undercut() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next_delay(1, Duration::ZERO, Some(SECOND * 20), 0.0), Some(SECOND * 20));
        assert_eq!(policy.next_delay(1, Duration::ZERO, Some(SECOND * 3600), 0.0), None);
    }

    #[test]
    fn looks_come_less_often_up_to_the_longest_pause() {
        let mut backoff = Backoff::new(Duration::from_millis(100), SECOND);
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause()).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses[7], SECOND);
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(
            attempts in 0u32..u32::MAX, elapsed in 0u64..1_000, wish in proptest::option::of(0u64..1_000), random in 0.0..1.0,
        ) {
            let policy = RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() };
            let (elapsed, wish) = (SECOND * elapsed as u32, wish.map(|s| SECOND * s as u32));
            if let Some(delay) = policy.next_delay(attempts, elapsed, wish, random) {
                prop_assert!(delay <= policy.max_delay + wish.unwrap_or_default());
                prop_assert!(delay >= wish.unwrap_or_default());
                prop_assert!(elapsed + delay <= policy.max_elapsed);
            }
        }
    }
}
