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
    method::Quota,
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
    queues: Mutex<Queues>,
    /// Wakes those two when something has changed.
    changed: Notify,
}

/// Who waits, and who went last.
#[derive(Debug, Default)]
struct Queues {
    urgent: usize,
    usual: usize,
    /// Urgent calls since the last usual one.
    urgent_in_a_row: u32,
}

impl Queues {
    /// Whether a call lets one of the other kind go first. Three urgent ones leave room for a usual one.
    fn gives_way(&self, is_urgent: bool) -> bool {
        let is_usuals_turn = self.urgent_in_a_row >= 3 && self.usual > 0;
        if is_urgent { is_usuals_turn } else { !is_usuals_turn && self.urgent > 0 }
    }

    fn of(&mut self, is_urgent: bool) -> &mut usize {
        if is_urgent { &mut self.urgent } else { &mut self.usual }
    }
}

/// A call that was let through, until its answer is known. Dropped without a word, it counts as taken.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    line: &'a Line,
    sent: Duration,
    /// Whether its end was told to the pace.
    is_over: bool,
}

impl Line {
    fn new(pace: Pace) -> Self {
        Self {
            began: Instant::now(),
            pace: Mutex::new(pace),
            urgent: tokio::sync::Mutex::default(),
            usual: tokio::sync::Mutex::default(),
            queues: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits for a call's turn, and for the quota so long at most. `on_wait` is told, once, when it is that which is
    /// waited for.
    pub(super) async fn pass(&self, is_urgent: bool, longest: Duration, on_wait: impl FnMut()) -> Option<Pass<'_>> {
        timeout(longest.max(ANSWERS_TAKE), self.turn(is_urgent, longest, on_wait)).await.ok().flatten()
    }

    async fn turn(&self, is_urgent: bool, longest: Duration, mut on_wait: impl FnMut()) -> Option<Pass<'_>> {
        let _queued = Queued::new(self, is_urgent);
        let line = if is_urgent { &self.urgent } else { &self.usual };
        let (came, mut is_told) = (Instant::now(), false);
        let mut tell = || {
            if !std::mem::replace(&mut is_told, true) {
                on_wait();
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
                        if self.pace().is_known() {
                            tell();
                        }
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
            let gives_way = lock(&self.queues).gives_way(is_urgent);
            let now = self.began.elapsed();
            let turn = if gives_way { Turn::AfterAnother } else { self.pace().turn(now) };
            match turn {
                Turn::Now => {
                    let mut queues = lock(&self.queues);
                    queues.urgent_in_a_row = if is_urgent { queues.urgent_in_a_row.saturating_add(1) } else { 0 };
                    return Some(Pass { line: self, sent: now, is_over: false });
                }
                Turn::AfterAnother => changed.await,
                Turn::After(pause) => {
                    tell();
                    let left = longest.saturating_sub(came.elapsed());
                    if left.is_zero() {
                        return None;
                    }
                    tokio::select! {
                        () = sleep(pause.min(left)) => {}
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

/// How long calls may wait for the answers of others, at least.
const ANSWERS_TAKE: Duration = Duration::from_secs(120);
/// How long calls that came before are waited for without a word.
const A_MOMENT: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass<'_> {
    /// The quota refused the call, with a wish for a pause maybe.
    pub(super) fn refused(mut self, pause: Option<Duration>) {
        self.is_over = true;
        self.line.pace().refused(self.line.began.elapsed(), self.sent, pause);
    }

    /// The call is not made after all.
    pub(super) fn give_back(mut self) {
        self.is_over = true;
        self.line.pace().given_back(self.sent);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.line.pace().taken();
        }
        self.line.changed.notify_waiters();
    }
}

/// A call that waits.
struct Queued<'a> {
    line: &'a Line,
    is_urgent: bool,
}

impl<'a> Queued<'a> {
    fn new(line: &'a Line, is_urgent: bool) -> Self {
        *lock(&line.queues).of(is_urgent) += 1;
        Self { line, is_urgent }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        *lock(&self.line.queues).of(self.is_urgent) -= 1;
        self.line.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(3600);

    /// A line whose quota takes ten calls in a minute, and has just taken them.
    async fn full() -> Line {
        let line = Line::new(Pace::new(MINUTE));
        for _ in 0..10 {
            drop(line.pass(false, LONG, || {}).await.unwrap());
        }
        line.pass(false, LONG, || {}).await.unwrap().refused(None);
        line
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_wait_for_comes_first() {
        let line = Arc::new(full().await);
        let order: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let calls = [("usual", false), ("usual too", false), ("urgent", true)].map(|(name, is_urgent)| {
            let (line, order) = (line.clone(), order.clone());
            tokio::spawn(async move {
                let pass = line.pass(is_urgent, LONG, || {}).await.unwrap();
                lock(&order).push(name);
                drop(pass);
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*lock(&order), ["urgent", "usual", "usual too"]);
    }

    #[test]
    fn three_urgent_calls_leave_room_for_a_usual_one() {
        let mut queues = Queues { urgent: 5, usual: 5, urgent_in_a_row: 2 };
        assert!(queues.gives_way(false) && !queues.gives_way(true));
        queues.urgent_in_a_row = 3;
        assert!(!queues.gives_way(false) && queues.gives_way(true));
        queues.usual = 0;
        assert!(!queues.gives_way(true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_wait_for_the_quota_waits_for_answers_all_the_same() {
        let line = Arc::new(Line::new(Pace::new(MINUTE)));
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move {
                    let pass = line.pass(false, Duration::ZERO, || {}).await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    pass.is_some()
                })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert!(full().await.pass(false, Duration::ZERO, || {}).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_quota_is_told_once_and_has_an_end() {
        let line = full().await;
        let mut told = 0;
        assert!(line.pass(false, MINUTE / 2, || told += 1).await.is_none());
        assert_eq!(told, 1);
        assert!(line.pass(false, MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_goes_away_holds_nobody_up() {
        let line = Arc::new(full().await);
        for is_urgent in [false, true] {
            let gone = {
                let line = line.clone();
                tokio::spawn(async move { line.pass(is_urgent, LONG, || {}).await.is_some() })
            };
            tokio::time::sleep(Duration::from_secs(1)).await;
            gone.abort();
            _ = gone.await;
        }
        assert!(line.pass(false, 2 * MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_of_a_wait_for_answers() {
        let line = Arc::new(Line::new(Pace::new(MINUTE)));
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move {
                    let pass = line.pass(false, LONG, || panic!("told")).await.unwrap();
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
