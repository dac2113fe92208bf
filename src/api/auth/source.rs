//! One token for all who need it: kept while it lives, renewed early and once, and no storm when it can't be had.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    Identity, Prospect, Token, TokenError, TokenProvider,
    key::{self, Stamp},
};

/// Longest time that a look-up may take.
const LONGEST_LOOKUP: Duration = Duration::from_secs(60);
/// First pause after a look-up that failed; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// First pause after credentials were refused.
const FIRST_PAUSE_REFUSED: Duration = Duration::from_secs(5);
/// Longest pause between two look-ups.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest time between two tokens that are replaced because the API refuses them.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(1);

/// Gives tokens for one identity and scope.
///
/// Cheap to clone; clones are the same source.
#[derive(Clone)]
pub struct TokenSource(Arc<Shared>);

struct Shared {
    identity: Identity,
    provider: Arc<dyn TokenProvider>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Counts tokens.
    generation: u64,
    /// Closed when the look-up under way has ended.
    lookup: Option<watch::Receiver<()>>,
    failure: Option<Failure>,
    /// Failures since the last token.
    failures: u32,
    /// Whether it ever gave a token. What fails after that for an unknown reason is taken for a fault that may pass.
    has_worked: bool,
    /// When a token that the API refused was, or is to be, replaced.
    renewed_at: Option<Instant>,
}

struct Failure {
    error: TokenError,
    at: Instant,
    until: Instant,
    file: Option<Stamp>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("identity", &self.0.identity).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source for this identity; nothing is looked up before the first token.
    pub fn new(identity: Identity, provider: Arc<dyn TokenProvider>) -> Self {
        Self(Arc::new(Shared { identity, provider, state: Mutex::default() }))
    }

    /// What no other source has, while this one is there.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// A token, and its number.
    ///
    /// # Errors
    /// What the last look-up said, until it is time for another.
    pub(in crate::api) async fn token(&self) -> Result<(Token, u64), TokenError> {
        loop {
            let ended = {
                let mut state = self.state();
                if let Some(token) = state.token.clone().filter(Token::is_alive) {
                    if token.is_old() && state.lookup.is_none() && !state.is_pausing() {
                        self.look_up(&mut state);
                    }
                    return Ok((token, state.generation));
                }
                match state.lookup.clone() {
                    Some(lookup) => Some(lookup),
                    None if state.is_pausing() => None,
                    None => Some(self.look_up(&mut state)),
                }
            };
            let Some(mut ended) = ended else {
                match self.remembered().await {
                    Some(error) => return Err(error),
                    None => continue,
                }
            };
            _ = ended.changed().await;
            let mut state = self.state();
            if state.lookup.as_ref().is_some_and(|lookup| lookup.has_changed().is_err()) {
                // It ended without an answer, with its runtime.
                state.lookup = None;
                return Err(TokenError::new(Prospect::Passing, "the look-up was broken off"));
            }
            if let Some(failure) = state.failure.as_ref().filter(|_| state.lookup.is_none()) {
                return Err(failure.told());
            }
        }
    }

    /// Forgets the token of this number, because the API refuses it.
    pub(in crate::api) fn renew(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation && state.token.take().is_some() {
            let now = Instant::now();
            let earliest = state.renewed_at.map_or(now, |last| last + BETWEEN_RENEWALS);
            state.renewed_at = Some(earliest.max(now));
        }
    }

    /// Starts a look-up, which goes on when those who wait for it have left.
    fn look_up(&self, state: &mut State) -> watch::Receiver<()> {
        let (ends, ended) = watch::channel(());
        state.lookup = Some(ended.clone());
        let source = self.clone();
        let not_before = state.renewed_at;
        tokio::spawn(async move {
            if let Some(time) = not_before {
                tokio::time::sleep_until(time).await;
            }
            let shared = source.0.clone();
            let answer = tokio::spawn(async move {
                let lookup = async {
                    let file = key::stamp(&shared.identity.credentials).await;
                    (shared.provider.token(&shared.identity).await, file)
                };
                tokio::time::timeout(LONGEST_LOOKUP, lookup).await
            });
            let (answer, file) = match answer.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_elapsed)) => (Err(TokenError::new(Prospect::Passing, "no answer in time")), None),
                // A panic, which must not take others along.
                Err(_) => (Err(TokenError::new(Prospect::Refused, "these credentials can't be used")), None),
            };
            source.state().land(answer, file);
            drop(ends);
        });
        ended
    }

    /// The last failure, as those are told who come after it; none when it is out of date, because the file is another.
    async fn remembered(&self) -> Option<TokenError> {
        let file = key::stamp(&self.0.identity.credentials).await;
        let mut state = self.state();
        let failure = state.failure.as_ref()?;
        if failure.file == file {
            return Some(failure.told());
        }
        state.failure = None;
        state.failures = 0;
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_pausing(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| Instant::now() < failure.until)
    }

    fn land(&mut self, answer: Result<Token, TokenError>, file: Option<Stamp>) {
        self.lookup = None;
        let answer = answer.and_then(|token| match token.is_alive() {
            true => Ok(token),
            // Where it tells its end by the clock, the clock may be wrong.
            false => {
                Err(TokenError::new(Prospect::Passing, "it had ended before it came: is this machine's clock right?"))
            }
        });
        match answer {
            Ok(token) => {
                self.token = Some(token);
                self.generation += 1;
                self.failure = None;
                self.failures = 0;
                self.has_worked = true;
            }
            Err(mut error) => {
                if matches!(error.prospect, Prospect::Doubtful | Prospect::Missing) && self.has_worked {
                    error.prospect = Prospect::Passing;
                }
                let first = if error.prospect == Prospect::Refused { FIRST_PAUSE_REFUSED } else { FIRST_PAUSE };
                let at = Instant::now();
                let until = at + first.saturating_mul(1 << self.failures.min(20)).min(LONGEST_PAUSE);
                self.failures += 1;
                self.failure = Some(Failure { error, at, until, file });
            }
        }
    }
}

