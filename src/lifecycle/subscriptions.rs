//! Which executions a poller reads, when each is due, and what a list means for them. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::machine::protocol::ExecutionWatch;
use crate::api::{ApiError, ApiResult, types::Execution};

/// Maximum number of jobs in one list. The API's longest label selector is not documented.
const BATCH_SIZE: usize = 100;
/// First pause before a read.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How many lists must be refused, over how much time, before executions are read one by one for good.
const MIN_REFUSALS: u32 = 3;
const REFUSED_FOR: Duration = Duration::from_secs(20);
/// How long lists may lack an execution after its start.
pub(super) const LIST_LAG: Duration = Duration::from_secs(10);

/// The pause before the next read of an execution of this age: a quarter of the age, between 0.25 s and `max_pause`.
pub fn poll_pause(age: Duration, max_pause: Duration) -> Duration {
    FIRST_PAUSE.max(age / 4).min(max_pause)
}

/// What a subscriber gets.
#[derive(Debug)]
pub(super) enum PollResult {
    /// The execution has ended, began to run, is not found, or could not be read.
    Update(Box<ApiResult<Execution>>),
    /// The API rejects lists of many jobs' executions, so the run must read its own. The first run that hears of it also
    /// gets the rejection.
    PollIndividually(Option<Box<ApiError>>),
}

/// A run that waits for an update of its execution.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) job: String,
    pub(super) execution: String,
    is_running: bool,
    /// Whether the next read is an update, whatever it shows.
    is_last_look: bool,
    started: Instant,
    max_pause: Duration,
    /// When it is to be read next.
    due: Instant,
    /// In how many consecutive lists it was missing.
    missing: u32,
    sender: oneshot::Sender<PollResult>,
}

impl Subscription {
    /// To an execution of this age at `now`. Its result goes to `sender`.
    pub(super) fn new(
        now: Instant,
        job: &str,
        watch: &ExecutionWatch,
        age: Duration,
        sender: oneshot::Sender<PollResult>,
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
}

/// The subscriptions of one poller, by number.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_number: HashMap<u64, Subscription>,
    /// Those that wait for their next read, by when it is due. The others are being read.
    queue: BTreeSet<(Instant, u64)>,
    last_number: u64,
    /// Whether the API rejects lists of many jobs.
    is_rejected: bool,
    /// How many consecutive lists failed.
    failed_lists: u32,
    /// How many lists were refused since the last one that succeeded, and since when.
    refusals: Option<(u32, Instant)>,
}

impl Subscriptions {
    /// Adds a subscription and returns its number.
    pub(super) fn add(&mut self, subscription: Subscription) -> u64 {
        self.last_number += 1;
        self.queue.insert((subscription.due, self.last_number));
        self.by_number.insert(self.last_number, subscription);
        self.last_number
    }

    /// Forgets a subscription whose run no longer waits.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(subscription) = self.by_number.remove(&number) {
            self.queue.remove(&(subscription.due, number));
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Subscription> {
        self.by_number.get(&number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Whether the API rejects lists of many jobs.
    pub(super) fn is_rejected(&self) -> bool {
        self.is_rejected
    }

    /// When the next read is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes a batch for one list, if any subscription is due at `now`. Fills the batch with those that are due next: they
    /// cost no extra read.
    pub(super) fn take_batch(&mut self, now: Instant) -> Option<Vec<u64>> {
        self.queue.first().filter(|(due, _)| *due <= now)?;
        Some((0..BATCH_SIZE).map_while(|_| self.queue.pop_first()).map(|(_, number)| number).collect())
    }

    /// Puts a subscription that was read back into the queue.
    pub(super) fn requeue(&mut self, number: u64) {
        let Some(subscription) = self.by_number.get_mut(&number) else { return };
        if !self.queue.contains(&(subscription.due, number)) {
            let age = subscription.started.elapsed();
            subscription.due = Instant::now() + poll_pause(age, subscription.max_pause);
            self.queue.insert((subscription.due, number));
        }
    }

    /// Records a failed list and returns how many consecutive lists have failed.
    pub(super) fn record_failed_list(&mut self) -> u32 {
        self.failed_lists = self.failed_lists.saturating_add(1);
        self.failed_lists
    }

    /// Records a list that the API refused at `now`. Returns whether lists are refused altogether: some seconds of refusals
    /// may come from something in between.
    pub(super) fn record_refused_list(&mut self, now: Instant) -> bool {
        let (count, since) = self.refusals.unwrap_or((0, now));
        self.refusals = Some((count + 1, since));
        count + 1 >= MIN_REFUSALS && now >= since + REFUSED_FOR
    }

    /// Sends the updates that a list has for a batch. Returns the subscriptions whose execution should be in the list but
    /// is not: those must be read one by one, because a list can lag.
    pub(super) fn apply_list(&mut self, batch: &[u64], executions: Vec<Execution>) -> Vec<(u64, String)> {
        (self.failed_lists, self.refusals) = (0, None);
        let mut executions: HashMap<_, _> =
            executions.into_iter().map(|execution| (execution.metadata.name.clone(), execution)).collect();
        let mut missing = vec![];
        for &number in batch {
            let Some(subscription) = self.by_number.get_mut(&number) else { continue };
            match executions.remove(&subscription.execution) {
                Some(execution) => {
                    subscription.missing = 0;
                    let began_to_run =
                        !subscription.is_running && execution.status.running_count.unwrap_or_default() > 0;
                    if execution.completed().is_some() || began_to_run || subscription.is_last_look {
                        self.deliver(number, PollResult::Update(Box::new(Ok(execution))));
                        continue;
                    }
                }
                None => {
                    subscription.missing += 1;
                    // A young execution gets a second list first, which comes soon.
                    if subscription.missing > 1
                        || subscription.is_last_look
                        || subscription.started.elapsed() >= LIST_LAG
                    {
                        missing.push((number, subscription.execution.clone()));
                        continue;
                    }
                }
            }
            self.requeue(number);
        }
        missing
    }

    /// Ends a subscription with its result.
    pub(super) fn deliver(&mut self, number: u64, result: PollResult) {
        if let Some(subscription) = self.by_number.remove(&number) {
            // Fails if the run stopped waiting at this moment.
            _ = subscription.sender.send(result);
        }
    }

    /// Ends all subscriptions, because the API rejects lists of many jobs. The first one gets the rejection.
    pub(super) fn reject(&mut self, error: Box<ApiError>) {
        let mut rejection = (!self.is_rejected).then_some(error);
        self.is_rejected = true;
        self.queue.clear();
        for (_, subscription) in self.by_number.drain() {
            _ = subscription.sender.send(PollResult::PollIndividually(rejection.take()));
        }
    }
}
