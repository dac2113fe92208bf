//! What each call of the API does.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    call::{COMMON_PARAMETERS, Call},
    cloud::Cloud,
    collection::{Collection, read_token, token},
    errors::{ApiError, Violation},
    fields::Mask,
    lifecycle,
    past::Past,
    selector::LabelSelector,
    store::Place,
    validate,
};
use crate::{
    api::types::{API_VERSION, List, ListMeta, ObjectMeta},
    schema::run_v1,
};

/// Query parameters, decoded.
pub(super) type Query = [(String, String)];

/// Does what a call asks for, and answers with the body. A read of the past answers what was true then.
pub(super) fn answer(
    cloud: &Arc<Cloud>,
    place: &Place,
    call: &Call,
    query: &Query,
    body: &[u8],
    past: Option<&Past>,
) -> Result<Value, ApiError> {
    let (permission, resource) = call.permission(&place.project);
    let projects = &cloud.config.projects;
    if !projects.is_empty() && !projects.iter().any(|known| super::project::number(known) == place.number) {
        return Err(ApiError::permission_denied(permission, &resource));
    }
    check_query(call, query)?;
    let mask = read_mask(call, query)?;
    let answer = match past {
        Some(past) => look_back(cloud, place, call, query, past),
        None => None,
    };
    let answer = match answer {
        Some(answer) => answer?,
        None => dispatch(cloud, place, call, query, body)?,
    };
    Ok(mask.apply(answer))
}

/// What a read would have answered at another time; none of a call that is no read.
fn look_back(cloud: &Cloud, place: &Place, call: &Call, query: &Query, past: &Past) -> Option<Result<Value, ApiError>> {
    let page = || Page::read(query, cloud.config.page_size);
    Some(match call {
        Call::GetJob(name) => past.job(place, name).map(to_value),
        Call::GetExecution(name) => past.execution(place, name).map(to_value),
        Call::ListJobs => page().map(|page| page.of(past.jobs(place), "JobList", |job| job, |job| &job.metadata)),
        Call::ListExecutions => page().map(|page| {
            page.of(past.executions(place), "ExecutionList", |execution| execution, |execution| &execution.metadata)
        }),
        _ => return None,
    })
}

fn dispatch(cloud: &Arc<Cloud>, place: &Place, call: &Call, query: &Query, body: &[u8]) -> Result<Value, ApiError> {
    match call {
        Call::CreateJob => {
            let job = validate::read_job(body, &place.project)?;
            let job = {
                let mut state = cloud.state();
                cloud.fate().check_limits(place, call, &mut state)?;
                state.create_job(place, job)?
            };
            lifecycle::settle(cloud, place.clone(), job.clone());
            Ok(to_value(&job))
        }
        Call::ReplaceJob(name) => {
            let job = cloud.state().replace_job(place, name, validate::read_job(body, &place.project)?)?;
            lifecycle::settle(cloud, place.clone(), job.clone());
            Ok(to_value(&job))
        }
        Call::GetJob(name) => Ok(to_value(&cloud.state().job(place, name)?.job)),
        Call::ListJobs => {
            let page = Page::read(query, cloud.config.page_size)?;
            Ok(page.of(&cloud.state().at(place).jobs, "JobList", |record| &record.job, |job| &job.metadata))
        }
        Call::DeleteJob(name) => {
            let (uid, idle) = cloud.state().delete_job(place, name)?;
            if idle {
                lifecycle::remove_job(cloud, place.clone(), uid.clone(), name.clone());
            }
            Ok(deleted("jobs", name, &uid))
        }
        Call::RunJob(name) => {
            let request = validate::read_body(body, &run_v1::RUN_JOB_REQUEST)?;
            let started = {
                let mut state = cloud.state();
                cloud.fate().check_limits(place, call, &mut state)?;
                state.run_job(place, name, &request, &cloud.base_url())?
            };
            let answer = to_value(&started.execution);
            lifecycle::execute(cloud, started);
            Ok(answer)
        }
        Call::GetExecution(name) => Ok(to_value(&cloud.state().execution(place, name)?.execution)),
        Call::ListExecutions => {
            let page = Page::read(query, cloud.config.page_size)?;
            let mut state = cloud.state();
            let executions = &state.at(place).executions;
            Ok(page.of(executions, "ExecutionList", |record| &record.execution, |execution| &execution.metadata))
        }
        Call::DeleteExecution(name) => {
            let uid = cloud.state().delete_execution(place, name)?;
            Ok(deleted("executions", name, &uid))
        }
        Call::CancelExecution(name) => {
            validate::read_body(body, &run_v1::CANCEL_EXECUTION_REQUEST)?;
            Ok(to_value(&cloud.state().cancel_execution(place, name)?))
        }
    }
}

