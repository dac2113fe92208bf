//! The removal of a job, which may take several calls: when the answer of a delete is lost, the job is looked at before
//! another delete is sent, because the name may be another job's by then.

use std::time::Duration;

use super::{
    identity::{Identity, Whose},
    step::{Answer, Ask, Event},
};
use crate::api::{ApiError, Backoff, ErrorKind, types::Job};

/// Pauses after a lost answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pause before a job counts as not there: a read may lag.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A removal in progress. It waits for the answer of [`Removal::ask`].
#[derive(Debug)]
pub(super) struct Removal {
    identity: Identity,
    /// From when on an absence counts: a read of a job that was just created may lag.
    settled_at: Duration,
    patience: Duration,
    /// When it is given up; from the first unclear answer on, because a call may wait long for its turn.
    deadline: Option<Duration>,
    /// How many more deletes may be sent.
    tries: u32,
    /// Whether a delete whose answer was lost may have deleted it.
    maybe_deleted: bool,
    pauses: Backoff,
    stage: Stage,
}

/// How long a removal is tried on when answers of deletes are lost. (A call that failed otherwise has spent a budget of its
/// own already.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) time: Duration,
    pub(super) tries: u32,
}

#[derive(Debug)]
enum Stage {
    /// Is there a job, and is it not surely somebody else's?
    Finding { missed: bool },
    /// `jobs.delete` was sent.
    Deleting,
    /// What did the delete do that failed like this?
    Checking(Box<ApiError>),
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// After the pause, the next call.
    Ask(Duration, Removal),
    /// The same, after a call that failed like this and may be repeated.
    Again(Duration, Removal, Box<ApiError>),
    /// Our job is deleted or on its way.
    Done,
    /// The job of this name is not ours.
    SomebodyElses,
    /// It is not there.
    Missing(Box<ApiError>),
    /// It can't be removed, or not surely.
    Failed(Box<ApiError>),
}

impl Removal {
    /// Of a job that was seen to be ours a moment ago. Given up after `patience`; its absence counts from
    /// `settled_at` on.
    pub(super) fn of_seen(identity: Identity, settled_at: Duration, patience: Patience) -> Self {
        let pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let Patience { time: patience, tries } = patience;
        Self {
            identity,
            settled_at,
            patience,
            deadline: None,
            tries,
            maybe_deleted: false,
            pauses,
            stage: Stage::Deleting,
        }
    }

    /// Of a job that may be another one by now.
    pub(super) fn of_named(identity: Identity, settled_at: Duration, patience: Patience) -> Self {
        let stage = Stage::Finding { missed: false };
        Self { stage, ..Self::of_seen(identity, settled_at, patience) }
    }

    /// What tells the job from others of its name.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The call whose answer it waits for.
    pub(super) fn ask(&self) -> Ask {
        match self.stage {
            Stage::Deleting => Ask::DeleteJob,
            Stage::Finding { .. } | Stage::Checking(_) => Ask::ReadJob,
        }
    }

    /// Takes the answer that came at `now`.
    pub(super) fn step(self, now: Duration, event: Event) -> Verdict {
        match (&self.stage, event) {
            (Stage::Finding { missed }, Event::JobRead(answer)) => {
                let missed = *missed;
                self.found(now, missed, answer)
            }
            (Stage::Deleting, Event::Deleted(answer)) => self.deleted(now, answer),
            (Stage::Checking(_), Event::JobRead(answer)) => self.checked(now, answer),
            // An answer to something else, which no driver feeds.
            _ => Verdict::Ask(Duration::ZERO, self),
        }
    }

    fn found(mut self, now: Duration, missed: bool, answer: Answer<Job>) -> Verdict {
        match answer {
            Ok(job) if self.identity.whose(&job) == Whose::SomebodyElses => Verdict::SomebodyElses,
            Ok(job) if job.metadata.deletion_timestamp.is_some() => Verdict::Done,
            Ok(job) => {
                self.identity.uid = job.metadata.uid.or(self.identity.uid);
                self.stage = Stage::Deleting;
                Verdict::Ask(Duration::ZERO, self)
            }
            Err(error) if error.kind == ErrorKind::NotFound && (!missed || now < self.settled_at) => {
                self.stage = Stage::Finding { missed: true };
                Verdict::Ask(SECOND_LOOK, self)
            }
            Err(error) if error.kind == ErrorKind::NotFound => Verdict::Missing(error),
            Err(error) => Verdict::Failed(error),
        }
    }

