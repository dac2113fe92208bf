//! The connections of a process, and how they are replaced when one of them is dead.
//!
//! All calls to a region share one HTTP/2 connection. Its far side may be dead while TCP lives, behind a proxy or a NAT: then
//! every call on it times out. Pings find that out ([`Pings`]), but only what answers the pings, which may be a proxy. So an
//! attempt that timed out also replaces the client: the next attempt has a fresh connection.
//!
//! # Guarantees
//! - However many attempts time out on a client, it is replaced once. Its successor is replaced only when an attempt timed out
//!   on that one, so there is at most one new client in the time that an attempt may take.
//! - Calls in progress keep the client that they began with. Its connections close when the last of them has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};

use super::http::{Pings, client_builder};

/// How long an attempt that timed out waits for the new client. To build one takes milliseconds, unless the file with the
/// root certificates is on a slow file system.
const RENEWAL_WAIT: Duration = Duration::from_secs(5);

type BuildClient = dyn Fn() -> Result<reqwest::Client, reqwest::Error> + Send + Sync;

/// A pooled client that can be replaced. Clones are cheap and share it.
#[derive(Clone)]
pub struct HttpPool(Arc<PoolState>);

struct PoolState {
    build: Box<BuildClient>,
    current: Mutex<PooledClient>,
    /// Held while a new client is built.
    renewal: Arc<tokio::sync::Mutex<()>>,
}

/// A client, and its number among those of its pool.
#[derive(Clone)]
pub(super) struct PooledClient {
    pub(super) client: reqwest::Client,
    generation: u64,
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool").field("generation", &self.lock().generation).finish_non_exhaustive()
    }
}

impl HttpPool {
    /// A pool with its first client.
    ///
    /// `use_proxy`: whether the environment variables HTTPS_PROXY and NO_PROXY apply.
    ///
    /// # Errors
    /// When the system's root certificates can't be loaded.
    pub fn new(use_proxy: bool) -> Result<Self, reqwest::Error> {
        Self::with(move || client_builder(use_proxy, Pings::default()).build())
    }

    /// A pool of clients that are built like this.
    fn with(
        build: impl Fn() -> Result<reqwest::Client, reqwest::Error> + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let current = Mutex::new(PooledClient { client: build()?, generation: 0 });
        Ok(Self(Arc::new(PoolState { build: Box::new(build), current, renewal: Arc::default() })))
    }

    /// The client for the next attempt.
    pub(super) fn current(&self) -> PooledClient {
        self.lock().clone()
    }

    /// Replaces the client on which an attempt timed out, unless that has happened already. If none can be built, or not
    /// within [`RENEWAL_WAIT`], the old one stays for now.
    pub(super) async fn renew(&self, used: &PooledClient) {
        _ = timeout(RENEWAL_WAIT, self.renew_in_turn(used.generation)).await;
    }

    async fn renew_in_turn(&self, generation: u64) {
        if self.lock().generation != generation {
            return;
        }
        let turn = self.0.renewal.clone().lock_owned().await;
        if self.lock().generation != generation {
            return;
        }
        let pool = self.clone();
        // It reads files, so not on this thread. It keeps its turn also when nobody waits any more, so that a file system
        // that hangs holds one thread only.
        let build = spawn_blocking(move || {
            let _turn = turn;
            if let Ok(client) = (pool.0.build)() {
                *pool.lock() = PooledClient { client, generation: generation + 1 };
            }
        });
        _ = build.await;
    }

    fn lock(&self) -> MutexGuard<'_, PooledClient> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
