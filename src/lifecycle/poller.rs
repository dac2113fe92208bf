//! Polls many executions with one call: a list reads up to a hundred of them and wakes the runs that have an update.
//!
//! # Guarantees
//!
//! - An execution that a list shows as ended has ended. An execution that a list lacks is read on its own, because
//!   a list can lag.
//! - A list that fails is no update of any execution. Only the runs of its batch hear of it.
//! - When lists are of no use for some time ([`ListHealth`]), each execution is read on its own: one batch after the other,
//!   so that a thousand runs do not use up the quota of reads.
//! - No new read begins for a run that no longer waits.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    list_health::ListHealth,
    machine::protocol::ExecutionWatch,
    progress::Progress,
    subscriptions::{LIST_LAG, ListVerdict, Subscription, Subscriptions, Update},
};
use crate::api::{ApiError, CloudRunClient, ErrorKind, RetryPolicy, Transport};

/// Reads that are due within this time join the current list.
const GATHER: Duration = Duration::from_millis(100);
/// How many executions are read on their own at a time. More would hold up other reads in the queue of their quota.
const SINGLE_READS: usize = 20;

/// The pollers of a process: one for each project, region and identity. Clones share the pollers.
#[derive(Clone, Debug, Default)]
pub struct Pollers {
    by_scope: Arc<Mutex<HashMap<PollerScope, Weak<Poller>>>>,
}

/// Address of project and region, and the id of the token source.
type PollerScope = (String, usize);

impl Pollers {
    /// The poller that reads through this transport. All runs of the same project, region and identity share it.
    pub(super) fn for_transport(&self, transport: &Transport) -> Arc<Poller> {
        let mut by_scope = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = (transport.scope(), transport.tokens.id());
        if let Some(poller) = by_scope.get(&scope).and_then(Weak::upgrade) {
            return poller;
        }
        by_scope.retain(|_, poller| poller.strong_count() > 0);
        let poller = Arc::new(Poller::new(transport));
        by_scope.insert(scope, Arc::downgrade(&poller));
        poller
    }
}

/// Polls the executions of one project, region and identity.
pub(super) struct Poller {
    client: CloudRunClient,
    state: Mutex<PollerState>,
    /// Wakes the polling task when a subscription was added or requeued.
    changed: Notify,
    /// Admits reads of single executions.
    single_reads: Semaphore,
    /// Admits the batch that is read one by one.
    whole_batches: Semaphore,
}

#[derive(Debug, Default)]
struct PollerState {
    subscriptions: Subscriptions,
    lists: ListHealth,
    /// Whether the polling task runs. It ends when it finds no subscription.
    is_polling: bool,
}

impl Poller {
    fn new(transport: &Transport) -> Self {
        // The runs repeat a read that fails, at their own pace.
        let retry = RetryPolicy { max_attempts: 1, ..transport.retry };
        let transport = Transport { retry, on_notice: Arc::new(|_notice| {}), ..transport.clone() };
        Self {
            client: CloudRunClient::new(transport),
            state: Mutex::default(),
            changed: Notify::new(),
            single_reads: Semaphore::new(SINGLE_READS),
            whole_batches: Semaphore::new(1),
        }
    }

    /// Waits for an update of this job's execution, which started `age` ago. Dropping the future ends the subscription.
    pub(super) async fn next_update(self: &Arc<Self>, job: &str, watch: &ExecutionWatch, age: Duration) -> Update {
        let (sender, result) = oneshot::channel();
        let _guard = {
            let mut state = self.state();
            let number = state.subscriptions.add(Subscription::new(Instant::now(), job, watch, age, sender));
            if !std::mem::replace(&mut state.is_polling, true) {
                tokio::spawn(self.clone().poll_until_idle());
            }
            SubscriptionGuard { poller: self, number }
        };
        self.changed.notify_waiters();
        match result.await {
            Ok(update) => update,
            // The sender is dropped only with its subscription, which ends with the guard.
            Err(_) => Update { response: self.client.get_execution(&watch.execution).await, notice: None },
        }
    }

