//! Workers, each with an estimator of its own, that share a quota. Time is simulated, and the random numbers are seeded.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::{Admission, QuotaEstimator};

mod alone;
mod changes;
mod shared;

const MINUTE: f64 = 60.0;
/// More calls than are sent in any simulation.
const MANY: usize = 1_000_000;
const SEEDS: u64 = 10;

/// The ways in which a service may count a quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// In the period that begins with the first call after the last one.
    Window,
    /// In the last period before each call.
    Sliding,
    /// In periods that begin at fixed times.
    Aligned,
    /// In a bucket of tokens that refills evenly within a period.
    Bucket,
}

const KINDS: [Kind; 4] = [Kind::Window, Kind::Sliding, Kind::Aligned, Kind::Bucket];

/// A service with a quota. All times are in seconds.
#[derive(Clone, Debug)]
struct Service {
    kind: Kind,
    most: f64,
    period: f64,
    /// The share of calls that are refused whatever the quota.
    chance: f64,
    /// The pause that a refusal asks for.
    asks: Option<Duration>,
    began: f64,
    /// Calls in this period, or tokens that are left.
    count: f64,
    accepted_at: VecDeque<f64>,
}

impl Service {
    fn new(kind: Kind, most: usize) -> Self {
        let (most, bucket) = (most as f64, if kind == Kind::Bucket { most as f64 } else { 0.0 });
        Self {
            kind,
            most,
            period: MINUTE,
            chance: 0.0,
            asks: None,
            began: 0.0,
            count: bucket,
            accepted_at: VecDeque::new(),
        }
    }

    fn accepts(&mut self, now: f64) -> bool {
        if fastrand::f64() < self.chance {
            return false;
        }
        match self.kind {
            Kind::Window | Kind::Aligned => {
                // An aligned period begins 17 s after the first worker.
                let aligned = ((now - 17.0) / self.period).floor() * self.period + 17.0;
                let is_over = now >= self.began + self.period || (self.kind == Kind::Aligned && aligned > self.began);
                if is_over {
                    (self.began, self.count) = (if self.kind == Kind::Aligned { aligned } else { now }, 0.0);
                }
                self.count += 1.0;
                self.count <= self.most
            }
            Kind::Sliding => {
                while self.accepted_at.front().is_some_and(|at| *at + self.period <= now) {
                    self.accepted_at.pop_front();
                }
                let has_room = (self.accepted_at.len() as f64) < self.most;
                if has_room {
                    self.accepted_at.push_back(now);
                }
                has_room
            }
            Kind::Bucket => {
                self.count = (self.count + self.most * (now - self.began) / self.period).min(self.most);
                self.began = now;
                let has_token = self.count >= 1.0;
                self.count -= f64::from(u8::from(has_token));
                has_token
            }
        }
    }
}

/// What happens in a simulation.
#[derive(Clone, Debug)]
struct Scenario {
    service: Service,
    /// When each worker begins, and how many calls it has.
    workers: Vec<(f64, usize)>,
    /// When another number of calls is allowed, and which.
    change: Option<(f64, usize)>,
    /// Calls per second of somebody who does not react to refusals, and from when to when.
    somebody: Option<(f64, f64, f64)>,
    /// When the simulation ends, unless all calls are accepted before.
    until: f64,
}

impl Scenario {
    /// One worker that has so many calls.
    fn alone(service: Service, calls: usize) -> Self {
        Self { service, workers: vec![(0.0, calls)], change: None, somebody: None, until: f64::MAX }
    }

    /// So many workers that begin at different times, within 50 s of each other, and always have calls.
    fn shared(service: Service, workers: usize, until: f64) -> Self {
        let workers = (0..workers).map(|number| (number as f64 * (10.0 + 40.0 * fastrand::f64()), MANY)).collect();
        Self { service, workers, change: None, somebody: None, until }
    }

