//! The executions that one list reads, and what follows from its response.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::shared::{GATHER, Poller, SingleRead};
use crate::{
    api::{ApiError, ErrorKind},
    lifecycle::{progress::Progress, subscriptions::ListVerdict},
};

/// Subscriptions that are being read, or a place for them. Dropping the batch requeues those that got no update, even if the
/// read was cancelled.
pub(super) struct Batch {
    poller: Arc<Poller>,
    numbers: Vec<u64>,
    /// Whether it has taken its subscriptions.
    is_formed: bool,
}

impl Batch {
    /// A batch that waits for its quota. The caller counts it as [`PollerState::unformed`](super::shared::PollerState::unformed).
    pub(super) fn new(poller: Arc<Poller>) -> Self {
        Self { poller, numbers: vec![], is_formed: false }
    }

    /// Reads what is due with one list, or one by one if lists are of no use.
    pub(super) async fn read(mut self) {
        let poller = self.poller.clone();
        let may_list = poller.state().lists.may_list(Instant::now());
        let permit = if may_list { Some(poller.client.admit_list().await) } else { None };
        let (jobs, tick) = self.form();
        if jobs.is_empty() {
            return;
        }
        let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
        let list = match permit {
            None => return self.read_one_by_one(None).await,
            Some(Ok(permit)) => match poller.client.list_executions_of_jobs(&jobs, permit).await {
                // They are queued again, and another list waits for the quota.
                Err(error) if error.kind == ErrorKind::RateLimited => return,
                list => list,
            },
            Some(Err(error)) => Err(error),
        };
        match list {
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

    /// Takes the subscriptions that are due. Returns their jobs, and their longest poll interval.
    fn form(&mut self) -> (BTreeSet<String>, Duration) {
        let mut state = self.poller.state();
        self.is_formed = true;
        state.unformed -= 1;
        self.numbers = state.subscriptions.take_batch(Instant::now() + GATHER).unwrap_or_default();
        let subscriptions = self.numbers.iter().filter_map(|number| state.subscriptions.get(*number));
        let (mut jobs, mut tick) = (BTreeSet::new(), Duration::ZERO);
        for subscription in subscriptions {
            jobs.insert(subscription.job.clone());
            tick = tick.max(subscription.max_pause);
        }
        drop(state);
        self.poller.changed.notify_waiters();
        (jobs, tick)
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
            reads.spawn(async move { matches!(read.await, SingleRead::Found) && is_old });
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
        state.unformed -= usize::from(!self.is_formed);
        self.numbers.iter().for_each(|&number| state.subscriptions.requeue(number));
        drop(state);
        self.poller.changed.notify_waiters();
    }
}