impl Failure {
    fn told(&self) -> TokenError {
        let left = self.until.saturating_duration_since(Instant::now());
        let error = TokenError { retry_after: Some(left), ..self.error.clone() };
        if error.prospect != Prospect::Refused || self.at.elapsed() < Duration::from_secs(1) {
            return error;
        }
        let message = format!(
            "{} ({} s ago; they are not tried again for {} s)",
            error.message,
            self.at.elapsed().as_secs(),
            left.as_secs().max(1)
        );
        TokenError { message, ..error }
    }
}

/// One token source for each identity and scope, while it has a token or is in use.
pub struct TokenCache {
    provider: Arc<dyn TokenProvider>,
    sources: Mutex<HashMap<Identity, TokenSource>>,
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}

impl TokenCache {
    /// An empty one, whose tokens come from `provider`.
    pub fn new(provider: Arc<dyn TokenProvider>) -> Self {
        Self { provider, sources: Mutex::default() }
    }

    /// The source for this identity, the same one every time.
    pub fn source(&self, identity: Identity) -> TokenSource {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(&identity) {
            return source.clone();
        }
        // Keys that were replaced are forgotten, and do not pile up.
        sources.retain(|_, source| source.is_of_use());
        let source = TokenSource::new(identity.clone(), self.provider.clone());
        sources.insert(identity, source.clone());
        source
    }
}

impl TokenSource {
    fn is_of_use(&self) -> bool {
        let state = self.state();
        Arc::strong_count(&self.0) > 1 || state.is_pausing() || state.token.as_ref().is_some_and(Token::is_alive)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::pending};

