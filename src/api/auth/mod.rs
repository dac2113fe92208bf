//! Access tokens: which credentials the worker uses, how it obtains tokens, and how long it keeps them.
//!
//! [`TokenCache`] keeps one [`TokenSource`] per principal. A source asks a [`TokenProvider`] for tokens: [`GcpAuth`] for
//! service accounts' keys and gcloud, which passes everything else on to another provider. `docs/credentials.md` has the
//! table.

mod cache;
pub mod credentials_file;
mod gcp;
mod route;
mod source;
mod threads;
mod token;

pub use cache::TokenCache;
pub use gcp::GcpAuth;
pub use source::TokenSource;
pub use token::{Credentials, Principal, TOKEN_SCOPE, Token, TokenError, TokenErrorKind, TokenFuture, TokenProvider};
