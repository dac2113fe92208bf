//! The line in which the calls of all runs wait for what a quota takes. Quotas count by project and region, and reads,
//! writes and starts apart (<https://cloud.google.com/run/quotas>).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    call::Quota,
    pace::{Pace, Turn},
};

/// The lines of a process: one set for each project and region.
#[derive(Debug, Default)]
pub struct PacingCache {
    places: Mutex<HashMap<(String, Duration), Arc<Pacing>>>,
}

impl PacingCache {
    /// The lines for this place, the same ones every time. Its quotas count calls in such a period: Google's in a minute.
    pub fn of(&self, place: &str, period: Duration) -> Arc<Pacing> {
        let mut places = lock(&self.places);
        places.entry((place.to_owned(), period)).or_insert_with(|| Arc::new(Pacing::new(period))).clone()
    }
}

/// The lines for one project and region.
#[derive(Debug)]
pub struct Pacing {
    reads: Line,
    writes: Line,
    runs: Line,
}

impl Pacing {
    /// For quotas that count calls in this period.
    pub fn new(period: Duration) -> Self {
        let line = || Line::new(Pace::new(period));
        Self { reads: line(), writes: line(), runs: line() }
    }

    pub(super) fn line(&self, quota: Quota) -> &Line {
        match quota {
            Quota::Reads => &self.reads,
            Quota::Writes => &self.writes,
            Quota::Runs => &self.runs,
        }
    }
}

/// The calls that wait for one quota, in the order in which they came; but those that others wait for come first.
#[derive(Debug)]
pub(super) struct Line {
    began: Instant,
    pace: Mutex<Pace>,
    /// Held by the first in each of the two lines. tokio's mutex lets those that wait in as they came.
    urgent: tokio::sync::Mutex<()>,
    usual: tokio::sync::Mutex<()>,
    urgent_waiting: Mutex<usize>,
    /// Wakes those two when something has changed.
    changed: Notify,
}

/// A call that was let through, until its answer is known. Dropped without a word, it counts as taken.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    line: &'a Line,
    sent: Duration,
    is_refused: bool,
}

impl Line {
    fn new(pace: Pace) -> Self {
        Self {
            began: Instant::now(),
            pace: Mutex::new(pace),
            urgent: tokio::sync::Mutex::default(),
            usual: tokio::sync::Mutex::default(),
            urgent_waiting: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits for a call's turn, for so long at most. `on_wait` is told, once, when it is the quota that is waited for,
    /// with the calls that it takes in a period.
    pub(super) async fn pass(
        &self,
        is_urgent: bool,
        longest: Duration,
        on_wait: impl FnMut(usize),
    ) -> Option<Pass<'_>> {
        timeout(longest, self.turn(is_urgent, on_wait)).await.ok()
    }

    async fn turn(&self, is_urgent: bool, mut on_wait: impl FnMut(usize)) -> Pass<'_> {
        let _first = is_urgent.then(|| Hurry::new(self));
        let line = if is_urgent { &self.urgent } else { &self.usual };
        let mut is_told = false;
        let mut tell = |limit: Option<usize>| {
            if let Some(limit) = limit.filter(|_| !std::mem::replace(&mut is_told, true)) {
                on_wait(limit);
            }
        };
        let _place = match line.try_lock() {
            Ok(place) => place,
            Err(_others_wait) => {
                // What they wait for may be an answer that comes at once.
                let place = line.lock();
                tokio::pin!(place);
                match timeout(A_MOMENT, place.as_mut()).await {
                    Ok(place) => place,
                    Err(_) => {
                        tell(self.pace().limit());
                        place.await
                    }
                }
            }
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let gives_way = !is_urgent && *lock(&self.urgent_waiting) > 0;
            let now = self.began.elapsed();
            let turn = if gives_way { Turn::AfterAnother } else { self.pace().turn(now) };
            match turn {
                Turn::Now => return Pass { line: self, sent: now, is_refused: false },
                Turn::AfterAnother => changed.await,
                Turn::After(pause) => {
                    tell(self.pace().limit());
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }
}

/// How long calls that came before are waited for without a word.
const A_MOMENT: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass<'_> {
    /// The quota refused the call, with a wish for a pause maybe.
    pub(super) fn refused(mut self, pause: Option<Duration>) {
        self.is_refused = true;
        self.line.pace().refused(self.line.began.elapsed(), self.sent, pause);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_refused {
            self.line.pace().taken();
        }
        self.line.changed.notify_waiters();
    }
}

/// An urgent call that waits.
struct Hurry<'a>(&'a Line);

impl<'a> Hurry<'a> {
    fn new(line: &'a Line) -> Self {
        *lock(&line.urgent_waiting) += 1;
        Self(line)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        *lock(&self.0.urgent_waiting) -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(3600);

    /// A line whose quota takes one call in a minute, and has just taken it.
    async fn full() -> Line {
        let line = Line::new(Pace::new(MINUTE));
        let first = line.pass(false, LONG, |_| {}).await.unwrap();
        let second = line.pass(false, LONG, |_| {}).await.unwrap();
        second.refused(None);
        drop(first);
        line
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_wait_for_comes_first() {
        let line = Arc::new(full().await);
        let order: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let calls = [("usual", false), ("usual too", false), ("urgent", true)].map(|(name, is_urgent)| {
            let (line, order) = (line.clone(), order.clone());
            tokio::spawn(async move {
                let pass = line.pass(is_urgent, LONG, |_| {}).await.unwrap();
                lock(&order).push(name);
                drop(pass);
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*lock(&order), ["urgent", "usual", "usual too"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_quota_is_told_once_and_has_an_end() {
        let line = full().await;
        let mut told = vec![];
        assert!(line.pass(false, MINUTE / 2, |limit| told.push(limit)).await.is_none());
        assert_eq!(told, [1]);
        assert!(line.pass(false, MINUTE, |_| {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_goes_away_holds_nobody_up() {
        let line = Arc::new(full().await);
        for is_urgent in [false, true] {
            let gone = {
                let line = line.clone();
                tokio::spawn(async move { line.pass(is_urgent, LONG, |_| {}).await.is_some() })
            };
            tokio::time::sleep(Duration::from_secs(1)).await;
            gone.abort();
            _ = gone.await;
        }
        assert!(line.pass(false, 2 * MINUTE, |_| {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_of_a_wait_for_answers() {
        let line = Arc::new(Line::new(Pace::new(MINUTE)));
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move {
                    let pass = line.pass(false, LONG, |_| panic!("told")).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(pass);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    }

    #[test]
    fn a_place_has_one_set_of_lines() {
        let cache = PacingCache::default();
        let first = cache.of("a", MINUTE);
        assert!(Arc::ptr_eq(&first, &cache.of("a", MINUTE)) && !Arc::ptr_eq(&first, &cache.of("b", MINUTE)));
    }
}
