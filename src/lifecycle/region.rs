//! Lets the runs of a region wait for their turns, as [`RegionQueue`] decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::region_queue::{RegionQueue, Stage};
use crate::api::{ApiError, ErrorKind};

/// The regions in which a process has runs. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Regions(Arc<Mutex<HashMap<String, Weak<Region>>>>);

impl Regions {
    /// A place for a new run, behind all others of its project and region (`scope`).
    pub(super) fn enter(&self, scope: String) -> RegionPlace {
        let mut by_scope = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let region = by_scope.get(&scope).and_then(Weak::upgrade).unwrap_or_else(|| {
            let region = Arc::new(Region::new());
            by_scope.retain(|_, region| region.strong_count() > 0);
            by_scope.insert(scope, Arc::downgrade(&region));
            region
        });
        drop(by_scope);
        let number = region.state().queue.enter();
        RegionPlace { region, number, has_ended: false }
    }
}

/// The runs of one project and region.
#[derive(Debug)]
struct Region {
    /// The moment that the queue's times count from.
    began: Instant,
    state: Mutex<RegionRuns>,
}

#[derive(Debug, Default)]
struct RegionRuns {
    queue: RegionQueue,
    /// Wakes the runs that wait.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// The last refusal by a limit.
    refusal: Option<ApiError>,
    /// When turns are given the next time without any news.
    alarm_at: Option<Duration>,
}

impl Region {
    fn new() -> Self {
        Self { began: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, RegionRuns> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and gives turns to those that may have one after that.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut RegionRuns, Duration)) {
        let mut state = self.state();
        let now = self.began.elapsed();
        change(&mut state, now);
        self.give_turns(&mut state, now);
    }

    /// Gives turns at the time for which an alarm was set.
    fn ring(self: &Arc<Self>, at: Duration) {
        self.change(|state, _now| _ = state.alarm_at.take_if(|alarm| *alarm == at));
    }

    fn give_turns(self: &Arc<Self>, state: &mut RegionRuns, now: Duration) {
        for number in state.queue.give_turns(now) {
            // Fails if the run stopped waiting at this moment. It gives its turn back when it leaves.
            state.waiting.remove(&number).map(|sender| sender.send(()));
        }
        let Some(at) = state.queue.next_turn_at().filter(|at| state.alarm_at.is_none_or(|alarm| *at < alarm)) else {
            return;
        };
        // There is no runtime when the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        state.alarm_at = Some(at);
        let region = self.clone();
        runtime.spawn(async move {
            sleep_until(region.began + at).await;
            region.ring(at);
        });
    }
}

/// A call that needs the run's turn. The turn may have ended while the call waited for its quota.
pub(super) struct TurnGuard<'a> {
    /// The run's place.
    pub(super) place: &'a RegionPlace,
    /// What the call does.
    pub(super) stage: Stage,
    /// Longest wait of the call for its quota and its turn.
    pub(super) at_most: Duration,
    /// Called when that wait begins.
    pub(super) on_wait: &'a ReportWait<'a>,
}

impl TurnGuard<'_> {
    /// Waits until the run has its turn. Returns the length of the wait. `waited`: how long the call has waited before.
    pub(super) async fn wait(&self, waited: Duration) -> Duration {
        self.place.turn(self.stage, self.at_most.saturating_sub(waited), self.on_wait).await
    }
}

/// Called when a run begins to wait for its turn, with the last refusal by a limit.
pub(super) type ReportWait<'a> = dyn Fn(ApiError) + Sync + 'a;

/// A run's place in its region. The run leaves the region when this is dropped.
#[derive(Debug)]
pub(super) struct RegionPlace {
    region: Arc<Region>,
    number: u64,
    has_ended: bool,
}

impl RegionPlace {
    /// Waits for the run's turn, at most this long, unless it has it. Returns the length of the wait. `on_wait` is called if it is not the
    /// run's turn at once, with the last refusal by a limit.
    pub(super) async fn turn(&self, stage: Stage, at_most: Duration, on_wait: &ReportWait<'_>) -> Duration {
        let began = Instant::now();
        if self.has_turn() {
            return Duration::ZERO;
        }
        let (sender, mut turn) = oneshot::channel();
        self.region.change(|state, _now| {
            state.waiting.insert(self.number, sender);
            state.queue.wait(self.number, stage);
        });
        if turn.try_recv().is_ok() {
            return Duration::ZERO;
        }
        let refusal = self.region.state().refusal.clone();
        refusal.map(on_wait);
        if timeout(at_most, turn).await.is_err() {
            self.region.change(|state, _now| state.queue.force(self.number));
        }
        began.elapsed()
    }

    /// Gives the run's turn back, if it has one.
    pub(super) fn give_back(&self) {
        if self.has_turn() {
            self.region.change(|state, _now| state.queue.ended(self.number));
        }
    }

    fn has_turn(&self) -> bool {
        self.region.state().queue.has_turn(self.number)
    }

    /// The run has a job.
    pub(super) fn created(&self) {
        self.region.change(|state, now| state.queue.created(self.number, now));
    }

    /// The run has an execution.
    pub(super) fn started(&self) {
        self.region.change(|state, now| state.queue.started(self.number, now));
    }

    /// A create or a start failed. `spread`: a factor around 1.
    pub(super) fn failed(&self, error: &ApiError, spread: f64) {
        let is_limit = error.kind == ErrorKind::LimitReached && !error.maybe_done;
        self.region.change(|state, now| {
            if is_limit {
                let least = error.pause_at_least(Duration::ZERO);
                state.queue.refused(self.number, now, least, spread);
                state.refusal = Some(error.clone());
            } else {
                state.queue.ended(self.number);
            }
        });
    }

    /// The run's execution runs no more.
    pub(super) fn execution_ended(&mut self) {
        self.has_ended = true;
    }

    /// The run's job, which is going to be deleted.
    pub(super) fn job(&self) -> RegionJob {
        RegionJob(self.region.clone())
    }
}

impl Drop for RegionPlace {
    fn drop(&mut self) {
        self.region.change(|state, _now| {
            state.waiting.remove(&self.number);
            state.queue.leave(self.number, self.has_ended);
        });
    }
}

/// The job of a run. Drop it when the job was deleted.
#[derive(Debug)]
pub(super) struct RegionJob(Arc<Region>);

impl Drop for RegionJob {
    fn drop(&mut self) {
        self.0.change(|state, _now| state.queue.deleted());
    }
}
