//! What the polling task, its batches and the waiting runs share, and reads of single executions.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

use crate::{
    api::{ApiError, CloudRunClient, ErrorKind, Notice, Priority, Quota, RetryPolicy, Transport},
    lifecycle::{list_health::ListHealth, progress::Progress, subscriptions::Subscriptions},
};

/// Reads that are due within this time join the current list.
pub(super) const GATHER: Duration = Duration::from_millis(100);
/// How long the runs hear no more of waits for the quota.
const QUIET_PERIOD: Duration = Duration::from_secs(60);
/// How many executions are read on their own at a time. More would hold up other reads in the queue of their quota.
const SINGLE_READS: usize = 20;

/// Polls the executions of one project, region and identity.
pub(in crate::lifecycle) struct Poller {
    pub(super) client: CloudRunClient,
    pub(super) state: Mutex<PollerState>,
    /// Wakes the polling task when a subscription was added or requeued.
    pub(super) changed: Notify,
    /// Admits reads of single executions.
    single_reads: Semaphore,
    /// Admits the batch that is read one by one.
    pub(super) whole_batches: Semaphore,
    /// For which quota reads began to wait, and when. Changes once a minute at most: it wakes every run.
    pub(super) throttled: watch::Sender<Option<(Quota, Instant)>>,
}

#[derive(Debug, Default)]
pub(super) struct PollerState {
    pub(super) subscriptions: Subscriptions,
    pub(super) lists: ListHealth,
    /// How many batches wait for the quota, and take their subscriptions then.
    pub(super) unformed: usize,
    /// Whether the polling task runs. It ends when it finds no subscription.
    pub(super) is_polling: bool,
}

impl PollerState {
    /// How many batches are to be begun if the due subscriptions need so many. `is_idle`: no batch is being read.
    pub(super) fn new_batches(&self, needed: usize, is_idle: bool) -> usize {
        let missing = needed.saturating_sub(self.unformed);
        if !self.lists.is_troubled() {
            missing
        } else if is_idle || (self.subscriptions.has_last_look() && self.unformed == 0) {
            missing.min(1)
        } else {
            0
        }
    }
}

impl Poller {
    pub(super) fn new(transport: &Transport) -> Self {
        // The runs repeat a read that fails, at their own pace.
        let retry = RetryPolicy { max_attempts: 1, ..transport.retry };
        let throttled = watch::Sender::new(None);
        let sender = throttled.clone();
        let on_notice = Arc::new(move |notice| {
            if let Notice::RateLimited(quota) = notice {
                sender.send_if_modified(|last| {
                    let is_news = last.is_none_or(|(_, at): (Quota, Instant)| at.elapsed() >= QUIET_PERIOD);
                    if is_news {
                        *last = Some((quota, Instant::now()));
                    }
                    is_news
                });
            }
        });
        let transport = Transport { retry, on_notice, ..transport.clone() };
        Self {
            throttled,
            client: CloudRunClient::new(transport).with_read_priority(Priority::Low),
            state: Mutex::default(),
            changed: Notify::new(),
            single_reads: Semaphore::new(SINGLE_READS),
            whole_batches: Semaphore::new(1),
        }
    }

    /// Reads one execution for a subscription, and ends the subscription with the response. `contradicts_list`: a list that
    /// should show the execution lacks it.
    pub(super) async fn read_single(
        self: Arc<Self>,
        number: u64,
        execution: String,
        contradicts_list: bool,
    ) -> SingleRead {
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
    pub(super) fn list_was_useless(&self, list_error: Option<Box<ApiError>>) {
        let mut state = self.state();
        if let Some(error) = list_error
            && state.lists.was_useless(Instant::now())
        {
            let (error, contradictions) = (Some(*error), state.lists.contradictions());
            state.subscriptions.tell(Progress::PollingIndividually { error, contradictions });
        }
    }

    /// Ends these subscriptions with a failure.
    pub(super) fn fail(&self, numbers: impl Iterator<Item = u64>, error: &ApiError) {
        let mut state = self.state();
        numbers.for_each(|number| state.subscriptions.deliver(number, Err(Box::new(error.clone()))));
    }

    /// Which of these subscriptions may be read on their own, and their executions. Without `is_admitted`, only last looks.
    pub(super) fn may_be_read(&self, numbers: &[u64], is_admitted: bool) -> Vec<(u64, String)> {
        let state = self.state();
        let subscriptions = numbers.iter().filter_map(|number| Some((*number, state.subscriptions.get(*number)?)));
        let admitted = subscriptions.filter(|(_, subscription)| is_admitted || subscription.is_last_look);
        admitted.map(|(number, subscription)| (number, subscription.execution.clone())).collect()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PollerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read of one execution showed.
pub(super) enum SingleRead {
    Found,
    NotFound,
    Failed(Box<ApiError>),
    /// Its run no longer waits.
    Skipped,
}
