//! The quotas of a project in a region, and of all projects and regions that a process uses.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::queue::QuotaQueue;
use crate::api::method::Quota;

/// The queues of one project in one region, one for each quota.
#[derive(Debug)]
pub struct QuotaQueues {
    reads: QuotaQueue,
    writes: QuotaQueue,
    runs: QuotaQueue,
}

impl QuotaQueues {
    /// Empty queues for quotas that count calls per `period`.
    pub fn new(period: Duration) -> Self {
        let queue = || QuotaQueue::new(period);
        Self { reads: queue(), writes: queue(), runs: queue() }
    }

    pub(in crate::api) fn queue(&self, quota: Quota) -> &QuotaQueue {
        match quota {
            Quota::Reads => &self.reads,
            Quota::Writes => &self.writes,
            Quota::Runs => &self.runs,
        }
    }
}

/// The queues of a process: one [`QuotaQueues`] for each project and region.
#[derive(Debug, Default)]
pub struct QuotaRegistry {
    queues: Mutex<HashMap<(String, Duration), Arc<QuotaQueues>>>,
}

impl QuotaRegistry {
    /// The queues of a project and region, the same ones for every caller.
    ///
    /// `scope` identifies project and region ([`Transport::scope`](crate::api::Transport::scope)); `period` is the time in
    /// which the quotas count calls: a minute at Google.
    pub fn queues(&self, scope: &str, period: Duration) -> Arc<QuotaQueues> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry((scope.to_owned(), period)).or_insert_with(|| Arc::new(QuotaQueues::new(period))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_callers_of_a_project_and_region_share_its_queues() {
        let (registry, minute) = (QuotaRegistry::default(), Duration::from_secs(60));
        let first = registry.queues("a", minute);
        assert!(Arc::ptr_eq(&first, &registry.queues("a", minute)));
        assert!(!Arc::ptr_eq(&first, &registry.queues("b", minute)));
    }
}
