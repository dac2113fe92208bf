//! Polls many executions with one call: a list reads up to a hundred of them and wakes the runs that have an update.
//!
//! # Guarantees
//!
//! - Which executions a list reads is decided when the quota of reads admits it. So while reads are scarce, lists are full,
//!   and the executions that have waited longest come first.
//! - An execution that a list shows as ended has ended. An execution that a list lacks is read on its own, because
//!   a list can lag.
//! - A list that fails is no update of any execution. Only the runs of its batch hear of it.
//! - When lists are of no use for some time ([`ListHealth`](super::list_health::ListHealth)), each execution is read on its own: one batch after the other,
//!   so that a thousand runs do not use up the quota of reads.
//! - No new read begins for a run that no longer waits.

mod batch;
mod shared;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::batch::Batch;
use self::shared::GATHER;
pub(super) use self::shared::Poller;
use super::{
    machine::protocol::ExecutionWatch,
    subscriptions::{LIST_LAG, Subscription, Update},
};
use crate::api::{Quota, Transport};

/// How often it is counted how many lists are needed, while some wait for their quota.
const RECOUNT: Duration = Duration::from_secs(1);
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

impl Poller {
    /// Waits for an update of this job's execution, which started `age` ago. Dropping the future ends the subscription.
    ///
    /// `on_wait` is called when reads begin to wait for their quota meanwhile, so that the update may come late.
    pub(super) async fn next_update(
        self: &Arc<Self>,
        job: &str,
        watch: &ExecutionWatch,
        age: Duration,
        on_wait: impl Fn(Quota),
    ) -> Update {
        let mut throttled = self.throttled.subscribe();
        let (sender, mut result) = oneshot::channel();
        let _guard = {
            let mut state = self.state();
            let number = state.subscriptions.add(Subscription::new(Instant::now(), job, watch, age, sender));
            if !std::mem::replace(&mut state.is_polling, true) {
                tokio::spawn(self.clone().poll_until_idle());
            }
            SubscriptionGuard { poller: self, number }
        };
        self.changed.notify_waiters();
        loop {
            tokio::select! {
                result = &mut result => return match result {
                    Ok(update) => update,
                    // The sender is dropped only with its subscription, which ends with the guard.
                    Err(_) => Update { response: self.client.get_execution(&watch.execution).await, notice: None },
                },
                Ok(()) = throttled.changed() => {
                    throttled.borrow_and_update().into_iter().for_each(|(quota, _)| on_wait(quota));
                }
            }
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
            // Spawned without the lock: a runtime that shuts down drops a new task at once, and a batch that is dropped locks.
            let (new_batches, wake_at) = {
                let mut state = self.state();
                if state.subscriptions.is_empty() {
                    state.is_polling = false;
                    return;
                }
                let now = Instant::now();
                let needed = state.subscriptions.batches_due(now + GATHER);
                let new_batches = state.new_batches(needed, batches.is_empty());
                state.unformed += new_batches;
                let next_due = state.subscriptions.next_due().unwrap_or(now + LIST_LAG);
                (new_batches, if needed > 0 { now + RECOUNT } else { next_due })
            };
            for _ in 0..new_batches {
                batches.spawn(Batch::new(self.clone()).read());
            }
            tokio::select! {
                () = sleep_until(wake_at) => {}
                () = changed => {}
                Some(_finished) = batches.join_next() => {}
            }
        }
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
