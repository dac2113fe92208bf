//! The Cloud Run Admin API v1: its resources, and a client that outlives the API's faults.
//!
//! Every call goes through [`transport`], where pacing, retries, tokens and error typing have their one place.

mod auth;
mod client;
mod endpoint;
mod error;
mod mask;
mod method;
mod pace;
mod pacing;
mod retry;
mod transport;
pub mod types;

pub use auth::{
    Credentials, GcpAuth, Identity, Prospect, Secret, Token, TokenCache, TokenError, TokenFuture, TokenProvider,
    TokenSource, key_file,
};
pub use client::{CloudRunClient, JobBody};
pub use endpoint::{Endpoint, EndpointError, check_project};
pub use error::{ApiError, ErrorKind};
pub use method::{ApiMethod, ApiPath, MethodRow, Quota};
pub use pacing::{Pacing, PacingCache};
pub use retry::{Backoff, RetryPolicy};
pub use transport::{Guard, Notice, RetryNotice, Transport, http_client};
