//! The messages of the Cloud Run Admin API v1 as data: which fields each message has, and of which types.
//!
//! The worker checks a finished job body against these tables before it creates anything. The emulator checks requests
//! against them, as Google's front end does.
//!
//! `generate.py` writes [`run_v1`] from `schemas` of the discovery document `run.v1.json`.

mod exceeded;
mod findings;
mod message;
pub mod run_v1;

pub use exceeded::Exceeded;
pub use findings::{Finding, Problem, type_of};
pub use message::{FieldType, MessageSchema};
