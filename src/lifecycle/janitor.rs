//! Deletes the jobs of runs that have ended, for as long as the process lives.
//!
//! A run ends when its execution has ended. Its job's deletion goes on here, with growing pauses while the API fails. Each
//! deletion is a task of its own, which needs some kilobytes; calls wait for their quota as all calls do, deletes first.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    calls::{JobGuard, send},
    machine::{Cleanup, CleanupStep},
    progress::{Progress, ProgressSink, Reporter},
    region::RegionJob,
};
use crate::api::{ApiError, ApiMethod, CloudRunClient, ErrorKind, Priority, RetryPolicy, Transport};

/// Longest pause between two calls while the process is about to end.
const HURRIED_PAUSE: Duration = Duration::from_millis(500);

/// The deletions in progress. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Janitor(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<PendingDeletions>,
    last_number: AtomicU64,
    /// How many deletions are in progress.
    count: watch::Sender<usize>,
    /// How many callers wait for the end of all deletions.
    in_a_hurry: watch::Sender<usize>,
}

/// The deletions in progress, and how many there are of each job, by its address.
#[derive(Debug, Default)]
struct PendingDeletions {
    by_number: HashMap<u64, Pending>,
    of_jobs: HashMap<String, usize>,
}

impl PendingDeletions {
    fn insert(&mut self, number: u64, pending: Pending) {
        *self.of_jobs.entry(pending.address.clone()).or_default() += 1;
        self.by_number.insert(number, pending);
    }

    fn remove(&mut self, number: u64) {
        let Some(Pending { address, .. }) = self.by_number.remove(&number) else { return };
        if let Entry::Occupied(mut count) = self.of_jobs.entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A deletion in progress.
struct Pending {
    /// Address of the job.
    address: String,
    /// `None` for the moment until it is spawned.
    task: Option<AbortHandle>,
    /// What to report if it is abandoned.
    abandoned: Arc<Mutex<Progress>>,
    sink: ProgressSink,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl Janitor {
    /// Deletes a job in the background. `began` is the moment that the times of `cleanup` count from; `job` is dropped at the
    /// end. `first` is what needs the job: the deletion begins after it.
    pub(super) fn take_over(
        &self,
        transport: &Transport,
        cleanup: Box<Cleanup>,
        began: Instant,
        sink: ProgressSink,
        job: RegionJob,
        first: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) {
        // The pauses between attempts are made here, because they end early when the process is about to end.
        let retry = RetryPolicy { max_attempts: 1, ..transport.retry };
        let transport = Transport { retry, on_notice: Arc::new(|_notice| {}), ..transport.clone() };
        let unfinished = transport.error(
            ApiMethod::DeleteJob,
            cleanup.job(),
            ErrorKind::Unavailable,
            "the worker stopped before the job was deleted".to_owned(),
        );
        let unfinished = ApiError { maybe_done: true, ..unfinished };
        let abandoned = Arc::new(Mutex::new(cleanup.abandoned(unfinished.clone())));
        let address = transport.job_address(cleanup.job());
        let number = self.0.last_number.fetch_add(1, Ordering::Relaxed);
        let deletion = DeletionTask { janitor: self.clone(), number, _job: job };
        let deletion = deletion.run(transport, cleanup, began, sink.clone(), abandoned.clone(), unfinished);
        {
            let mut pending = self.pending();
            pending.insert(number, Pending { address, task: None, abandoned, sink });
            self.0.count.send_replace(pending.by_number.len());
        }
        // Not under the lock: a runtime that shuts down drops the task at once, and the task takes the lock then.
        let task = tokio::spawn(async {
            if let Some(first) = first {
                first.await;
            }
            deletion.await;
        });
        match self.pending().by_number.get_mut(&number) {
            Some(pending) => pending.task = Some(task.abort_handle()),
            // It has ended already, or was abandoned just now.
            None => task.abort(),
        }
    }

    /// How many deletions are in progress.
    pub fn len(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Whether it deletes the job of this address.
    pub(super) fn has(&self, address: &str) -> bool {
        self.pending().of_jobs.contains_key(address)
    }

    /// Whether there is nothing to delete.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until all jobs are deleted, at most for `limit`, with short pauses between calls. Then it abandons the
    /// deletions that are left, and reports each of them.
    pub async fn drain(&self, limit: Duration) {
        self.hurry(limit).await;
        self.abandon();
    }

    /// Waits until all jobs are deleted, at most for `limit`, with short pauses between calls. Those that are left go on.
    pub async fn hurry(&self, limit: Duration) {
        self.0.in_a_hurry.send_modify(|callers| *callers += 1);
        let mut count = self.0.count.subscribe();
        // Fails only at the limit: the sender lives as long as `self`.
        _ = timeout(limit, count.wait_for(|count| *count == 0)).await;
        self.0.in_a_hurry.send_modify(|callers| *callers = callers.saturating_sub(1));
    }

    fn abandon(&self) {
        let left: Vec<Pending> = {
            let mut pending = self.pending();
            self.0.count.send_replace(0);
            std::mem::take(&mut *pending).by_number.into_values().collect()
        };
        for Pending { task, abandoned, sink, .. } in left {
            task.iter().for_each(AbortHandle::abort);
            let progress = abandoned.lock().unwrap_or_else(PoisonError::into_inner).clone();
            sink(progress);
        }
    }

    fn pending(&self) -> MutexGuard<'_, PendingDeletions> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the list of deletions when it is dropped.
struct DeletionTask {
    janitor: Janitor,
    number: u64,
    _job: RegionJob,
}

impl DeletionTask {
    async fn run(
        self,
        transport: Transport,
        mut cleanup: Box<Cleanup>,
        began: Instant,
        sink: ProgressSink,
        abandoned: Arc<Mutex<Progress>>,
        unfinished: ApiError,
    ) {
        let reporter = Reporter::new(sink);
        let client = CloudRunClient::new(transport).with_read_priority(Priority::High);
        let mut hurry = self.janitor.0.in_a_hurry.subscribe();
        loop {
            let event = {
                let job = cleanup.job().to_owned();
                let ownership = cleanup.ownership().clone();
                let guard = JobGuard { client: &client, job: &job, ownership, read_age: Duration::ZERO, start: None };
                // A call's future is large, and most of the time there is none.
                Box::pin(send(&client, &job, cleanup.command(), &guard)).await
            };
            let CleanupStep { reports, next } = cleanup.step(began.elapsed(), event);
            reports.into_iter().for_each(|progress| reporter.report(progress));
            let Some((pause, next)) = next else { return };
            cleanup = next;
            *abandoned.lock().unwrap_or_else(PoisonError::into_inner) = cleanup.abandoned(unfinished.clone());
            let is_hurried = tokio::select! {
                () = sleep(pause) => false,
                // The sender lives as long as the janitor, so there is no error.
                hurried = hurry.wait_for(|callers| *callers > 0) => hurried.is_ok(),
            };
            if is_hurried {
                sleep(pause.min(HURRIED_PAUSE)).await;
            }
        }
    }
}

impl Drop for DeletionTask {
    fn drop(&mut self) {
        let mut pending = self.janitor.pending();
        pending.remove(self.number);
        self.janitor.0.count.send_replace(pending.by_number.len());
    }
}
