//! The one way of every call: wait for the quota, check the guard, attempt, decide about another attempt, pause.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::{
    attempt_error::AttemptError,
    auth::TokenSource,
    endpoint::Endpoint,
    error::{ApiError, ApiResult, RetryBudget},
    error_kind::ErrorKind,
    guard::{FRESH_READ_MAX_AGE, Guard},
    http::{Request, authorize},
    method::{ApiMethod, Quota},
    pool::HttpPool,
    quota::{Permit, QuotaQueues},
    redact::Redactor,
    response::{ApiResponse, parse},
    retry::{RetryPolicy, RetryState, RetryVerdict},
    retry_after::RetryAfter,
};

/// Maximum duration of a guard's check, which holds a permit meanwhile.
const GUARD_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a call reports while it is in progress.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An attempt failed, and another one follows.
    Retry(RetryNotice),
    /// The call waits, because this quota is used up for now.
    RateLimited(Quota),
}

/// A failed attempt that will be repeated.
#[derive(Clone, Debug)]
pub struct RetryNotice {
    /// The attempt's error.
    pub error: ApiError,
    /// The pause before the next attempt.
    pub pause: Duration,
}

/// What all calls to one project and region share.
#[derive(Clone)]
pub struct Transport {
    /// The process's connections.
    pub http: HttpPool,
    /// Address of the region's API.
    pub endpoint: Endpoint,
    /// Project id.
    pub project: String,
    /// Region of the endpoint.
    pub region: String,
    /// Gives the tokens. Not used when the endpoint needs none.
    pub tokens: TokenSource,
    /// The queues in which calls wait for a quota.
    pub quotas: Arc<QuotaQueues>,
    /// Maximum time that a call waits for its quota, before and between its attempts together.
    pub quota_wait_max: Duration,
    /// Budget of each call. Waits for a quota do not count against it.
    pub retry: RetryPolicy,
    /// Maximum duration of one attempt.
    pub attempt_timeout: Duration,
    /// Random numbers from 0 to 1, for the pauses between attempts.
    pub random: fn() -> f64,
    /// Called for every attempt that will be repeated, and for waits for a quota. Must not block.
    pub on_notice: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Transport {
    /// Sends a call until it succeeds, its error is final, or its budget is used up.
    ///
    /// Two budgets apply. The retry budget counts attempts and pauses. Waits for a quota and attempts that a quota refused
    /// count against `quota_wait_max` only, because they say nothing about the health of the API.
    pub(super) async fn send<T: ApiResponse>(&self, request: &Request<'_>) -> ApiResult<T> {
        let mut call = PendingCall::new(self, request);
        loop {
            let permit = call.wait_for_permit().await?;
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

    async fn attempt<T: ApiResponse>(&self, request: &Request<'_>) -> Result<T, AttemptError> {
        let http = self.http.current();
        let mut builder = request.build(&http.client, &self.endpoint, &self.project).timeout(self.attempt_timeout);
        let mut token_used = None;
        if self.endpoint.needs_token() {
            // A token look-up may take longer than an attempt may.
            let token = timeout(self.attempt_timeout, self.tokens.token()).await;
            let late = |_elapsed| AttemptError::new(ErrorKind::NoToken, false, "no access token in time");
            let (token, generation) = token.map_err(late)??;
            builder = authorize(builder, &token)?;
            token_used = Some((token, generation));
        }

        let received = async {
            let response = builder.send().await?;
            let (status, retry_after) = (response.status(), RetryAfter::from_headers(response.headers()));
            Ok((status, retry_after, response.bytes().await?))
        };
        let (status, retry_after, body) = match received.await {
            // A connection that could not be made is not in the pool.
            Err(error) if reqwest::Error::is_timeout(&error) && !error.is_connect() => {
                self.http.renew(&http).await;
                return Err(error.into());
            }
            received => received?,
        };
        let secret = token_used.as_ref().map(|(token, _)| token.secret());
        let redactor = || Redactor::new(secret, request.body, &[&self.project, &self.region, request.name]);
        parse(status, &body, redactor).map_err(|failure| {
            let generation = token_used.as_ref().map(|(_, generation)| *generation);
            let rejected_token = generation.filter(|_| status == StatusCode::UNAUTHORIZED);
            AttemptError { retry_after, rejected_token, ..failure }
        })
    }

    /// The error of one attempt of a call in this project and region, without a response.
    pub fn error(&self, method: ApiMethod, name: &str, kind: ErrorKind, message: String) -> ApiError {
        ApiError::new(method, kind, (&self.project, &self.region), name, message)
    }

    /// Identifies the project and region, as a key for what their callers share.
    pub fn scope(&self) -> String {
        self.endpoint.scope(&self.project)
    }

    /// Identifies a job among those of all projects and regions.
    pub fn job_address(&self, job: &str) -> String {
        format!("{}/{job}", self.scope())
    }
}

/// A call in progress.
struct PendingCall<'a> {
    transport: &'a Transport,
    request: &'a Request<'a>,
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
    /// When the guard's job was last read. `None` when that read no longer counts.
    checked_at: Option<Instant>,
    retries: RetryState,
}

impl<'a> PendingCall<'a> {
    fn new(transport: &'a Transport, request: &'a Request<'a>) -> Self {
        let (method, row) = (request.method, request.method.row());
        // A job that is not deleted in time leaks, so a delete waits at least as long as the retry budget.
        let frees_resources = method.is_write() && row.urgent;
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
            checked_at: Instant::now().checked_sub(request.guard.map_or(Duration::ZERO, Guard::read_age)),
            retries: RetryState::new(transport.retry, method),
        }
    }

    /// Waits until the quota admits an attempt.
    async fn wait_for_permit(&mut self) -> ApiResult<Permit<'a>> {
        let (transport, row) = (self.transport, self.request.method.row());
        let began = Instant::now();
        let on_wait = || (transport.on_notice)(Notice::RateLimited(row.quota));
        let left = self.quota_wait_max.saturating_sub(self.quota_waited);
        let permit = transport.quotas.queue(row.quota).acquire(row.urgent, left, on_wait).await;
        self.quota_waited += began.elapsed();
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
    /// Returns `None` when the call had to wait for its guard. It gave the permit back meanwhile, so that other calls could
    /// use it, and waits for a new one.
    async fn pass_guard(&mut self, permit: Permit<'a>) -> ApiResult<Option<Permit<'a>>> {
        let Some(guard) = self.request.guard else { return Ok(Some(permit)) };
        // A time-out of zero polls the guard once: is it open now? If not, the check would be in vain.
        let is_open = async || timeout(Duration::ZERO, guard.wait_until_open()).await.is_ok();
        let is_open_before = is_open().await;
        if is_open_before && self.checked_at.is_none_or(|checked| checked.elapsed() > FRESH_READ_MAX_AGE) {
            // A check that takes too long counts as passed: it must not hold the permit for longer.
            if timeout(GUARD_CHECK_TIMEOUT, guard.still_valid()).await == Ok(false) {
                permit.withdraw();
                let message = "the job was deleted or replaced while the call waited".to_owned();
                let (attempts, elapsed, maybe_done) = (self.attempts, self.began.elapsed(), self.maybe_done);
                let error = self.error(ErrorKind::NotFound, message);
                return Err(Box::new(ApiError { attempts, elapsed, maybe_done, ..error }));
            }
            self.checked_at = Some(Instant::now());
        }
        if !is_open_before || !is_open().await {
            permit.withdraw();
            guard.wait_until_open().await;
            // What kept the guard closed may have changed the job.
            self.checked_at = None;
            return Ok(None);
        }
        Ok(Some(permit))
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
