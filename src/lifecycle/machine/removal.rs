//! The deletion of a job, which may take several calls.
//!
//! After the response to a delete was lost, the job is read before another delete is sent: its name may already belong to
//! another job.

use std::time::Duration;

use super::{
    context::READ_LAG,
    ownership::{Owner, Ownership},
    protocol::{Command, Event},
};
use crate::api::{ApiError, ApiResult, ErrorKind, RetryPolicy, types::Job};
use crate::lifecycle::backoff::Backoff;

/// First and longest pause after a lost response.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a job counts as missing, because a read may lag.
const SECOND_READ_PAUSE: Duration = Duration::from_secs(1);

/// A deletion in progress. It waits for the response to [`Removal::command`].
#[derive(Debug)]
pub(in crate::lifecycle) struct Removal {
    ownership: Ownership,
    /// From when on a 404 means that the job is gone. Reads of a job that was just created may lag.
    settled_at: Duration,
    /// How long the deletion goes on after the first unclear response.
    max_elapsed: Duration,
    /// When the deletion gives up. Set by the first unclear response, because a call may wait long for its quota.
    deadline: Option<Duration>,
    /// How many more deletes may be sent.
    deletes_left: u32,
    /// Whether a delete whose response was lost may have deleted the job.
    maybe_deleted: bool,
    /// Whether a job stays of which it can't be told whose it is.
    spares_unknown: bool,
    /// Whether reads that do not find the job count only after some time, if there is no list.
    is_patient: bool,
    pauses: Backoff,
    stage: RemovalPhase,
}

#[derive(Debug)]
enum RemovalPhase {
    /// Reading the job: does it exist, and may it be ours?
    Finding { not_found: bool },
    /// `jobs.delete` was sent.
    Deleting,
    /// Looking for the job in a list, because a read failed like this.
    Listing(Box<ApiError>),
    /// Reading the job after a delete that failed like this. `is_next_due`: if it is there, the next delete follows at once.
    Checking { unclear: Box<ApiError>, is_next_due: bool },
}

/// What follows a response.
#[derive(Debug)]
pub(in crate::lifecycle) enum RemovalStep {
    /// Pause, and send the next command.
    Call(Duration, Removal),
    /// The same, after a call that failed like this and may be repeated.
    Retry(Duration, Removal, Box<ApiError>),
    /// Our job is deleted or being deleted.
    Deleted,
    /// The job of this name is not ours.
    NotOurs,
    /// There is a job of this name, and nobody can tell whose it is. It was to be spared.
    UnknownOwner,
    /// There is no such job.
    Missing(Box<ApiError>),
    /// The job can't be deleted, or it is unknown whether it was.
    Failed(Box<ApiError>),
}

impl Removal {
    /// Deletes a job that was just seen to be ours.
    ///
    /// A 404 counts from `settled_at` on. `retry` bounds how often and how long deletes are repeated after unclear
    /// responses; each call has spent a retry budget of its own before it fails.
    pub(in crate::lifecycle) fn delete_first(ownership: Ownership, settled_at: Duration, retry: RetryPolicy) -> Self {
        Self {
            ownership,
            settled_at,
            max_elapsed: retry.max_elapsed,
            deadline: None,
            deletes_left: retry.max_attempts,
            maybe_deleted: false,
            spares_unknown: false,
            is_patient: false,
            pauses: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            stage: RemovalPhase::Deleting,
        }
    }

    /// Reads the job before it deletes it: another job may have taken the name.
    pub(in crate::lifecycle) fn read_first(ownership: Ownership, settled_at: Duration, retry: RetryPolicy) -> Self {
        let stage = RemovalPhase::Finding { not_found: false };
        Self { stage, ..Self::delete_first(ownership, settled_at, retry) }
    }

    /// Leaves a job alone of which it can't be told whose it is.
    pub(in crate::lifecycle) fn sparing_unknown_owners(self) -> Self {
        Self { spares_unknown: true, ..self }
    }

    /// Takes more time to find out that there is no job, because nobody waits for it.
    pub(in crate::lifecycle) fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// From when on a 404 means that the job is gone.
    pub(super) fn settled_at(&self) -> Duration {
        self.settled_at
    }

    /// What tells the job from other jobs of its name.
    pub(in crate::lifecycle) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The command whose response it waits for.
    pub(in crate::lifecycle) fn command(&self) -> Command {
        match self.stage {
            RemovalPhase::Deleting => Command::DeleteJob,
            RemovalPhase::Finding { .. } | RemovalPhase::Checking { .. } => Command::ReadJob,
            RemovalPhase::Listing(_) => Command::FindJob,
        }
    }