    fn deleted(mut self, now: Duration, answer: Answer<()>) -> Verdict {
        let Err(error) = answer else { return Verdict::Done };
        self.deadline.get_or_insert(now + self.patience);
        self.tries = self.tries.saturating_sub(1);
        match error.kind {
            // The one before, whose answer was lost, deleted it.
            ErrorKind::NotFound if self.maybe_deleted && now >= self.settled_at => Verdict::Done,
            // Somebody was faster, or the look-up lags: the first look comes at once.
            ErrorKind::NotFound => {
                let pause = if self.pauses.is_fresh() { Duration::ZERO } else { self.pauses.pause() };
                self.check_after(pause, now, error)
            }
            // What answers there is not the API.
            _ if error.maybe_done || error.kind == ErrorKind::NoSuchRegion => {
                self.maybe_deleted |= error.maybe_done;
                let pause = error.pause_at_least(self.pauses.pause());
                self.check_after(pause, now, error)
            }
            _ => Verdict::Failed(error),
        }
    }

    fn checked(mut self, now: Duration, answer: Answer<Job>) -> Verdict {
        let Stage::Checking(unclear) = self.stage else { return Verdict::Ask(Duration::ZERO, self) };
        self.stage = Stage::Deleting;
        match answer {
            Ok(job) if self.identity.is_going(&job) => Verdict::Done,
            Ok(job) if self.identity.whose(&job) == Whose::Ours && self.is_patient(now) && self.tries > 0 => {
                // A delete that does not find what a read finds needs time.
                let pause = if unclear.kind == ErrorKind::NotFound { self.pauses.pause() } else { Duration::ZERO };
                Verdict::Ask(pause, self)
            }
            // Tried for long enough, or it can't be told from another job of its name.
            Ok(_) if unclear.kind == ErrorKind::NotFound => {
                let message = format!("it is there, but to delete it was answered: {}", unclear.message);
                Verdict::Failed(Box::new(ApiError { kind: ErrorKind::Unavailable, message, ..*unclear }))
            }
            Ok(_) => Verdict::Failed(unclear),
            Err(error) if error.kind == ErrorKind::NotFound && now >= self.settled_at => match self.maybe_deleted {
                true => Verdict::Done,
                false => Verdict::Missing(error),
            },
            Err(error) if error.kind == ErrorKind::NotFound => {
                let pause = self.pauses.pause();
                self.check_after(pause, now, unclear)
            }
            Err(error) => Verdict::Failed(error),
        }
    }

