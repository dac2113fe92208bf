//! Which runs may create a job, or start one, when a region is full. No I/O.
//!
//! Google limits how many jobs a region may have, and how many executions may run. There is a line for each of the two
//! limits. A line is open until some calls in a row are refused. Then it is full: the run that came first sends a call from time to time
//! (a probe), and nobody else. A probe that is accepted lets two more through, then four, and so on. What a run of this
//! process frees, the first one in line may take.
//!
//! While starts wait, few runs may create their jobs: each job counts against the other limit.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::backoff::Backoff;

/// How many jobs there are that wait for their start, before other runs of this process create theirs.
const MAX_WAITING_JOBS: usize = 20;
/// How many calls in a row must be refused before a line is full. Now and then, Google refuses a single call by chance.
const MIN_REFUSALS: u32 = 2;
/// The most probes at the same time.
const MAX_PROBES: usize = 64;
/// Average first and longest pause between two probes.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a run wants to do next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    /// Create its job.
    Create,
    /// Start its job.
    Start,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It has no job, and does not ask for one yet.
    WithoutJob,
    /// It waits for its turn.
    Waits(Stage),
    /// It has its turn: its call is being sent.
    HasTurn(Stage, Turn),
    /// It has a job, and does not ask for its start yet.
    HasJob,
    /// Its execution was started.
    Started,
}

impl Standing {
    fn is_waiting_job(self) -> bool {
        matches!(self, Self::HasJob | Self::HasTurn(..) | Self::Waits(Stage::Start))
    }
}

/// Why a run has its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// The line was open.
    Open,
    /// It finds out whether there is room.
    Probe,
    /// Something of this process ended, and it takes the room. With the number of refusals of its line at that time.
    Freed(u64),
    /// It has waited for as long as it may.
    Forced,
}

/// The runs of this process in one region, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct RegionQueue {
    standings: HashMap<u64, Standing>,
    /// How many runs have a job that is not started, or create one.
    waiting_jobs: usize,
    last_number: u64,
    creates: LimitLine,
    starts: LimitLine,
}

/// The runs that wait for one limit.
#[derive(Debug, Default)]
struct LimitLine {
    waiting: BTreeSet<u64>,
    /// How many probes are being sent.
    probing: usize,
    /// How many calls in a row were refused while the line was open.
    in_a_row: u32,
    /// How many calls were refused.
    refusals: u64,
    full: Option<Full>,
}

/// What is known of a limit that is used up.
#[derive(Debug)]
struct Full {
    /// How many probes may be sent at the same time.
    probes: usize,
    /// When the next one may be sent.
    next_at: Duration,
    pauses: Backoff,
    /// How much this process has freed that nobody has taken yet.
    freed: usize,
}

impl LimitLine {
    /// The next turn, if there is one at `now`.
    fn turn(&self, now: Duration) -> Option<Turn> {
        match &self.full {
            None => Some(Turn::Open),
            Some(full) if full.freed > 0 => Some(Turn::Freed(self.refusals)),
            Some(full) if now >= full.next_at && self.probing < full.probes => Some(Turn::Probe),
            Some(_) => None,
        }
    }

    fn gave(&mut self, turn: Turn) {
        self.probing += usize::from(turn == Turn::Probe);
        if let (Turn::Freed(_), Some(full)) = (turn, &mut self.full) {
            full.freed -= 1;
        }
    }

    fn took_back(&mut self, turn: Turn) {
        self.probing -= usize::from(turn == Turn::Probe);
    }

    fn accepted(&mut self, now: Duration, turn: Turn) {
        self.took_back(turn);
        self.in_a_row = 0;
        let Some(full) = &mut self.full else { return };
        if turn == Turn::Probe {
            full.probes = (2 * full.probes).min(MAX_PROBES);
            full.next_at = now;
            full.pauses = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        }
        // It is not known to be full any more when all that waited were let in.
        if self.waiting.is_empty() && turn == Turn::Probe {
            self.full = None;
        }
    }

    /// `least` is the pause that the server asks for; `spread` a factor that keeps workers apart.
    fn refused(&mut self, now: Duration, turn: Turn, least: Duration, spread: f64) {
        self.took_back(turn);
        self.refusals += 1;
        if self.full.is_none() {
            self.in_a_row += 1;
            if self.in_a_row < MIN_REFUSALS {
                return;
            }
            self.in_a_row = 0;
        }
        let full = self.full.get_or_insert_with(|| Full {
            probes: 1,
            next_at: Duration::ZERO,
            pauses: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            freed: 0,
        });
        full.freed = 0;
        full.probes = 1;
        // The refusals of calls that were sent together count once.
        if now >= full.next_at {
            full.next_at = now + full.pauses.pause().mul_f64(spread).max(least);
        }
    }

    fn freed(&mut self) {
        if self.waiting.is_empty() {
            self.full = None;
        } else if let Some(full) = &mut self.full {
            full.freed += 1;
        }
    }

    /// Whether a turn still counts.
    fn counts(&self, turn: Turn) -> bool {
        match turn {
            Turn::Open => self.full.is_none(),
            Turn::Freed(refusals) => refusals == self.refusals,
            Turn::Probe | Turn::Forced => true,
        }
    }
}

impl RegionQueue {
    /// Adds a run behind the others, and returns its number.
    pub(super) fn enter(&mut self) -> u64 {
        self.last_number += 1;
        self.set(self.last_number, Some(Standing::WithoutJob));
        self.last_number
    }

