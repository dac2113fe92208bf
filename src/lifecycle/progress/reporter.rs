//! Hands the progress of a run to whoever listens, through the run's throttle.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::{
    throttle::Throttle,
    update::{Progress, ProgressSink},
};
use crate::api::Notice;

/// Hands progress to a sink, without failures that repeat too often. Clones share the throttle.
#[derive(Clone)]
pub(in crate::lifecycle) struct Reporter {
    began: Instant,
    throttle: Arc<Mutex<Throttle>>,
    sink: ProgressSink,
}

impl Reporter {
    /// For a run that begins now.
    pub(in crate::lifecycle) fn new(sink: ProgressSink) -> Self {
        Self { began: Instant::now(), throttle: Arc::default(), sink }
    }

    pub(in crate::lifecycle) fn report(&self, progress: Progress) {
        let passed = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(self.began.elapsed(), progress);
        passed.into_iter().for_each(|progress| (self.sink)(progress));
    }

    /// Reports the last line, if a job was created.
    pub(in crate::lifecycle) fn report_summary(&self) {
        let summary = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).summary(self.began.elapsed());
        summary.into_iter().for_each(|summary| (self.sink)(summary));
    }

    /// Reports what the calls to this project and region notify of.
    pub(in crate::lifecycle) fn notices(&self, project: &str, region: &str) -> Arc<dyn Fn(Notice) + Send + Sync> {
        let (reporter, project, region) = (self.clone(), project.to_owned(), region.to_owned());
        Arc::new(move |notice| {
            reporter.report(match notice {
                Notice::Retry(notice) => Progress::Retrying { notice, unreported: 0 },
                Notice::RateLimited(quota) => {
                    Progress::RateLimited { quota, project: project.clone(), region: region.clone() }
                }
            });
        })
    }
}
