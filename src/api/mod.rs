//! The Cloud Run Admin API v1.

pub mod types;
