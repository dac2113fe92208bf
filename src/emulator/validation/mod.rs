//! The checks of request bodies: types and names of fields, Cloud Run's limits, run overrides.

mod body;
mod job;
mod overrides;

pub(super) use self::{body::read_body, job::read_job, overrides::apply_overrides};
