//! Which executions a poller reads, when each is due, and what a list means for them. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{machine::protocol::ExecutionWatch, progress::Progress};
use crate::api::{ApiResult, types::Execution};

/// Maximum number of jobs in one list. The API's longest label selector is not documented.
const BATCH_SIZE: usize = 100;
/// First pause before a read.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long lists may lack an execution after its start.
pub(super) const LIST_LAG: Duration = Duration::from_secs(10);

/// The pause before the next read of an execution of this age: a quarter of the age, between 0.25 s and `max_pause`.
pub fn poll_pause(age: Duration, max_pause: Duration) -> Duration {
    FIRST_PAUSE.max(age / 4).min(max_pause)
}

/// What a subscriber gets.
#[derive(Debug)]
pub(super) struct Update {
    /// The execution has ended, began to run, is not found, or could not be read.
    pub(super) response: ApiResult<Execution>,
    /// Something about all executions of the poller, which this run is to report.
    pub(super) notice: Option<Progress>,
}

/// What a list means for a batch.
#[derive(Debug)]
pub(super) struct ListVerdict {
    /// Executions that should be in the list but are not. They must be read one by one, because a list can lag.
    pub(super) missing: Vec<Missing>,
    /// Whether the list lacks every execution of the batch that it should show by its age, and there are some.
    pub(super) shows_nothing: bool,
}

/// A subscription whose execution a list lacks.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) number: u64,
    /// Whether it is so old that lists should show it.
    pub(super) is_old: bool,
}

/// A run that waits for an update of its execution.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) job: String,
    pub(super) execution: String,
    is_running: bool,
    /// Whether the next read is an update, whatever it shows.
    pub(super) is_last_look: bool,
    started: Instant,
    /// The poll interval.
    pub(super) max_pause: Duration,
    /// When it is to be read next.
    due: Instant,
    /// In how many consecutive lists it was missing.
    missing: u32,
    sender: oneshot::Sender<Update>,
}

impl Subscription {
    /// To an execution of this age at `now`. Its result goes to `sender`.
    pub(super) fn new(
        now: Instant,
        job: &str,
        watch: &ExecutionWatch,
        age: Duration,
        sender: oneshot::Sender<Update>,
    ) -> Self {
        Self {
            job: job.to_owned(),
            execution: watch.execution.clone(),
            is_running: watch.is_running,
            is_last_look: watch.is_last_look,
            started: now.checked_sub(age).unwrap_or(now),
            max_pause: watch.max_pause,
            due: if watch.is_last_look { now } else { now + poll_pause(age, watch.max_pause) },
            missing: 0,
            sender,
        }
    }

    /// Its place in the queue. Last looks come first: their runs have no time.
    fn place(&self, number: u64) -> QueuePlace {
        (!self.is_last_look, self.due, number)
    }
}

type QueuePlace = (bool, Instant, u64);

/// The subscriptions of one poller, by number.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_number: HashMap<u64, Subscription>,
    /// Those that wait for their next read, by when it is due. The others are being read.
    queue: BTreeSet<QueuePlace>,
    last_number: u64,
    /// What the runs that get the next updates are to report.
    notices: Vec<Progress>,
}

impl Subscriptions {
    /// Adds a subscription and returns its number.
    pub(super) fn add(&mut self, subscription: Subscription) -> u64 {
        self.last_number += 1;
        self.queue.insert(subscription.place(self.last_number));
        self.by_number.insert(self.last_number, subscription);
        self.last_number
    }

    /// Forgets a subscription whose run no longer waits.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(subscription) = self.by_number.remove(&number) {
            self.queue.remove(&subscription.place(number));
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Subscription> {
        self.by_number.get(&number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// When the next read is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(_, due, _)| *due)
    }

    /// Whether a last look waits.
    pub(super) fn has_last_look(&self) -> bool {
        self.queue.first().is_some_and(|(is_regular, ..)| !is_regular)
    }

    /// How many lists the subscriptions need that are due at `now`.
    pub(super) fn batches_due(&self, now: Instant) -> usize {
        // Last looks come first, and all of them are due.
        let due = self.queue.iter().take_while(|(is_regular, due, _)| !is_regular || *due <= now);
        due.count().div_ceil(BATCH_SIZE)
    }

    /// Takes a batch for one list, if any subscription is due at `now`. Fills the batch with those that are due next: they
    /// cost no extra read.
    pub(super) fn take_batch(&mut self, now: Instant) -> Option<Vec<u64>> {
        self.queue.first().filter(|(_, due, _)| *due <= now)?;
        Some((0..BATCH_SIZE).map_while(|_| self.queue.pop_first()).map(|(.., number)| number).collect())
    }

    /// Puts a subscription that was read back into the queue.
    pub(super) fn requeue(&mut self, number: u64) {
        let Some(subscription) = self.by_number.get_mut(&number) else { return };
        if !self.queue.contains(&subscription.place(number)) {
            let pause = poll_pause(subscription.started.elapsed(), subscription.max_pause);
            subscription.due = Instant::now() + if subscription.is_last_look { Duration::ZERO } else { pause };
            self.queue.insert(subscription.place(number));
        }
    }

    /// Sends the updates that a list has for a batch. Requeues the others, except those that the list lacks.
    pub(super) fn apply_list(&mut self, batch: &[u64], executions: Vec<Execution>) -> ListVerdict {
        let mut executions: HashMap<_, _> =
            executions.into_iter().map(|execution| (execution.metadata.name.clone(), execution)).collect();
        let mut missing = vec![];
        let mut shows_any = false;
        for &number in batch {
            let Some(subscription) = self.by_number.get_mut(&number) else { continue };
            let is_old = subscription.started.elapsed() >= LIST_LAG;
            match executions.remove(&subscription.execution) {
                Some(execution) => {
                    (subscription.missing, shows_any) = (0, true);
                    let began_to_run =
                        !subscription.is_running && execution.status.running_count.unwrap_or_default() > 0;
                    if execution.completed().is_some() || began_to_run || subscription.is_last_look {
                        self.deliver(number, Ok(execution));
                        continue;
                    }
                }
                None => {
                    subscription.missing += 1;
                    // A young execution gets a second list first, which comes soon.
                    if subscription.missing > 1 || subscription.is_last_look || is_old {
                        missing.push(Missing { number, is_old });
                        continue;
                    }
                }
            }
            self.requeue(number);
        }
        let shows_nothing = !shows_any && missing.iter().any(|missing| missing.is_old);
        ListVerdict { missing, shows_nothing }
    }

    /// Has the run that gets the next update report this.
    pub(super) fn tell(&mut self, notice: Progress) {
        self.notices.push(notice);
    }

    /// Ends a subscription with this response.
    pub(super) fn deliver(&mut self, number: u64, response: ApiResult<Execution>) {
        if let Some(subscription) = self.by_number.remove(&number) {
            // Fails if the run stopped waiting at this moment.
            _ = subscription.sender.send(Update { response, notice: self.notices.pop() });
        }
    }
}
