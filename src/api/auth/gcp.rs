//! Tokens by gcp_auth, for the credentials that it supports.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use gcp_auth::{CustomServiceAccount, GCloudAuthorizedUser, TokenProvider as _};
use tokio::sync::Semaphore;

use super::{
    route::{self, TokenRoute},
    threads,
    token::{Principal, Token, TokenError, TokenErrorKind, TokenFuture, TokenProvider},
};
use crate::secret::Secret;

/// Obtains tokens by gcp_auth for service accounts' keys and for the gcloud command, and by another provider for all other
/// credentials.
#[derive(Default)]
pub struct GcpAuth {
    fallback: Option<Arc<dyn TokenProvider>>,
    /// Whether the fallback ever found credentials although there was no file: those of a metadata server.
    has_metadata_server: AtomicBool,
}

impl fmt::Debug for GcpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpAuth").field("has_fallback", &self.fallback.is_some()).finish_non_exhaustive()
    }
}

impl GcpAuth {
    /// A provider that asks `fallback` for the credentials that gcp_auth does not support, and when gcp_auth fails with
    /// those that it supports: the fallback's errors are better.
    pub fn with_fallback(fallback: Arc<dyn TokenProvider>) -> Self {
        Self { fallback: Some(fallback), has_metadata_server: AtomicBool::new(false) }
    }

    async fn find_token(&self, principal: &Principal) -> Result<Token, TokenError> {
        match route::find_route(principal).await? {
            TokenRoute::GcpAuth(key) => match token_of_key(key, principal.scope).await {
                // gcp_auth's errors do not distinguish a failing server from a rejection, and it can't parse every key.
                Err(error) if error.kind != TokenErrorKind::Transient => self.ask_fallback(principal, error).await,
                result => result,
            },
            TokenRoute::GoogleAuth => {
                let error = TokenError::new(TokenErrorKind::Rejected, "only google-auth supports such credentials");
                self.ask_fallback(principal, error).await
            }
            TokenRoute::NoFile => {
                let error =
                    TokenError::new(TokenErrorKind::NoCredentials, "there are no application default credentials");
                match self.ask_fallback(principal, error).await {
                    // gcloud's account is used only where there never was a metadata server: while one is silent for
                    // a moment, the worker must not act as another account.
                    Err(error)
                        if error.kind == TokenErrorKind::NoCredentials
                            && !self.has_metadata_server.load(Ordering::Relaxed) =>
                    {
                        token_of_gcloud().await.ok_or(error)
                    }
                    Ok(token) => {
                        self.has_metadata_server.store(true, Ordering::Relaxed);
                        Ok(token)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn ask_fallback(&self, principal: &Principal, otherwise: TokenError) -> Result<Token, TokenError> {
        match &self.fallback {
            Some(fallback) => fallback.token(principal).await,
            None => Err(otherwise),
        }
    }
}

impl TokenProvider for GcpAuth {
    fn token<'a>(&'a self, principal: &'a Principal) -> TokenFuture<'a> {
        Box::pin(self.find_token(principal))
    }
}

async fn token_of_key(key: Secret, scope: &'static str) -> Result<Token, TokenError> {
    let lookup = threads::spawn(async move {
        let account = CustomServiceAccount::from_json(key.reveal())?;
        account.token(&[scope]).await
    });
    // gcp_auth panics on some addresses.
    let result = lookup.await.unwrap_or(Err(gcp_auth::Error::Str("the key can't be used: check its token_uri")));
    result.map(|token| from_gcp_auth(&token)).map_err(token_error)
}

/// A token of the gcloud command's account. One look-up at a time, because gcp_auth waits for the command without a
/// time-out.
async fn token_of_gcloud() -> Option<Token> {
    static ONE_AT_A_TIME: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    let permit = ONE_AT_A_TIME.clone().acquire_owned().await.ok()?;
    let lookup = threads::spawn_blocking(move || {
        // Released when the command has ended, which may be after the caller has given up.
        let _permit = permit;
        let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
        runtime.block_on(async { GCloudAuthorizedUser::new().await.ok()?.token(&[]).await.ok() })
    });
    lookup.await.flatten().map(|token| from_gcp_auth(&token))
}

fn from_gcp_auth(token: &gcp_auth::Token) -> Token {
    let lifetime = (token.expires_at() - Utc::now()).to_std().unwrap_or(Duration::ZERO);
    Token::new(Secret::new(token.as_str()), lifetime)
}

/// The kind and the message of an error of gcp_auth, without secrets.
fn token_error(error: gcp_auth::Error) -> TokenError {
    use gcp_auth::Error;
    let kind = match &error {
        Error::Http(..) | Error::Other("HTTP request failed", _) => TokenErrorKind::Transient,
        Error::Str("token request failed") => TokenErrorKind::Ambiguous,
        _ => TokenErrorKind::Rejected,
    };
    match &error {
        // serde's errors repeat the value that they found, which may be the key or the token.
        Error::Json(..) => {
            return TokenError::new(kind, "the response of the token endpoint is not the expected JSON");
        }
        // All errors that are not the network's are about the key, and may repeat a line of it.
        Error::Other(what, _) if kind != TokenErrorKind::Transient => return TokenError::new(kind, *what),
        _ => {}
    }
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    TokenError::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_a_key_do_not_show_it() {
        let line = "-----BEGIN PRIVATE KEY-----very-private";
        let bytes = format!("{:?}", line.as_bytes());
        for pem in [line.to_owned(), format!("-----BEGIN {line}-----\nvery-private"), format!("{line}\n-----END")] {
            let key = serde_json::json!({"private_key": pem, "client_email": "a@b", "token_uri": "https://t.example/"});
            let error = token_error(CustomServiceAccount::from_json(&key.to_string()).unwrap_err());
            assert_eq!((error.kind, error.retry_after), (TokenErrorKind::Rejected, None));
            assert!(!error.message.contains("very-private") && !error.message.contains(&bytes[1..40]), "{error}");
            assert!(error.message.contains("key"), "{error}");
        }
    }
}