    use super::{
        super::{Credentials, Secret, TokenFuture},
        *,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    /// What a look-up answers.
    enum Answer {
        Token(Duration),
        Fails(Prospect),
        Panics,
        Hangs,
    }

    /// Answers one after the other, after ten milliseconds each.
    #[derive(Default)]
    struct Script {
        answers: Mutex<VecDeque<Answer>>,
        lookups: Mutex<u32>,
    }

    impl TokenProvider for Script {
        fn token<'a>(&'a self, _identity: &'a Identity) -> TokenFuture<'a> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let number = {
                    let mut lookups = self.lookups.lock().unwrap();
                    *lookups += 1;
                    *lookups
                };
                let answer = self.answers.lock().unwrap().pop_front().unwrap();
                match answer {
                    Answer::Token(lifetime) => Ok(Token::new(Secret::new(format!("token-{number}")), lifetime)),
                    Answer::Fails(prospect) => Err(TokenError::new(prospect, format!("failure {number}"))),
                    Answer::Panics => panic!("made up"),
                    Answer::Hangs => pending().await,
                }
            })
        }
    }

    fn identity(credentials: Credentials) -> Identity {
        Identity::new(credentials, false)
    }

    fn source(answers: impl IntoIterator<Item = Answer>) -> (TokenSource, Arc<Script>) {
        let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        (
            TokenSource::new(identity(Credentials::ServiceAccountInfo(Secret::new("very-private"))), script.clone()),
            script,
        )
    }

    async fn token(source: &TokenSource) -> String {
        source.token().await.unwrap().0.secret().reveal().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_share_one_look_up() {
        let (source, script) = source([Answer::Token(HOUR)]);
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                tokio::spawn({
                    let source = source.clone();
                    async move { token(&source).await }
                })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), "token-1");
        }
        assert_eq!(*script.lookups.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_serves_while_the_next_is_looked_up() {
        let (source, script) = source([Answer::Token(HOUR), Answer::Token(HOUR)]);
        token(&source).await;
        tokio::time::advance(HOUR - Duration::from_secs(200)).await;
        let began = Instant::now();
        assert_eq!(token(&source).await, "token-1");
        for _ in 0..100 {
            assert_eq!(token(&source).await, "token-1");
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(token(&source).await, "token-2");
        assert_eq!(*script.lookups.lock().unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_does_not_take_the_token_away() {
        let (source, script) =
            source([Answer::Token(HOUR), Answer::Fails(Prospect::Refused), Answer::Fails(Prospect::Refused)]);
        token(&source).await;
        tokio::time::advance(HOUR - Duration::from_secs(200)).await;
        for _ in 0..4 {
            assert_eq!(token(&source).await, "token-1");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(*script.lookups.lock().unwrap(), 2);
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(source.token().await.unwrap_err().message, "failure 3");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_are_not_asked_for_by_every_run() {
        let (source, script) = source((0..4).map(|_| Answer::Fails(Prospect::Refused)));
        assert_eq!(source.token().await.unwrap_err().message, "failure 1");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let error = source.token().await.unwrap_err();
        assert_eq!(error.message, "failure 1 (3 s ago; they are not tried again for 2 s)");
        assert_eq!(error.retry_after, Some(Duration::from_secs(2)));
        for _ in 0..36 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(source.token().await.is_err());
        }
        // After 5, 10 and 20 seconds.
        assert_eq!(*script.lookups.lock().unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_failure_says_when_to_come_back() {
        let (source, _script) =
            source([Answer::Fails(Prospect::Passing), Answer::Fails(Prospect::Passing), Answer::Token(HOUR)]);
        for pause in [100, 200] {
            let error = source.token().await.unwrap_err();
            assert_eq!((error.prospect, error.retry_after), (Prospect::Passing, Some(Duration::from_millis(pause))));
            tokio::time::sleep(error.retry_after.unwrap()).await;
        }
        assert_eq!(token(&source).await, "token-3");
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_have_worked_are_believed_in_until_they_are_refused() {
        let (source, _script) =
            source([Answer::Token(HOUR), Answer::Fails(Prospect::Doubtful), Answer::Fails(Prospect::Refused)]);
        let (_, generation) = source.token().await.unwrap();
        source.renew(generation);
        let error = source.token().await.unwrap_err();
        assert_eq!(error.prospect, Prospect::Passing);
        tokio::time::sleep(error.retry_after.unwrap()).await;
        assert_eq!(source.token().await.unwrap_err().prospect, Prospect::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_a_silent_server_are_failures_like_others() {
        let (source, _script) = source([Answer::Hangs, Answer::Panics]);
        let error = source.token().await.unwrap_err();
        assert_eq!((error.message.as_str(), error.prospect), ("no answer in time", Prospect::Passing));
        tokio::time::sleep(error.retry_after.unwrap()).await;
        assert_eq!(source.token().await.unwrap_err().prospect, Prospect::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_has_ended_before_it_comes_is_a_failure_and_no_storm() {
        let (source, script) = source([Answer::Token(Duration::ZERO), Answer::Token(HOUR)]);
        let error = source.token().await.unwrap_err();
        assert!(error.message.contains("clock"), "{error}");
        assert_eq!(*script.lookups.lock().unwrap(), 1);
        tokio::time::sleep(error.retry_after.unwrap()).await;
        assert_eq!(token(&source).await, "token-2");
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_gives_up_is_not_in_the_way_of_the_next() {
        let (source, script) = source([Answer::Token(HOUR)]);
        assert!(tokio::time::timeout(Duration::from_millis(5), source.token()).await.is_err());
        assert_eq!(token(&source).await, "token-1");
        assert_eq!(*script.lookups.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_the_api_refuses_are_replaced_once_a_second() {
        let (source, script) = source((0..4).map(|_| Answer::Token(HOUR)));
        let (_, first) = source.token().await.unwrap();
        let began = Instant::now();
        source.renew(first);
        let (_, second) = source.token().await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(20), "the first time at once");
        // Others that hold the first one.
        source.renew(first);
        assert_eq!(source.token().await.unwrap().1, second);
        for _ in 0..2 {
            let (_, generation) = source.token().await.unwrap();
            source.renew(generation);
        }
        source.token().await.unwrap();
        assert_eq!(*script.lookups.lock().unwrap(), 4);
        assert!(began.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_is_read_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = TokenSource::new(
            identity(Credentials::ServiceAccountFile(file.path().into())),
            Arc::new(super::super::GcpAuth::default()),
        );
        assert!(source.token().await.unwrap_err().message.contains("not a JSON object"));
        std::fs::write(file.path(), "{}").unwrap();
        assert!(source.token().await.unwrap_err().message.contains("no client_email"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_identity_has_one_source_for_as_long_as_it_is_of_use() {
        let (_, script) = source([Answer::Token(HOUR)]);
        let cache = TokenCache::new(script);
        let of = |key: &str| cache.source(identity(Credentials::ServiceAccountInfo(Secret::new(key))));
        let (first, other) = (of("a"), of("b"));
        assert_eq!(first.id(), of("a").id());
        assert_ne!(first.id(), other.id());
        token(&first).await;
        drop((first, other));
        of("c");
        assert_eq!(cache.sources.lock().unwrap().len(), 2, "b is forgotten, a has a token");
        tokio::time::advance(HOUR).await;
        of("d");
        assert_eq!(cache.sources.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_source_does_not_show_its_key() {
        assert!(!format!("{:?}", source([]).0).contains("very-private"));
    }
}
