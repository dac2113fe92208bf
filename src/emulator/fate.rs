//! What becomes of each call while faults are switched on: tokens, quotas, rules, and what reads see of the past.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    call::Call,
    errors::ApiError,
    faults::{Fault, FaultRule, Faults, span},
    past::Past,
    store::{Place, State},
};

/// The faults that are switched on, and what they have come to.
#[derive(Debug, Default)]
pub(super) struct Fate {
    faults: Faults,
    /// Counts the faults that were switched on, to tell those of now from those before.
    generation: u64,
    /// How often each rule has hit.
    hits: Vec<u64>,
    /// How often each call came, by method and job.
    seen: HashMap<(&'static str, String), u64>,
    /// The present minute of each quota: when it began, and the calls so far.
    minutes: HashMap<(String, &'static str, &'static str), (Instant, u64)>,
    /// When each token was used first.
    tokens: HashMap<u64, Instant>,
    /// How often calls met what.
    met: BTreeMap<String, u64>,
    past: VecDeque<Arc<Past>>,
    refuses_until: Option<Instant>,
}

/// The faults that are switched on, and how often calls met each.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    faults: &'a Faults,
    met: &'a BTreeMap<String, u64>,
}

/// A call that is refused, and by what.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) name: &'static str,
    pub(super) error: ApiError,
}

impl Fate {
    /// Forgets all that was, and puts these faults in the place of those before. Answers their generation.
    pub(super) fn replace(&mut self, faults: Faults) -> u64 {
        let hits = vec![0; faults.rules.len()];
        *self = Self { faults, hits, generation: self.generation + 1, ..Self::default() };
        self.generation
    }

    pub(super) fn report(&self) -> Report<'_> {
        Report { faults: &self.faults, met: &self.met }
    }

    /// How often calls met each fault, by its name.
    pub(super) fn met(&self) -> BTreeMap<String, u64> {
        self.met.clone()
    }

    /// Refuses a call whose token is too old, or that is beyond a quota of calls.
    pub(super) fn admit(&mut self, place: &Place, call: &Call, authorization: Option<&[u8]>) -> Result<(), Refusal> {
        let now = Instant::now();
        if let (Some(seconds), Some(token)) = (self.faults.token_seconds, authorization) {
            // Only its hash is kept.
            let first = *self.tokens.entry(hash(token)).or_insert(now);
            if now >= first + span(seconds) {
                return Err(self.refuse("expired token", ApiError::unauthenticated()));
            }
        }
        let quotas = &self.faults.quotas;
        let (metric, most) = match call {
            Call::RunJob(_) => ("Job run requests", quotas.runs),
            _ if call.is_read() => ("Read requests", quotas.reads),
            _ => ("Write requests", quotas.writes),
        };
        let Some(most) = most else { return Ok(()) };
        let length = span(quotas.minute_seconds);
        let minute = self.minutes.entry((place.number.clone(), place.region, metric)).or_insert((now, 0));
        if now >= minute.0 + length {
            *minute = (now, 0);
        }
        minute.1 += 1;
        if minute.1 > most {
            return Err(self.refuse("quota", ApiError::rate_exceeded(metric, &place.number)));
        }
        Ok(())
    }

    /// Refuses what is beyond a limit of resources. The state stays locked until the call has taken effect.
    pub(super) fn check_limits(&mut self, place: &Place, call: &Call, state: &mut State) -> Result<(), ApiError> {
        let quotas = &self.faults.quotas;
        let (what, limit, count) = match (call, quotas.jobs, quotas.running_executions) {
            (Call::CreateJob, Some(limit), _) => ("jobs", limit, state.jobs(place)),
            (Call::RunJob(_), _, Some(limit)) => ("running executions", limit, state.running_executions(place)),
            _ => return Ok(()),
        };
        if count < limit {
            return Ok(());
        }
        self.count("limit".to_owned());
        Err(ApiError::limit_reached(what, limit, place.region))
    }

    /// The rule that hits this call, if one does.
    pub(super) fn strike(&mut self, call: &Call, selected: &str) -> Option<FaultRule> {
        if self.faults.rules.is_empty() {
            return None;
        }
        let (method, job) = (call.method(), call.job().unwrap_or(selected).to_owned());
        let seen = self.seen.entry((method, job.clone())).or_default();
        *seen += 1;
        let nth = *seen;
        let seed = self.faults.seed;
        let hits = &mut self.hits;
        let struck = self.faults.rules.iter().enumerate().find(|(index, rule)| {
            let concerns = rule.calls.is_empty()
                || rule.calls.iter().any(|wanted| match wanted.as_str() {
                    "reads" => call.is_read(),
                    "writes" => !call.is_read(),
                    name => name == method,
                });
            let applies = call.is_read() || !matches!(rule.fault, Fault::Stale(_));
            let has_more = rule.times.is_none_or(|times| hits[*index] < times);
            // Each rule has chances of its own, whatever other rules there are.
            concerns && applies && has_more && dice(&(seed, index, method, &job, nth)) < rule.ratio
        });
        let (index, rule) = struck.map(|(index, rule)| (index, rule.clone()))?;
        hits[index] += 1;
        self.count(rule.name());
        Some(rule)
    }

    fn refuse(&mut self, name: &'static str, error: ApiError) -> Refusal {
        self.count(name.to_owned());
        Refusal { name, error }
    }

    fn count(&mut self, what: String) {
        *self.met.entry(what).or_default() += 1;
    }

    /// Refuses all connections for a while.
    pub(super) fn refuse_for(&mut self, seconds: f64) -> Instant {
        let until = Instant::now() + span(seconds);
        self.refuses_until = self.refuses_until.max(Some(until));
        until
    }

    /// Whether connections are refused now.
    pub(super) fn refuses(&self) -> bool {
        self.refuses_until.is_some_and(|until| Instant::now() < until)
    }

    /// Keeps a picture of the present for later reads, while the faults of this generation ask for it. Answers whether
    /// they do.
    pub(super) fn remember(&mut self, generation: u64, past: Past) -> bool {
        let Some(memory) = self.faults.longest_memory().filter(|_| generation == self.generation) else { return false };
        let oldest = past.taken.checked_sub(memory);
        // One that is older than all that reads may ask for is enough.
        while self.past.get(1).is_some_and(|second| oldest.is_some_and(|oldest| second.taken <= oldest)) {
            self.past.pop_front();
        }
        self.past.push_back(Arc::new(past));
        true
    }

    /// What was true so long ago, or a bit longer; at the earliest, when the faults were switched on.
    pub(super) fn past(&self, seconds: f64) -> Arc<Past> {
        let known = Instant::now()
            .checked_sub(span(seconds))
            .and_then(|moment| self.past.iter().rev().find(|past| past.taken <= moment));
        known.or(self.past.front()).cloned().unwrap_or_default()
    }
}

