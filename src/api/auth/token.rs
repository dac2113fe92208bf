//! Identities, tokens, and what gives one for the other.

use std::{fmt, path::PathBuf, pin::Pin, time::Duration};

use thiserror::Error;
use tokio::time::Instant;

/// Scope of every token (discovery document, `auth.oauth2.scopes`).
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Longest time before its end that a token is renewed: the metadata server gives out its own until five minutes before.
const EARLIEST_RENEWAL: Duration = Duration::from_secs(240);
/// How long before its end a token is not sent any more, since it takes time to arrive.
const ON_THE_WAY: Duration = Duration::from_secs(10);

/// Longer is no token's life, and may be no time at all.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Text that shows in no log, error or debug output.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whom the worker authenticates as.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Credentials {
    /// Whatever the environment offers: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, the metadata server, gcloud.
    ApplicationDefault,
    /// A service account's key file.
    ServiceAccountFile(PathBuf),
    /// A service account's key, as the JSON text of such a file.
    ServiceAccountInfo(Secret),
}

/// Whom a token is for, and what.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    /// Whom the worker authenticates as.
    pub credentials: Credentials,
    /// What the token is for.
    pub scope: &'static str,
    /// Whether a key's token endpoint may be on this machine, as the API's own is. Else it is Google's: blocks and job
    /// variables, which carry keys, must not make the worker call something else.
    pub is_local: bool,
}

impl Identity {
    /// Whoever calls the API, which is on this machine or Google's.
    pub fn new(credentials: Credentials, is_local: bool) -> Self {
        Self { credentials, scope: SCOPE, is_local }
    }
}

/// An access token, and when to get another.
#[derive(Clone, Debug)]
pub struct Token {
    secret: Secret,
    quota_project: Option<String>,
    renew_at: Instant,
    ends_at: Instant,
}

impl Token {
    /// One that has just been given for `lifetime`, of which a day counts at most.
    pub fn new(secret: Secret, lifetime: Duration) -> Self {
        let (now, lifetime) = (Instant::now(), lifetime.min(LONGEST_LIFETIME));
        Self {
            secret,
            quota_project: None,
            renew_at: now + lifetime - EARLIEST_RENEWAL.min(lifetime / 4),
            ends_at: now + lifetime - ON_THE_WAY.min(lifetime / 10),
        }
    }

    /// The same, with the project that its calls count for (`x-goog-user-project`), if it is not the API's own.
    pub fn with_quota_project(self, quota_project: Option<String>) -> Self {
        Self { quota_project, ..self }
    }

    /// The token itself.
    pub(in crate::api) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The project that its calls count for.
    pub(in crate::api) fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
    }

    /// Whether it can be sent.
    pub(super) fn is_alive(&self) -> bool {
        Instant::now() < self.ends_at
    }

    /// Whether it is time to get another.
    pub(super) fn is_old(&self) -> bool {
        Instant::now() >= self.renew_at
    }
}

/// No token could be had.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[error("no access token: {message}")]
pub struct TokenError {
    /// Why, without secrets.
    pub message: String,
    /// Whether one may be had later.
    pub prospect: Prospect,
    /// How long no other attempt is made.
    pub retry_after: Option<Duration>,
}

/// Whether a token may be had later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prospect {
    /// The token's server could not be asked, or was out of order.
    Passing,
    /// It can't be told a failing server from a refusal.
    Doubtful,
    /// There are no credentials.
    Missing,
    /// These credentials can't be read, or are refused.
    Refused,
}

impl TokenError {
    /// A failure of this prospect.
    pub fn new(prospect: Prospect, message: impl Into<String>) -> Self {
        Self { message: message.into(), prospect, retry_after: None }
    }
}

/// What a provider promises.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + 'a>>;

/// Gets a new token from Google, or from whoever gives it, with every call.
pub trait TokenProvider: Send + Sync {
    /// A token of `identity`.
    fn token<'a>(&'a self, identity: &'a Identity) -> TokenFuture<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let credentials = Credentials::ServiceAccountInfo(Secret::new("very-private"));
        let token = Token::new(Secret::new("very-private"), Duration::ZERO);
        assert!(!format!("{credentials:?} {token:?}").contains("very-private"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_early_and_used_to_its_end() {
        let token = Token::new(Secret::new("t"), Duration::from_secs(3600));
        tokio::time::advance(Duration::from_secs(3359)).await;
        assert!(!token.is_old());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(token.is_old() && token.is_alive());
        tokio::time::advance(Duration::from_secs(230)).await;
        assert!(!token.is_alive());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_a_short_life_serves_most_of_it() {
        let token = Token::new(Secret::new("t"), Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!token.is_old());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(token.is_old() && token.is_alive());
        assert!(!Token::new(Secret::new("t"), Duration::ZERO).is_alive());
        assert!(Token::new(Secret::new("t"), Duration::MAX).is_alive());
    }
}
