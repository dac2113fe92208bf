//! What all calls to one project and region share, and one attempt of a call.

use std::{sync::Arc, time::Duration};

use reqwest::{RequestBuilder, StatusCode};
use tokio::time::timeout;

use super::{
    attempt_error::AttemptError,
    auth::TokenSource,
    endpoint::Endpoint,
    error::ApiError,
    error_kind::ErrorKind,
    http::{Request, authorize},
    method::{ApiMethod, Quota},
    pool::{HttpPool, PooledClient},
    quota::QuotaQueues,
    redact::Redactor,
    response::{ApiResponse, parse},
    retry::RetryPolicy,
    retry_after::RetryAfter,
};

/// What a call reports while it is in progress.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An attempt failed, and another one follows.
    Retry(RetryNotice),
    /// The call waits, because this quota is used up for now.
    RateLimited(Quota),
}

/// A failed attempt that will be repeated.
#[derive(Clone, Debug)]
pub struct RetryNotice {
    /// The attempt's error.
    pub error: ApiError,
    /// The pause before the next attempt.
    pub pause: Duration,
}

/// What all calls to one project and region share.
#[derive(Clone)]
pub struct Transport {
    /// The process's connections.
    pub http: HttpPool,
    /// Address of the region's API.
    pub endpoint: Endpoint,
    /// Project id.
    pub project: String,
    /// Region of the endpoint.
    pub region: String,
    /// Gives the tokens. Not used when the endpoint needs none.
    pub tokens: TokenSource,
    /// The queues in which calls wait for a quota.
    pub quotas: Arc<QuotaQueues>,
    /// Maximum time that a call waits for its quota, before and between its attempts together.
    pub quota_wait_max: Duration,
    /// Budget of each call. Waits for a quota do not count against it.
    pub retry: RetryPolicy,
    /// Maximum duration of one attempt.
    pub attempt_timeout: Duration,
    /// Random numbers from 0 to 1, for the pauses between attempts.
    pub random: fn() -> f64,
    /// Called for every attempt that will be repeated, and for waits for a quota. Must not block.
    pub on_notice: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Transport {
    /// Sends one attempt of a call.
    pub(super) async fn attempt<T: ApiResponse>(&self, request: &Request<'_>) -> Result<T, AttemptError> {
        let http = self.http.current();
        let call = request.build(&http.client, &self.endpoint, &self.project);
        self.exchange(&http, call, request.body, &[&self.project, &self.region, request.name]).await
    }

    /// Adds the token to an HTTP request, sends it once, and reads the response. Texts of the server are cleaned of the
    /// environment's values in `body`, except for those in `known`.
    pub(super) async fn exchange<T: ApiResponse>(
        &self,
        http: &PooledClient,
        call: RequestBuilder,
        body: Option<&str>,
        known: &[&str],
    ) -> Result<T, AttemptError> {
        let mut builder = call.timeout(self.attempt_timeout);
        let mut token_used = None;
        if self.endpoint.needs_token() {
            // A token look-up may take longer than an attempt may.
            let token = timeout(self.attempt_timeout, self.tokens.token()).await;
            let late = |_elapsed| AttemptError::new(ErrorKind::NoToken, false, "no access token in time");
            let (token, generation) = token.map_err(late)??;
            builder = authorize(builder, &token)?;
            token_used = Some((token, generation));
        }

        let received = async {
            let response = builder.send().await?;
            let (status, retry_after) = (response.status(), RetryAfter::from_headers(response.headers()));
            Ok((status, retry_after, response.bytes().await?))
        };
        let (status, retry_after, answer) = match received.await {
            // A connection that could not be made is not in the pool.
            Err(error) if reqwest::Error::is_timeout(&error) && !error.is_connect() => {
                self.http.renew(http).await;
                return Err(error.into());
            }
            received => received?,
        };
        let secret = token_used.as_ref().map(|(token, _)| token.secret());
        let redactor = || Redactor::new(secret, body, known);
        parse(status, &answer, redactor).map_err(|failure| {
            let generation = token_used.as_ref().map(|(_, generation)| *generation);
            let rejected_token = generation.filter(|_| status == StatusCode::UNAUTHORIZED);
            AttemptError { retry_after, rejected_token, ..failure }
        })
    }

    /// The error of one attempt of a call in this project and region, without a response.
    pub fn error(&self, method: ApiMethod, name: &str, kind: ErrorKind, message: String) -> ApiError {
        ApiError::new(method, kind, (&self.project, &self.region), name, message)
    }

    /// Identifies the project and region, as a key for what their callers share.
    pub fn scope(&self) -> String {
        self.endpoint.scope(&self.project)
    }

    /// Identifies a job among those of all projects and regions.
    pub fn job_address(&self, job: &str) -> String {
        format!("{}/{job}", self.scope())
    }
}
