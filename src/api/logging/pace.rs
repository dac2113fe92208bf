//! Spreads the reads of a project's logs over time. Google allows 60 per minute and project, for all who read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The turns of all projects. Clones share them.
#[derive(Clone, Debug)]
pub struct LogPace {
    interval: Duration,
    /// When the next read of a project may be sent.
    next: Arc<Mutex<HashMap<String, Instant>>>,
}

impl LogPace {
    /// Time between two reads of a project's logs that leaves some of the quota to others.
    pub const INTERVAL: Duration = Duration::from_millis(1100);

    /// One read per `interval` and project.
    pub fn new(interval: Duration) -> Self {
        Self { interval, next: Arc::default() }
    }

    /// Takes the next turn of a project, and returns how long it is until then. `None`: longer than `max_wait`, and no turn
    /// was taken.
    pub(super) fn next_turn(&self, project: &str, max_wait: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut next = self.lock();
        let turn = next.get(project).copied().unwrap_or(now).max(now);
        if turn > now + max_wait {
            return None;
        }
        next.insert(project.to_owned(), turn + self.interval);
        Some(turn - now)
    }

    /// Lets no read of a project be sent for this long, except for those that have their turn.
    pub(super) fn hold(&self, project: &str, pause: Duration) {
        let until = Instant::now() + pause;
        self.lock().entry(project.to_owned()).and_modify(|next| *next = (*next).max(until)).or_insert(until);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LogPace {
    fn default() -> Self {
        Self::new(Self::INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn turns_follow_each_other_in_each_project() {
        let pace = LogPace::new(SECOND);
        let turn = |project| pace.next_turn(project, 2 * SECOND);
        assert_eq!(
            [turn("a"), turn("a"), turn("a"), turn("a")],
            [Some(Duration::ZERO), Some(SECOND), Some(2 * SECOND), None]
        );
        assert_eq!(turn("b"), Some(Duration::ZERO));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(turn("a"), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_all_reads_of_a_project() {
        let pace = LogPace::new(SECOND);
        pace.hold("a", 10 * SECOND);
        assert_eq!(pace.next_turn("a", 20 * SECOND), Some(10 * SECOND));
        pace.hold("a", SECOND);
        assert_eq!(pace.next_turn("a", 20 * SECOND), Some(11 * SECOND), "a shorter hold takes nothing away");
    }
}