/// How often pictures for stale reads are taken.
pub(super) const PICTURE_EVERY: Duration = Duration::from_millis(250);

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// From 0 to 1, the same for the same thing.
fn dice(thing: &impl Hash) -> f64 {
    fastrand::Rng::with_seed(hash(thing)).f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(text: &str) -> Fate {
        let mut fate = Fate::default();
        fate.replace(Faults::from_json(text.as_bytes()).unwrap());
        fate
    }

    fn struck(fate: &mut Fate, jobs: u32) -> Vec<bool> {
        (0..jobs).map(|job| fate.strike(&Call::GetJob(format!("job-{job}")), "").is_some()).collect()
    }

    #[test]
    fn a_rule_hits_its_share_of_its_calls() {
        let mut fate = fate(r#"{"rules": [{"fault": "reset", "ratio": 0.1, "calls": ["jobs.get"]}]}"#);
        let hits = struck(&mut fate, 10_000).into_iter().filter(|hit| *hit).count();
        assert!((850..1150).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| fate.strike(&Call::CreateJob, "").is_none()));
        assert_eq!(fate.met()["reset"], hits as u64);
    }

    #[test]
    fn a_seed_repeats_itself_whatever_else_is_called() {
        let text = |seed| format!(r#"{{"seed": {seed}, "rules": [{{"fault": "hang", "ratio": 0.3}}]}}"#);
        let first = struck(&mut fate(&text(1)), 200);
        let mut busy = fate(&text(1));
        struck(&mut fate(&text(1)), 5);
        (0..50).for_each(|_| _ = busy.strike(&Call::GetJob("another".to_owned()), ""));
        assert_eq!(struck(&mut busy, 200), first);
        assert_ne!(struck(&mut fate(&text(2)), 200), first);
    }

    #[test]
    fn a_rule_hits_no_more_often_than_it_may_and_the_first_one_wins() {
        let mut fate = fate(r#"{"rules": [{"fault": "reset", "times": 2, "calls": ["writes"]}, {"fault": "hang"}]}"#);
        let names: Vec<_> = (0..3).map(|_| fate.strike(&Call::CreateJob, "").unwrap().name()).collect();
        assert_eq!(names, ["reset", "reset", "hang"]);
        assert_eq!(fate.strike(&Call::ListJobs, "").unwrap().name(), "hang");
    }

    #[test]
    fn only_reads_are_stale() {
        let mut fate = fate(r#"{"rules": [{"fault": {"stale": 1}}]}"#);
        assert!(fate.strike(&Call::CreateJob, "").is_none());
        assert!(fate.strike(&Call::ListJobs, "").is_some());
    }

    #[test]
    fn a_quota_counts_calls_of_its_kind_place_and_minute() {
        let mut fate = fate(r#"{"quotas": {"reads": 2, "runs": 1, "minuteSeconds": 0.05}}"#);
        let (here, there) = (Place::new("p", "us-east1"), Place::new("p", "us-west1"));
        let read = Call::GetJob("j".to_owned());
        assert!(fate.admit(&here, &read, None).is_ok() && fate.admit(&here, &read, None).is_ok());
        assert!(fate.admit(&here, &Call::ListExecutions, None).is_err());
        assert!(fate.admit(&there, &read, None).is_ok());
        assert!(fate.admit(&here, &Call::CreateJob, None).is_ok());
        let run = Call::RunJob("j".to_owned());
        assert!(fate.admit(&here, &run, None).is_ok() && fate.admit(&here, &run, None).is_err());
        std::thread::sleep(Duration::from_millis(60));
        assert!(fate.admit(&here, &read, None).is_ok());
    }

    #[test]
    fn a_token_is_taken_until_it_is_too_old() {
        let mut fate = fate(r#"{"tokenSeconds": 0.05}"#);
        let place = Place::new("p", "us-east1");
        let mut admit = |token: Option<&[u8]>| fate.admit(&place, &Call::ListJobs, token).is_ok();
        assert!(admit(Some(b"one")) && admit(None));
        std::thread::sleep(Duration::from_millis(60));
        assert!(!admit(Some(b"one")) && !admit(Some(b"one")) && admit(Some(b"two")));
    }
}
