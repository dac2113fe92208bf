//! One watch over many executions: a read tells how far a hundred of them are, and wakes the runs that it concerns.
//!
//! What a list shows is trusted: an execution that has ended has ended. What it does not show is read by itself, because
//! a list can lag. A list that fails is no news of anybody: its runs are told so, all others go on. Should the API refuse
//! such lists altogether, each run reads its own execution.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::step::{Answer, Watched};
use crate::api::{ApiError, CloudRunClient, ErrorKind, RetryPolicy, Transport, types::Execution};

/// Most jobs that a list asks for. The longest selector that the API takes is not documented.
const PAGE: usize = 100;
/// What is due so soon is due now, so that reads gather.
const SOON: Duration = Duration::from_millis(100);
/// The first pause before a look.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How many lists that fail in a row lead to a look without one.
const FAILED_LISTS: u32 = 3;
/// How long an execution that was just started may be missing in lists.
const LIST_LAG: Duration = Duration::from_secs(10);

/// The pause before the next look at an execution that was started so long ago: a quarter of its age, up to the longest.
pub fn pause_at(age: Duration, longest: Duration) -> Duration {
    FIRST_PAUSE.max(age / 4).min(longest)
}

/// The watchers of a process: one for each project, region and identity.
#[derive(Clone, Debug, Default)]
pub struct Watchers {
    places: Arc<Mutex<HashMap<Scope, Weak<Watcher>>>>,
}

/// Project and region, and whom a watcher authenticates as.
type Scope = (String, usize);

impl Watchers {
    /// The watcher that reads through this transport, the same one for all runs of the place.
    pub(super) fn of(&self, transport: &Transport) -> Arc<Watcher> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (transport.scope(), transport.tokens.id());
        if let Some(watcher) = places.get(&key).and_then(Weak::upgrade) {
            return watcher;
        }
        places.retain(|_, watcher| watcher.strong_count() > 0);
        let watcher = Arc::new(Watcher::new(transport));
        places.insert(key, Arc::downgrade(&watcher));
        watcher
    }
}

/// The watch over the executions of one place.
pub(super) struct Watcher {
    client: CloudRunClient,
    table: Mutex<Table>,
    changed: Notify,
}

/// What a look led to.
#[derive(Debug)]
pub(super) enum Look {
    /// The execution has ended, began to run, is not there, or could not be looked at.
    News(Box<Answer<Execution>>),
    /// The API takes no lists of many jobs: look yourself. The first to hear it hears why.
    Alone(Option<Box<ApiError>>),
}

#[derive(Debug, Default)]
struct Table {
    seats: HashMap<u64, Seat>,
    /// Those that wait for a look, by when it is due. The others are being looked at.
    queue: BTreeSet<(Instant, u64)>,
    last: u64,
    is_working: bool,
    /// Whether the API refuses lists of many jobs.
    is_refused: bool,
    /// How many lists failed in a row.
    failed: u32,
}

/// A run that waits for news.
#[derive(Debug)]
struct Seat {
    job: String,
    execution: String,
    is_running: bool,
    started: Instant,
    longest_pause: Duration,
    /// When it is to be looked at next.
    due: Instant,
    /// In how many lists in a row it was missing.
    missing: u32,
    sender: oneshot::Sender<Look>,
}

impl Watcher {
    fn new(transport: &Transport) -> Self {
        // A look that fails is repeated by its runs, in their own time.
        let retry = RetryPolicy { max_attempts: 1, ..transport.retry };
        let transport = Transport { retry, on_notice: Arc::new(|_notice| {}), ..transport.clone() };
        Self { client: CloudRunClient::new(transport), table: Mutex::default(), changed: Notify::new() }
    }

    /// Waits for news of the execution of this job, which was started so long ago. Nothing is left of it when this is dropped.
    pub(super) async fn look(self: &Arc<Self>, job: &str, watched: &Watched, age: Duration) -> Look {
        let (sender, told) = oneshot::channel();
        let _place = {
            let mut table = self.table();
            if table.is_refused {
                return Look::Alone(None);
            }
            let now = Instant::now();
            let number = table.seat(Seat {
                job: job.to_owned(),
                execution: watched.execution.clone(),
                is_running: watched.is_running,
                started: now.checked_sub(age).unwrap_or(now),
                longest_pause: watched.longest_pause,
                due: now + pause_at(age, watched.longest_pause),
                missing: 0,
                sender,
            });
            if !std::mem::replace(&mut table.is_working, true) {
                tokio::spawn(self.clone().work());
            }
            Place { watcher: self, number }
        };
        self.changed.notify_waiters();
        // The other end is dropped only with its seat.
        told.await.unwrap_or(Look::Alone(None))
    }

