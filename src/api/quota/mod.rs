//! Keeps the calls of a process within the API's quotas per minute.
//!
//! Google counts reads, writes and job runs separately, by project and region
//! (<https://cloud.google.com/run/quotas>). A [`QuotaQueue`](queue::QuotaQueue) admits the calls of one quota;
//! [`QuotaQueues`] holds the queues of one project and region, [`QuotaRegistry`] those of the process.
//!
//! # Limits
//! Several workers of one project in one region learn of each other only by the refusals that they cause. Their shares become
//! alike within a few periods. With less than about 20 calls per worker and period, more than a tenth of the calls is refused.

mod estimator;
mod queue;
mod queues;

pub(super) use queue::Permit;
pub use queues::{QuotaQueues, QuotaRegistry};
