//! Tokens for the API, by gcp_auth, one source for each identity.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gcp_auth::{CustomServiceAccount, TokenProvider};
use thiserror::Error;
use tokio::{runtime, task::JoinHandle};

/// Scope of every token (discovery document, `auth.oauth2.scopes`).
const SCOPES: &[&str] = &["https://www.googleapis.com/auth/cloud-platform"];

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
    /// Whatever the environment offers: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, the metadata server.
    ApplicationDefault,
    /// A service account's key file.
    ServiceAccountFile(PathBuf),
    /// A service account's key, as the JSON text of such a file.
    ServiceAccountInfo(Secret),
}

/// No token could be had.
#[derive(Debug, Error)]
#[error("no access token: {message}")]
pub(super) struct TokenError {
    pub(super) message: String,
    pub(super) prospect: Prospect,
}

/// Whether a token may be had later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Prospect {
    /// The token's server could not be asked, or these credentials have worked before.
    Passing,
    /// A failing server and a refusal look the same in gcp_auth's errors.
    Doubtful,
    /// The credentials can't be read.
    Final,
}

impl TokenError {
    fn unusable(message: &str) -> Self {
        Self { message: message.to_owned(), prospect: Prospect::Final }
    }
}

impl From<gcp_auth::Error> for TokenError {
    fn from(error: gcp_auth::Error) -> Self {
        use gcp_auth::Error;
        let prospect = match &error {
            Error::Http(..) | Error::Other("HTTP request failed", _) => Prospect::Passing,
            Error::Str("token request failed") | Error::NoAuthMethod(..) => Prospect::Doubtful,
            _ => Prospect::Final,
        };
        // serde repeats what it finds in the wrong place, which may be the key.
        if let Error::Json(..) = error {
            return Self::unusable(
                "the credentials, or the answer of the token's server, are not the JSON that is expected",
            );
        }
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { message, prospect }
    }
}

/// Gives tokens for one identity. gcp_auth keeps each until shortly before its end.
#[derive(Debug)]
pub struct TokenSource {
    credentials: Credentials,
    current: tokio::sync::Mutex<Current>,
    /// Whether it ever gave a token. What fails after that is taken for a fault that may pass.
    has_worked: AtomicBool,
}

#[derive(Default)]
struct Current {
    generation: u64,
    provider: Option<Arc<dyn TokenProvider>>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source for these credentials; nothing is looked up before the first token.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, current: tokio::sync::Mutex::default(), has_worked: AtomicBool::new(false) }
    }

    /// A token, and the number of the provider that it came from. Many waiters share one look-up.
    ///
    /// After a failure the credentials are read anew, so that a key file that was replaced is found.
    pub(super) async fn token(&self) -> Result<(Secret, u64), TokenError> {
        let (provider, generation) = {
            let mut current = self.current.lock().await;
            let provider = match &current.provider {
                Some(provider) => provider.clone(),
                None => current.provider.insert(self.provider().await.map_err(|error| self.judge(error))?).clone(),
            };
            (provider, current.generation)
        };
        match elsewhere(async move { provider.token(SCOPES).await }).await? {
            Some(Ok(token)) => {
                self.has_worked.store(true, Ordering::Relaxed);
                Ok((Secret::new(token.as_str()), generation))
            }
            Some(Err(error)) => {
                self.renew(generation).await;
                Err(self.judge(error.into()))
            }
            None => Err(self.judge(TokenError::unusable(UNUSABLE))),
        }
    }

    /// Forgets the provider, and with it its tokens, unless somebody else has done so since `generation`.
    pub(super) async fn renew(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            *current = Current { generation: generation + 1, provider: None };
        }
    }

    /// Credentials that have worked are believed in.
    fn judge(&self, error: TokenError) -> TokenError {
        match self.has_worked.load(Ordering::Relaxed) {
            true => TokenError { prospect: Prospect::Passing, ..error },
            false => error,
        }
    }

    async fn provider(&self) -> Result<Arc<dyn TokenProvider>, TokenError> {
        let credentials = self.credentials.clone();
        let provider = elsewhere(async move {
            Ok(match credentials {
                Credentials::ApplicationDefault => gcp_auth::provider().await?,
                Credentials::ServiceAccountFile(path) => Arc::new(CustomServiceAccount::from_file(path)?),
                Credentials::ServiceAccountInfo(json) => Arc::new(CustomServiceAccount::from_json(json.reveal())?),
            })
        });
        provider.await?.unwrap_or_else(|| Err(TokenError::unusable(UNUSABLE)))
    }
}

