//! Decides which fault hits a call: expired tokens, quotas and limits, rules. Keeps the snapshots for stale reads.
//!
//! A rule decides at random, but repeatably: by the seed and the call, independent of other calls and rules.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::rules::{FaultRule, Faults, to_duration};
use crate::{
    api::{ApiMethod, Quota},
    emulator::{
        store::{Snapshot, Store},
        wire::{ApiCall, ApiRefusal, ProjectRegion, ProjectRegionKey},
    },
};

/// Interval between snapshots for stale reads.
pub(crate) const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);

/// The current faults, and everything that their decisions depend on.
#[derive(Debug, Default)]
pub(crate) struct FaultInjector {
    faults: Faults,
    /// When they were set.
    set_at: Option<Instant>,
    /// Number of times that faults were set. Tells snapshots for the current faults from those for earlier ones.
    generation: u64,
    /// Number of hits of each rule.
    hits: Vec<u64>,
    /// Number of calls by method and job.
    calls: HashMap<(ApiMethod, String), u64>,
    /// The current minute of each quota: its start, and the number of calls in it.
    minutes: HashMap<(ProjectRegionKey, Quota), (Instant, u64)>,
    /// Time of the first use of each token, by the token's hash.
    tokens: HashMap<u64, Instant>,
    /// Number of calls by the name of the fault that hit them.
    counts: BTreeMap<String, u64>,
    /// Snapshots for stale reads, oldest first.
    snapshots: VecDeque<Arc<Snapshot>>,
    refusing_until: Option<Instant>,
}

/// The current faults, and how many calls each has hit.
#[derive(Debug, Serialize)]
pub(crate) struct FaultReport<'a> {
    faults: &'a Faults,
    met: &'a BTreeMap<String, u64>,
}

/// A call that the injector refuses, with the name of the fault.
#[derive(Debug)]
pub(crate) struct InjectedRefusal {
    pub(crate) fault: &'static str,
    pub(crate) refusal: ApiRefusal,
}

impl FaultInjector {
    /// Replaces the faults and forgets all counts. Returns the generation of the new faults.
    pub(crate) fn replace(&mut self, faults: Faults) -> u64 {
        let hits = vec![0; faults.rules.len()];
        let generation = self.generation + 1;
        *self = Self { faults, set_at: Some(Instant::now()), hits, generation, ..Self::default() };
        self.generation
    }