/// Resources are plain data, which always is JSON.
fn to_value(resource: &impl Serialize) -> Value {
    serde_json::to_value(resource).unwrap_or_default()
}

/// Schema `Status`.
fn deleted(kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Success",
        "details": {"group": "run.googleapis.com", "kind": kind, "name": name, "uid": uid},
    })
}

fn parameter<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// Refuses parameters that the call does not have, as Google's front end does, and those that are not supported.
fn check_query(call: &Call, query: &Query) -> Result<(), ApiError> {
    let known = |name: &str| COMMON_PARAMETERS.contains(&name) || call.parameters().contains(&name);
    let unknown: Vec<Violation> = query
        .iter()
        .filter(|(name, _)| !known(name))
        .map(|(name, _)| {
            let words = format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter.");
            Violation::new("", words)
        })
        .collect();
    if !unknown.is_empty() {
        return Err(ApiError::invalid(&unknown));
    }
    if parameter(query, "fieldSelector").is_some() {
        return Err(ApiError::invalid_field("fieldSelector", "is not supported."));
    }
    if parameter(query, "watch").is_some_and(|watch| watch != "false") {
        return Err(ApiError::invalid_field("watch", "is not supported."));
    }
    if parameter(query, "dryRun").is_some() {
        return Err(ApiError::invalid_field("dryRun", "is not emulated."));
    }
    Ok(())
}

fn read_mask(call: &Call, query: &Query) -> Result<Mask, ApiError> {
    let Some(text) = parameter(query, "fields") else { return Ok(Mask::default()) };
    let message = match call {
        Call::CreateJob | Call::GetJob(_) | Call::ReplaceJob(_) => &run_v1::JOB,
        Call::ListJobs => &run_v1::LIST_JOBS_RESPONSE,
        Call::ListExecutions => &run_v1::LIST_EXECUTIONS_RESPONSE,
        Call::RunJob(_) | Call::GetExecution(_) | Call::CancelExecution(_) => &run_v1::EXECUTION,
        Call::DeleteJob(_) | Call::DeleteExecution(_) => &run_v1::STATUS,
    };
    let refuse = |why: String| ApiError::invalid_field("fields", format!("Error expanding 'fields' parameter. {why}."));
    let mask = Mask::parse(text).map_err(refuse)?;
    match mask.unknown(message) {
        Some(path) => Err(refuse(format!("Cannot find matching fields for path '{path}'"))),
        None => Ok(mask),
    }
}

/// Which part of a list a call wants.
struct Page {
    selector: LabelSelector,
    before: Option<u64>,
    size: usize,
}

impl Page {
    fn read(query: &Query, largest: usize) -> Result<Self, ApiError> {
        let selector = LabelSelector::parse(parameter(query, "labelSelector").unwrap_or_default())
            .map_err(|why| ApiError::invalid_field("labelSelector", format!("could not be read: {why}.")))?;
        let before = parameter(query, "continue").map(|text| {
            read_token(text).ok_or_else(|| ApiError::invalid_field("continue", "is not a token of this list."))
        });
        let limit = parameter(query, "limit").map_or(Ok(0), |text| {
            text.parse::<u32>().map_err(|_| ApiError::invalid_field("limit", "must be a number from 0."))
        })?;
        let size = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => largest,
            limit => limit.min(largest),
        };
        Ok(Self { selector, before: before.transpose()?, size: size.max(1) })
    }

    fn of<R, T: Serialize>(
        &self,
        collection: &Collection<R>,
        kind: &str,
        resource: impl Fn(&R) -> &T,
        metadata: impl Fn(&T) -> &ObjectMeta,
    ) -> Value {
        let wanted = |record: &R| self.selector.matches(&metadata(resource(record)).labels);
        let (records, next) = collection.page(self.before, self.size, wanted);
        to_value(&List {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            metadata: ListMeta { continue_token: next.map(token), ..ListMeta::default() },
            items: records.into_iter().map(resource).collect(),
            unreachable: Vec::new(),
            extra: serde_json::Map::new(),
        })
    }
}
