//! HTML pages: the overview at `GET /`, and the 404 of Google's front end.
//!
//! Guarantees: all values are escaped, and none comes from the environment of a container.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use minijinja::{Environment, value::Serde};
use serde::Serialize;

use crate::{
    api::types::{Condition, Execution, Job},
    emulator::{
        state::EmulatorState,
        store::{EventKind, JobLife},
    },
};

/// Maximum number of rows in a table; the newest resources are shown.
const MAX_ROWS: usize = 200;

/// The templates of the pages. Their names end in `.html`, so minijinja escapes every value.
static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    let sources = [("page.html", include_str!("page.html")), ("not_found.html", include_str!("not_found.html"))];
    for (name, source) in sources {
        // A template with an error is missing when it is rendered, and the page then says so.
        _ = pages.add_template(name, source);
    }
    pages
});

/// The values in `page.html`.
#[derive(Serialize)]
struct IndexPage<'a> {
    address: String,
    max_rows: usize,
    jobs: PageTable<JobRow<'a>>,
    executions: PageTable<ExecutionRow<'a>>,
    deleted: PageTable<DeletedRow<'a>>,
}

/// The shown rows of a table, newest first, and the number of all rows.
#[derive(Serialize)]
struct PageTable<R> {
    rows: Vec<R>,
    count: usize,
}

impl<R> PageTable<R> {
    fn of<T>(items: impl DoubleEndedIterator<Item = T> + ExactSizeIterator, row: impl FnMut(T) -> R) -> Self {
        Self { count: items.len(), rows: items.rev().take(MAX_ROWS).map(row).collect() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobRow<'a> {
    name: &'a str,
    project: &'a str,
    region: &'a str,
    created: &'a str,
    is_being_deleted: bool,
    conditions: &'a [Condition],
}

#[derive(Serialize)]
struct ExecutionRow<'a> {
    name: &'a str,
    job: &'a str,
    created: &'a str,
    tasks: String,
    conditions: &'a [Condition],
    log: &'a str,
}

#[derive(Serialize)]
struct DeletedRow<'a> {
    job: &'a str,
    project: &'a str,
    region: &'a str,
    events: Vec<EventRow<'a>>,
}

#[derive(Serialize)]
struct EventRow<'a> {
    time: &'a str,
    label: &'static str,
    execution: Option<&'a str>,
    message: Option<&'a str>,
}

/// The overview of jobs, executions and deleted jobs.
pub(super) fn index(state: &EmulatorState) -> String {
    let (jobs, executions, lives) = {
        let store = state.store();
        (store.all_jobs(), store.all_executions(), store.job_lives())
    };
    let projects: HashMap<&str, &str> = lives.iter().map(|life| (life.uid.as_str(), life.project.as_str())).collect();
    let is_deleted = |life: &&JobLife| life.events.last().is_some_and(|event| event.kind == EventKind::Deleted);
    let deleted: Vec<_> = lives.iter().filter(is_deleted).collect();
    render(
        "page.html",
        &IndexPage {
            address: state.address.to_string(),
            max_rows: MAX_ROWS,
            jobs: PageTable::of(jobs.iter(), |job| job_row(job, &projects)),
            executions: PageTable::of(executions.iter(), execution_row),
            deleted: PageTable::of(deleted.into_iter(), deleted_row),
        },
    )
}

/// The 404 of Google's front end for a path without a service: an HTML page, not the API's JSON.
pub(super) fn not_found(path: &str) -> Response {
    let page = render("not_found.html", &HashMap::from([("path", path)]));
    (StatusCode::NOT_FOUND, [(header::REFERRER_POLICY, "no-referrer")], Html(page)).into_response()
}

fn render(name: &str, values: &impl Serialize) -> String {
    let rendered = PAGES.get_template(name).and_then(|template| template.render(Serde(values)));
    rendered.unwrap_or_else(|error| format!("The page {name} could not be rendered: {error}"))
}

/// A row with the project as the creating call named it, from `projects` by the job's uid. The job itself has only the
/// project's number.
fn job_row<'a>(job: &'a Job, projects: &HashMap<&str, &'a str>) -> JobRow<'a> {
    let metadata = &job.metadata;
    let number = metadata.namespace.as_deref().unwrap_or_default();
    JobRow {
        name: &metadata.name,
        project: metadata.uid.as_deref().and_then(|uid| projects.get(uid)).copied().unwrap_or(number),
        region: metadata.labels.get("cloud.googleapis.com/location").map_or("", String::as_str),
        created: metadata.creation_timestamp.as_deref().unwrap_or_default(),
        is_being_deleted: metadata.deletion_timestamp.is_some(),
        conditions: &job.status.conditions,
    }
}

