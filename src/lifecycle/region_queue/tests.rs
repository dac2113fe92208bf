use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A region with a limit of running executions, and runs of one worker that all have a job.
struct Model {
    queue: RegionQueue,
    now: Duration,
    limit: usize,
    running: VecDeque<(Duration, u64)>,
    sent: usize,
    refused: usize,
    /// The runs in the order of their starts.
    started: Vec<u64>,
}

impl Model {
    fn new(limit: usize) -> Self {
        let queue = RegionQueue::default();
        Self { queue, now: Duration::ZERO, limit, running: VecDeque::new(), sent: 0, refused: 0, started: vec![] }
    }

    fn add(&mut self, runs: usize) {
        for _ in 0..runs {
            let number = self.queue.enter();
            self.queue.created(number, self.now);
            self.queue.wait(number, Stage::Start);
        }
    }

    /// Sends the starts of all runs that have their turn. Each execution runs for `takes`.
    fn start(&mut self, takes: Duration) {
        loop {
            let lucky = self.queue.give_turns(self.now);
            if lucky.is_empty() {
                return;
            }
            for number in lucky {
                if !self.queue.has_turn(number) {
                    self.queue.wait(number, Stage::Start);
                    continue;
                }
                self.sent += 1;
                if self.running.len() < self.limit {
                    self.queue.started(number, self.now);
                    self.running.push_back((self.now + takes, number));
                    self.started.push(number);
                } else {
                    self.refused += 1;
                    self.queue.refused(number, self.now, Duration::ZERO, 1.0);
                    self.queue.wait(number, Stage::Start);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration, takes: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += SECOND / 10;
            while let Some((_, number)) = self.running.pop_front_if(|(end, _)| *end <= self.now) {
                self.queue.leave(number, true);
            }
            self.start(takes);
        }
    }
}

#[test]
fn an_open_region_holds_nobody_back() {
    let mut model = Model::new(1000);
    model.add(1000);
    model.start(SECOND);
    assert_eq!((model.started.len(), model.refused), (1000, 0));
}

#[test]
fn who_came_first_starts_first_and_few_starts_are_refused() {
    let mut model = Model::new(20);
    model.add(120);
    model.start(10 * SECOND);
    model.add(120);
    model.pass(130 * SECOND, 10 * SECOND);
    assert_eq!(model.started.len(), 240);
    // Those that were refused before the line was full go back behind the others once.
    let late: Vec<_> = model.started.windows(2).filter(|pair| pair[0] > pair[1]).collect();
    assert!(late.len() <= 2, "{late:?}");
    assert!(model.refused * 10 <= model.sent, "{} of {}", model.refused, model.sent);
}

#[test]
fn room_that_others_make_is_found() {
    let mut model = Model::new(0);
    model.add(300);
    model.pass(600 * SECOND, SECOND);
    assert!((10..30).contains(&model.sent), "{} starts in ten minutes", model.sent);
    model.limit = 1000;
    model.pass(61 * SECOND, 3600 * SECOND);
    assert_eq!(model.started.len(), 300);
    // The line is open again.
    model.add(1);
    model.start(SECOND);
    assert_eq!(model.started.len(), 301);
}

#[test]
fn single_refusals_do_not_close_a_line() {
    let mut queue = RegionQueue::default();
    for _ in 0..10 {
        for _ in 1..MIN_REFUSALS {
            let refused = queue.enter();
            queue.wait(refused, Stage::Start);
            assert_eq!(queue.give_turns(SECOND), [refused]);
            queue.refused(refused, SECOND, 30 * SECOND, 1.0);
            queue.leave(refused, false);
        }
        let started = queue.enter();
        queue.wait(started, Stage::Start);
        assert_eq!(queue.give_turns(SECOND), [started]);
        queue.started(started, SECOND);
    }
}

#[test]
fn few_jobs_wait_for_a_full_region() {
    let mut queue = RegionQueue::default();
    let runs: Vec<_> = (0..100).map(|_| queue.enter()).collect();
    runs.iter().for_each(|run| queue.wait(*run, Stage::Create));
    let created = queue.give_turns(SECOND);
    assert_eq!(created.len(), 100, "nothing is known of the region");
    created.iter().for_each(|run| queue.created(*run, SECOND));
    for run in &created {
        queue.wait(*run, Stage::Start);
        queue.give_turns(SECOND);
        queue.refused(*run, SECOND, Duration::ZERO, 1.0);
        queue.wait(*run, Stage::Start);
    }
    let late = queue.enter();
    queue.wait(late, Stage::Create);
    assert!(queue.give_turns(SECOND).is_empty());
    // It may create its job when only few others wait.
    for run in &created[..100 - MAX_WAITING_JOBS] {
        queue.leave(*run, false);
        assert!(queue.give_turns(SECOND).is_empty());
    }
    queue.leave(created[99], false);
    assert_eq!(queue.give_turns(SECOND), [late]);
}

/// A queue with one full line of starts, and this many runs in it.
fn full_of_starts(runs: usize) -> (RegionQueue, Vec<u64>) {
    let mut queue = RegionQueue::default();
    let numbers: Vec<_> = (0..runs.max(2)).map(|_| queue.enter()).collect();
    for number in &numbers {
        queue.wait(*number, Stage::Start);
        queue.give_turns(SECOND);
    }
    for number in &numbers {
        queue.refused(*number, SECOND, Duration::ZERO, 1.0);
        queue.wait(*number, Stage::Start);
    }
    (queue, numbers)
}

#[test]
fn turns_end_when_more_calls_are_refused() {
    let (mut queue, runs) = full_of_starts(5);
    let ended: Vec<_> = (0..4).map(|_| queue.enter()).collect();
    for run in ended {
        queue.started(run, SECOND);
        queue.leave(run, true);
    }
    assert_eq!(queue.give_turns(SECOND), runs[..4]);
    assert!(runs[..4].iter().all(|run| queue.has_turn(*run)));
    queue.force(runs[4]);
    // Somebody else has taken the room.
    queue.refused(runs[0], SECOND, Duration::ZERO, 1.0);
    assert!(runs[..4].iter().all(|run| !queue.has_turn(*run)));
    assert!(queue.has_turn(runs[4]), "it has waited for as long as it may");
}

#[test]
fn what_ends_while_nobody_waits_opens_the_line() {
    let (mut queue, runs) = full_of_starts(2);
    queue.leave(runs[0], false);
    queue.leave(runs[1], false);
    let ended = queue.enter();
    queue.started(ended, SECOND);
    queue.leave(ended, true);
    let new = [queue.enter(), queue.enter()];
    new.iter().for_each(|run| queue.wait(*run, Stage::Start));
    assert_eq!(queue.give_turns(SECOND), new);
}

#[test]
fn creates_that_are_not_sent_wait_when_the_starts_are_full() {
    let mut queue = RegionQueue::default();
    let creating: Vec<_> = (0..100).map(|_| queue.enter()).collect();
    creating.iter().for_each(|run| queue.wait(*run, Stage::Create));
    assert_eq!(queue.give_turns(SECOND).len(), 100);
    for run in &creating[..2] {
        queue.created(*run, SECOND);
        queue.wait(*run, Stage::Start);
        queue.give_turns(SECOND);
        queue.refused(*run, SECOND, Duration::ZERO, 1.0);
    }
    assert!(!queue.has_turn(creating[50]));
}

#[test]
fn a_run_that_has_waited_long_enough_gets_its_turn() {
    let mut model = Model::new(0);
    model.add(5);
    model.start(SECOND);
    assert!(model.queue.give_turns(model.now).is_empty());
    model.queue.force(3);
    // Its refusal is none of the line's probes.
    model.queue.refused(3, model.now, Duration::ZERO, 1.0);
    model.queue.leave(3, false);
    assert!(model.queue.next_turn_at().is_some());
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Enters,
    Waits(Stage),
    Created,
    Started,
    Refused,
    Ended,
    Leaves,
    Deleted,
    Passes(u8),
}

fn happens() -> impl Strategy<Value = (Happens, u64)> {
    let event = prop_oneof![
        Just(Happens::Enters),
        Just(Happens::Waits(Stage::Create)),
        Just(Happens::Waits(Stage::Start)),
        Just(Happens::Created),
        Just(Happens::Started),
        Just(Happens::Refused),
        Just(Happens::Ended),
        Just(Happens::Leaves),
        Just(Happens::Deleted),
        any::<u8>().prop_map(Happens::Passes),
    ];
    (event, 1..6u64)
}

proptest! {
    /// Whatever happens to runs, in whatever order: nobody waits for ever, and nothing overflows.
    #[test]
    fn nobody_waits_for_ever(events in prop::collection::vec(happens(), 0..200)) {
        let (mut queue, mut now) = (RegionQueue::default(), Duration::ZERO);
        for (event, run) in events {
            match event {
                Happens::Enters => _ = queue.enter(),
                Happens::Waits(stage) if run <= queue.last_number => {
                    queue.wait(run, stage);
                }
                Happens::Waits(_) => {}
                Happens::Created if run <= queue.last_number => queue.created(run, now),
                Happens::Started if run <= queue.last_number => queue.started(run, now),
                Happens::Created | Happens::Started => {}
                Happens::Refused => queue.refused(run, now, Duration::ZERO, 1.5),
                Happens::Ended => queue.ended(run),
                Happens::Leaves => queue.leave(run, run % 2 == 0),
                Happens::Deleted => queue.deleted(),
                Happens::Passes(seconds) => now += Duration::from_secs(seconds.into()),
            }
            queue.give_turns(now);
        }
        // Those that have a turn end, and then all others get theirs.
        for _ in 0..20 {
            (0..=queue.last_number).for_each(|run| queue.ended(run));
            now += 2 * MAX_PAUSE;
            queue.give_turns(now);
        }
        let waiting = queue.standings.values().filter(|standing| matches!(standing, Standing::Waits(_))).count();
        prop_assert_eq!(waiting, 0);
        prop_assert!(queue.creates.probing <= MAX_PROBES && queue.starts.probing <= MAX_PROBES);
    }
}
