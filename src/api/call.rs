//! The one way of every call: wait for the quota, check the guard, attempt, decide about another attempt, pause.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    attempt_error::AttemptError,
    error::{ApiError, ApiResult, RetryBudget},
    error_kind::ErrorKind,
    guard::{FRESH_READ_MAX_AGE, Guard},
    http::Request,
    method::Priority,
    quota::Permit,
    response::ApiResponse,
    retry::{RetryState, RetryVerdict},
    retry_after::RetryAfter,
    transport::{Notice, RetryNotice, Transport},
};

/// How long a guard's check may hold a permit. A check can take longer, because reads wait for their quota.
const GUARD_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a guard's check that failed.
const FAILED_CHECK_PAUSE: Duration = Duration::from_secs(2);

impl Transport {
    /// Sends a call until it succeeds, its error is final, or its budget is used up.
    ///
    /// Two budgets apply. The retry budget counts attempts and pauses. Waits for a quota and attempts that a quota refused
    /// count against `quota_wait_max` only, because they say nothing about the health of the API.
    ///
    /// `permit`: that of the first attempt, if the caller has waited for it ([`Transport::admit`]). If the quota refuses that
    /// attempt, this is the call's error.
    pub(super) async fn send<T: ApiResponse>(
        &self,
        request: &Request<'_>,
        permit: Option<CallPermit<'_>>,
    ) -> ApiResult<T> {
        let mut call = PendingCall::new(self, request);
        let mut first = permit.and_then(|mut permit| permit.0.take());
        let is_formed_late = first.is_some();
        loop {
            let permit = match first.take() {
                Some(permit) => permit,
                None => call.wait_for_permit().await?,
            };
            let Some(permit) = call.pass_guard(permit).await? else { continue };

            // In a box, so that the many calls that wait for a permit take little memory.
            let began = Instant::now();
            call.tell_guard(true);
            let failure = match Box::pin(self.attempt(request)).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let error = call.record(&failure);
            call.tell_guard(call.maybe_done);
            if failure.kind == ErrorKind::RateLimited {
                permit.refused(failure.retry_after);
                // The caller waits for another permit, and forms another request then.
                if is_formed_late {
                    return Err(error);
                }
                call.last_refusal = Some(error);
                continue;
            }
            drop(permit);

            let pause = match call.retries.verdict(&failure, began.elapsed(), (self.random)()) {
                RetryVerdict::Permanent => return Err(error),
                RetryVerdict::Exhausted(budget) => {
                    return Err(Box::new(ApiError { exhausted: Some(budget), ..*error }));
                }
                RetryVerdict::Retry(pause) => pause,
            };
            if let Some(generation) = failure.rejected_token {
                self.tokens.invalidate(generation);
            }
            (self.on_notice)(Notice::Retry(RetryNotice { error: *error, pause }));
            sleep(pause).await;
        }
    }

    /// Waits until the quota of this request admits a call, so that the caller can form the real request then.
    pub(super) async fn admit(&self, request: &Request<'_>) -> ApiResult<CallPermit<'_>> {
        let permit = PendingCall::new(self, request).wait_for_permit().await?;
        Ok(CallPermit(Some(permit)))
    }
}

/// The permission of a quota for a call whose request is not formed yet. Dropping it gives it back.
pub struct CallPermit<'a>(Option<Permit<'a>>);

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Permit::withdraw);
    }
}

/// A call in progress, on the transport `'t`.
struct PendingCall<'t, 'r> {
    transport: &'t Transport,
    request: &'r Request<'r>,
    began: Instant,
    quota_wait_max: Duration,
    /// The setting that `quota_wait_max` comes from.
    quota_wait_budget: RetryBudget,
    /// Time spent on waits for the quota so far.
    quota_waited: Duration,
    /// All attempts, those that a quota refused included.
    attempts: u32,
    maybe_done: bool,
    /// The last refusal by the quota.
    last_refusal: Option<Box<ApiError>>,
    /// Time spent on the guard's checks, and between those that failed.
    guard_checked: Duration,
    /// When the guard's job was last read. `None` when that read no longer counts.
    checked_at: Option<Instant>,
    retries: RetryState,
}

impl<'t, 'r> PendingCall<'t, 'r> {
    fn new(transport: &'t Transport, request: &'r Request<'r>) -> Self {
        let (method, row) = (request.method, request.method.row());
        // A job that is not deleted in time leaks, so a delete waits at least as long as the retry budget.
        let frees_resources = method.is_write() && row.priority == Priority::High;
        let retry_time = if frees_resources { transport.retry.max_elapsed } else { Duration::ZERO };
        Self {
            transport,
            request,
            began: Instant::now(),
            quota_wait_max: transport.quota_wait_max.max(retry_time),
            quota_wait_budget: if retry_time > transport.quota_wait_max {
                RetryBudget::Time
            } else {
                RetryBudget::QuotaWait
            },
            quota_waited: Duration::ZERO,
            attempts: 0,
            maybe_done: false,
            last_refusal: None,
            guard_checked: Duration::ZERO,
            checked_at: Instant::now().checked_sub(request.guard.map_or(Duration::ZERO, Guard::read_age)),
            retries: RetryState::new(transport.retry, method),
        }
    }