    /// Plays the scenario with estimators whose configured period is a minute.
    fn run(mut self) -> Vec<Worker> {
        let mut workers: Vec<_> = self.workers.iter().map(|(_, calls)| Worker::new(*calls)).collect();
        let mut events = Events::default();
        for (number, (at, _)) in self.workers.iter().enumerate() {
            events.push(micros(*at), Incident::Look(number));
        }
        if let Some((_, from, _)) = self.somebody {
            events.push(micros(from), Incident::Somebody);
        }
        while let Some((at, event)) = events.pop() {
            let now = at as f64 / 1e6;
            if now > self.until || workers.iter().all(|worker| worker.waiting + worker.estimator.in_flight == 0) {
                break;
            }
            if let Some((_, most)) = self.change.take_if(|(from, _)| now >= *from) {
                self.service.most = most as f64;
            }
            let number = match event {
                Incident::Somebody => {
                    self.service.accepts(now);
                    if let Some((rate, _, _)) = self.somebody.filter(|(.., until)| now < *until) {
                        events.push(at + micros(1.0 / rate), Incident::Somebody);
                    }
                    continue;
                }
                Incident::Look(number) => number,
                Incident::Response { number, sent, is_accepted } => {
                    workers[number].respond(at, sent, is_accepted, self.service.asks);
                    number
                }
            };
            let worker = &mut workers[number];
            if worker.waiting == 0 {
                continue;
            }
            match worker.estimator.admission(Duration::from_micros(at)) {
                Admission::Now => {
                    worker.waiting -= 1;
                    let is_accepted = self.service.accepts(now);
                    (if is_accepted { &mut worker.accepted } else { &mut worker.refused }).push(now);
                    let latency = 0.05 + 0.1 * fastrand::f64();
                    events.push(at + micros(latency), Incident::Response { number, sent: at, is_accepted });
                    events.push(at + 1000, Incident::Look(number));
                }
                Admission::After(pause) => events.push_look(at + micros(pause.as_secs_f64()) + 1, number),
                Admission::AfterResponse => {}
            }
        }
        workers
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Incident {
    /// A worker asks whether it may send its next call.
    Look(usize),
    Response {
        number: usize,
        sent: u64,
        is_accepted: bool,
    },
    /// Somebody else sends a call.
    Somebody,
}

/// What is going to happen, and when, in microseconds.
#[derive(Debug, Default)]
struct Events {
    events: BinaryHeap<Reverse<(u64, u64, Incident)>>,
    count: u64,
    /// The next look of each worker, so that no worker looks twice for one pause.
    looks: Vec<u64>,
}

impl Events {
    fn push(&mut self, at: u64, event: Incident) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn push_look(&mut self, at: u64, number: usize) {
        self.looks.resize(self.looks.len().max(number + 1), 0);
        if self.looks[number].abs_diff(at) > 100 {
            self.looks[number] = at;
            self.push(at, Incident::Look(number));
        }
    }

    fn pop(&mut self) -> Option<(u64, Incident)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

#[derive(Debug)]
struct Worker {
    estimator: QuotaEstimator,
    waiting: usize,
    /// When its accepted calls were sent.
    accepted: Vec<f64>,
    /// When its refused calls were sent.
    refused: Vec<f64>,
    /// When it had the responses of accepted calls.
    done: Vec<f64>,
}

impl Worker {
    fn new(waiting: usize) -> Self {
        let estimator = QuotaEstimator::new(Duration::from_secs(60), fastrand::f64);
        Self { estimator, waiting, accepted: vec![], refused: vec![], done: vec![] }
    }

    fn respond(&mut self, at: u64, sent: u64, is_accepted: bool, asks: Option<Duration>) {
        let (now, sent) = (Duration::from_micros(at), Duration::from_micros(sent));
        if is_accepted {
            self.estimator.accepted(now, sent);
            self.done.push(now.as_secs_f64());
        } else {
            self.estimator.refused(now, sent, asks.map(Into::into));
            self.waiting += 1;
        }
    }

    /// When the last call was done.
    fn took(&self) -> f64 {
        self.done.last().copied().unwrap_or(f64::MAX)
    }

    fn refused_share(&self) -> f64 {
        self.refused.len() as f64 / (self.refused.len() + self.accepted.len()) as f64
    }
}

/// What workers got in a span of time.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Accepted calls of the worker with the most, for one of the worker with the least.
    ratio: f64,
    /// The part of all calls that was refused.
    refused: f64,
    /// Accepted calls per minute.
    throughput: f64,
}

impl Shares {
    fn of(workers: &[Worker], from: f64, until: f64) -> Self {
        let count = |times: &[f64]| times.iter().filter(|at| (from..until).contains(*at)).count() as f64;
        let accepted: Vec<_> = workers.iter().map(|worker| count(&worker.accepted)).collect();
        let refused: f64 = workers.iter().map(|worker| count(&worker.refused)).sum();
        let total: f64 = accepted.iter().sum();
        let (least, most) = accepted.iter().fold((f64::MAX, 0.0f64), |(least, most), n| (least.min(*n), most.max(*n)));
        Self {
            ratio: most / least.max(0.1),
            refused: refused / (refused + total),
            throughput: total * MINUTE / (until - from),
        }
    }
}

/// The worst outcome of several simulations, and their average throughput.
#[derive(Clone, Copy, Debug)]
struct Worst {
    ratio: f64,
    refused: f64,
    throughput: f64,
}

/// Runs a simulation with each seed.
fn worst(mut simulate: impl FnMut() -> Shares) -> Worst {
    let mut worst = Worst { ratio: 1.0, refused: 0.0, throughput: 0.0 };
    for seed in 1..=SEEDS {
        fastrand::seed(seed);
        let outcome = simulate();
        worst.ratio = worst.ratio.max(outcome.ratio);
        worst.refused = worst.refused.max(outcome.refused);
        worst.throughput += outcome.throughput / SEEDS as f64;
    }
    worst
}