    /// Looks at whatever is due, until nobody waits any more.
    async fn work(self: Arc<Self>) {
        let mut lists = JoinSet::new();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let next = {
                let mut table = self.table();
                let now = Instant::now();
                while let Some(numbers) = table.due(now + SOON) {
                    lists.spawn(Page { watcher: self.clone(), numbers }.survey());
                }
                if table.seats.is_empty() {
                    table.is_working = false;
                    return;
                }
                table.queue.first().map_or(now + LIST_LAG, |(due, _)| *due)
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = changed => {}
                Some(_ended) = lists.join_next() => {}
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seats that are being looked at. Those that nobody has told anything when this is dropped wait for another look.
struct Page {
    watcher: Arc<Watcher>,
    numbers: Vec<u64>,
}

impl Page {
    /// Looks at them with one list.
    async fn survey(mut self) {
        let watcher = self.watcher.clone();
        let jobs: BTreeSet<String> = {
            let table = watcher.table();
            self.numbers.iter().filter_map(|number| table.seats.get(number)).map(|seat| seat.job.clone()).collect()
        };
        if jobs.is_empty() {
            return;
        }
        let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
        match watcher.client.list_executions_of_jobs(&jobs).await {
            Ok(executions) => {
                let missing = watcher.table().take_in(&self.numbers, executions);
                self.numbers.retain(|number| missing.iter().all(|(missing, _)| missing != number));
                for (number, execution) in missing {
                    let page = Self { watcher: watcher.clone(), numbers: vec![number] };
                    tokio::spawn(page.read(execution));
                }
            }
            // The API knows no such list, or this account may not have it.
            Err(error)
                if matches!(
                    error.kind,
                    ErrorKind::InvalidRequest | ErrorKind::PermissionDenied | ErrorKind::NotFound
                ) =>
            {
                watcher.table().refuse(error);
            }
            Err(error) => {
                let failed = watcher.table().count_failed();
                if error.may_pass() && failed < FAILED_LISTS {
                    self.tell(|| Err(error.clone()));
                } else {
                    self.read_one_by_one().await;
                }
            }
        }
    }

    /// Looks at each by itself, unless the first such look fails as well: then it is not the list's fault.
    async fn read_one_by_one(mut self) {
        let watcher = self.watcher.clone();
        let mut executions: Vec<_> = {
            let table = watcher.table();
            let name = |number: &u64| Some((*number, table.seats.get(number)?.execution.clone()));
            self.numbers.iter().filter_map(name).collect()
        };
        let Some((first, execution)) = executions.pop() else { return };
        match watcher.client.get_execution(&execution).await {
            Err(error) if error.kind != ErrorKind::NotFound => self.tell(|| Err(error.clone())),
            answer => {
                self.numbers.clear();
                Self { watcher: watcher.clone(), numbers: vec![first] }.tell(|| answer.clone());
                for (number, execution) in executions {
                    tokio::spawn(Self { watcher: watcher.clone(), numbers: vec![number] }.read(execution));
                }
            }
        }
    }

    /// Looks at the one whose execution this is.
    async fn read(self, execution: String) {
        let answer = self.watcher.client.get_execution(&execution).await;
        self.tell(|| answer.clone());
    }

    fn tell(&self, answer: impl Fn() -> Answer<Execution>) {
        let mut table = self.watcher.table();
        self.numbers.iter().for_each(|&number| table.tell(number, Look::News(Box::new(answer()))));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut table = self.watcher.table();
        self.numbers.iter().for_each(|&number| table.queue_again(number));
        drop(table);
        self.watcher.changed.notify_waiters();
    }
}

impl Table {
    /// Lets a seat wait for its next look, if it is still taken.
    fn queue_again(&mut self, number: u64) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        if !self.queue.contains(&(seat.due, number)) {
            seat.due = Instant::now() + pause_at(seat.started.elapsed(), seat.longest_pause);
            self.queue.insert((seat.due, number));
        }
    }

    fn seat(&mut self, seat: Seat) -> u64 {
        self.last += 1;
        self.queue.insert((seat.due, self.last));
        self.seats.insert(self.last, seat);
        self.last
    }

    /// The seats for one list, if any is due: those that are, and the next ones as far as there is room.
    fn due(&mut self, now: Instant) -> Option<Vec<u64>> {
        self.queue.first().filter(|(due, _)| *due <= now)?;
        Some((0..PAGE).map_while(|_| self.queue.pop_first()).map(|(_, number)| number).collect())
    }

    /// Notes that a list failed, and returns how many have in a row.
    fn count_failed(&mut self) -> u32 {
        self.failed = self.failed.saturating_add(1);
        self.failed
    }

    /// Tells what there is to tell of a list, and returns those that should have been in it.
    fn take_in(&mut self, page: &[u64], executions: Vec<Execution>) -> Vec<(u64, String)> {
        self.failed = 0;
        let mut executions: HashMap<_, _> =
            executions.into_iter().map(|execution| (execution.metadata.name.clone(), execution)).collect();
        let mut missing = vec![];
        for &number in page {
            let Some(seat) = self.seats.get_mut(&number) else { continue };
            match executions.remove(&seat.execution) {
                Some(execution) => {
                    seat.missing = 0;
                    let has_begun = execution.status.running_count.unwrap_or_default() > 0;
                    if execution.completed().is_some() || (has_begun && !seat.is_running) {
                        self.tell(number, Look::News(Box::new(Ok(execution))));
                        continue;
                    }
                }
                None => {
                    seat.missing += 1;
                    // A second list is soon there.
                    if seat.missing > 1 || seat.started.elapsed() >= LIST_LAG {
                        missing.push((number, seat.execution.clone()));
                        continue;
                    }
                }
            }
            self.queue_again(number);
        }
        missing
    }

    fn tell(&mut self, number: u64, look: Look) {
        if let Some(seat) = self.seats.remove(&number) {
            // Nobody listens any more when the run was let go this moment.
            _ = seat.sender.send(look);
        }
    }

    /// Sends all away, and tells the first one why.
    fn refuse(&mut self, error: Box<ApiError>) {
        let mut why = (!self.is_refused).then_some(error);
        self.is_refused = true;
        self.queue.clear();
        for (_, seat) in self.seats.drain() {
            _ = seat.sender.send(Look::Alone(why.take()));
        }
    }
}

/// A seat that is taken.
struct Place<'a> {
    watcher: &'a Watcher,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.watcher.table();
        if let Some(seat) = table.seats.remove(&self.number) {
            table.queue.remove(&(seat.due, self.number));
        }
    }
}
