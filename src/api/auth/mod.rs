//! Access tokens: whom the worker authenticates as, by what means, and how long a token serves.
//!
//! [`TokenCache`] keeps one [`TokenSource`] for each identity. It asks a [`TokenProvider`], of which there are two:
//! [`GcpAuth`] for keys of service accounts and for gcloud, and whatever it is given for all else. `docs/credentials.md`
//! has the table.

mod gcp;
mod key;
pub mod key_file;
mod source;
mod threads;
mod token;

pub use gcp::GcpAuth;
pub use source::{TokenCache, TokenSource};
pub use token::{Credentials, Identity, Prospect, Secret, Token, TokenError, TokenFuture, TokenProvider};
