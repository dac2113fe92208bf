//! The API's forms on the wire: method and path, query parameters, refusals, partial responses, label selectors.
//!
//! These modules do not depend on the state of the emulator.

mod defaults;
mod error;
mod field_mask;
mod label_selector;
mod log_filter;
mod method;
mod project_region;
mod query;
mod region;
mod scanner;
mod secret_ref;

pub(super) use self::{
    defaults::{DEFAULT_MAX_RETRIES, DEFAULT_TASK_COUNT, DEFAULT_TIMEOUT_SECONDS, fill_in_defaults},
    error::{ApiRefusal, Violation},
    label_selector::LabelSelector,
    log_filter::LogFilter,
    method::ApiCall,
    project_region::{ProjectRegion, ProjectRegionKey, project_number},
    query::QueryParameters,
    region::region_of_authority,
    secret_ref::{MISSING_SECRET_HINT, secret_of},
};