fn execution_row(execution: &Execution) -> ExecutionRow<'_> {
    let (metadata, status) = (&execution.metadata, &execution.status);
    let tasks: Vec<String> = [
        (status.running_count, "running"),
        (status.succeeded_count, "succeeded"),
        (status.failed_count, "failed"),
        (status.cancelled_count, "cancelled"),
        (status.retried_count, "retried"),
    ]
    .into_iter()
    .filter_map(|(count, what)| count.map(|count| format!("{count} {what}")))
    .collect();
    ExecutionRow {
        name: &metadata.name,
        job: metadata.owner_references.first().map_or("", |owner| &owner.name),
        created: metadata.creation_timestamp.as_deref().unwrap_or_default(),
        tasks: tasks.join(", "),
        conditions: &status.conditions,
        log: status.log_uri.as_deref().unwrap_or_default(),
    }
}

fn deleted_row(life: &JobLife) -> DeletedRow<'_> {
    let events = life.events.iter().map(|event| EventRow {
        time: &event.time,
        label: label(event.kind),
        execution: event.execution.as_deref().filter(|_| event.kind == EventKind::ExecutionCreated),
        message: event.message.as_deref(),
    });
    DeletedRow { job: &life.job, project: &life.project, region: &life.region, events: events.collect() }
}

fn label(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "created",
        EventKind::Replaced => "replaced",
        EventKind::Ready => "ready",
        EventKind::NotReady => "not ready",
        EventKind::ExecutionCreated => "execution created",
        EventKind::ExecutionStarted => "execution started",
        EventKind::TaskRetried => "task retried",
        EventKind::ExecutionSucceeded => "execution succeeded",
        EventKind::ExecutionFailed => "execution failed",
        EventKind::ExecutionCancelled => "execution cancelled",
        EventKind::DeletionRequested => "deletion requested",
        EventKind::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::{ConditionStatus, ObjectMeta},
        emulator::store::HistoryEvent,
    };

    const EVIL: &str = "<script>alert('x')</script>";

    fn shown(jobs: &[Job], lives: &[JobLife]) -> String {
        let executions = [Execution::default()];
        let index = IndexPage {
            address: "127.0.0.1:1".to_owned(),
            max_rows: MAX_ROWS,
            jobs: PageTable::of(jobs.iter(), |job| job_row(job, &HashMap::new())),
            executions: PageTable::of(executions.iter(), execution_row),
            deleted: PageTable::of(lives.iter(), deleted_row),
        };
        render("page.html", &index)
    }

    #[test]
    fn markup_in_names_and_messages_is_escaped() {
        let condition = Condition {
            kind: "Ready".to_owned(),
            status: ConditionStatus::False,
            message: Some(EVIL.to_owned()),
            ..Condition::default()
        };
        let metadata = ObjectMeta { name: EVIL.to_owned(), namespace: Some(EVIL.to_owned()), ..ObjectMeta::default() };
        let mut job = Job { metadata, ..Job::default() };
        job.status.conditions.push(condition);
        let [project, region, name, uid] = [EVIL; 4].map(str::to_owned);
        let event = HistoryEvent {
            time: "2026-11-24T10:20:30Z".to_owned(),
            kind: EventKind::ExecutionCreated,
            execution: Some(EVIL.to_owned()),
            message: Some(EVIL.to_owned()),
        };
        let shown = shown(&[job], &[JobLife { project, region, job: name, uid, events: vec![event] }]);
        assert!(!shown.contains("<script"), "{shown}");
        assert!(shown.contains("<span class=bad>✗ Ready</span>"), "{shown}");
        assert!(shown.contains(">10:20:30</time> execution created: <a href="), "{shown}");
        let missing = |path| render("not_found.html", &HashMap::from([("path", path)]));
        assert!(!missing(EVIL).contains("<script"));
        assert!(missing("/a").contains("<code>&#x2f;a</code>"));
    }

    #[test]
    fn rows_that_are_not_shown_are_counted_and_empty_tables_say_so() {
        let jobs: Vec<_> = (0..MAX_ROWS + 3)
            .map(|n| Job {
                metadata: ObjectMeta { name: format!("job-{n}."), ..ObjectMeta::default() },
                ..Job::default()
            })
            .collect();
        let shown = shown(&jobs, &[]);
        assert!(shown.contains("… and 3 older ones.") && shown.contains("<p class=none>None.</p>"), "{shown}");
        assert!(shown.contains("job-202.") && !shown.contains("job-2."), "the newest are shown");
    }
}
