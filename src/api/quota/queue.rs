//! The queue in which the calls of all runs wait for one quota.
//!
//! # Guarantees
//! - Calls are admitted in the order in which they came, urgent ones first. Three urgent calls in a row leave room for one
//!   other call, so that no call waits forever.
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
use crate::api::retry_after::RetryAfter;

/// Calls wait at least this long for the responses of others, even when they may not wait for the quota: attempts end by
/// their own time-out before.
const RESPONSES_WAIT: Duration = Duration::from_secs(120);
/// A call waits this long behind others before the wait is reported: they may only wait for responses.
const UNREPORTED_WAIT: Duration = Duration::from_secs(2);

/// The calls that wait for one quota.
///
/// Two mutexes serve as the two lines, for urgent calls and for others: tokio's mutex is fair, so its waiters come in
/// the order of their arrival. The holder of a line's lock is the first of its line; only these two compete for the next
/// admission.
#[derive(Debug)]
pub(in crate::api) struct QuotaQueue {
    /// The moment that the estimator's times count from.
    began: Instant,
    estimator: Mutex<QuotaEstimator>,
    urgent_line: tokio::sync::Mutex<()>,
    other_line: tokio::sync::Mutex<()>,
    waiting: Mutex<Waiting>,
    /// Wakes the first of each line when a response came or a waiting call left.
    changed: Notify,
}

/// How many calls wait, and which kind was admitted last.
#[derive(Debug, Default)]
struct Waiting {
    urgent: usize,
    other: usize,
    /// Urgent calls admitted since the last other call.
    urgent_in_a_row: u32,
}

impl Waiting {
    /// Whether a call lets the first of the other line go before it.
    fn yields(&self, is_urgent: bool) -> bool {
        let others_are_due = self.urgent_in_a_row >= 3 && self.other > 0;
        if is_urgent { others_are_due } else { !others_are_due && self.urgent > 0 }
    }

    fn count_mut(&mut self, is_urgent: bool) -> &mut usize {
        if is_urgent { &mut self.urgent } else { &mut self.other }
    }

    fn admitted(&mut self, is_urgent: bool) {
        self.urgent_in_a_row = if is_urgent { self.urgent_in_a_row.saturating_add(1) } else { 0 };
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
            urgent_line: tokio::sync::Mutex::default(),
            other_line: tokio::sync::Mutex::default(),
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
        is_urgent: bool,
        max_wait: Duration,
        on_wait: impl FnMut(),
    ) -> Option<Permit<'_>> {
        timeout(max_wait.max(RESPONSES_WAIT), self.wait(is_urgent, max_wait, on_wait)).await.ok().flatten()
    }

    async fn wait(&self, is_urgent: bool, max_wait: Duration, mut on_wait: impl FnMut()) -> Option<Permit<'_>> {
        let _waiter = Waiter::join(self, is_urgent);
        let line = if is_urgent { &self.urgent_line } else { &self.other_line };
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
            let yields = lock(&self.waiting).yields(is_urgent);
            let now = self.began.elapsed();
            let admission = if yields { Admission::AfterResponse } else { self.estimator().admission(now) };
            match admission {
                Admission::Now => {
                    lock(&self.waiting).admitted(is_urgent);
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
    is_urgent: bool,
}

impl<'a> Waiter<'a> {
    fn join(queue: &'a QuotaQueue, is_urgent: bool) -> Self {
        *lock(&queue.waiting).count_mut(is_urgent) += 1;
        Self { queue, is_urgent }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        *lock(&self.queue.waiting).count_mut(self.is_urgent) -= 1;
        self.queue.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(3600);

    /// A queue whose quota has refused a call and asked for a pause of a minute.
    async fn full() -> QuotaQueue {
        let queue = QuotaQueue::new(MINUTE);
        queue.acquire(false, LONG, || {}).await.unwrap().refused(Some(MINUTE.into()));
        queue
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_calls_are_admitted_first() {
        let queue = Arc::new(full().await);
        let order: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let calls = [("other", false), ("other too", false), ("urgent", true)].map(|(name, is_urgent)| {
            let (queue, order) = (queue.clone(), order.clone());
            tokio::spawn(async move {
                let permit = queue.acquire(is_urgent, LONG, || {}).await.unwrap();
                lock(&order).push(name);
                drop(permit);
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*lock(&order), ["urgent", "other", "other too"]);
    }

    #[test]
    fn three_urgent_calls_leave_room_for_one_other() {
        let mut waiting = Waiting { urgent: 5, other: 5, urgent_in_a_row: 2 };
        assert!(waiting.yields(false) && !waiting.yields(true));
        waiting.urgent_in_a_row = 3;
        assert!(!waiting.yields(false) && waiting.yields(true));
        waiting.other = 0;
        assert!(!waiting.yields(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_may_not_wait_for_the_quota_still_waits_for_responses() {
        let queue = Arc::new(QuotaQueue::new(MINUTE));
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let permit = queue.acquire(false, Duration::ZERO, || {}).await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    permit.is_some()
                })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert!(full().await.acquire(false, Duration::ZERO, || {}).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_quota_is_reported_once_and_ends() {
        let queue = full().await;
        let mut reports = 0;
        assert!(queue.acquire(false, MINUTE / 2, || reports += 1).await.is_none());
        assert_eq!(reports, 1);
        assert!(queue.acquire(false, MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_gives_up_delays_no_other() {
        let queue = Arc::new(full().await);
        for is_urgent in [false, true] {
            let gone = {
                let queue = queue.clone();
                tokio::spawn(async move { queue.acquire(is_urgent, LONG, || {}).await.is_some() })
            };
            tokio::time::sleep(Duration::from_secs(1)).await;
            gone.abort();
            _ = gone.await;
        }
        assert!(queue.acquire(false, 2 * MINUTE, || {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_responses_is_not_reported() {
        let queue = Arc::new(QuotaQueue::new(MINUTE));
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let permit = queue.acquire(false, LONG, || panic!("reported")).await.unwrap();
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
