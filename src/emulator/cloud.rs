//! What all parts of a running emulator share.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    config::EmulatorConfig,
    executions::Stop,
    executor::Executor,
    fate::{Fate, PICTURE_EVERY},
    faults::Faults,
    past::Past,
    store::State,
};

/// Most calls that are remembered.
const MOST_CALLS: usize = 10_000;

/// A call that the emulator answered, with what it said: for tests.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCall {
    /// HTTP method; that of `X-HTTP-Method-Override` when there is one.
    pub method: String,
    /// Region, by the request's host; none when there is no such region.
    pub region: Option<String>,
    /// Path, without the query.
    pub path: String,
    /// Query parameters in their order, decoded.
    pub query: Vec<(String, String)>,
    /// The body, when it was JSON, with `…` in the place of each value of an environment.
    pub body: Option<Value>,
    /// HTTP status of the answer; 0 when none was sent.
    pub status: u16,
    /// The fault that it met, in a word or two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// State and tools of one emulator.
#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) config: EmulatorConfig,
    pub(super) address: SocketAddr,
    pub(super) log_dir: PathBuf,
    pub(super) executor: Executor,
    state: Mutex<State>,
    fate: Mutex<Fate>,
    /// Until when the door is closed.
    closed_until: watch::Sender<Option<Instant>>,
    calls: Mutex<VecDeque<RecordedCall>>,
    /// How often each method was called.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// None once the emulator stops: nothing new begins then.
    background: Mutex<Option<Background>>,
}

#[derive(Debug, Default)]
struct Background {
    /// Each waits for processes, and is waited for.
    executions: JoinSet<()>,
    /// Each only waits for time to pass, and is dropped.
    timers: JoinSet<()>,
}

impl Cloud {
    pub(super) fn new(config: EmulatorConfig, address: SocketAddr, log_dir: PathBuf, executor: Executor) -> Self {
        Self {
            config,
            address,
            log_dir,
            executor,
            state: Mutex::default(),
            fate: Mutex::default(),
            closed_until: watch::Sender::new(None),
            calls: Mutex::default(),
            counts: Mutex::default(),
            background: Mutex::new(Some(Background::default())),
        }
    }

    /// The state, for a moment: never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults, for a moment: never across an await, and never before the state.
    pub(super) fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches these faults on, in the place of those before.
    pub(super) fn set_faults(self: &Arc<Self>, faults: Faults) {
        let remembers = faults.longest_memory().is_some();
        let generation = self.fate().replace(faults);
        self.closed_until.send_replace(None);
        if remembers {
            self.take_pictures(generation);
        }
    }

    /// Remembers the present now and then, as long as the faults of this generation want to look back.
    fn take_pictures(self: &Arc<Self>, generation: u64) {
        let past = Past::of(&self.state());
        if self.fate().remember(generation, past) {
            let this = self.clone();
            self.after(PICTURE_EVERY, move || this.take_pictures(generation));
        }
    }

    /// Refuses all connections for so many seconds.
    pub(super) fn refuse_for(&self, seconds: f64) {
        let until = self.fate().refuse_for(seconds);
        self.closed_until.send_modify(|closed| *closed = (*closed).max(Some(until.into())));
    }

    /// Tells until when connections are to be refused.
    pub(super) fn closed_until(&self) -> watch::Receiver<Option<Instant>> {
        self.closed_until.subscribe()
    }

    /// Base of addresses that the emulator gives out.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.background().is_none()
    }

    fn background(&self) -> MutexGuard<'_, Option<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an execution in the background.
    pub(super) fn spawn_execution(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(background) = self.background().as_mut() {
            spawn(&mut background.executions, task);
        }
    }

    /// Does something after a while, if the emulator still runs then.
    pub(super) fn after(&self, time: Duration, then: impl FnOnce() + Send + 'static) {
        if let Some(background) = self.background().as_mut() {
            spawn(&mut background.timers, async move {
                tokio::time::sleep(time).await;
                then();
            });
        }
    }

    /// Takes nothing new, and tells every execution to stop. Answers the tasks of those that run.
    pub(super) fn halt(&self) -> JoinSet<()> {
        let background = self.background().take();
        for contents in self.state().all_mut() {
            contents.executions.iter().for_each(|execution| execution.request_stop(Stop::Halt));
        }
        background.unwrap_or_default().executions
    }

    pub(super) fn count(&self, method: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(method).or_default() += 1;
    }

    /// How often each method was called, by its name in the discovery document.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, call: RecordedCall) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == MOST_CALLS {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// The calls so far, oldest first; none unless the configuration says to record them.
    pub(super) fn calls(&self) -> Vec<RecordedCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn spawn(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    // What ended is taken out, or the set would grow for ever.
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}
