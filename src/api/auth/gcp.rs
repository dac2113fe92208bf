//! Tokens by gcp_auth, where it can give them.

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
    Identity, Prospect, Secret, Token, TokenError, TokenFuture, TokenProvider,
    key::{self, Found},
    threads,
};

/// gcp_auth for keys of service accounts and for gcloud, another provider for all else.
#[derive(Default)]
pub struct GcpAuth {
    other: Option<Arc<dyn TokenProvider>>,
    /// Whether the other has once found credentials where there is no file of any: this machine's.
    has_machine: AtomicBool,
}

impl fmt::Debug for GcpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpAuth").field("has_other", &self.other.is_some()).finish_non_exhaustive()
    }
}

impl GcpAuth {
    /// One that asks `other` for what gcp_auth can't do, and why it refused what it can.
    pub fn beside(other: Arc<dyn TokenProvider>) -> Self {
        Self { other: Some(other), has_machine: AtomicBool::new(false) }
    }

    async fn find(&self, identity: &Identity) -> Result<Token, TokenError> {
        match key::find(identity).await? {
            Found::Key(key) => match of_key(key, identity.scope).await {
                // Its errors don't tell a failing server from a refusal, and it can't read every key.
                Err(error) if error.prospect != Prospect::Passing => self.ask_other(identity, error).await,
                answer => answer,
            },
            Found::Other => {
                let error = TokenError::new(Prospect::Refused, "such credentials take google-auth");
                self.ask_other(identity, error).await
            }
            Found::Nothing => {
                let error = TokenError::new(Prospect::Missing, "there are no application default credentials");
                let answer = self.ask_other(identity, error).await;
                match answer {
                    // A machine whose metadata server is silent for a while does not become somebody else.
                    Err(error) if error.prospect == Prospect::Missing && !self.has_machine.load(Ordering::Relaxed) => {
                        of_gcloud().await.ok_or(error)
                    }
                    Ok(token) => {
                        self.has_machine.store(true, Ordering::Relaxed);
                        Ok(token)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn ask_other(&self, identity: &Identity, otherwise: TokenError) -> Result<Token, TokenError> {
        match &self.other {
            Some(other) => other.token(identity).await,
            None => Err(otherwise),
        }
    }
}

impl TokenProvider for GcpAuth {
    fn token<'a>(&'a self, identity: &'a Identity) -> TokenFuture<'a> {
        Box::pin(self.find(identity))
    }
}

async fn of_key(key: Secret, scope: &'static str) -> Result<Token, TokenError> {
    let asked = threads::elsewhere(async move {
        let account = CustomServiceAccount::from_json(key.reveal())?;
        account.token(&[scope]).await
    });
    // gcp_auth panics where it takes an address for granted.
    let answer = asked.await.unwrap_or(Err(gcp_auth::Error::Str("the key can't be used: is its token_uri right?")));
    answer.map(|token| from_gcp_auth(&token)).map_err(judge)
}

/// A token of the gcloud command's account. One look-up at a time: gcp_auth waits for the command without end.
async fn of_gcloud() -> Option<Token> {
    static ONE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    let permit = ONE.clone().acquire_owned().await.ok()?;
    let asked = threads::blocking(move || {
        let _permit = permit;
        let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
        runtime.block_on(async { GCloudAuthorizedUser::new().await.ok()?.token(&[]).await.ok() })
    });
    asked.await.flatten().map(|token| from_gcp_auth(&token))
}

fn from_gcp_auth(token: &gcp_auth::Token) -> Token {
    let lifetime = (token.expires_at() - Utc::now()).to_std().unwrap_or(Duration::ZERO);
    Token::new(Secret::new(token.as_str()), lifetime)
}

fn judge(error: gcp_auth::Error) -> TokenError {
    use gcp_auth::Error;
    let prospect = match &error {
        Error::Http(..) | Error::Other("HTTP request failed", _) => Prospect::Passing,
        Error::Str("token request failed") => Prospect::Doubtful,
        _ => Prospect::Refused,
    };
    match &error {
        // serde repeats what it finds in the wrong place, which may be the key or the token.
        Error::Json(..) => {
            return TokenError::new(prospect, "the answer of the token's server is not the JSON that is expected");
        }
        // What is not of the network is about the key, of which its reader repeats a line that it can't read.
        Error::Other(what, _) if prospect != Prospect::Passing => return TokenError::new(prospect, *what),
        _ => {}
    }
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    TokenError::new(prospect, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gcp_auth_says_of_a_key_does_not_show_it() {
        let line = "-----BEGIN PRIVATE KEY-----very-private";
        let bytes = format!("{:?}", line.as_bytes());
        for pem in [line.to_owned(), format!("-----BEGIN {line}-----\nvery-private"), format!("{line}\n-----END")] {
            let key = serde_json::json!({"private_key": pem, "client_email": "a@b", "token_uri": "https://t.example/"});
            let error = judge(CustomServiceAccount::from_json(&key.to_string()).unwrap_err());
            assert_eq!((error.prospect, error.retry_after), (Prospect::Refused, None));
            assert!(!error.message.contains("very-private") && !error.message.contains(&bytes[1..40]), "{error}");
            assert!(error.message.contains("key"), "{error}");
        }
    }
}
