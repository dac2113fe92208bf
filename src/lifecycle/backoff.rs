//! Growing pauses between reads.

use std::time::Duration;

/// Pauses between repeated reads of something that takes time. Each pause is half as long again as the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Backoff {
    next: Duration,
    max: Duration,
    has_paused: bool,
}

impl Backoff {
    /// Pauses from `first` up to `max`.
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max, has_paused: false }
    }

    /// Whether `pause` was not called yet.
    pub(super) fn is_fresh(&self) -> bool {
        !self.has_paused
    }

    /// The pause to make now. The next one is longer.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.has_paused = true;
        self.next = pause.mul_f64(1.5).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn backoff_grows_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), SECOND);
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause()).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses[7], SECOND);
    }
}
