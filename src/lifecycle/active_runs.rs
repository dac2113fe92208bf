//! The runs in progress in this process. A kill reaches its run through them, without a detour over the API.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

/// The runs of a process, by the address of their job. Clones share the runs.
#[derive(Clone, Debug, Default)]
pub struct ActiveRuns {
    runs: Arc<Mutex<HashMap<String, Vec<Arc<SharedRun>>>>>,
}

/// What a run and its kills share.
#[derive(Debug)]
struct SharedRun {
    owner_label: Option<(String, String)>,
    kills: watch::Sender<KillStatus>,
    creation: watch::Sender<Creation>,
}

/// Whether a run has created its job.
#[derive(Clone, Copy, Debug)]
enum Creation {
    Pending,
    CreatedAt(Instant),
    /// The run has ended.
    Ended,
}

/// The kills of a run.
#[derive(Clone, Copy, Debug, Default)]
struct KillStatus {
    in_progress: u32,
    /// Whether a kill has deleted the job.
    has_deleted: bool,
}

impl ActiveRuns {
    /// Registers a run until the returned value is dropped.
    pub(super) fn register(&self, address: String, owner_label: Option<(String, String)>) -> ActiveRun {
        let shared = Arc::new(SharedRun {
            owner_label,
            kills: watch::Sender::new(KillStatus::default()),
            creation: watch::Sender::new(Creation::Pending),
        });
        self.runs().entry(address.clone()).or_default().push(shared.clone());
        let kills = shared.kills.subscribe();
        ActiveRun { active_runs: self.clone(), address, shared, kills }
    }

    /// Whether a run of this job is in progress.
    pub(super) fn has(&self, address: &str) -> bool {
        self.runs().contains_key(address)
    }

    /// Tells the runs of this job that a kill is in progress, until the returned value is dropped. Skips runs with another
    /// owner label.
    pub(super) fn kill(&self, address: &str, owner_label: Option<&(String, String)>) -> PendingKill {
        let is_target = |run: &&Arc<SharedRun>| match (owner_label, &run.owner_label) {
            (Some(wanted), Some(label)) => wanted == label,
            _ => true,
        };
        let runs = self.runs();
        let targets: Vec<_> = runs.get(address).into_iter().flatten().filter(is_target).cloned().collect();
        for target in &targets {
            target.kills.send_modify(|kills| kills.in_progress += 1);
        }
        PendingKill { targets }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<SharedRun>>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered run.
#[derive(Debug)]
pub(super) struct ActiveRun {
    active_runs: ActiveRuns,
    address: String,
    shared: Arc<SharedRun>,
    kills: watch::Receiver<KillStatus>,
}

impl ActiveRun {
    /// Tells kills that the job exists.
    pub(super) fn job_created(&self) {
        self.shared.creation.send_replace(Creation::CreatedAt(Instant::now()));
    }

    /// Whether a kill of the job is in progress or has deleted the job.
    pub(super) fn is_killed(&self) -> bool {
        let kills = *self.kills.borrow();
        kills.has_deleted || kills.in_progress > 0
    }

    /// A view of the kills of this run.
    pub(super) fn kills(&self) -> KillWatch {
        KillWatch(self.kills.clone())
    }

    /// Waits until a kill is in progress.
    pub(super) async fn kill_begun(&mut self) {
        // The sender lives as long as `self`, so there is no error.
        _ = self.kills.wait_for(|kills| kills.in_progress > 0).await;
    }

    /// Waits until a kill has deleted the job.
    pub(super) async fn killed(&mut self) {
        // The sender lives as long as `self`, so there is no error.
        _ = self.kills.wait_for(|kills| kills.has_deleted).await;
    }
}

/// A view of the kills of a run.
#[derive(Debug)]
pub(super) struct KillWatch(watch::Receiver<KillStatus>);

impl KillWatch {
    /// Waits until no kill is in progress.
    pub(super) fn none_in_progress(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut kills = self.0.clone();
        // If the sender is gone, there is no kill either.
        async move { _ = kills.wait_for(|kills| kills.in_progress == 0).await }
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        // A kill may be waiting for the creation of the job.
        self.shared.creation.send_replace(Creation::Ended);
        let mut runs = self.active_runs.runs();
        if let Some(same_job) = runs.get_mut(&self.address) {
            same_job.retain(|run| !Arc::ptr_eq(run, &self.shared));
            if same_job.is_empty() {
                runs.remove(&self.address);
            }
        }
    }
}

/// A kill in progress.
#[derive(Debug)]
pub(super) struct PendingKill {
    targets: Vec<Arc<SharedRun>>,
}

impl PendingKill {
    /// Waits until every run has created its job or has ended. Returns when the youngest of the jobs was created.
    pub(super) async fn jobs_created(&self) -> Option<Instant> {
        let mut latest = None;
        for target in &self.targets {
            let mut creation = target.creation.subscribe();
            // The sender lives as long as the target, so there is no error.
            let creation = creation.wait_for(|creation| !matches!(creation, Creation::Pending)).await;
            if let Ok(Creation::CreatedAt(created_at)) = creation.as_deref() {
                latest = latest.max(Some(*created_at));
            }
        }
        latest
    }

    /// Tells the runs that their job was deleted.
    pub(super) fn done(self) {
        for target in &self.targets {
            target.kills.send_modify(|kills| kills.has_deleted = true);
        }
    }
}

impl Drop for PendingKill {
    fn drop(&mut self) {
        for target in &self.targets {
            target.kills.send_modify(|kills| kills.in_progress = kills.in_progress.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn label(value: &str) -> Option<(String, String)> {
        Some(("flow-run".to_owned(), value.to_owned()))
    }

    async fn is_soon(future: impl Future<Output = ()>) -> bool {
        timeout(Duration::from_millis(20), future).await.is_ok()
    }

    #[tokio::test]
    async fn a_kill_delays_the_start_and_ends_only_its_target() {
        let active_runs = ActiveRuns::default();
        let mut mine = active_runs.register("job".to_owned(), label("mine"));
        let mut other = active_runs.register("job".to_owned(), label("other"));
        let mut elsewhere = active_runs.register("elsewhere".to_owned(), label("mine"));

        let kill = active_runs.kill("job", label("mine").as_ref());
        assert!(!is_soon(mine.kills().none_in_progress()).await && is_soon(other.kills().none_in_progress()).await);
        assert!(!is_soon(async { _ = kill.jobs_created().await }).await);
        mine.job_created();
        assert!(kill.jobs_created().await.is_some() && mine.is_killed());
        kill.done();
        assert!(is_soon(mine.kills().none_in_progress()).await && is_soon(mine.killed()).await);
        assert!(!is_soon(other.killed()).await && !is_soon(elsewhere.killed()).await);
    }

    #[tokio::test]
    async fn after_a_failed_kill_the_run_goes_on() {
        let active_runs = ActiveRuns::default();
        let mut run = active_runs.register("job".to_owned(), None);
        drop(active_runs.kill("job", label("mine").as_ref()));
        assert!(is_soon(run.kills().none_in_progress()).await && !is_soon(run.killed()).await && !run.is_killed());
    }

    #[tokio::test]
    async fn a_run_that_has_ended_delays_no_kill_and_leaves_no_entry() {
        let active_runs = ActiveRuns::default();
        let run = active_runs.register("job".to_owned(), None);
        let kill = active_runs.kill("job", None);
        drop(run);
        assert_eq!(kill.jobs_created().await, None);
        assert!(active_runs.runs().is_empty());
    }
}
