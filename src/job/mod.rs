//! What goes into a job.
