//! Polls many executions with one call: a list reads up to a hundred of them and wakes the runs that have an update.
//!
//! # Guarantees
//!
//! - An execution that a list shows as ended has ended. An execution that a list lacks is read on its own, because
//!   a list can lag.
//! - A list that fails is no update of any execution. Only the runs of its batch hear of it.
//! - If the API rejects lists of many jobs altogether, each run reads its own execution.
//! - No new read begins for a run that no longer waits.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    machine::protocol::ExecutionWatch,
    subscriptions::{LIST_LAG, PollResult, Subscription, Subscriptions},
};
use crate::api::{ApiResult, CloudRunClient, ErrorKind, RetryPolicy, Transport, types::Execution};

/// Reads that are due within this time join the current list.
const GATHER: Duration = Duration::from_millis(100);
/// After how many consecutive failed lists executions are read one by one.
const MAX_FAILED_LISTS: u32 = 3;

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
}

#[derive(Debug, Default)]
struct PollerState {
    subscriptions: Subscriptions,
    /// Whether the polling task runs. It ends when it finds no subscription.
    is_polling: bool,
}

impl Poller {
    fn new(transport: &Transport) -> Self {
        // The runs repeat a read that fails, at their own pace.
        let retry = RetryPolicy { max_attempts: 1, ..transport.retry };
        let transport = Transport { retry, on_notice: Arc::new(|_notice| {}), ..transport.clone() };
        Self { client: CloudRunClient::new(transport), state: Mutex::default(), changed: Notify::new() }
    }

    /// Waits for an update of this job's execution, which started `age` ago. Dropping the future ends the subscription.
    pub(super) async fn next_update(self: &Arc<Self>, job: &str, watch: &ExecutionWatch, age: Duration) -> PollResult {
        let (sender, result) = oneshot::channel();
        let _guard = {
            let mut state = self.state();
            if state.subscriptions.is_rejected() {
                return PollResult::PollIndividually(None);
            }
            let number = state.subscriptions.add(Subscription::new(Instant::now(), job, watch, age, sender));
            if !std::mem::replace(&mut state.is_polling, true) {
                tokio::spawn(self.clone().poll_until_idle());
            }
            SubscriptionGuard { poller: self, number }
        };
        self.changed.notify_waiters();
        // The sender is dropped only with its subscription, which ends with the guard.
        result.await.unwrap_or(PollResult::PollIndividually(None))
    }

    /// Lists what is due, until there is no subscription left.
    async fn poll_until_idle(self: Arc<Self>) {
        let mut lists = JoinSet::new();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registers for changes before the state is read, so that none is missed.
            changed.as_mut().enable();
            let next_due = {
                let mut state = self.state();
                let now = Instant::now();
                while let Some(numbers) = state.subscriptions.take_batch(now + GATHER) {
                    lists.spawn(Batch { poller: self.clone(), numbers }.list());
                }
                if state.subscriptions.is_empty() {
                    state.is_polling = false;
                    return;
                }
                // If all are being read, a change wakes this task earlier.
                state.subscriptions.next_due().unwrap_or(now + LIST_LAG)
            };
            tokio::select! {
                () = sleep_until(next_due) => {}
                () = changed => {}
                Some(_finished) = lists.join_next() => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, PollerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscriptions that are being read. Dropping the batch requeues those that got no update, even if the read was
/// cancelled.
struct Batch {
    poller: Arc<Poller>,
    numbers: Vec<u64>,
}

impl Batch {
    fn of_one(poller: &Arc<Poller>, number: u64) -> Self {
        Self { poller: poller.clone(), numbers: vec![number] }
    }

    /// Reads them with one list.
    async fn list(mut self) {
        let poller = self.poller.clone();
        let jobs: BTreeSet<String> = {
            let state = poller.state();
            self.numbers.iter().filter_map(|number| state.subscriptions.get(*number)).map(|it| it.job.clone()).collect()
        };
        if jobs.is_empty() {
            return;
        }
        let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
        match poller.client.list_executions_of_jobs(&jobs).await {
            Ok(executions) => {
                let missing = poller.state().subscriptions.apply_list(&self.numbers, executions);
                self.numbers.retain(|number| missing.iter().all(|(missing, _)| missing != number));
                for (number, execution) in missing {
                    tokio::spawn(Self::of_one(&poller, number).read(execution));
                }
            }
            // The API does not support such a list, or the account may not use it.
            Err(error)
                if matches!(
                    error.kind,
                    ErrorKind::InvalidRequest | ErrorKind::PermissionDenied | ErrorKind::NotFound
                ) =>
            {
                let is_refused_for_good = {
                    let mut state = poller.state();
                    let is_refused_for_good = state.subscriptions.record_refused_list(Instant::now());
                    if is_refused_for_good {
                        state.subscriptions.reject(error);
                    }
                    is_refused_for_good
                };
                if !is_refused_for_good {
                    self.read_one_by_one().await;
                }
            }
            Err(error) => {
                let failed_lists = poller.state().subscriptions.record_failed_list();
                if error.may_pass() && failed_lists < MAX_FAILED_LISTS {
                    self.deliver(|| Err(error.clone()));
                } else {
                    self.read_one_by_one().await;
                }
            }
        }
    }

    /// Reads each execution on its own. If the first read fails too, the list is not the problem, and all get that failure.
    async fn read_one_by_one(mut self) {
        let poller = self.poller.clone();
        let mut executions: Vec<_> = {
            let state = poller.state();
            let execution = |number: &u64| Some((*number, state.subscriptions.get(*number)?.execution.clone()));
            self.numbers.iter().filter_map(execution).collect()
        };
        let Some((first, execution)) = executions.pop() else { return };
        match poller.client.get_execution(&execution).await {
            Err(error) if error.kind != ErrorKind::NotFound => self.deliver(|| Err(error.clone())),
            response => {
                self.numbers.clear();
                Self::of_one(&poller, first).deliver(|| response.clone());
                for (number, execution) in executions {
                    tokio::spawn(Self::of_one(&poller, number).read(execution));
                }
            }
        }
    }

    /// Reads the only one, whose execution this is.
    async fn read(self, execution: String) {
        let number = self.numbers.first().copied();
        if number.is_none_or(|number| self.poller.state().subscriptions.get(number).is_none()) {
            return;
        }
        let response = self.poller.client.get_execution(&execution).await;
        self.deliver(|| response.clone());
    }

    fn deliver(&self, response: impl Fn() -> ApiResult<Execution>) {
        let mut state = self.poller.state();
        for &number in &self.numbers {
            state.subscriptions.deliver(number, PollResult::Update(Box::new(response())));
        }
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
