//! Query parameters of calls: which are allowed, and their values.

use super::{
    error::{ApiRefusal, Violation},
    field_mask::FieldMask,
    method::ApiCall,
};
use crate::{api::ApiMethod, schema::run_v1};

/// Decoded query parameters in the order of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryParameters<'a>(&'a [(String, String)]);

impl<'a> QueryParameters<'a> {
    /// Checks the parameters of a call.
    ///
    /// Refuses parameters that the method does not have, as Google's front end does, and those that the API or the
    /// emulator does not support.
    pub(crate) fn check(call: &ApiCall, parameters: &'a [(String, String)]) -> Result<Self, ApiRefusal> {
        let unknown: Vec<Violation> = parameters
            .iter()
            .filter(|(name, _)| !call.has_parameter(name))
            .map(|(name, _)| {
                let description =
                    format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter.");
                Violation::new("", description)
            })
            .collect();
        if !unknown.is_empty() {
            return Err(ApiRefusal::invalid(&unknown));
        }
        let query = Self(parameters);
        if query.get("fieldSelector").is_some() {
            return Err(ApiRefusal::invalid_field("fieldSelector", "is not supported."));
        }
        if query.get("watch").is_some_and(|watch| watch != "false") {
            return Err(ApiRefusal::invalid_field("watch", "is not supported."));
        }
        if query.get("dryRun").is_some() {
            return Err(ApiRefusal::invalid_field("dryRun", "is not emulated."));
        }
        Ok(query)
    }

    /// The value of a parameter; none when it is empty or absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The mask in `fields`, checked against the response of the call. Without `fields` it keeps everything.
    pub(crate) fn field_mask(&self, call: &ApiCall) -> Result<FieldMask, ApiRefusal> {
        let Some(text) = self.get("fields") else { return Ok(FieldMask::default()) };
        let message = match call.method {
            ApiMethod::CreateJob | ApiMethod::GetJob | ApiMethod::ReplaceJob => &run_v1::JOB,
            ApiMethod::ListJobs => &run_v1::LIST_JOBS_RESPONSE,
            ApiMethod::GetTask => &run_v1::TASK,
            ApiMethod::ListTasks => &run_v1::LIST_TASKS_RESPONSE,
            ApiMethod::ListExecutions => &run_v1::LIST_EXECUTIONS_RESPONSE,
            ApiMethod::RunJob | ApiMethod::GetExecution | ApiMethod::CancelExecution => &run_v1::EXECUTION,
            ApiMethod::DeleteJob | ApiMethod::DeleteExecution => &run_v1::STATUS,
        };
        let refuse =
            |why: String| ApiRefusal::invalid_field("fields", format!("Error expanding 'fields' parameter. {why}."));
        let mask = FieldMask::parse(text).map_err(refuse)?;
        match mask.unknown(message) {
            Some(path) => Err(refuse(format!("Cannot find matching fields for path '{path}'"))),
            None => Ok(mask),
        }
    }
}