    /// Puts a run into the line for this stage.
    pub(super) fn wait(&mut self, number: u64, stage: Stage) {
        self.ended(number);
        self.leave_line(number);
        self.line(stage).waiting.insert(number);
        self.set(number, Some(Standing::Waits(stage)));
    }

    /// Gives turns to all runs that may have one at `now`, and returns these runs.
    pub(super) fn give_turns(&mut self, now: Duration) -> Vec<u64> {
        let mut lucky = vec![];
        // Starts come first: they make room for creates.
        for stage in [Stage::Start, Stage::Create] {
            while self.may_pass(stage)
                && let Some(turn) = self.line(stage).turn(now)
                && let Some(number) = self.line(stage).waiting.pop_first()
            {
                self.line(stage).gave(turn);
                self.set(number, Some(Standing::HasTurn(stage, turn)));
                lucky.push(number);
            }
        }
        lucky
    }

    /// Whether a run may send its call. A turn ends when the line is full, or more calls are refused: the call may have waited
    /// for its quota meanwhile.
    pub(super) fn has_turn(&mut self, number: u64) -> bool {
        let Some(Standing::HasTurn(stage, turn)) = self.standings.get(&number).copied() else { return false };
        // It counts itself among the waiting jobs.
        let may_pass = stage == Stage::Start || self.starts.full.is_none() || self.waiting_jobs <= MAX_WAITING_JOBS;
        self.line(stage).counts(turn) && (turn != Turn::Open || may_pass)
    }

    /// When somebody who waits may get a turn without any news. `None`: there is nobody, or only news can help.
    pub(super) fn next_turn_at(&self) -> Option<Duration> {
        [(&self.starts, Stage::Start), (&self.creates, Stage::Create)]
            .into_iter()
            .filter(|(line, stage)| !line.waiting.is_empty() && self.may_pass(*stage))
            .filter_map(|(line, _)| line.full.as_ref().filter(|full| line.probing < full.probes))
            .map(|full| full.next_at)
            .min()
    }

    /// Gives a run its turn whether or not there is room: it has waited for as long as it may.
    pub(super) fn force(&mut self, number: u64) {
        if let Some(Standing::Waits(stage)) = self.standings.get(&number).copied() {
            self.line(stage).waiting.remove(&number);
            self.set(number, Some(Standing::HasTurn(stage, Turn::Forced)));
        }
    }

    /// The run has a job.
    pub(super) fn created(&mut self, number: u64, now: Duration) {
        self.passed(number, Stage::Create, Standing::HasJob, now);
    }

    /// The run has an execution.
    pub(super) fn started(&mut self, number: u64, now: Duration) {
        self.passed(number, Stage::Start, Standing::Started, now);
    }

    fn passed(&mut self, number: u64, passed: Stage, standing: Standing, now: Duration) {
        match self.set(number, Some(standing)) {
            Some(Standing::HasTurn(stage, turn)) if stage == passed => self.line(stage).accepted(now, turn),
            Some(Standing::HasTurn(stage, turn)) => self.line(stage).took_back(turn),
            Some(Standing::Waits(stage)) => _ = self.line(stage).waiting.remove(&number),
            _ => {}
        }
    }

    /// The limit refused the run's call. `least` is the pause that the server asks for; `spread` a factor around 1.
    pub(super) fn refused(&mut self, number: u64, now: Duration, least: Duration, spread: f64) {
        if let Some((stage, turn)) = self.end_turn(number) {
            self.line(stage).refused(now, turn, least, spread);
        }
    }

    /// The run's call ended in a way that says nothing about the limit.
    pub(super) fn ended(&mut self, number: u64) {
        if let Some((stage, turn)) = self.end_turn(number) {
            self.line(stage).took_back(turn);
        }
    }

    /// The run is over. `has_ended`: its execution runs no more.
    pub(super) fn leave(&mut self, number: u64, has_ended: bool) {
        self.ended(number);
        self.leave_line(number);
        if self.set(number, None) == Some(Standing::Started) && has_ended {
            self.starts.freed();
        }
    }

    /// A job of this process was deleted.
    pub(super) fn deleted(&mut self) {
        self.creates.freed();
    }

    fn line(&mut self, stage: Stage) -> &mut LimitLine {
        match stage {
            Stage::Create => &mut self.creates,
            Stage::Start => &mut self.starts,
        }
    }

    fn leave_line(&mut self, number: u64) {
        self.creates.waiting.remove(&number);
        self.starts.waiting.remove(&number);
    }

    /// Whether the other line lets runs pass to this stage.
    fn may_pass(&self, stage: Stage) -> bool {
        stage == Stage::Start || self.starts.full.is_none() || self.waiting_jobs < MAX_WAITING_JOBS
    }

    fn end_turn(&mut self, number: u64) -> Option<(Stage, Turn)> {
        let Some(Standing::HasTurn(stage, turn)) = self.standings.get(&number).copied() else { return None };
        let standing = if stage == Stage::Create { Standing::WithoutJob } else { Standing::HasJob };
        self.set(number, Some(standing));
        Some((stage, turn))
    }

    /// Changes where a run stands, or forgets the run. Returns where it stood.
    fn set(&mut self, number: u64, standing: Option<Standing>) -> Option<Standing> {
        let before = match standing {
            Some(standing) => self.standings.insert(number, standing),
            None => self.standings.remove(&number),
        };
        self.waiting_jobs += usize::from(standing.is_some_and(Standing::is_waiting_job));
        self.waiting_jobs -= usize::from(before.is_some_and(Standing::is_waiting_job));
        before
    }
}

#[cfg(test)]
mod tests;