/// A runtime of few threads for all that gcp_auth does. It reads files, calls gcloud and looks host names up, and waits
/// for each without end: here that holds up nothing but other tokens.
static RUNTIME: LazyLock<Option<runtime::Runtime>> = LazyLock::new(|| {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(2).thread_name("cloud-run-tokens").enable_all().build().ok()
});

/// Does it there; none when it panics. It ends when the caller gives up, so that one who hangs is not in the way of the
/// next.
async fn elsewhere<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<Option<T>, TokenError> {
    struct Task<T>(JoinHandle<T>);
    impl<T> Drop for Task<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let Some(runtime) = RUNTIME.as_ref() else { return Err(TokenError::unusable("there are no threads for it")) };
    let mut task = Task(runtime.spawn(future));
    Ok((&mut task.0).await.ok())
}

/// gcp_auth panics where it takes an address for granted.
const UNUSABLE: &str = "the credentials can't be used: is the key's 'token_uri' an address?";

/// One token source for each identity, for as long as the process lives.
#[derive(Debug, Default)]
pub struct TokenCache {
    sources: Mutex<HashMap<Credentials, Arc<TokenSource>>>,
}

impl TokenCache {
    /// The source for these credentials, the same one every time.
    pub fn source(&self, credentials: Credentials) -> Arc<TokenSource> {
        // The map is whole after every statement, so a panic elsewhere leaves nothing half done.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.entry(credentials.clone()).or_insert_with(|| Arc::new(TokenSource::new(credentials))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let credentials = Credentials::ServiceAccountInfo(Secret::new("very-private"));
        assert!(!format!("{credentials:?}").contains("very-private"));
        assert!(!format!("{:?}", TokenSource::new(credentials)).contains("very-private"));
    }

    #[test]
    fn one_identity_has_one_source() {
        let cache = TokenCache::default();
        let first = cache.source(Credentials::ServiceAccountInfo(Secret::new("a")));
        assert!(Arc::ptr_eq(&first, &cache.source(Credentials::ServiceAccountInfo(Secret::new("a")))));
        assert!(!Arc::ptr_eq(&first, &cache.source(Credentials::ServiceAccountInfo(Secret::new("b")))));
    }

    #[tokio::test]
    async fn a_broken_key_is_refused_without_showing_it() {
        let source = TokenSource::new(Credentials::ServiceAccountInfo(Secret::new(r#"{"private_key": "hush"}"#)));
        let error = source.token().await.unwrap_err();
        assert_eq!(error.prospect, Prospect::Final);
        assert!(!error.to_string().contains("hush"), "{error}");
        // A key that was encoded twice.
        let source = TokenSource::new(Credentials::ServiceAccountInfo(Secret::new(r#""{\"private_key\": \"hush\"}""#)));
        let error = source.token().await.unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    /// A provider that hangs while it is asked for the first time.
    struct Hanging(tokio::sync::RwLock<bool>);

    #[async_trait::async_trait]
    impl TokenProvider for Hanging {
        async fn token(&self, _scopes: &[&str]) -> Result<Arc<gcp_auth::Token>, gcp_auth::Error> {
            let mut has_hung = self.0.write().await;
            if !std::mem::replace(&mut *has_hung, true) {
                std::future::pending::<()>().await;
            }
            Err(gcp_auth::Error::Str("answered"))
        }

        async fn project_id(&self) -> Result<Arc<str>, gcp_auth::Error> {
            Err(gcp_auth::Error::Str("none"))
        }
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_is_not_in_the_way_of_the_next() {
        let source = TokenSource::new(Credentials::ApplicationDefault);
        source.current.lock().await.provider = Some(Arc::new(Hanging(false.into())));
        let first = tokio::time::timeout(std::time::Duration::from_millis(100), source.token()).await;
        assert!(first.is_err());
        let second = tokio::time::timeout(std::time::Duration::from_secs(10), source.token()).await.unwrap();
        assert!(second.unwrap_err().to_string().contains("answered"));
    }
}
