//! HTTP for the API's calls: the pooled client, and the request of a call.

use std::{
    net::ToSocketAddrs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
    redirect,
};
use tokio::{sync::Semaphore, time::Instant};
use url::form_urlencoded;

use super::{
    attempt_error::AttemptError, auth::Token, endpoint::Endpoint, error_kind::ErrorKind, guard::Guard,
    method::ApiMethod,
};

/// URLs longer than this are sent as POST with X-HTTP-Method-Override, as Google's own clients do (googleapiclient,
/// `MAX_URI_LENGTH`).
const MAX_URL_LENGTH: usize = 2048;
/// Header with the project that a call is counted against
/// (<https://cloud.google.com/apis/docs/system-parameters>).
const QUOTA_PROJECT: &str = "x-goog-user-project";
/// Maximum time until a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection is asked whether the far side still lives, and how long it has to answer. A proxy or a
/// NAT may keep a dead connection open; all calls of a region share one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without calls is kept.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client is not replaced sooner than this: many calls may time out at the same time.
const MIN_POOL_AGE: Duration = Duration::from_secs(5);
/// Maximum number of host name look-ups at the same time. Each one holds a thread, for half a minute when the name server
/// is silent.
const MAX_HOST_LOOKUPS: usize = 2;

/// A pooled HTTP client for all calls of a process. It never follows redirects, which would pass the token on to another
/// server.
///
/// `use_proxy`: whether the environment variables HTTPS_PROXY and NO_PROXY apply.
///
/// # Errors
/// When the system's root certificates can't be loaded.
fn http_client(use_proxy: bool) -> Result<reqwest::Client, reqwest::Error> {
    // reqwest is built without a TLS provider of its own, so that ring is the only one. An error means that a provider is
    // installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("prefect-gcp-cloud-run/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .dns_resolver(HostLookup::default());
    if use_proxy { builder.build() } else { builder.no_proxy().build() }
}

/// The connections of a process: a pooled client that is replaced when an attempt has timed out.
///
/// All calls to a region share one HTTP/2 connection. If its far side is dead while TCP lives, every call on it times out,
/// and a pooled client has no way to drop it. Calls in progress keep the client that they began with.
#[derive(Clone, Debug)]
pub struct HttpPool(Arc<PoolState>);

#[derive(Debug)]
struct PoolState {
    use_proxy: bool,
    current: Mutex<PooledClient>,
}

/// A pooled client, and since when it is the current one.
#[derive(Clone, Debug)]
pub(super) struct PooledClient {
    pub(super) client: reqwest::Client,
    generation: u64,
    since: Instant,
}

impl HttpPool {
    /// A pool with its first client.
    ///
    /// `use_proxy`: whether the environment variables HTTPS_PROXY and NO_PROXY apply.
    ///
    /// # Errors
    /// When the system's root certificates can't be loaded.
    pub fn new(use_proxy: bool) -> Result<Self, reqwest::Error> {
        let current = PooledClient { client: http_client(use_proxy)?, generation: 0, since: Instant::now() };
        Ok(Self(Arc::new(PoolState { use_proxy, current: Mutex::new(current) })))
    }

    /// How often the client was replaced.
    pub fn generation(&self) -> u64 {
        self.current().generation
    }

    /// The client for the next attempt.
    pub(super) fn current(&self) -> PooledClient {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client on which an attempt timed out, unless that has happened already or the client is young.
    pub(super) async fn renew(&self, used: &PooledClient) {
        if used.generation != self.generation() || used.since.elapsed() < MIN_POOL_AGE {
            return;
        }
        let use_proxy = self.0.use_proxy;
        // Reads the root certificates.
        let Ok(Ok(client)) = tokio::task::spawn_blocking(move || http_client(use_proxy)).await else { return };
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.generation == used.generation {
            *current = PooledClient { client, generation: used.generation + 1, since: Instant::now() };
        }
    }
}

/// Resolves host names by the operating system, on few threads.
#[derive(Clone)]
struct HostLookup(Arc<Semaphore>);

impl Default for HostLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_HOST_LOOKUPS)))
    }
}

impl Resolve for HostLookup {
    fn resolve(&self, name: Name) -> Resolving {
        let permits = self.0.clone();
        Box::pin(async move {
            let permit = permits.acquire_owned().await?;
            let addresses = tokio::task::spawn_blocking(move || {
                // Released when the look-up ends, which may be after its caller has given up.
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs()
            });
            Ok(Box::new(addresses.await??) as Addrs)
        })
    }
}

/// One call, before it is sent.
pub(super) struct Request<'a> {
    pub(super) method: ApiMethod,
    /// Name of the job or execution; empty for a method of a collection.
    pub(super) name: &'a str,
    /// Parameters of the query. Only reads have any.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// JSON.
    pub(super) body: Option<&'a str>,
    pub(super) guard: Option<&'a dyn Guard>,
}

impl<'a> Request<'a> {
    /// A call without query, body and guard.
    pub(super) fn new(method: ApiMethod, name: &'a str) -> Self {
        Self { method, name, query: &[], body: None, guard: None }
    }

    /// The HTTP request of this call, without a token.
    pub(super) fn build(&self, http: &reqwest::Client, endpoint: &Endpoint, project: &str) -> RequestBuilder {
        let row = self.method.row();
        let mut url = endpoint.url(project, &row.path.segments(self.name));
        let builder = if self.query.is_empty() {
            let builder = http.request(row.verb, url);
            match self.body {
                Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body.to_owned()),
                None => builder,
            }
        } else {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(self.query).finish();
            if url.as_str().len() + query.len() < MAX_URL_LENGTH {
                url.set_query(Some(&query));
                http.request(row.verb, url)
            } else {
                http.request(Method::POST, url)
                    .header("X-HTTP-Method-Override", row.verb.as_str())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(query)
            }
        };
        match endpoint.host_header() {
            Some(host) => builder.header(HOST, host),
            None => builder,
        }
    }
}

/// Adds the token, and the project that its calls are counted against.
pub(super) fn authorize(builder: RequestBuilder, token: &Token) -> Result<RequestBuilder, AttemptError> {
    let unusable = |message| AttemptError::new(ErrorKind::Authentication, false, message);
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.secret().reveal()))
        .map_err(|_| unusable("the access token has characters that HTTP does not allow"))?;
    bearer.set_sensitive(true);
    let builder = builder.header(AUTHORIZATION, bearer);
    let Some(project) = token.quota_project() else { return Ok(builder) };
    let project = HeaderValue::try_from(project).map_err(|_| {
        unusable("the credentials' quota project (GOOGLE_CLOUD_QUOTA_PROJECT) has characters that HTTP does not allow")
    })?;
    Ok(builder.header(QUOTA_PROJECT, project))
}
