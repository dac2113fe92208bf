//! What becomes of jobs whose worker is gone: other workers of the pool look at every job that carries the pool's mark.
//!
//! [`facts`] reads what a job says. [`decision`] decides and does no I/O. [`delete`] deletes or stops a job, once it has seen
//! that the decision still holds. [`watch`] waits for the end of an execution that another process started. The passes, and
//! the proposals to Prefect, are the caller's.
//!
//! # Guarantees
//! - A job without a mark of this pool is never touched.
//! - Nothing is concluded from a list that is incomplete, nor from a status that does not tell.
//! - A job with an active execution is deleted only by [`delete::stop`].
//! - Nothing here starts an execution.

pub mod decision;
pub mod delete;
pub mod facts;
pub mod reading;
pub mod watch;

pub use reading::{has_job, list, read, read_execution};
