//! Decides whether and when a call is attempted again. Nothing here sleeps: [`super::call`] does.

use std::time::Duration;

use super::{
    attempt_error::AttemptError, error::RetryBudget, error_kind::ErrorKind, method::ApiMethod, retry_after::RetryAfter,
};

/// Maximum number of attempts while it is unclear whether the credentials were rejected or the token endpoint failed.
const AMBIGUOUS_ATTEMPTS: u32 = 3;

/// The budget of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Maximum number of attempts, the first included.
    pub max_attempts: u32,
    /// Maximum time from the first attempt to the start of the last one. Waits for a quota do not count.
    pub max_elapsed: Duration,
    /// Upper bound of the first pause. Every further pause doubles it.
    pub initial_delay: Duration,
    /// Upper bound of every pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts within two minutes, with pauses of up to 0.5 s at first and up to 30 s later.
    fn default() -> Self {
        Self {
            max_attempts: 10,
            max_elapsed: Duration::from_secs(120),
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The pause before the next attempt, after `attempts` attempts in `elapsed`.
    ///
    /// The pause is a random part (`random`, from 0 to 1) of its upper bound, plus the pause that the server asked for
    /// (`retry_after`). Full jitter spreads many callers that failed at the same time, also those whose server asked all of
    /// them for the same pause. The pause is never shorter than the server asked for.
    ///
    /// # Errors
    /// The budget that is used up. A pause that would end after `max_elapsed` uses up the time.
    pub fn next_delay(
        &self,
        attempts: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Result<Duration, RetryBudget> {
        if attempts >= self.max_attempts {
            return Err(RetryBudget::Attempts);
        }
        let bound = self.initial_delay.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.max_delay);
        let delay = bound.mul_f64(random.clamp(0.0, 1.0)).saturating_add(retry_after.unwrap_or_default());
        if elapsed.saturating_add(delay) > self.max_elapsed { Err(RetryBudget::Time) } else { Ok(delay) }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RetryVerdict {
    /// No other attempt: it would fail as well, or it could do the work twice.
    Permanent,
    /// Another attempt might succeed, but this budget is used up.
    Exhausted(RetryBudget),
    /// Another attempt after this pause.
    Retry(Duration),
}

/// The attempts of one call so far.
#[derive(Debug)]
pub(super) struct RetryState {
    policy: RetryPolicy,
    method: ApiMethod,
    attempts: u32,
    /// Time spent on attempts and on the pauses between them.
    elapsed: Duration,
    has_renewed_token: bool,
}

impl RetryState {
    pub(super) fn new(policy: RetryPolicy, method: ApiMethod) -> Self {
        Self { policy, method, attempts: 0, elapsed: Duration::ZERO, has_renewed_token: false }
    }

    /// Counts a failed attempt that took `took`, and decides what follows. `random` is a random number from 0 to 1.
    ///
    /// Refusals by a quota per minute ([`ErrorKind::RateLimited`]) do not come here: the quota's queue decides when the
    /// call is sent again, and they do not use up the budget.
    pub(super) fn verdict(&mut self, failure: &AttemptError, took: Duration, random: f64) -> RetryVerdict {
        self.attempts += 1;
        self.elapsed += took;
        let pause = if failure.rejected_token.is_some() && !self.has_renewed_token {
            // A token can be revoked before it expires. One new token is worth one attempt, at once and whatever the
            // budget.
            self.has_renewed_token = true;
            Ok(Duration::ZERO)
        } else if self.is_worth_repeating(failure) {
            let wish = failure.retry_after.map(RetryAfter::for_pause);
            self.policy.next_delay(self.attempts, self.elapsed, wish, random)
        } else {
            return RetryVerdict::Permanent;
        };
        match pause {
            Ok(pause) => {
                self.elapsed += pause;
                RetryVerdict::Retry(pause)
            }
            Err(budget) => RetryVerdict::Exhausted(budget),
        }
    }

    fn is_worth_repeating(&self, failure: &AttemptError) -> bool {
        if failure.has_ambiguous_credentials && self.attempts < AMBIGUOUS_ATTEMPTS {
            return true;
        }
        if !failure.kind.is_transient() {
            return false;
        }
        // A region that is full of jobs or executions stays so for long. The run waits for it in a way of its own.
        if failure.kind == ErrorKind::LimitReached && matches!(self.method, ApiMethod::CreateJob | ApiMethod::RunJob) {
            return false;
        }
        // A second start would run the job twice, and after a delete the name may be another job's. The caller finds out
        // what happened.
        !failure.maybe_done || self.method.row().repeatable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_up_to_its_maximum() {
        let policy = RetryPolicy::default();
        let bounds: Vec<_> = (1..9)
            .filter_map(|n| policy.next_delay(n, Duration::ZERO, None, 1.0).ok())
            .map(|d| d.as_secs_f64())
            .collect();
        assert_eq!(bounds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    }

    #[test]
    fn the_budget_ends_by_attempts_and_by_time() {
        let policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        assert!(policy.next_delay(2, Duration::ZERO, None, 0.5).is_ok());
        assert_eq!(policy.next_delay(3, Duration::ZERO, None, 0.5), Err(RetryBudget::Attempts));
        assert_eq!(policy.next_delay(1, policy.max_elapsed + SECOND, None, 0.0), Err(RetryBudget::Time));
    }

    #[test]
    fn the_pause_is_never_shorter_than_the_server_asks_for() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next_delay(1, Duration::ZERO, Some(SECOND * 20), 0.0), Ok(SECOND * 20));
        assert_eq!(policy.next_delay(1, Duration::ZERO, Some(SECOND * 3600), 0.0), Err(RetryBudget::Time));
    }

    /// A failure of this kind, that certainly had no effect.
    fn failure(kind: ErrorKind) -> AttemptError {
        AttemptError::new(kind, false, "made up")
    }

    /// A failure of which nobody knows whether the server has carried out the call.
    fn lost() -> AttemptError {
        AttemptError::new(ErrorKind::Unavailable, true, "made up")
    }

    fn ambiguous() -> AttemptError {
        AttemptError { has_ambiguous_credentials: true, ..failure(ErrorKind::Authentication) }
    }

    fn rejected_token() -> AttemptError {
        AttemptError { rejected_token: Some(1), ..failure(ErrorKind::Authentication) }
    }

    fn asking_for(seconds: u64) -> AttemptError {
        AttemptError { retry_after: Some(Duration::from_secs(seconds).into()), ..failure(ErrorKind::Unavailable) }
    }

    #[test]
    fn every_failure_has_its_verdict() {
        use ApiMethod::{CancelExecution, CreateJob, DeleteJob, GetJob, RunJob};
        use RetryVerdict::{Exhausted, Permanent, Retry};
        let half = Retry(Duration::from_millis(250));
        // The method, its failures one after the other, and the verdict on the last one. Each attempt takes a second; the
        // random number is 0.5.
        let table: Vec<(ApiMethod, Vec<AttemptError>, RetryVerdict)> = vec![
            (GetJob, vec![failure(ErrorKind::Unavailable)], half),
            (GetJob, vec![failure(ErrorKind::LimitReached)], half),
            (GetJob, vec![failure(ErrorKind::NoToken)], half),
            (GetJob, vec![failure(ErrorKind::NotFound)], Permanent),
            (GetJob, vec![failure(ErrorKind::PermissionDenied)], Permanent),
            (GetJob, vec![failure(ErrorKind::Authentication)], Permanent),
            // Pauses grow.
            (GetJob, vec![lost(), lost(), lost()], Retry(SECOND)),
            // The service may have carried out the call: only repeatable methods are repeated.
            (CreateJob, vec![lost()], half),
            (CancelExecution, vec![lost()], half),
            (RunJob, vec![lost()], Permanent),
            (DeleteJob, vec![lost()], Permanent),
            (RunJob, vec![failure(ErrorKind::Unavailable)], half),
            (DeleteJob, vec![failure(ErrorKind::LimitReached)], half),
            // The run itself waits for room for an execution.
            (RunJob, vec![failure(ErrorKind::LimitReached)], Permanent),
            // Budgets.
            (GetJob, vec![lost(), lost(), lost(), lost()], Exhausted(RetryBudget::Attempts)),
            (GetJob, vec![asking_for(5)], Retry(Duration::from_millis(5250))),
            (GetJob, vec![asking_for(30)], Exhausted(RetryBudget::Time)),
            (GetJob, vec![asking_for(15), asking_for(15)], Exhausted(RetryBudget::Time)),
            // One new token per call, even when the attempts are used up.
            (RunJob, vec![rejected_token()], Retry(Duration::ZERO)),
            (RunJob, vec![rejected_token(), rejected_token()], Permanent),
            (GetJob, vec![lost(), lost(), lost(), rejected_token()], Retry(Duration::ZERO)),
            // A few attempts while the credentials may be fine.
            (GetJob, vec![ambiguous(), ambiguous()], Retry(Duration::from_millis(500))),
            (GetJob, vec![ambiguous(), ambiguous(), ambiguous()], Permanent),
        ];
        let policy = RetryPolicy { max_attempts: 4, max_elapsed: 30 * SECOND, ..RetryPolicy::default() };
        for (row, (method, failures, expected)) in table.into_iter().enumerate() {
            let mut state = RetryState::new(policy, method);
            let last = failures.iter().map(|failure| state.verdict(failure, SECOND, 0.5)).last();
            assert_eq!(last, Some(expected), "row {row}: {method:?} {failures:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(
            attempts in 0u32..u32::MAX,
            elapsed in 0u64..1_000,
            retry_after in proptest::option::of(0u64..1_000),
            random in 0.0..1.0,
        ) {
            let policy = RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() };
            let (elapsed, retry_after) = (SECOND * elapsed as u32, retry_after.map(|s| SECOND * s as u32));
            if let Ok(delay) = policy.next_delay(attempts, elapsed, retry_after, random) {
                prop_assert!(delay <= policy.max_delay + retry_after.unwrap_or_default());
                prop_assert!(delay >= retry_after.unwrap_or_default());
                prop_assert!(elapsed + delay <= policy.max_elapsed);
            }
        }
    }
}
