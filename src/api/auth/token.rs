//! Credentials, the principals and tokens made of them, and the provider that turns one into the other.

use std::{path::PathBuf, pin::Pin, time::Duration};

use thiserror::Error;
use tokio::time::Instant;

use crate::secret::Secret;

/// Scope of every token (discovery document, `auth.oauth2.scopes`).
pub const TOKEN_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// A token is renewed at most this long before it expires. The metadata server hands out its cached token until about
/// five minutes before the end, so asking earlier would return the same token.
const RENEWAL_MARGIN: Duration = Duration::from_secs(240);
/// A token is not sent in this last part of its lifetime: the request takes time to arrive.
const TRANSIT_MARGIN: Duration = Duration::from_secs(10);
/// Upper bound of a token's lifetime. Larger values are mistakes, and may not fit into a time.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The credentials that the worker authenticates with.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Credentials {
    /// Application default credentials: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, the metadata server, or the
    /// gcloud command.
    ApplicationDefault,
    /// Path of a service account's key file.
    ServiceAccountFile(PathBuf),
    /// A service account's key, as the JSON text of such a file.
    ServiceAccountInfo(Secret),
}

/// Who a token is for, and what it permits.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Principal {
    /// The credentials that the token is made of.
    pub credentials: Credentials,
    /// OAuth scope of the token.
    pub scope: &'static str,
    /// Whether the API is on this machine. Only then may a key's token endpoint be on this machine too. Otherwise it must
    /// be Google's: blocks and job variables carry keys, and must not make the worker call other services.
    pub is_local: bool,
}

impl Principal {
    /// The principal that calls the API with these credentials. `is_local`: whether the API is on this machine.
    pub fn new(credentials: Credentials, is_local: bool) -> Self {
        Self { credentials, scope: TOKEN_SCOPE, is_local }
    }
}

/// An access token, and when to renew it.
#[derive(Clone, Debug)]
pub struct Token {
    secret: Secret,
    quota_project: Option<String>,
    renew_at: Instant,
    expires_at: Instant,
}

impl Token {
    /// A token that was issued just now and lives for `lifetime`; of that, 24 hours count at most.
    pub fn new(secret: Secret, lifetime: Duration) -> Self {
        let (now, lifetime) = (Instant::now(), lifetime.min(MAX_LIFETIME));
        Self {
            secret,
            quota_project: None,
            renew_at: now + lifetime - RENEWAL_MARGIN.min(lifetime / 4),
            expires_at: now + lifetime - TRANSIT_MARGIN.min(lifetime / 10),
        }
    }

    /// The same token, with the project that its calls are counted against (`x-goog-user-project`). `None`: the project
    /// that is called.
    pub fn with_quota_project(self, quota_project: Option<String>) -> Self {
        Self { quota_project, ..self }
    }

    /// The token's text.
    pub(in crate::api) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The project that its calls are counted against.
    pub(in crate::api) fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
    }

    /// Whether it can be sent.
    pub(super) fn is_valid(&self) -> bool {
        Instant::now() < self.expires_at
    }

    /// Whether it is time to renew it.
    pub(super) fn is_due_for_renewal(&self) -> bool {
        Instant::now() >= self.renew_at
    }
}

/// No access token could be obtained.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[error("no access token: {message}")]
pub struct TokenError {
    /// The reason, without secrets.
    pub message: String,
    /// Whether another attempt may succeed.
    pub kind: TokenErrorKind,
    /// No other attempt is made before this time has passed.
    pub retry_after: Option<Duration>,
}

/// Whether another attempt to obtain a token may succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenErrorKind {
    /// The token endpoint could not be reached or failed.
    Transient,
    /// Either the token endpoint failed or it rejected the credentials: the provider cannot tell which.
    Ambiguous,
    /// There are no credentials.
    NoCredentials,
    /// The credentials cannot be read, or were rejected.
    Rejected,
}

impl TokenError {
    /// An error of this kind, without a pause.
    pub fn new(kind: TokenErrorKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), kind, retry_after: None }
    }
}

/// The future that [`TokenProvider::token`] returns.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + 'a>>;

/// Obtains tokens from Google or from another issuer.
pub trait TokenProvider: Send + Sync {
    /// A new token of this principal. Every call asks the issuer: callers keep tokens in a
    /// [`TokenSource`](super::TokenSource).
    fn token<'a>(&'a self, principal: &'a Principal) -> TokenFuture<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_tokens_are_not_printed() {
        let credentials = Credentials::ServiceAccountInfo(Secret::new("very-private"));
        let token = Token::new(Secret::new("very-private"), Duration::ZERO);
        assert!(!format!("{credentials:?} {token:?}").contains("very-private"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_early_and_used_until_it_expires() {
        let token = Token::new(Secret::new("t"), Duration::from_secs(3600));
        tokio::time::advance(Duration::from_secs(3359)).await;
        assert!(!token.is_due_for_renewal());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(token.is_due_for_renewal() && token.is_valid());
        tokio::time::advance(Duration::from_secs(230)).await;
        assert!(!token.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lived_token_is_used_for_most_of_its_lifetime() {
        let token = Token::new(Secret::new("t"), Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!token.is_due_for_renewal());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(token.is_due_for_renewal() && token.is_valid());
        assert!(!Token::new(Secret::new("t"), Duration::ZERO).is_valid());
        assert!(Token::new(Secret::new("t"), Duration::MAX).is_valid());
    }
}
