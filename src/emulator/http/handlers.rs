//! The handlers of the API's methods: what each call does, and its response.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::list::ListRequest;
use crate::{
    api::ApiMethod,
    emulator::{
        scheduler,
        state::EmulatorState,
        store::Snapshot,
        validation::{read_body, read_job},
        wire::{ApiCall, ApiRefusal, ProjectRegion, QueryParameters, project_number},
    },
    schema::run_v1,
};

/// What a read shows. Writes ignore it.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    /// What is true.
    Present,
    /// What was true at an earlier moment.
    Past(&'a Snapshot),
    /// No items. For lists.
    Nothing,
    /// No items, and that the region could not be reached. For lists.
    Unreachable,
}

/// Does what a call asks for, and returns the body of the response.
pub(super) fn handle(
    state: &Arc<EmulatorState>,
    place: &ProjectRegion,
    call: &ApiCall,
    query: &[(String, String)],
    body: &[u8],
    view: View<'_>,
) -> Result<Value, ApiRefusal> {
    let projects = &state.config.projects;
    if !projects.is_empty() && !projects.iter().any(|known| project_number(known) == place.number) {
        return Err(ApiRefusal::permission_denied(call.method.row().permission, &call.resource(&place.project)));
    }
    let query = QueryParameters::check(call, query)?;
    let mask = query.field_mask(call)?;
    let read = |snapshot: &Snapshot| read_snapshot(state, place, call, query, snapshot);
    let shown = match view {
        View::Present => None,
        View::Past(snapshot) => read(snapshot),
        View::Nothing | View::Unreachable => read(&Snapshot::default()),
    };
    let mut response = match shown {
        Some(response) => response?,
        None => dispatch(state, place, call, query, body)?,
    };
    if matches!(view, View::Unreachable) {
        response["unreachable"] = json!([place.region]);
    }
    Ok(mask.apply(response))
}

/// The response of a read from a snapshot. None for a write.
fn read_snapshot(
    state: &EmulatorState,
    place: &ProjectRegion,
    call: &ApiCall,
    query: QueryParameters<'_>,
    snapshot: &Snapshot,
) -> Option<Result<Value, ApiRefusal>> {
    let list = || ListRequest::parse(query, state.config.page_size);
    Some(match call.method {
        ApiMethod::GetJob => snapshot.job(place, &call.name).map(to_value),
        ApiMethod::GetExecution => snapshot.execution(place, &call.name).map(to_value),
        ApiMethod::ListJobs => {
            list().map(|list| to_value(&list.page(snapshot.jobs(place), "JobList", |job| job, |job| &job.metadata)))
        }
        ApiMethod::ListExecutions => list().map(|list| {
            let executions = snapshot.executions(place);
            to_value(&list.page(executions, "ExecutionList", |execution| execution, |execution| &execution.metadata))
        }),
        ApiMethod::GetTask => snapshot.task(place, &call.name).map(to_value),
        ApiMethod::ListTasks => list()
            .map(|list| to_value(&list.page(snapshot.tasks(place), "TaskList", |task| task, |task| &task.metadata))),
        _ => return None,
    })
}

fn dispatch(
    state: &Arc<EmulatorState>,
    place: &ProjectRegion,
    call: &ApiCall,
    query: QueryParameters<'_>,
    body: &[u8],
) -> Result<Value, ApiRefusal> {
    let name = call.name.as_str();
    match call.method {
        ApiMethod::CreateJob => {
            let job = read_job(body, &place.project)?;
            let job = {
                let mut store = state.store();
                state.injector().check_limits(place, call.method, &mut store)?;
                store.create_job(place, job)?
            };
            scheduler::schedule_readiness(state, place.clone(), job.clone());
            Ok(to_value(&job))
        }
        ApiMethod::ReplaceJob => {
            let job = read_job(body, &place.project)?;
            let job = state.store().replace_job(place, name, job)?;
            scheduler::schedule_readiness(state, place.clone(), job.clone());
            Ok(to_value(&job))
        }
        ApiMethod::GetJob => Ok(to_value(&state.store().job(place, name)?.job)),
        ApiMethod::ListJobs => {
            let list = ListRequest::parse(query, state.config.page_size)?;
            let mut store = state.store();
            let jobs = &store.at(place).jobs;
            Ok(to_value(&list.page(jobs, "JobList", |record| &record.job, |job| &job.metadata)))
        }
        ApiMethod::DeleteJob => {
            let (uid, is_idle) = state.store().delete_job(place, name)?;
            if is_idle {
                scheduler::schedule_removal(state, place.clone(), uid.clone(), name.to_owned());
            }
            Ok(deletion_status("jobs", name, &uid))
        }
        ApiMethod::RunJob => {
            let request = read_body(body, &run_v1::RUN_JOB_REQUEST)?;
            let started = {
                let mut store = state.store();
                state.injector().check_limits(place, call.method, &mut store)?;
                store.run_job(place, name, &request, &state.base_url())?
            };
            let response = to_value(&started.execution);
            scheduler::schedule_execution(state, started);
            Ok(response)
        }
        ApiMethod::GetExecution => Ok(to_value(&state.store().execution(place, name)?.execution)),
        ApiMethod::ListExecutions => {
            let list = ListRequest::parse(query, state.config.page_size)?;
            let mut store = state.store();
            let executions = &store.at(place).executions;
            let page =
                list.page(executions, "ExecutionList", |record| &record.execution, |execution| &execution.metadata);
            Ok(to_value(&page))
        }
        ApiMethod::GetTask => Ok(to_value(state.store().task(place, name)?)),
        ApiMethod::ListTasks => {
            let list = ListRequest::parse(query, state.config.page_size)?;
            let mut store = state.store();
            Ok(to_value(&list.page(&store.at(place).tasks, "TaskList", |task| task, |task| &task.metadata)))
        }
        ApiMethod::DeleteExecution => {
            let uid = state.store().delete_execution(place, name)?;
            Ok(deletion_status("executions", name, &uid))
        }
        ApiMethod::CancelExecution => {
            read_body(body, &run_v1::CANCEL_EXECUTION_REQUEST)?;
            Ok(to_value(&state.store().cancel_execution(place, name)?))
        }
    }
}

/// A resource as JSON. This does not fail: resources are plain data.
fn to_value(resource: &impl Serialize) -> Value {
    serde_json::to_value(resource).unwrap_or_default()
}

/// The response of a delete (schema `Status`).
fn deletion_status(kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Success",
        "details": {"group": "run.googleapis.com", "kind": kind, "name": name, "uid": uid},
    })
}
