//! The queue in which the calls of all runs wait for one quota.
//!
//! # Guarantees
//! - Calls of one priority are admitted in the order in which they came, those of a higher priority first. After three calls
//!   of higher priorities one of a lower priority goes, so that no call waits forever.
//! - A call that gives up, or whose future is dropped, delays no other call.
//!
//! # Limits
//! The order holds within one process. Other workers of the project share the quota without knowing of this queue.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::estimator::{Admission, QuotaEstimator};
use crate::api::{method::Priority, retry_after::RetryAfter};

/// Calls wait at least this long for the responses of others, even when they may not wait for the quota: attempts end by
/// their own time-out before.
const RESPONSES_WAIT: Duration = Duration::from_secs(120);
/// A call waits this long behind others before the wait is reported: they may only wait for responses.
const UNREPORTED_WAIT: Duration = Duration::from_secs(2);
/// How many calls of higher priorities go before one that waits.
const MAX_PASSED_OVER: u32 = 3;

/// The calls that wait for one quota.
///
/// A mutex for each priority serves as its line: tokio's mutex is fair, so its waiters come in the order of their arrival.
/// The holder of a line's lock is the first of its line; only these compete for the next admission.
#[derive(Debug)]
pub(in crate::api) struct QuotaQueue {
    /// The moment that the estimator's times count from.
    began: Instant,
    estimator: Mutex<QuotaEstimator>,
    lines: [tokio::sync::Mutex<()>; Priority::ALL.len()],
    waiting: Mutex<Waiting>,
    /// Wakes the first of each line when a response came or a waiting call left.
    changed: Notify,
}

/// The lines, one for each priority: how many calls wait, and how often others went before them.
#[derive(Debug, Default)]
struct Waiting {
    calls: [usize; Priority::ALL.len()],
    /// How many calls of a higher priority were admitted since the last one of this line.
    passed_over: [u32; Priority::ALL.len()],
}

impl Waiting {
    /// Whose turn it is: that of the highest priority, unless a lower one was passed over too often.
    fn next(&self) -> Option<Priority> {
        let waiting = || Priority::ALL.into_iter().filter(|line| self.calls[*line as usize] > 0);
        waiting().rfind(|line| self.passed_over[*line as usize] >= MAX_PASSED_OVER).or_else(|| waiting().next_back())
    }

    fn admitted(&mut self, priority: Priority) {
        self.passed_over[priority as usize] = 0;
        for line in Priority::ALL.into_iter().filter(|line| *line < priority && self.calls[*line as usize] > 0) {
            self.passed_over[line as usize] = self.passed_over[line as usize].saturating_add(1);
        }
    }

    fn left(&mut self, priority: Priority) {
        self.calls[priority as usize] -= 1;
        if self.calls[priority as usize] == 0 {
            self.passed_over[priority as usize] = 0;
        }
    }
}

/// The permission to send one call. Hold it until the response is known: dropping it means that the quota accepted the
/// call.
#[derive(Debug)]
pub(in crate::api) struct Permit<'a> {
    queue: &'a QuotaQueue,
    sent: Duration,
    /// Whether the estimator knows how the call ended.
    is_settled: bool,
}

impl QuotaQueue {
    /// An empty queue for a quota that counts calls per `period`.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            began: Instant::now(),
            estimator: Mutex::new(QuotaEstimator::new(period, fastrand::f64)),
            lines: Default::default(),
            waiting: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits for the permission to send a call.
    ///
    /// Returns `None` when the quota has no room within `max_wait`, or when other calls keep the queue busy for
    /// [`RESPONSES_WAIT`]. `on_wait` is called once, when the call begins to wait for the quota. It is not called when the
    /// call only waits for the responses of other calls.
    pub(in crate::api) async fn acquire(
        &self,
        priority: Priority,
        max_wait: Duration,
        on_wait: impl FnMut(),
    ) -> Option<Permit<'_>> {
        timeout(max_wait.max(RESPONSES_WAIT), self.wait(priority, max_wait, on_wait)).await.ok().flatten()
    }

    async fn wait(&self, priority: Priority, max_wait: Duration, mut on_wait: impl FnMut()) -> Option<Permit<'_>> {
        let _waiter = Waiter::join(self, priority);
        let line = &self.lines[priority as usize];
        let (joined, mut is_reported) = (Instant::now(), false);
        let mut report = || {
            if !std::mem::replace(&mut is_reported, true) {
                on_wait();
            }
        };
        let _first_of_line = match line.try_lock() {
            Ok(first) => first,
            Err(_others_wait) => {
                // They may wait for responses only, which come soon.
                let first = line.lock();
                tokio::pin!(first);
                match timeout(UNREPORTED_WAIT, first.as_mut()).await {
                    Ok(first) => first,
                    Err(_) => {
                        if self.estimator().is_limited() {
                            report();
                        }
                        first.await
                    }
                }
            }
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registers for wake-ups before the state is read, so that a change in between is not missed.
            changed.as_mut().enable();
            let is_next = lock(&self.waiting).next() == Some(priority);
            let now = self.began.elapsed();
            let admission = if is_next { self.estimator().admission(now) } else { Admission::AfterResponse };
            match admission {
                Admission::Now => {
                    lock(&self.waiting).admitted(priority);
                    return Some(Permit { queue: self, sent: now, is_settled: false });
                }
                Admission::AfterResponse => changed.await,
                Admission::After(pause) => {
                    report();
                    let left = max_wait.saturating_sub(joined.elapsed());
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

    fn estimator(&self) -> MutexGuard<'_, QuotaEstimator> {
        lock(&self.estimator)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Permit<'_> {
    /// The quota refused the call; `pause` is the pause that the server asked for.
    pub(in crate::api) fn refused(mut self, pause: Option<RetryAfter>) {
        self.is_settled = true;
        self.queue.estimator().refused(self.queue.began.elapsed(), self.sent, pause);
    }

    /// The call is not sent after all, and does not count against the quota.
    pub(in crate::api) fn withdraw(mut self) {
        self.is_settled = true;
        self.queue.estimator().withdrawn(self.sent);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.queue.estimator().accepted(self.queue.began.elapsed(), self.sent);
        }
        self.queue.changed.notify_waiters();
    }
}

/// A call that waits. Counted for as long as this value lives, also when the future of the wait is dropped.
struct Waiter<'a> {
    queue: &'a QuotaQueue,
    priority: Priority,
}