    /// Takes the response that came at `now`.
    pub(in crate::lifecycle) fn step(self, now: Duration, event: Event) -> RemovalStep {
        match (&self.stage, event) {
            (&RemovalPhase::Finding { not_found }, Event::JobRead(job)) => self.found(now, not_found, job),
            (RemovalPhase::Deleting, Event::Deleted(response)) => self.deleted(now, response),
            (RemovalPhase::Checking { .. }, Event::JobRead(job)) => self.checked(now, job),
            (RemovalPhase::Listing(_), Event::JobListed(job)) => self.listed(now, job),
            // No driver sends an event for another stage.
            _ => RemovalStep::Call(Duration::ZERO, self),
        }
    }

    fn found(mut self, now: Duration, not_found: bool, response: ApiResult<Job>) -> RemovalStep {
        match response {
            // Its name is free soon, and the create in doubt may still take effect.
            Ok(job) if job.metadata.deletion_timestamp.is_some() && self.is_in_doubt(now) => self.find_again(),
            Ok(job) if self.may_be_earlier(now, &job) => self.find_again(),
            Ok(job) if self.ownership.owner_of(&job) == Owner::SomebodyElse => RemovalStep::NotOurs,
            Ok(job) if job.metadata.deletion_timestamp.is_some() => RemovalStep::Deleted,
            Ok(job) if self.spares_unknown && self.ownership.owner_of(&job) == Owner::Unknown => {
                RemovalStep::UnknownOwner
            }
            Ok(job) => {
                // It may have been created only now, by a create whose response was lost.
                if self.spares_unknown && now < self.settled_at {
                    self.settled_at = self.settled_at.max(now + READ_LAG);
                }
                self.ownership.uid = job.metadata.uid.or(self.ownership.uid);
                self.stage = RemovalPhase::Deleting;
                RemovalStep::Call(Duration::ZERO, self)
            }
            Err(error) if error.kind == ErrorKind::NotFound && (!not_found || now < self.settled_at) => {
                self.find_again()
            }
            Err(error) if error.kind == ErrorKind::NotFound => self.list(error),
            Err(error) => RemovalStep::Failed(error),
        }
    }

    /// Whether a read may lag and show an earlier job of the name. That says nothing about ours.
    fn may_be_earlier(&self, now: Duration, job: &Job) -> bool {
        now < self.settled_at && self.ownership.is_other_job(job)
    }

    /// Whether a create may still take effect whose response is not known.
    fn is_in_doubt(&self, now: Duration) -> bool {
        self.spares_unknown && self.ownership.uid.is_none() && now < self.settled_at
    }

    /// Reads the job once more.
    fn find_again(mut self) -> RemovalStep {
        self.stage = RemovalPhase::Finding { not_found: true };
        RemovalStep::Call(self.pauses.pause().max(SECOND_READ_PAUSE), self)
    }

    /// Looks for a job that reads don't find in a list: a failing API may answer 404 for some seconds.
    fn list(mut self, missing: Box<ApiError>) -> RemovalStep {
        self.stage = RemovalPhase::Listing(missing);
        RemovalStep::Call(Duration::ZERO, self)
    }

    fn listed(mut self, now: Duration, response: ApiResult<Option<Job>>) -> RemovalStep {
        let RemovalPhase::Listing(missing) = self.stage else { return RemovalStep::Call(Duration::ZERO, self) };
        self.stage = RemovalPhase::Finding { not_found: false };
        match response {
            Ok(Some(job)) if self.ownership.owner_of(&job) == Owner::SomebodyElse => self.gone(missing),
            Ok(Some(job)) if job.metadata.deletion_timestamp.is_some() => RemovalStep::Deleted,
            Ok(Some(_)) => {
                self.deadline.get_or_insert(now + self.max_elapsed);
                let pause = self.pauses.pause().max(SECOND_READ_PAUSE);
                if self.has_time(now) { RemovalStep::Call(pause, self) } else { RemovalStep::Failed(missing) }
            }
            Err(error) if error.may_pass() => {
                self.deadline.get_or_insert(now + self.max_elapsed);
                let pause = error.pause_at_least(self.pauses.pause());
                self.stage = RemovalPhase::Listing(missing);
                if self.has_time(now) { RemovalStep::Retry(pause, self, error) } else { RemovalStep::Failed(error) }
            }
            Err(_) if self.is_patient && now < *self.deadline.get_or_insert(now + self.max_elapsed) => {
                let pause = self.pauses.pause().max(SECOND_READ_PAUSE);
                RemovalStep::Call(pause, self)
            }
            // Without a list, the reads decide.
            Ok(None) | Err(_) => self.gone(missing),
        }
    }