    fn is_patient(&self, now: Duration) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    fn check_after(mut self, pause: Duration, now: Duration, unclear: Box<ApiError>) -> Verdict {
        if !self.is_patient(now) && now >= self.settled_at {
            return Verdict::Failed(unclear);
        }
        let told = unclear.clone();
        self.stage = Stage::Checking(unclear);
        match told.kind {
            ErrorKind::NotFound => Verdict::Ask(pause, self),
            _ => Verdict::Again(pause, self, told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiMethod;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LABEL: (&str, &str) = ("prefect-io-flow-run-id", "ours");

    #[derive(Clone, Copy, Debug)]
    enum Fault {
        None,
        LostBeforeEffect,
        LostAfterEffect,
        Refused,
        Forbidden,
    }

    /// Who has the name: a uid, and whether it is ours.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Holder {
        ours: bool,
        since: Duration,
    }

    struct World {
        now: Duration,
        holder: Option<Holder>,
        /// When our job goes and somebody else takes the name.
        replaced_at: Duration,
        /// Somebody else's job was deleted that had the name for longer than a call takes.
        stolen: bool,
        deletes: u32,
        /// Answers of deletes that were lost, and whether a call failed for good.
        lost: u32,
        failed: bool,
    }

    const PATIENCE: Patience = Patience { time: Duration::from_secs(120), tries: 10 };

    impl World {
        fn new(holder: Option<Holder>, now: Duration, replaced_at: Duration) -> Self {
            Self { now, holder, replaced_at, stolen: false, deletes: 0, lost: 0, failed: false }
        }

        fn error(call: ApiMethod, kind: ErrorKind, maybe_done: bool) -> Box<ApiError> {
            Box::new(ApiError { maybe_done, ..ApiError::example(call, kind) })
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            if self.now >= self.replaced_at {
                self.holder = Some(Holder { ours: false, since: self.replaced_at });
                self.replaced_at = Duration::MAX;
            }
        }

        fn read(&self) -> Answer<Job> {
            let holder = self.holder.ok_or_else(|| Self::error(ApiMethod::GetJob, ErrorKind::NotFound, false))?;
            let mut job = Job::default();
            job.metadata.uid = Some(format!("{holder:?}"));
            let value = if holder.ours { LABEL.1 } else { "theirs" };
            job.metadata.labels.insert(LABEL.0.into(), value.into());
            Ok(job)
        }

        fn delete(&mut self) -> Answer<()> {
            let holder =
                self.holder.take().ok_or_else(|| Self::error(ApiMethod::DeleteJob, ErrorKind::NotFound, false))?;
            self.deletes += 1;
            self.stolen |= !holder.ours && self.now > holder.since + SECOND;
            Ok(())
        }

        fn answer(&mut self, ask: &Ask, fault: Fault) -> Event {
            let call = if *ask == Ask::ReadJob { ApiMethod::GetJob } else { ApiMethod::DeleteJob };
            let lost = |kind, maybe_done| Self::error(call, kind, maybe_done);
            match (ask, fault) {
                (_, Fault::None) => {}
                (Ask::DeleteJob, Fault::LostAfterEffect | Fault::LostBeforeEffect) => self.lost += 1,
                _ => self.failed = true,
            }
            if *ask == Ask::ReadJob {
                return Event::JobRead(match fault {
                    Fault::None => self.read(),
                    Fault::Forbidden => Err(lost(ErrorKind::PermissionDenied, false)),
                    _ => Err(lost(ErrorKind::Unavailable, false)),
                });
            }
            Event::Deleted(match fault {
                Fault::None => self.delete(),
                Fault::LostBeforeEffect => Err(lost(ErrorKind::Unavailable, true)),
                Fault::LostAfterEffect => {
                    _ = self.delete();
                    Err(lost(ErrorKind::Unavailable, true))
                }
                Fault::Refused => Err(lost(ErrorKind::LimitReached, false)),
                Fault::Forbidden => Err(lost(ErrorKind::PermissionDenied, false)),
            })
        }
    }

    fn fault() -> impl Strategy<Value = Fault> {
        prop_oneof![
            3 => Just(Fault::None),
            2 => Just(Fault::LostBeforeEffect),
            2 => Just(Fault::LostAfterEffect),
            1 => Just(Fault::Refused),
            1 => Just(Fault::Forbidden),
        ]
    }

    fn drive(world: &mut World, mut removal: Removal, faults: &[Fault]) -> Verdict {
        for call in 0..1_000 {
            let event = world.answer(&removal.ask(), faults.get(call).copied().unwrap_or(Fault::None));
            match removal.step(world.now, event) {
                Verdict::Ask(pause, next) | Verdict::Again(pause, next, _) => {
                    world.pass(pause + Duration::from_millis(10));
                    removal = next;
                }
                end => return end,
            }
        }
        unreachable!("no end")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_kill_deletes_ours_and_nobody_elses(
            faults in proptest::collection::vec(fault(), 0..30),
            ours in proptest::option::of(any::<bool>()),
            replaced_at in proptest::option::of(1u64..60),
        ) {
            let holder = ours.map(|ours| Holder { ours, since: Duration::ZERO });
            let replaced_at = replaced_at.map_or(Duration::MAX, Duration::from_secs);
            let now = 5 * SECOND;
            let mut world = World::new(holder, now, replaced_at);
            world.pass(Duration::ZERO);
            let identity = Identity { uid: None, label: Some((LABEL.0.into(), LABEL.1.into())) };
            let removal = Removal::of_named(identity, now, PATIENCE);

            let verdict = drive(&mut world, removal, &faults);

            prop_assert!(!world.stolen);
            let is_left = world.holder.is_some_and(|holder| holder.ours);
            match verdict {
                Verdict::Done => prop_assert!(!is_left),
                Verdict::SomebodyElses => prop_assert!(world.holder.is_some_and(|holder| !holder.ours)),
                Verdict::Missing(_) => {
                    prop_assert!(!is_left);
                    prop_assert_eq!(world.deletes, 0, "we deleted it, so it is not unknown");
                }
                // Only a call that failed for good ends it otherwise, or answers that were lost time and again.
                Verdict::Failed(error) => {
                    prop_assert!(world.failed || world.lost >= 10);
                    prop_assert!(error.kind != ErrorKind::NotFound);
                }
                Verdict::Ask(..) | Verdict::Again(..) => unreachable!("drive ends with the removal"),
            }
        }
    }

    #[test]
    fn a_job_that_is_not_there_is_looked_for_twice() {
        let mut world = World::new(None, Duration::ZERO, Duration::MAX);
        let removal = Removal::of_named(Identity::default(), Duration::ZERO, PATIENCE);
        let verdict = drive(&mut world, removal, &[]);
        assert!(matches!(verdict, Verdict::Missing(_)));
        assert!(world.now >= SECOND_LOOK);
    }
}
