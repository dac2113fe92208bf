//! The state that all parts of a running emulator share, and its background tasks.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    call_log::CallLog,
    config::EmulatorConfig,
    executor::Executor,
    faults::{FaultInjector, Faults, SNAPSHOT_INTERVAL},
    store::{Snapshot, StopRequest, Store},
};

/// The shared state of one emulator.
///
/// Lock order: the store before the fault injector. No lock is held across an await.
#[derive(Debug)]
pub(super) struct EmulatorState {
    pub(super) config: EmulatorConfig,
    pub(super) address: SocketAddr,
    pub(super) log_dir: PathBuf,
    pub(super) executor: Executor,
    store: Mutex<Store>,
    injector: Mutex<FaultInjector>,
    /// Until when the listener refuses connections.
    refusing_until: watch::Sender<Option<Instant>>,
    call_log: Mutex<CallLog>,
    /// None once the emulator stops: no new task starts then.
    background: Mutex<Option<BackgroundTasks>>,
}

#[derive(Debug, Default)]
struct BackgroundTasks {
    /// Run executions. A stop waits for them, because they end processes.
    executions: JoinSet<()>,
    /// Wait for a moment to come. A stop drops them.
    timers: JoinSet<()>,
}

impl EmulatorState {
    pub(super) fn new(config: EmulatorConfig, address: SocketAddr, log_dir: PathBuf, executor: Executor) -> Self {
        Self {
            config,
            address,
            log_dir,
            executor,
            store: Mutex::default(),
            injector: Mutex::default(),
            refusing_until: watch::Sender::new(None),
            call_log: Mutex::default(),
            background: Mutex::new(Some(BackgroundTasks::default())),
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn injector(&self) -> MutexGuard<'_, FaultInjector> {
        lock(&self.injector)
    }

    pub(super) fn call_log(&self) -> MutexGuard<'_, CallLog> {
        lock(&self.call_log)
    }

    fn background(&self) -> MutexGuard<'_, Option<BackgroundTasks>> {
        lock(&self.background)
    }

    /// Replaces the faults.
    pub(super) fn set_faults(self: &Arc<Self>, faults: Faults) {
        let (generation, needs_snapshots) = {
            let mut injector = self.injector();
            (injector.replace(faults), injector.needs_snapshots())
        };
        self.refusing_until.send_replace(None);
        if needs_snapshots {
            self.take_snapshots(generation);
        }
    }

    /// Takes a snapshot now and at each interval, as long as the faults of this generation need them.
    fn take_snapshots(self: &Arc<Self>, generation: u64) {
        let snapshot = Snapshot::of(&self.store());
        if self.injector().add_snapshot(generation, snapshot) {
            let this = self.clone();
            self.after(SNAPSHOT_INTERVAL, move || this.take_snapshots(generation));
        }
    }

    /// Refuses connections for this many seconds from now.
    pub(super) fn refuse_connections_for(&self, seconds: f64) {
        let until = self.injector().refuse_connections_for(seconds);
        self.refusing_until.send_modify(|current| *current = (*current).max(Some(until.into())));
    }

    /// Until when the listener has to refuse connections.
    pub(super) fn refusing_until(&self) -> watch::Receiver<Option<Instant>> {
        self.refusing_until.subscribe()
    }

    /// The base of the URLs that the emulator hands out.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.background().is_none()
    }

    /// Runs an execution in the background.
    pub(super) fn spawn_execution(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(background) = self.background().as_mut() {
            spawn(&mut background.executions, task);
        }
    }

    /// Calls `then` after this time, unless the emulator has stopped by then.
    pub(super) fn after(&self, time: Duration, then: impl FnOnce() + Send + 'static) {
        if let Some(background) = self.background().as_mut() {
            spawn(&mut background.timers, async move {
                tokio::time::sleep(time).await;
                then();
            });
        }
    }

    /// Accepts no new work, and tells all executions to stop. Returns the tasks that run them.
    pub(super) fn shut_down(&self) -> JoinSet<()> {
        let background = self.background().take();
        for region in self.store().regions_mut() {
            region.executions.iter().for_each(|execution| execution.request_stop(StopRequest::Shutdown));
        }
        background.unwrap_or_default().executions
    }
}

/// A panic while the lock was held is no reason to panic again: the data are plain.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    // A JoinSet keeps finished tasks until they are joined, and would grow without end.
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}