    fn gone(&self, missing: Box<ApiError>) -> RemovalStep {
        if self.maybe_deleted { RemovalStep::Deleted } else { RemovalStep::Missing(missing) }
    }

    fn deleted(mut self, now: Duration, response: ApiResult<()>) -> RemovalStep {
        let Err(error) = response else { return RemovalStep::Deleted };
        self.deadline.get_or_insert(now + self.max_elapsed);
        self.deletes_left = self.deletes_left.saturating_sub(1);
        match error.kind {
            // The earlier delete, whose response was lost, deleted it.
            ErrorKind::NotFound if self.maybe_deleted && now >= self.settled_at => self.list(error),
            // Somebody else deleted it, or the API does not see it yet. The first check comes at once.
            ErrorKind::NotFound => {
                let pause = if self.pauses.is_fresh() { Duration::ZERO } else { self.pauses.pause() };
                self.check_after(pause, now, error)
            }
            // The response was lost, or something other than the API answered.
            _ if error.maybe_done || error.kind == ErrorKind::NoSuchRegion => {
                self.maybe_deleted |= error.maybe_done;
                let pause = error.pause_at_least(self.pauses.pause());
                self.check_after(pause, now, error)
            }
            _ => RemovalStep::Failed(error),
        }
    }

    fn checked(mut self, now: Duration, response: ApiResult<Job>) -> RemovalStep {
        let RemovalPhase::Checking { unclear, is_next_due } = self.stage else {
            return RemovalStep::Call(Duration::ZERO, self);
        };
        self.stage = RemovalPhase::Deleting;
        match response {
            Ok(job) if self.may_be_earlier(now, &job) => {
                let pause = self.pauses.pause();
                self.check_after(pause, now, unclear)
            }
            Ok(job) if self.ownership.is_deleted_or_replaced(&job) => RemovalStep::Deleted,
            Ok(job) if self.ownership.owner_of(&job) == Owner::Us && self.has_time(now) && self.deletes_left > 0 => {
                // The delete did not find the job that this read finds. The API needs time. Somebody may replace the job
                // meanwhile, so it is read once more.
                if unclear.kind == ErrorKind::NotFound && !is_next_due {
                    let pause = self.pauses.pause();
                    self.stage = RemovalPhase::Checking { unclear, is_next_due: true };
                    return RemovalStep::Call(pause, self);
                }
                RemovalStep::Call(Duration::ZERO, self)
            }
            // The budget is spent, or the job can't be told from another job of its name.
            Ok(_) if unclear.kind == ErrorKind::NotFound => {
                let message = format!("the job still exists; the delete request failed: {}", unclear.message);
                RemovalStep::Failed(Box::new(ApiError { kind: ErrorKind::Unavailable, message, ..*unclear }))
            }
            Ok(_) => RemovalStep::Failed(unclear),
            Err(error) if error.kind == ErrorKind::NotFound && now >= self.settled_at => self.list(error),
            Err(error) if error.kind == ErrorKind::NotFound => {
                let pause = self.pauses.pause();
                self.check_after(pause, now, unclear)
            }
            Err(error) => RemovalStep::Failed(error),
        }
    }

