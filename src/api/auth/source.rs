//! One token for all calls of a principal.
//!
//! # Guarantees
//! - One look-up at a time, however many calls wait for a token. It goes on when its callers give up.
//! - A token is renewed before it expires, in the background; it stays in use while its renewal fails.
//! - After a failed look-up, callers get its error until a growing pause has passed, so a failing token endpoint is not
//!   flooded. A key file that was replaced is read at once.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    route::{self, FileStamp},
    token::{Principal, Token, TokenError, TokenErrorKind, TokenProvider},
};

/// Maximum duration of a look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after the first failed look-up. Every further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The same for credentials that were rejected: they seldom become valid on their own.
const FIRST_PAUSE_REJECTED: Duration = Duration::from_secs(5);
/// Maximum pause between two look-ups.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Minimum time between two renewals of tokens that the API rejected.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Gives out the tokens of one principal.
///
/// Clones are cheap and share one token.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

struct Inner {
    principal: Principal,
    provider: Arc<dyn TokenProvider>,
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    token: Option<Token>,
    /// Number of tokens that were obtained so far; it identifies the current one.
    generation: u64,
    /// The look-up in progress. Its sender is dropped when the look-up ends.
    lookup: Option<watch::Receiver<()>>,
    /// The last look-up, if it failed.
    failed: Option<FailedLookup>,
    /// Failures since the last token.
    failures: u32,
    /// Whether a look-up ever succeeded. Ambiguous errors are taken for transient ones from then on.
    has_worked: bool,
    /// Earliest time of the next look-up, after the API rejected a token.
    renew_not_before: Option<Instant>,
}

struct FailedLookup {
    error: TokenError,
    at: Instant,
    /// End of the pause before the next look-up.
    until: Instant,
    /// The credentials' file as it was then.
    file: Option<FileStamp>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("principal", &self.0.principal).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source for this principal. The first call of `token` starts the first look-up.
    pub fn new(principal: Principal, provider: Arc<dyn TokenProvider>) -> Self {
        Self(Arc::new(Inner { principal, provider, state: Mutex::default() }))
    }

    /// Identifies the source among those that exist at the same time.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// A token, and its generation for [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    /// The error of the last look-up, until its pause has passed.
    pub(in crate::api) async fn token(&self) -> Result<(Token, u64), TokenError> {
        loop {
            let lookup = {
                let mut state = self.state();
                if let Some(token) = state.token.clone().filter(Token::is_valid) {
                    if token.is_due_for_renewal() && state.lookup.is_none() && !state.is_pausing() {
                        self.start_lookup(&mut state);
                    }
                    return Ok((token, state.generation));
                }
                match state.lookup.clone() {
                    Some(lookup) => Some(lookup),
                    None if state.is_pausing() => None,
                    None => Some(self.start_lookup(&mut state)),
                }
            };
            let Some(mut lookup) = lookup else {
                match self.last_error().await {
                    Some(error) => return Err(error),
                    None => continue,
                }
            };
            // Ends with an error when the look-up has dropped its sender, which is its end.
            _ = lookup.changed().await;
            let mut state = self.state();
            if state.lookup.as_ref().is_some_and(|lookup| lookup.has_changed().is_err()) {
                // The look-up stored no result: its runtime was shut down.
                state.lookup = None;
                return Err(TokenError::new(TokenErrorKind::Transient, "the token look-up was interrupted"));
            }
            if let Some(failed) = state.failed.as_ref().filter(|_| state.lookup.is_none()) {
                return Err(failed.report());
            }
        }
    }

    /// Drops the token of this generation, because the API rejected it. The next call of `token` looks another one up.
    pub(in crate::api) fn invalidate(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation && state.token.take().is_some() {
            let now = Instant::now();
            let earliest = state.renew_not_before.map_or(now, |last| last + RENEWAL_INTERVAL);
            state.renew_not_before = Some(earliest.max(now));
        }
    }