    /// Waits until the quota admits an attempt.
    async fn wait_for_permit(&mut self) -> ApiResult<Permit<'t>> {
        let (transport, row) = (self.transport, self.request.method.row());
        let began = Instant::now();
        let on_wait = || (transport.on_notice)(Notice::RateLimited(row.quota));
        let left = self.quota_wait_max.saturating_sub(self.quota_waited);
        let permit = transport.quotas.queue(row.quota).acquire(self.request.priority, left, on_wait).await;
        self.quota_waited += began.elapsed();
        self.request.guard.into_iter().for_each(|guard| guard.waited(began.elapsed()));
        permit.ok_or_else(|| {
            let error = self.last_refusal.take().unwrap_or_else(|| {
                let message = format!("still rate limited after {} s", self.quota_waited.as_secs());
                Box::new(self.error(ErrorKind::RateLimited, message))
            });
            Box::new(ApiError {
                attempts: self.attempts,
                elapsed: self.began.elapsed(),
                exhausted: Some(self.quota_wait_budget),
                maybe_done: self.maybe_done,
                ..*error
            })
        })
    }

    /// Lets a guarded call pass with its permit, if its guard is open and its job is still the one that was read.
    ///
    /// Returns `None` when the call gave its permit back, so that other calls can use it, and has to wait for a new one: its
    /// guard was not open, or its job could not be read.
    async fn pass_guard(&mut self, permit: Permit<'t>) -> ApiResult<Option<Permit<'t>>> {
        let Some(guard) = self.request.guard else { return Ok(Some(permit)) };
        // While the guard is not open, a check would be in vain.
        if !is_open(guard).await {
            return Ok(self.wait_until_open(guard, permit).await);
        }
        let Some(permit) = self.check_job(guard, permit).await? else { return Ok(None) };
        if !is_open(guard).await {
            return Ok(self.wait_until_open(guard, permit).await);
        }
        Ok(Some(permit))
    }

    async fn wait_until_open(&mut self, guard: &dyn Guard, permit: Permit<'t>) -> Option<Permit<'t>> {
        permit.withdraw();
        guard.wait_until_open().await;
        // What kept the guard closed may have changed the job.
        self.checked_at = None;
        None
    }

    /// Asks the guard for the job, unless it was read just now. Returns `None` if the permit was given back meanwhile.
    async fn check_job(&mut self, guard: &dyn Guard, permit: Permit<'t>) -> ApiResult<Option<Permit<'t>>> {
        if self.checked_at.is_some_and(|checked| checked.elapsed() <= FRESH_READ_MAX_AGE) {
            return Ok(Some(permit));
        }
        let began = Instant::now();
        let check = guard.still_valid();
        tokio::pin!(check);
        let (permit, check) = match timeout(GUARD_CHECK_TIMEOUT, check.as_mut()).await {
            Ok(check) => (Some(permit), check),
            Err(_elapsed) => {
                permit.withdraw();
                (None, check.await)
            }
        };
        self.guard_checked += began.elapsed();
        guard.waited(began.elapsed());
        let error = match check {
            Ok(true) => {
                self.checked_at = Some(Instant::now());
                return Ok(permit);
            }
            Ok(false) => {
                let message = "the job was deleted or replaced while the call waited".to_owned();
                Box::new(self.error(ErrorKind::NotFound, message))
            }
            Err(error) => error,
        };
        permit.into_iter().for_each(Permit::withdraw);
        let left = self.quota_wait_max.max(self.transport.retry.max_elapsed).saturating_sub(self.guard_checked);
        if !error.may_pass() || left.is_zero() {
            let exhausted = error.exhausted.or(error.may_pass().then_some(self.quota_wait_budget));
            let (attempts, elapsed, maybe_done) = (self.attempts, self.began.elapsed(), self.maybe_done);
            return Err(Box::new(ApiError { attempts, elapsed, maybe_done, exhausted, ..*error }));
        }
        let pause = error.pause_at_least(FAILED_CHECK_PAUSE).min(left);
        self.guard_checked += pause;
        guard.waited(pause);
        sleep(pause).await;
        Ok(None)
    }

    fn tell_guard(&self, maybe_done: bool) {
        self.request.guard.into_iter().for_each(|guard| guard.attempted(maybe_done));
    }

    /// Counts a failed attempt, and makes the error that the call has if it is the last one.
    fn record(&mut self, failure: &AttemptError) -> Box<ApiError> {
        self.attempts += 1;
        self.maybe_done |= failure.maybe_done && self.request.method.is_write();
        Box::new(ApiError {
            status: failure.status,
            reason: failure.reason.clone(),
            retry_after: failure.retry_after.map(RetryAfter::for_pause),
            attempts: self.attempts,
            elapsed: self.began.elapsed(),
            maybe_done: self.maybe_done,
            source: failure.source.clone(),
            ..self.error(failure.kind, failure.message.clone())
        })
    }

    fn error(&self, kind: ErrorKind, message: String) -> ApiError {
        self.transport.error(self.request.method, self.request.name, kind, message)
    }
}

/// Whether a guard is open now.
async fn is_open(guard: &dyn Guard) -> bool {
    // A time-out of zero polls it once.
    timeout(Duration::ZERO, guard.wait_until_open()).await.is_ok()
}