    fn has_time(&self, now: Duration) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    fn check_after(mut self, pause: Duration, now: Duration, unclear: Box<ApiError>) -> RemovalStep {
        if !self.has_time(now) && now >= self.settled_at {
            return RemovalStep::Failed(unclear);
        }
        let reported = unclear.clone();
        self.stage = RemovalPhase::Checking { unclear, is_next_due: false };
        match reported.kind {
            ErrorKind::NotFound => RemovalStep::Call(pause, self),
            _ => RemovalStep::Retry(pause, self, reported),
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
    enum CallFault {
        None,
        LostBeforeEffect,
        LostAfterEffect,
        Refused,
        Forbidden,
    }

    /// Who has the name since when.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Holder {
        ours: bool,
        since: Duration,
    }

    struct World {
        now: Duration,
        holder: Option<Holder>,
        /// When our job is replaced by somebody else's job of the same name.
        replaced_at: Duration,
        /// Whether somebody else's job was deleted that had the name for longer than a call takes.
        stolen: bool,
        deletes: u32,
        /// Lost responses to deletes, and whether a call failed for good.
        lost: u32,
        failed: bool,
    }

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

        fn read(&self) -> ApiResult<Job> {
            let holder = self.holder.ok_or_else(|| Self::error(ApiMethod::GetJob, ErrorKind::NotFound, false))?;
            let mut job = Job::default();
            job.metadata.uid = Some(format!("{holder:?}"));
            let value = if holder.ours { LABEL.1 } else { "theirs" };
            job.metadata.labels.insert(LABEL.0.into(), value.into());
            Ok(job)
        }

        fn delete(&mut self) -> ApiResult<()> {
            let holder =
                self.holder.take().ok_or_else(|| Self::error(ApiMethod::DeleteJob, ErrorKind::NotFound, false))?;
            self.deletes += 1;
            self.stolen |= !holder.ours && self.now > holder.since + SECOND;
            Ok(())
        }

        fn respond(&mut self, command: &Command, fault: CallFault) -> Event {
            let call = if *command == Command::ReadJob { ApiMethod::GetJob } else { ApiMethod::DeleteJob };
            let lost = |kind, maybe_done| Self::error(call, kind, maybe_done);
            match (command, fault) {
                (_, CallFault::None) => {}
                (Command::DeleteJob, CallFault::LostAfterEffect | CallFault::LostBeforeEffect) => self.lost += 1,
                _ => self.failed = true,
            }
            if *command == Command::FindJob {
                return Event::JobListed(match (fault, self.read()) {
                    (CallFault::None, Err(error)) if error.kind == ErrorKind::NotFound => Ok(None),
                    (CallFault::None, job) => job.map(Some),
                    (CallFault::Forbidden, _) => Err(lost(ErrorKind::PermissionDenied, false)),
                    _ => Err(lost(ErrorKind::Unavailable, false)),
                });
            }
            if *command == Command::ReadJob {
                return Event::JobRead(match fault {
                    CallFault::None => self.read(),
                    CallFault::Forbidden => Err(lost(ErrorKind::PermissionDenied, false)),
                    _ => Err(lost(ErrorKind::Unavailable, false)),
                });
            }
            Event::Deleted(match fault {
                CallFault::None => self.delete(),
                CallFault::LostBeforeEffect => Err(lost(ErrorKind::Unavailable, true)),
                CallFault::LostAfterEffect => {
                    _ = self.delete();
                    Err(lost(ErrorKind::Unavailable, true))
                }
                CallFault::Refused => Err(lost(ErrorKind::LimitReached, false)),
                CallFault::Forbidden => Err(lost(ErrorKind::PermissionDenied, false)),
            })
        }
    }

    fn fault() -> impl Strategy<Value = CallFault> {
        prop_oneof![
            3 => Just(CallFault::None),
            2 => Just(CallFault::LostBeforeEffect),
            2 => Just(CallFault::LostAfterEffect),
            1 => Just(CallFault::Refused),
            1 => Just(CallFault::Forbidden),
        ]
    }

    fn drive(world: &mut World, mut removal: Removal, faults: &[CallFault]) -> RemovalStep {
        for call in 0..1_000 {
            let event = world.respond(&removal.command(), faults.get(call).copied().unwrap_or(CallFault::None));
            match removal.step(world.now, event) {
                RemovalStep::Call(pause, next) | RemovalStep::Retry(pause, next, _) => {
                    world.pass(pause + Duration::from_millis(10));
                    removal = next;
                }
                end => return end,
            }
        }
        unreachable!("no end")
    }

    /// Unless `PROPTEST_CASES` says how many.
    fn ten_thousand_cases() -> ProptestConfig {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        let is_set = std::env::var_os("PROPTEST_CASES").is_some();
        if is_set { config } else { ProptestConfig { cases: 10_000, ..config } }
    }

