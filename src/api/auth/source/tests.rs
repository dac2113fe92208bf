//! The token source with a paused clock and a provider that follows a script.

use std::{collections::VecDeque, future::pending};

use super::*;
use crate::{
    api::auth::{
        gcp::GcpAuth,
        token::{Credentials, TokenFuture},
    },
    secret::Secret,
};

const HOUR: Duration = Duration::from_secs(3600);

/// How a look-up ends.
enum Lookup {
    Token(Duration),
    Fails(TokenErrorKind),
    Panics,
    Hangs,
}

/// A provider whose look-ups end in this order, after ten milliseconds each.
#[derive(Default)]
struct Script {
    ends: Mutex<VecDeque<Lookup>>,
    lookups: Mutex<u32>,
}

impl TokenProvider for Script {
    fn token<'a>(&'a self, _identity: &'a Principal) -> TokenFuture<'a> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let number = {
                let mut lookups = self.lookups.lock().unwrap();
                *lookups += 1;
                *lookups
            };
            let end = self.ends.lock().unwrap().pop_front().unwrap();
            match end {
                Lookup::Token(lifetime) => Ok(Token::new(Secret::new(format!("token-{number}")), lifetime)),
                Lookup::Fails(kind) => Err(TokenError::new(kind, format!("failure {number}"))),
                Lookup::Panics => panic!("made up"),
                Lookup::Hangs => pending().await,
            }
        })
    }
}

fn principal(credentials: Credentials) -> Principal {
    Principal::new(credentials, false)
}

fn source(ends: impl IntoIterator<Item = Lookup>) -> (TokenSource, Arc<Script>) {
    let script = Arc::new(Script { ends: Mutex::new(ends.into_iter().collect()), ..Script::default() });
    (TokenSource::new(principal(Credentials::ServiceAccountInfo(Secret::new("very-private"))), script.clone()), script)
}

async fn token(source: &TokenSource) -> String {
    source.token().await.unwrap().0.secret().reveal().to_owned()
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_lookup() {
    let (source, script) = source([Lookup::Token(HOUR)]);
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
async fn an_old_token_is_used_during_its_renewal() {
    let (source, script) = source([Lookup::Token(HOUR), Lookup::Token(HOUR)]);
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
async fn a_failed_renewal_keeps_the_token() {
    let (source, script) =
        source([Lookup::Token(HOUR), Lookup::Fails(TokenErrorKind::Rejected), Lookup::Fails(TokenErrorKind::Rejected)]);
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
async fn rejected_credentials_are_not_tried_by_every_run() {
    let (source, script) = source((0..4).map(|_| Lookup::Fails(TokenErrorKind::Rejected)));
    assert_eq!(source.token().await.unwrap_err().message, "failure 1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let error = source.token().await.unwrap_err();
    assert_eq!(error.message, "failure 1 (3 s ago; retried in 2 s)");
    assert_eq!(error.retry_after, Some(Duration::from_secs(2)));
    for _ in 0..36 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(source.token().await.is_err());
    }
    // The pauses are 5, 10 and 20 seconds.
    assert_eq!(*script.lookups.lock().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_says_when_to_retry() {
    let (source, _script) = source([
        Lookup::Fails(TokenErrorKind::Transient),
        Lookup::Fails(TokenErrorKind::Transient),
        Lookup::Token(HOUR),
    ]);
    for pause in [100, 200] {
        let error = source.token().await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (TokenErrorKind::Transient, Some(Duration::from_millis(pause))));
        tokio::time::sleep(error.retry_after.unwrap()).await;
    }
    assert_eq!(token(&source).await, "token-3");
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_failure_is_transient_once_the_credentials_have_worked() {
    let (source, _script) = source([
        Lookup::Token(HOUR),
        Lookup::Fails(TokenErrorKind::Ambiguous),
        Lookup::Fails(TokenErrorKind::Rejected),
    ]);
    let (_, generation) = source.token().await.unwrap();
    source.invalidate(generation);
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind, TokenErrorKind::Transient);
    tokio::time::sleep(error.retry_after.unwrap()).await;
    assert_eq!(source.token().await.unwrap_err().kind, TokenErrorKind::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_silent_server_are_failures() {
    let (source, _script) = source([Lookup::Hangs, Lookup::Panics]);
    let error = source.token().await.unwrap_err();
    assert_eq!((error.message.as_str(), error.kind), ("no response within 60 s", TokenErrorKind::Transient));
    tokio::time::sleep(error.retry_after.unwrap()).await;
    assert_eq!(source.token().await.unwrap_err().kind, TokenErrorKind::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_on_arrival_is_a_failure() {
    let (source, script) = source([Lookup::Token(Duration::ZERO), Lookup::Token(HOUR)]);
    let error = source.token().await.unwrap_err();
    assert!(error.message.contains("clock"), "{error}");
    assert_eq!(*script.lookups.lock().unwrap(), 1);
    tokio::time::sleep(error.retry_after.unwrap()).await;
    assert_eq!(token(&source).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_stop_the_lookup() {
    let (source, script) = source([Lookup::Token(HOUR)]);
    assert!(tokio::time::timeout(Duration::from_millis(5), source.token()).await.is_err());
    assert_eq!(token(&source).await, "token-1");
    assert_eq!(*script.lookups.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_tokens_are_replaced_once_per_second() {
    let (source, script) = source((0..4).map(|_| Lookup::Token(HOUR)));
    let (_, first) = source.token().await.unwrap();
    let began = Instant::now();
    source.invalidate(first);
    let (_, second) = source.token().await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(20), "the first renewal starts at once");
    // Another caller had the first token rejected too.
    source.invalidate(first);
    assert_eq!(source.token().await.unwrap().1, second);
    for _ in 0..2 {
        let (_, generation) = source.token().await.unwrap();
        source.invalidate(generation);
    }
    source.token().await.unwrap();
    assert_eq!(*script.lookups.lock().unwrap(), 4);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_replaced_file_is_read_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let source =
        TokenSource::new(principal(Credentials::ServiceAccountFile(file.path().into())), Arc::new(GcpAuth::default()));
    assert!(source.token().await.unwrap_err().message.contains("not a JSON object"));
    std::fs::write(file.path(), "{}").unwrap();
    assert!(source.token().await.unwrap_err().message.contains("no client_email"));
}

#[test]
fn a_source_does_not_print_its_key() {
    assert!(!format!("{:?}", source([]).0).contains("very-private"));
}