    /// Reads what is due, until there is no subscription left.
    async fn poll_until_idle(self: Arc<Self>) {
        let mut batches = JoinSet::new();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registers for changes before the state is read, so that none is missed.
            changed.as_mut().enable();
            while batches.try_join_next().is_some() {}
            let next_due = {
                let mut state = self.state();
                let now = Instant::now();
                let has_room = loop {
                    let is_busy = state.lists.is_troubled() && !batches.is_empty();
                    if is_busy && !state.subscriptions.has_last_look() {
                        break false;
                    }
                    let Some(numbers) = state.subscriptions.take_batch(now + GATHER) else { break true };
                    batches.spawn(Batch { poller: self.clone(), numbers }.read());
                };
                if state.subscriptions.is_empty() {
                    state.is_polling = false;
                    return;
                }
                // If all are being read, or must wait for others, a change wakes this task earlier.
                state.subscriptions.next_due().filter(|_| has_room).unwrap_or(now + LIST_LAG)
            };
            tokio::select! {
                () = sleep_until(next_due) => {}
                () = changed => {}
                Some(_finished) = batches.join_next() => {}
            }
        }
    }

    /// Reads one execution for a subscription, and ends the subscription with the response. `contradicts_list`: a list that
    /// should show the execution lacks it.
    async fn read_single(self: Arc<Self>, number: u64, execution: String, contradicts_list: bool) -> SingleRead {
        // Fails only when the semaphore is closed, which nobody does.
        let _admitted = self.single_reads.acquire().await;
        if self.state().subscriptions.get(number).is_none() {
            return SingleRead::Skipped;
        }
        let response = self.client.get_execution(&execution).await;
        let read = match &response {
            Ok(_) => SingleRead::Found,
            Err(error) if error.kind == ErrorKind::NotFound => SingleRead::NotFound,
            Err(error) => SingleRead::Failed(error.clone()),
        };
        let mut state = self.state();
        if matches!(read, SingleRead::Found) && contradicts_list && state.lists.contradicted() {
            state.subscriptions.tell(Progress::ListsContradict { execution });
        }
        state.subscriptions.deliver(number, response);
        read
    }

    /// Records that a read worked after a list that failed with this error.
    fn list_was_useless(&self, list_error: Option<Box<ApiError>>) {
        let mut state = self.state();
        if let Some(error) = list_error
            && state.lists.was_useless(Instant::now())
        {
            let (error, contradictions) = (Some(*error), state.lists.contradictions());
            state.subscriptions.tell(Progress::PollingIndividually { error, contradictions });
        }
    }

    /// Ends these subscriptions with a failure.
    fn fail(&self, numbers: impl Iterator<Item = u64>, error: &ApiError) {
        let mut state = self.state();
        numbers.for_each(|number| state.subscriptions.deliver(number, Err(Box::new(error.clone()))));
    }

    /// Which of these subscriptions may be read on their own, and their executions. Without `is_admitted`, only last looks.
    fn may_be_read(&self, numbers: &[u64], is_admitted: bool) -> Vec<(u64, String)> {
        let state = self.state();
        let subscriptions = numbers.iter().filter_map(|number| Some((*number, state.subscriptions.get(*number)?)));
        let admitted = subscriptions.filter(|(_, subscription)| is_admitted || subscription.is_last_look);
        admitted.map(|(number, subscription)| (number, subscription.execution.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, PollerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read of one execution showed.
enum SingleRead {
    Found,
    NotFound,
    Failed(Box<ApiError>),
    /// Its run no longer waits.
    Skipped,
}

/// Subscriptions that are being read. Dropping the batch requeues those that got no update, even if the read was
/// cancelled.
struct Batch {
    poller: Arc<Poller>,
    numbers: Vec<u64>,
}

impl Batch {
    /// Reads them with one list, or one by one if lists are of no use.
    async fn read(mut self) {
        let poller = self.poller.clone();
        let mut jobs = BTreeSet::new();
        let mut tick = Duration::ZERO;
        let may_list = {
            let state = poller.state();
            for subscription in self.numbers.iter().filter_map(|number| state.subscriptions.get(*number)) {
                jobs.insert(subscription.job.clone());
                tick = tick.max(subscription.max_pause);
            }
            state.lists.may_list(Instant::now())
        };
        if jobs.is_empty() {
            return;
        }
        if !may_list {
            return self.read_one_by_one(None).await;
        }
        let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
        match poller.client.list_executions_of_jobs(&jobs).await {
            Ok(executions) => {
                let verdict = poller.state().subscriptions.apply_list(&self.numbers, executions);
                // The others got an update, or are queued again.
                self.numbers = verdict.missing.iter().map(|missing| missing.number).collect();
                self.read_missing(verdict).await;
            }
            Err(error) => {
                let has_failed_for_long = poller.state().lists.failed(Instant::now(), tick);
                if error.may_pass() && !has_failed_for_long {
                    poller.fail(self.numbers.iter().copied(), &error);
                } else {
                    self.read_one_by_one(Some(error)).await;
                }
            }
        }
    }

    /// Reads the executions that a list lacks.
    async fn read_missing(self, verdict: ListVerdict) {
        let poller = self.poller.clone();
        if !verdict.shows_nothing {
            poller.state().lists.succeeded();
        }
        // A list that shows nothing may be as good as none, so the same limit holds.
        let slot = verdict.shows_nothing.then(|| poller.whole_batches.try_acquire());
        let is_admitted = slot.as_ref().is_none_or(Result::is_ok);
        let mut reads = JoinSet::new();
        for (number, execution) in poller.may_be_read(&self.numbers, is_admitted) {
            let is_old = verdict.missing.iter().any(|missing| missing.number == number && missing.is_old);
            let read = poller.clone().read_single(number, execution, is_old);
            reads.spawn(async move { is_old && matches!(read.await, SingleRead::Found) });
        }
        let mut is_contradicted = false;
        while let Some(contradicts) = reads.join_next().await {
            is_contradicted |= contradicts.unwrap_or_default();
        }
        if verdict.shows_nothing && is_admitted {
            let mut state = poller.state();
            if !is_contradicted {
                state.lists.succeeded();
            } else if state.lists.showed_nothing(Instant::now()) {
                let contradictions = state.lists.contradictions();
                state.subscriptions.tell(Progress::PollingIndividually { error: None, contradictions });
            }
        }
    }

    /// Reads each execution on its own, after a list that failed with `list_error` or without one. If the first two reads
    /// fail too, the list is not the problem, and all get that failure. While another batch is read in this way, only last
    /// looks are read.
    async fn read_one_by_one(self, list_error: Option<Box<ApiError>>) {
        let poller = self.poller.clone();
        let slot = poller.whole_batches.try_acquire();
        let mut executions = poller.may_be_read(&self.numbers, slot.is_ok()).into_iter();
        let mut failure = None;
        for (number, execution) in executions.by_ref().take(2) {
            match poller.clone().read_single(number, execution, false).await {
                SingleRead::Failed(error) => failure = Some(error),
                read => {
                    failure = None;
                    if matches!(read, SingleRead::Found) {
                        poller.list_was_useless(list_error);
                    }
                    break;
                }
            }
        }
        if let Some(error) = failure {
            return poller.fail(executions.map(|(number, _)| number), &error);
        }
        let reads = executions.map(|(number, execution)| poller.clone().read_single(number, execution, false));
        reads.collect::<JoinSet<_>>().join_all().await;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut state = self.poller.state();
        self.numbers.iter().for_each(|&number| state.subscriptions.requeue(number));
        drop(state);
        self.poller.changed.notify_waiters();
    }
}

/// Ends a subscription when its run no longer waits.
struct SubscriptionGuard<'a> {
    poller: &'a Poller,
    number: u64,
}

impl Drop for SubscriptionGuard<'_> {
    fn drop(&mut self) {
        self.poller.state().subscriptions.remove(self.number);
    }
}

#[cfg(test)]
mod tests;