    proptest! {
        #![proptest_config(ten_thousand_cases())]

        #[test]
        fn a_kill_deletes_our_job_and_no_other(
            faults in proptest::collection::vec(fault(), 0..30),
            ours in proptest::option::of(any::<bool>()),
            replaced_at in proptest::option::of(1u64..60),
        ) {
            let holder = ours.map(|ours| Holder { ours, since: Duration::ZERO });
            let replaced_at = replaced_at.map_or(Duration::MAX, Duration::from_secs);
            let now = 5 * SECOND;
            let mut world = World::new(holder, now, replaced_at);
            world.pass(Duration::ZERO);
            let ownership = Ownership { label: Some((LABEL.0.into(), LABEL.1.into())), ..Ownership::default() };
            let removal = Removal::read_first(ownership, now, RetryPolicy::default());

            let end = drive(&mut world, removal, &faults);

            prop_assert!(!world.stolen);
            let is_left = world.holder.is_some_and(|holder| holder.ours);
            match end {
                RemovalStep::Deleted => prop_assert!(!is_left),
                RemovalStep::UnknownOwner => prop_assert!(false, "it was not to be spared"),
                RemovalStep::NotOurs => prop_assert!(world.holder.is_some_and(|holder| !holder.ours)),
                RemovalStep::Missing(_) => {
                    prop_assert!(!is_left);
                    prop_assert_eq!(world.deletes, 0, "we deleted it, so it was not missing");
                }
                // Otherwise only a call that failed for good, or many lost responses, end it.
                RemovalStep::Failed(error) => {
                    prop_assert!(world.failed || world.lost >= 10);
                    prop_assert!(error.kind != ErrorKind::NotFound);
                }
                RemovalStep::Call(..) | RemovalStep::Retry(..) => unreachable!("drive returns at the end"),
            }
        }
    }

    #[test]
    fn a_lagging_read_of_an_earlier_job_does_not_show_that_ours_is_deleted() {
        let read = |uid: &str| {
            let mut job = Job::default();
            job.metadata.uid = Some(uid.to_owned());
            Event::JobRead(Ok(job))
        };
        let lost = Event::Deleted(Err(World::error(ApiMethod::DeleteJob, ErrorKind::Unavailable, true)));
        let after = |removal: Removal, now, event| match removal.step(now, event) {
            RemovalStep::Call(_, removal) | RemovalStep::Retry(_, removal, _) => removal,
            end => panic!("{end:?}"),
        };
        let settled_at = 10 * SECOND;
        let removal = Removal::read_first(Ownership::default(), settled_at, RetryPolicy::default());
        let removal = after(removal, SECOND, read("ours"));
        let removal = after(removal, SECOND, lost);
        let removal = after(removal, 2 * SECOND, read("earlier"));
        assert_eq!(removal.command(), Command::ReadJob);
        assert!(matches!(removal.step(settled_at, read("later")), RemovalStep::Deleted));

        let ours = Ownership { uid: Some("ours".to_owned()), ..Ownership::default() };
        let removal = Removal::read_first(ours, settled_at, RetryPolicy::default());
        let removal = after(removal, SECOND, read("earlier"));
        assert_eq!(removal.command(), Command::ReadJob);
        assert!(matches!(removal.step(settled_at, read("later")), RemovalStep::NotOurs));
    }

    #[test]
    fn no_delete_is_sent_after_a_pause_without_another_read() {
        let job = || {
            let mut job = Job::default();
            job.metadata.uid = Some("ours".to_owned());
            Event::JobRead(Ok(job))
        };
        let ownership = Ownership { uid: Some("ours".to_owned()), ..Ownership::default() };
        let mut removal = Removal::delete_first(ownership, Duration::ZERO, RetryPolicy::default());
        let mut pause = Duration::ZERO;
        let mut deletes = 0;
        for second in 1..20 {
            let now = SECOND * second;
            let event = match removal.command() {
                Command::DeleteJob => {
                    assert!(pause.is_zero(), "a delete after {pause:?}");
                    deletes += 1;
                    Event::Deleted(Err(World::error(ApiMethod::DeleteJob, ErrorKind::NotFound, false)))
                }
                _ => job(),
            };
            (pause, removal) = match removal.step(now, event) {
                RemovalStep::Call(pause, removal) | RemovalStep::Retry(pause, removal, _) => (pause, removal),
                _ => break,
            };
        }
        assert!(deletes > 1);
    }

    #[test]
    fn a_job_counts_as_missing_after_two_reads() {
        let mut world = World::new(None, Duration::ZERO, Duration::MAX);
        let removal = Removal::read_first(Ownership::default(), Duration::ZERO, RetryPolicy::default());
        let end = drive(&mut world, removal, &[]);
        assert!(matches!(end, RemovalStep::Missing(_)));
        assert!(world.now >= SECOND_READ_PAUSE);
    }
}