    /// Starts a look-up that goes on when its callers give up.
    fn start_lookup(&self, state: &mut SourceState) -> watch::Receiver<()> {
        let (sender, receiver) = watch::channel(());
        state.lookup = Some(receiver.clone());
        let source = self.clone();
        let not_before = state.renew_not_before;
        tokio::spawn(async move {
            if let Some(time) = not_before {
                tokio::time::sleep_until(time).await;
            }
            let inner = source.0.clone();
            // A task of its own, so that a provider's panic ends in an error here.
            let lookup = tokio::spawn(async move {
                let lookup = async {
                    let file = route::file_stamp(&inner.principal.credentials).await;
                    (inner.provider.token(&inner.principal).await, file)
                };
                tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await
            });
            let (result, file) = match lookup.await {
                Ok(Ok(result)) => result,
                Ok(Err(_elapsed)) => {
                    let message = format!("no response within {} s", LOOKUP_TIMEOUT.as_secs());
                    (Err(TokenError::new(TokenErrorKind::Transient, message)), None)
                }
                Err(_panic) => {
                    (Err(TokenError::new(TokenErrorKind::Rejected, "these credentials can't be used")), None)
                }
            };
            source.state().store(result, file);
            drop(sender);
        });
        receiver
    }

    /// The error of the last look-up. `None` when it no longer applies, because the credentials' file was replaced.
    async fn last_error(&self) -> Option<TokenError> {
        let file = route::file_stamp(&self.0.principal.credentials).await;
        let mut state = self.state();
        let failed = state.failed.as_ref()?;
        if failed.file == file {
            return Some(failed.report());
        }
        state.failed = None;
        state.failures = 0;
        None
    }

    /// Whether the source is in use, has a valid token, or keeps a failing token endpoint from being flooded.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let state = self.state();
        Arc::strong_count(&self.0) > 1 || state.is_pausing() || state.token.as_ref().is_some_and(Token::is_valid)
    }

    fn state(&self) -> MutexGuard<'_, SourceState> {
        // The state is consistent after every statement, so a panic elsewhere does no harm.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceState {
    fn is_pausing(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| Instant::now() < failed.until)
    }

    /// Stores the result of the look-up that has ended.
    fn store(&mut self, result: Result<Token, TokenError>, file: Option<FileStamp>) {
        self.lookup = None;
        let result = result.and_then(|token| match token.is_valid() {
            true => Ok(token),
            // Some issuers give the time of expiry, not the lifetime, and the clock may be wrong.
            false => {
                let message = "the token had expired when it arrived: check this machine's clock";
                Err(TokenError::new(TokenErrorKind::Transient, message))
            }
        });
        match result {
            Ok(token) => {
                self.token = Some(token);
                self.generation += 1;
                self.failed = None;
                self.failures = 0;
                self.has_worked = true;
            }
            Err(mut error) => {
                let is_unclear = matches!(error.kind, TokenErrorKind::Ambiguous | TokenErrorKind::NoCredentials);
                if is_unclear && self.has_worked {
                    error.kind = TokenErrorKind::Transient;
                }
                let is_rejected = error.kind == TokenErrorKind::Rejected;
                let first = if is_rejected { FIRST_PAUSE_REJECTED } else { FIRST_PAUSE };
                let at = Instant::now();
                let until = at + first.saturating_mul(1 << self.failures.min(20)).min(MAX_PAUSE);
                self.failures += 1;
                self.failed = Some(FailedLookup { error, at, until, file });
            }
        }
    }
}

impl FailedLookup {
    /// The error as callers get it. A rejection that is more than a second old says how old it is and when the next
    /// look-up follows, because a person may just have changed something.
    fn report(&self) -> TokenError {
        let left = self.until.saturating_duration_since(Instant::now());
        let error = TokenError { retry_after: Some(left), ..self.error.clone() };
        if error.kind != TokenErrorKind::Rejected || self.at.elapsed() < Duration::from_secs(1) {
            return error;
        }
        let (age, left) = (self.at.elapsed().as_secs(), left.as_secs().max(1));
        TokenError { message: format!("{} ({age} s ago; retried in {left} s)", error.message), ..error }
    }
}

#[cfg(test)]
mod tests;
