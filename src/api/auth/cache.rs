//! The token sources of a process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    source::TokenSource,
    token::{Principal, TokenProvider},
};

/// One token source per principal.
///
/// A source without a token that nobody uses is dropped when another principal's source is added, so replaced keys do not
/// pile up.
pub struct TokenCache {
    provider: Arc<dyn TokenProvider>,
    sources: Mutex<HashMap<Principal, TokenSource>>,
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}

impl TokenCache {
    /// An empty cache whose sources obtain their tokens from `provider`.
    pub fn new(provider: Arc<dyn TokenProvider>) -> Self {
        Self { provider, sources: Mutex::default() }
    }

    /// The source of this principal; the same one for every caller.
    pub fn source(&self, principal: Principal) -> TokenSource {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(&principal) {
            return source.clone();
        }
        sources.retain(|_, source| source.is_worth_keeping());
        let source = TokenSource::new(principal.clone(), self.provider.clone());
        sources.insert(principal, source.clone());
        source
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::auth::token::{Credentials, Token, TokenFuture},
        secret::Secret,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    struct OneHour;

    impl TokenProvider for OneHour {
        fn token<'a>(&'a self, _principal: &'a Principal) -> TokenFuture<'a> {
            Box::pin(async { Ok(Token::new(Secret::new("t"), HOUR)) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_principal_has_one_source_while_it_is_used_or_has_a_token() {
        let cache = TokenCache::new(Arc::new(OneHour));
        let source_of =
            |key: &str| cache.source(Principal::new(Credentials::ServiceAccountInfo(Secret::new(key)), false));
        let (first, other) = (source_of("a"), source_of("b"));
        assert_eq!(first.id(), source_of("a").id());
        assert_ne!(first.id(), other.id());
        first.token().await.unwrap();
        drop((first, other));
        source_of("c");
        assert_eq!(cache.sources.lock().unwrap().len(), 2, "b is dropped, a has a token");
        tokio::time::advance(HOUR).await;
        source_of("d");
        assert_eq!(cache.sources.lock().unwrap().len(), 1);
    }
}