impl<'a> Waiter<'a> {
    fn join(queue: &'a QuotaQueue, priority: Priority) -> Self {
        lock(&queue.waiting).calls[priority as usize] += 1;
        Self { queue, priority }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        lock(&self.queue.waiting).left(self.priority);
        self.queue.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use Priority::{High, Low, Normal};

    const MINUTE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(3600);

    /// A queue whose quota has refused a call and asked for a pause of a minute.
    async fn full() -> QuotaQueue {
        let queue = QuotaQueue::new(MINUTE);
        queue.acquire(Normal, LONG, || {}).await.unwrap().refused(Some(MINUTE.into()));
        queue
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_higher_priority_are_admitted_first() {
        let queue = Arc::new(full().await);
        let order: Arc<Mutex<Vec<Priority>>> = Arc::default();
        let calls = [Normal, Low, Normal, High].map(|priority| {
            let (queue, order) = (queue.clone(), order.clone());
            tokio::spawn(async move {
                let permit = queue.acquire(priority, LONG, || {}).await.unwrap();
                lock(&order).push(priority);
                drop(permit);
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*lock(&order), [High, Normal, Normal, Low]);
    }

    proptest! {
        /// Whoever else comes, the first of each line goes after a bounded number of others.
        #[test]
        fn no_line_starves(arrivals in vec(0..3_usize, 100..300)) {
            let mut waiting = Waiting { calls: [1, 1, 1], ..Waiting::default() };
            let mut waits_since = [0; 3];
            for (turn, arrival) in arrivals.into_iter().enumerate() {
                waiting.calls[arrival] += 1;
                let next = waiting.next().unwrap();
                waiting.admitted(next);
                waiting.left(next);
                waits_since[next as usize] = turn;
                for line in Priority::ALL {
                    if waiting.calls[line as usize] == 0 {
                        waits_since[line as usize] = turn;
                    }
                    prop_assert!(turn - waits_since[line as usize] <= 6, "{line:?}");
                }
            }
        }
    }

    #[test]
    fn each_line_gets_a_share_when_all_have_more_than_enough() {
        let mut waiting = Waiting { calls: [1000; 3], ..Waiting::default() };
        let mut shares = [0; 3];
        for _ in 0..500 {
            let next = waiting.next().unwrap();
            waiting.admitted(next);
            shares[next as usize] += 1;
        }
        assert_eq!(shares, [100, 100, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_may_not_wait_for_the_quota_still_waits_for_responses() {
        let queue = Arc::new(QuotaQueue::new(MINUTE));
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let permit = queue.acquire(Normal, Duration::ZERO, || {}).await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    permit.is_some()
                })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert!(full().await.acquire(Normal, Duration::ZERO, || {}).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_quota_is_reported_once_and_ends() {
        let queue = full().await;
        let mut reports = 0;
        assert!(queue.acquire(Normal, MINUTE / 2, || reports += 1).await.is_none());
        assert_eq!(reports, 1);
        assert!(queue.acquire(Normal, MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_gives_up_delays_no_other() {
        let queue = Arc::new(full().await);
        for priority in [Normal, High] {
            let gone = {
                let queue = queue.clone();
                tokio::spawn(async move { queue.acquire(priority, LONG, || {}).await.is_some() })
            };
            tokio::time::sleep(Duration::from_secs(1)).await;
            gone.abort();
            _ = gone.await;
        }
        assert!(queue.acquire(Normal, 2 * MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_responses_is_not_reported() {
        let queue = Arc::new(QuotaQueue::new(MINUTE));
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let permit = queue.acquire(Normal, LONG, || panic!("reported")).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(permit);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    }
}