    pub(crate) fn report(&self) -> FaultReport<'_> {
        FaultReport { faults: &self.faults, met: &self.counts }
    }

    /// The permissions that the rules take away for good: those of the methods whose calls are all refused with 403.
    pub(crate) fn denied_permissions(&self) -> Vec<&'static str> {
        let rows =
            ApiMethod::ALL.into_iter().filter(|method| self.faults.rules.iter().any(|rule| rule.denies(*method)));
        rows.map(|method| method.row().permission).collect()
    }

    /// The number of calls that each fault has hit, by its name.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }

    /// Refuses a call whose token has expired, or that exceeds a quota per minute.
    pub(crate) fn admit(
        &mut self,
        place: &ProjectRegion,
        call: &ApiCall,
        authorization: Option<&[u8]>,
    ) -> Result<(), InjectedRefusal> {
        let now = Instant::now();
        if let (Some(seconds), Some(token)) = (self.faults.token_seconds, authorization) {
            let first_use = *self.tokens.entry(hash(token)).or_insert(now);
            if now >= first_use + to_duration(seconds) {
                return Err(self.refuse("expired token", ApiRefusal::unauthenticated()));
            }
        }
        let quotas = &self.faults.quotas;
        let quota = call.method.row().quota;
        let (metric, limit) = match quota {
            Quota::Reads => ("Read requests", quotas.reads),
            Quota::Writes => ("Write requests", quotas.writes),
            Quota::Runs => ("Job run requests", quotas.runs),
        };
        let Some(limit) = limit else { return Ok(()) };
        let length = to_duration(quotas.minute_seconds);
        let (start, count) = self.minutes.entry((place.key(), quota)).or_insert((now, 0));
        if now >= *start + length {
            (*start, *count) = (now, 0);
        }
        *count += 1;
        if *count > limit {
            return Err(self.refuse("quota", ApiRefusal::rate_exceeded(metric, &place.number)));
        }
        Ok(())
    }

    /// Refuses a call that would exceed a limit on jobs or running executions. The caller keeps the store locked until
    /// the call has taken effect, so that concurrent calls can't exceed the limit together.
    pub(crate) fn check_limits(
        &mut self,
        place: &ProjectRegion,
        method: ApiMethod,
        store: &mut Store,
    ) -> Result<(), ApiRefusal> {
        let quotas = &self.faults.quotas;
        let (what, limit, count) = match (method, quotas.jobs, quotas.running_executions) {
            (ApiMethod::CreateJob, Some(limit), _) => ("jobs", limit, store.job_count(place)),
            (ApiMethod::RunJob, _, Some(limit)) => ("running executions", limit, store.running_execution_count(place)),
            _ => return Ok(()),
        };
        if count < limit {
            return Ok(());
        }
        self.count("limit".to_owned());
        Err(ApiRefusal::limit_reached(what, limit, place.region))
    }

    /// The rule that hits this call, if any. `subject` tells calls apart whose path names no job: the name of the job
    /// to create, or the label selector of a list.
    pub(crate) fn select_rule(&mut self, call: &ApiCall, subject: &str) -> Option<FaultRule> {
        if self.faults.rules.is_empty() {
            return None;
        }
        let id = call.id();
        let job = call.job().unwrap_or(subject).to_owned();
        let calls = self.calls.entry((call.method, job.clone())).or_default();
        *calls += 1;
        let nth = *calls;
        let seed = self.faults.seed;
        let since_set = self.set_at.map_or(Duration::ZERO, |set_at| set_at.elapsed());
        let hits = &mut self.hits;
        let selected = self.faults.rules.iter().enumerate().find(|(index, rule)| {
            let has_hits_left = rule.times.is_none_or(|times| hits[*index] < times);
            rule.can_hit(call.method)
                && rule.is_in_force(since_set)
                && has_hits_left
                // The index makes the decisions of a rule independent of the other rules.
                && random_share(&(seed, index, id, &job, nth)) < rule.ratio
        });
        let (index, rule) = selected.map(|(index, rule)| (index, rule.clone()))?;
        hits[index] += 1;
        self.count(rule.name());
        Some(rule)
    }

    fn refuse(&mut self, fault: &'static str, refusal: ApiRefusal) -> InjectedRefusal {
        self.count(fault.to_owned());
        InjectedRefusal { fault, refusal }
    }

    fn count(&mut self, fault: String) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// Refuses connections for this many seconds from now. Returns the end of that time.
    pub(crate) fn refuse_connections_for(&mut self, seconds: f64) -> Instant {
        let until = Instant::now() + to_duration(seconds);
        self.refusing_until = self.refusing_until.max(Some(until));
        until
    }

    /// Whether connections are being refused.
    pub(crate) fn refuses_connections(&self) -> bool {
        self.refusing_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a rule makes reads stale, so that snapshots are needed.
    pub(crate) fn needs_snapshots(&self) -> bool {
        self.faults.max_staleness().is_some()
    }

    /// Keeps a snapshot for later stale reads, and drops those that are too old to be needed. Returns whether more
    /// snapshots are needed: not when the faults of this generation have been replaced.
    pub(crate) fn add_snapshot(&mut self, generation: u64, snapshot: Snapshot) -> bool {
        let Some(max_age) = self.faults.max_staleness().filter(|_| generation == self.generation) else { return false };
        let oldest_needed = snapshot.taken.checked_sub(max_age);
        // A read needs the latest snapshot from before its moment. So keep one that is older than the oldest moment.
        while self.snapshots.get(1).is_some_and(|second| oldest_needed.is_some_and(|oldest| second.taken <= oldest)) {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back(Arc::new(snapshot));
        true
    }

    /// The latest snapshot that is at least this many seconds old. If there is none, the first since the faults were
    /// set.
    pub(crate) fn snapshot(&self, seconds: f64) -> Arc<Snapshot> {
        let old_enough = Instant::now()
            .checked_sub(to_duration(seconds))
            .and_then(|moment| self.snapshots.iter().rev().find(|snapshot| snapshot.taken <= moment));
        old_enough.or(self.snapshots.front()).cloned().unwrap_or_default()
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number from 0 to 1 that looks random and depends on the value alone.
fn random_share(value: &impl Hash) -> f64 {
    fastrand::Rng::with_seed(hash(value)).f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injector(faults: &str) -> FaultInjector {
        let mut injector = FaultInjector::default();
        injector.replace(Faults::from_json(faults.as_bytes()).unwrap());
        injector
    }

    fn call(method: ApiMethod, name: &str) -> ApiCall {
        ApiCall { method, name: name.to_owned() }
    }

    fn create() -> ApiCall {
        call(ApiMethod::CreateJob, "")
    }

    fn list() -> ApiCall {
        call(ApiMethod::ListJobs, "")
    }

    fn hits(injector: &mut FaultInjector, jobs: u32) -> Vec<bool> {
        let get = |job| call(ApiMethod::GetJob, &format!("job-{job}"));
        (0..jobs).map(|job| injector.select_rule(&get(job), "").is_some()).collect()
    }

    #[test]
    fn a_rule_hits_its_share_of_the_calls() {
        let mut injector = injector(r#"{"rules": [{"fault": "reset", "ratio": 0.1, "calls": ["jobs.get"]}]}"#);
        let count = hits(&mut injector, 10_000).into_iter().filter(|hit| *hit).count();
        assert!((850..1150).contains(&count), "{count}");
        assert!((0..1000).all(|_| injector.select_rule(&create(), "").is_none()));
        assert_eq!(injector.counts()["reset"], count as u64);
    }

    #[test]
    fn a_seed_gives_the_same_hits_whatever_other_calls_come() {
        let text = |seed| format!(r#"{{"seed": {seed}, "rules": [{{"fault": "hang", "ratio": 0.3}}]}}"#);
        let first = hits(&mut injector(&text(1)), 200);
        let mut busy = injector(&text(1));
        hits(&mut injector(&text(1)), 5);
        (0..50).for_each(|_| _ = busy.select_rule(&call(ApiMethod::GetJob, "another"), ""));
        assert_eq!(hits(&mut busy, 200), first);
        assert_ne!(hits(&mut injector(&text(2)), 200), first);
    }

    #[test]
    fn a_rule_has_a_maximum_of_hits_and_the_first_rule_wins() {
        let rules = r#"{"rules": [{"fault": "reset", "times": 2, "calls": ["writes"]}, {"fault": "hang"}]}"#;
        let mut injector = injector(rules);
        let names: Vec<_> = (0..3).map(|_| injector.select_rule(&create(), "").unwrap().name()).collect();
        assert_eq!(names, ["reset", "reset", "hang"]);
        assert_eq!(injector.select_rule(&list(), "").unwrap().name(), "hang");
    }

    #[test]
    fn only_reads_are_stale() {
        let mut injector = injector(r#"{"rules": [{"fault": {"stale": 1}}]}"#);
        assert!(injector.select_rule(&create(), "").is_none());
        assert!(injector.select_rule(&list(), "").is_some());
    }

    #[test]
    fn a_quota_counts_calls_by_kind_region_and_minute() {
        let mut injector = injector(r#"{"quotas": {"reads": 2, "runs": 1, "minuteSeconds": 0.05}}"#);
        let (here, there) = (ProjectRegion::new("p", "us-east1"), ProjectRegion::new("p", "us-west1"));
        let mut admits = |place, call: &ApiCall| injector.admit(place, call, None).is_ok();
        let read = call(ApiMethod::GetJob, "j");
        assert!(admits(&here, &read) && admits(&here, &read));
        assert!(!admits(&here, &call(ApiMethod::ListExecutions, "")));
        assert!(admits(&there, &read));
        assert!(admits(&here, &create()));
        let run = call(ApiMethod::RunJob, "j");
        assert!(admits(&here, &run) && !admits(&here, &run));
        std::thread::sleep(Duration::from_millis(60));
        assert!(admits(&here, &read));
    }

    #[test]
    fn a_token_is_accepted_until_it_expires() {
        let mut injector = injector(r#"{"tokenSeconds": 0.05}"#);
        let place = ProjectRegion::new("p", "us-east1");
        let mut admits = |token: Option<&[u8]>| injector.admit(&place, &list(), token).is_ok();
        assert!(admits(Some(b"one")) && admits(None));
        std::thread::sleep(Duration::from_millis(60));
        assert!(!admits(Some(b"one")) && !admits(Some(b"one")) && admits(Some(b"two")));
    }
}
