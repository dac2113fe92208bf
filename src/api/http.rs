//! HTTP for the API's calls: how a client is built, and the request of a call.

use std::{net::ToSocketAddrs, sync::Arc, time::Duration};

use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
    redirect,
};
use tokio::sync::Semaphore;
use url::form_urlencoded;

use super::{
    attempt_error::AttemptError,
    auth::Token,
    endpoint::Endpoint,
    error_kind::ErrorKind,
    guard::Guard,
    method::{ApiMethod, Priority},
};

/// URLs longer than this are sent as POST with X-HTTP-Method-Override, as Google's own clients do (googleapiclient,
/// `MAX_URI_LENGTH`).
const MAX_URL_LENGTH: usize = 2048;
/// Header with the project that a call is counted against
/// (<https://cloud.google.com/apis/docs/system-parameters>).
const QUOTA_PROJECT: &str = "x-goog-user-project";
/// Maximum time until a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without calls is kept.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of host name look-ups at the same time. Each one holds a thread, for half a minute when the name server
/// is silent.
const MAX_HOST_LOOKUPS: usize = 2;

/// How often an HTTP/2 connection is asked whether its far side still lives, and how long that has for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pings {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Default for Pings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

/// A pooled HTTP client for all calls of a process. It never follows redirects, which would pass the token on to another
/// server.
///
/// `use_proxy`: whether the environment variables HTTPS_PROXY and NO_PROXY apply. Its `build` reads the system's root
/// certificates, and fails when they can't be loaded.
pub(super) fn client_builder(use_proxy: bool, pings: Pings) -> reqwest::ClientBuilder {
    // reqwest is built without a TLS provider of its own, so that ring is the only one. An error means that a provider is
    // installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("prefect-gcp-cloud-run/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(pings.interval)
        .http2_keep_alive_timeout(pings.timeout)
        .http2_keep_alive_while_idle(true)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .dns_resolver(HostLookup::default());
    if use_proxy { builder } else { builder.no_proxy() }
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
    pub(super) priority: Priority,
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
        Self { method, priority: method.row().priority, name, query: &[], body: None, guard: None }
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
