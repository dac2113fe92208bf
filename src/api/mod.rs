//! The Cloud Run Admin API v1: its resources, and a client that copes with the API's faults.
//!
//! # Guarantees
//! - Every call goes through [`Transport`]: quotas, retries, tokens and typed errors are in one place each.
//! - No error, log line or debug output shows a token, a key or an environment value of a job.
//!
//! # Limits
//! The client knows single calls only. What a run does with them is in [`crate::lifecycle`].

mod access;
mod attempt_error;
mod auth;
mod call;
mod client;
mod endpoint;
mod error;
mod error_kind;
mod guard;
mod http;
mod logging;
mod method;
mod pool;
mod quota;
mod redact;
mod response;
mod retry;
mod retry_after;
mod transport;
pub mod types;

pub use crate::secret::Secret;
pub use access::{Access, NeededPermission, NotAsked};
pub use auth::{
    Credentials, GcpAuth, Principal, TOKEN_SCOPE, Token, TokenCache, TokenError, TokenErrorKind, TokenFuture,
    TokenProvider, TokenSource, credentials_file,
};
pub use call::CallPermit;
pub use client::{CloudRunClient, JobBody};
pub use endpoint::{Endpoint, EndpointError, check_project};
pub use error::{ApiError, ApiResult, ErrorSource, RetryBudget};
pub use error_kind::ErrorKind;
pub use guard::{FRESH_READ_MAX_AGE, Guard};
pub use logging::{LogError, LogLine, LogPace, LogQuery, LogReader};
pub use method::{ApiMethod, ApiPath, MethodRow, Priority, Quota};
pub use pool::HttpPool;
pub use quota::{QuotaQueues, QuotaRegistry};
pub use retry::RetryPolicy;
pub use transport::{Notice, RetryNotice, Transport};
