//! Which runs this process has in hand, so that a kill reaches its run without a detour over the API.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

/// The runs of a process, by the address of their job.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    runs: Arc<Mutex<HashMap<String, Vec<Arc<Entry>>>>>,
}

#[derive(Debug)]
struct Entry {
    owner_label: Option<(String, String)>,
    kills: watch::Sender<Kills>,
    created: watch::Sender<Created>,
}

/// How far a run is with the creation of its job.
#[derive(Clone, Copy, Debug)]
enum Created {
    NotYet,
    At(Instant),
    /// It has ended.
    Never,
}

/// What kills do to a run.
#[derive(Clone, Copy, Debug, Default)]
struct Kills {
    /// How many are under way.
    under_way: u32,
    /// Whether one has deleted the job.
    is_done: bool,
}

impl Registry {
    /// Notes a run, until what this returns is dropped.
    pub(super) fn register(&self, address: String, owner_label: Option<(String, String)>) -> Registration {
        let entry = Arc::new(Entry {
            owner_label,
            kills: watch::Sender::new(Kills::default()),
            created: watch::Sender::new(Created::NotYet),
        });
        self.runs().entry(address.clone()).or_default().push(entry.clone());
        let kills = entry.kills.subscribe();
        Registration { registry: self.clone(), address, entry, kills }
    }

    /// Tells the runs of this job that a kill is under way, until what this returns is dropped. Runs that carry another
    /// label than the kill's are not meant.
    pub(super) fn kill(&self, address: &str, owner_label: Option<&(String, String)>) -> Killing {
        let is_meant = |entry: &&Arc<Entry>| match (owner_label, &entry.owner_label) {
            (Some(wanted), Some(label)) => wanted == label,
            _ => true,
        };
        let runs = self.runs();
        let entries: Vec<_> = runs.get(address).into_iter().flatten().filter(is_meant).cloned().collect();
        for entry in &entries {
            entry.kills.send_modify(|kills| kills.under_way += 1);
        }
        Killing { entries }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Entry>>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run's place in the registry.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    address: String,
    entry: Arc<Entry>,
    kills: watch::Receiver<Kills>,
}

impl Registration {
    /// Tells that there is a job, so that a kill can find it.
    pub(super) fn job_is_created(&self) {
        self.entry.created.send_replace(Created::At(Instant::now()));
    }

    /// Whether a kill of the job is under way, or was done.
    pub(super) fn is_killed(&self) -> bool {
        let kills = *self.kills.borrow();
        kills.is_done || kills.under_way > 0
    }

    /// What tells whether a kill is under way.
    pub(super) fn kills(&self) -> KillWatch {
        KillWatch(self.kills.clone())
    }

    /// Waits until a kill has deleted the job.
    pub(super) async fn killed(&mut self) {
        // Its sender lives as long as this.
        _ = self.kills.wait_for(|kills| kills.is_done).await;
    }
}

/// Tells whether a kill is under way.
#[derive(Debug)]
pub(super) struct KillWatch(watch::Receiver<Kills>);

impl KillWatch {
    /// Waits while one is.
    pub(super) fn none_under_way(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut kills = self.0.clone();
        // No sender any more, no kill.
        async move { _ = kills.wait_for(|kills| kills.under_way == 0).await }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A kill that waits for the job's creation need not wait any more.
        self.entry.created.send_replace(Created::Never);
        let mut runs = self.registry.runs();
        if let Some(entries) = runs.get_mut(&self.address) {
            entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
            if entries.is_empty() {
                runs.remove(&self.address);
            }
        }
    }
}

/// A kill under way.
#[derive(Debug)]
pub(super) struct Killing {
    entries: Vec<Arc<Entry>>,
}

impl Killing {
    /// Waits until the runs have created their jobs, or have ended. Answers when the last of those was created that run.
    pub(super) async fn jobs_created(&self) -> Option<Instant> {
        let mut last = None;
        for entry in &self.entries {
            let mut created = entry.created.subscribe();
            // The sender lives as long as this.
            let created = created.wait_for(|created| !matches!(created, Created::NotYet)).await;
            if let Ok(Created::At(moment)) = created.as_deref() {
                last = last.max(Some(*moment));
            }
        }
        last
    }

    /// Tells the runs that their job was deleted.
    pub(super) fn done(self) {
        for entry in &self.entries {
            entry.kills.send_modify(|kills| kills.is_done = true);
        }
    }
}

impl Drop for Killing {
    fn drop(&mut self) {
        for entry in &self.entries {
            entry.kills.send_modify(|kills| kills.under_way = kills.under_way.saturating_sub(1));
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
    async fn a_kill_holds_starts_back_and_ends_the_runs_that_it_means() {
        let registry = Registry::default();
        let mut mine = registry.register("job".to_owned(), label("mine"));
        let mut other = registry.register("job".to_owned(), label("other"));
        let mut elsewhere = registry.register("elsewhere".to_owned(), label("mine"));

        let killing = registry.kill("job", label("mine").as_ref());
        assert!(!is_soon(mine.kills().none_under_way()).await && is_soon(other.kills().none_under_way()).await);
        assert!(!is_soon(async { _ = killing.jobs_created().await }).await);
        mine.job_is_created();
        assert!(killing.jobs_created().await.is_some() && mine.is_killed());
        killing.done();
        assert!(is_soon(mine.kills().none_under_way()).await && is_soon(mine.killed()).await);
        assert!(!is_soon(other.killed()).await && !is_soon(elsewhere.killed()).await);
    }

    #[tokio::test]
    async fn a_kill_that_fails_lets_the_run_go_on() {
        let registry = Registry::default();
        let mut run = registry.register("job".to_owned(), None);
        drop(registry.kill("job", label("mine").as_ref()));
        assert!(is_soon(run.kills().none_under_way()).await && !is_soon(run.killed()).await && !run.is_killed());
    }

    #[tokio::test]
    async fn a_run_that_ended_holds_no_kill_up_and_leaves_no_trace() {
        let registry = Registry::default();
        let run = registry.register("job".to_owned(), None);
        let killing = registry.kill("job", None);
        drop(run);
        assert_eq!(killing.jobs_created().await, None);
        assert!(registry.runs().is_empty());
    }
}
