//! What people see in a browser: `GET /`, and the front end's 404. Never shows anything of an environment.

use std::{collections::HashMap, sync::LazyLock};

use minijinja::{Environment, value::Serde};
use serde::Serialize;

use super::{
    cloud::Cloud,
    history::{EventKind, JobLife},
    views,
};
use crate::api::types::{Condition, Execution, Job};

/// Most resources of a kind on the page; the newest.
const MOST_ROWS: usize = 200;

/// The pages. Their names end in `.html`, so that every value in them is escaped.
static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    let sources = [("page.html", include_str!("page.html")), ("not_found.html", include_str!("not_found.html"))];
    for (name, source) in sources {
        // One that can't be read is missing when it is asked for, which says so.
        _ = pages.add_template(name, source);
    }
    pages
});

/// What `page.html` shows.
#[derive(Serialize)]
struct Index<'a> {
    address: String,
    most_rows: usize,
    jobs: Table<JobRow<'a>>,
    executions: Table<ExecutionRow<'a>>,
    gone: Table<GoneRow<'a>>,
}

/// The rows of a table, newest first, and how many there are beside those that are shown.
#[derive(Serialize)]
struct Table<R> {
    rows: Vec<R>,
    count: usize,
}

impl<R> Table<R> {
    fn of<T>(items: impl DoubleEndedIterator<Item = T> + ExactSizeIterator, row: impl FnMut(T) -> R) -> Self {
        Self { count: items.len(), rows: items.rev().take(MOST_ROWS).map(row).collect() }
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
struct GoneRow<'a> {
    job: &'a str,
    project: &'a str,
    region: &'a str,
    events: Vec<EventRow<'a>>,
}

#[derive(Serialize)]
struct EventRow<'a> {
    time: &'a str,
    words: &'static str,
    execution: Option<&'a str>,
    message: Option<&'a str>,
}

/// The page of all that happens in the emulator.
pub(super) fn index(cloud: &Cloud) -> String {
    let (jobs, executions, lives) = (views::jobs(cloud), views::executions(cloud), views::lives(cloud));
    let projects: HashMap<&str, &str> = lives.iter().map(|life| (life.uid.as_str(), life.project.as_str())).collect();
    let is_gone = |life: &&JobLife| life.events.last().is_some_and(|event| event.kind == EventKind::Deleted);
    let gone: Vec<_> = lives.iter().filter(is_gone).collect();
    page(
        "page.html",
        &Index {
            address: cloud.address.to_string(),
            most_rows: MOST_ROWS,
            jobs: Table::of(jobs.iter(), |job| job_row(job, &projects)),
            executions: Table::of(executions.iter(), execution_row),
            gone: Table::of(gone.into_iter(), gone_row),
        },
    )
}

/// What Google's front end shows where no service is.
pub(super) fn not_found(path: &str) -> String {
    page("not_found.html", &HashMap::from([("path", path)]))
}

fn page(name: &str, values: &impl Serialize) -> String {
    let rendered = PAGES.get_template(name).and_then(|template| template.render(Serde(values)));
    rendered.unwrap_or_else(|error| format!("The page {name} can't be made: {error}"))
}

/// The project is shown as its user named it, which the job's identity leads to: the job itself has its number.
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

fn gone_row(life: &JobLife) -> GoneRow<'_> {
    let events = life.events.iter().map(|event| EventRow {
        time: &event.time,
        words: words(event.kind),
        execution: event.execution.as_deref().filter(|_| event.kind == EventKind::ExecutionCreated),
        message: event.message.as_deref(),
    });
    GoneRow { job: &life.job, project: &life.project, region: &life.region, events: events.collect() }
}

fn words(kind: EventKind) -> &'static str {
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
        emulator::history::Event,
    };

    const EVIL: &str = "<script>alert('x')</script>";

    fn shown(jobs: &[Job], lives: &[JobLife]) -> String {
        let executions = [Execution::default()];
        let index = Index {
            address: "127.0.0.1:1".to_owned(),
            most_rows: MOST_ROWS,
            jobs: Table::of(jobs.iter(), |job| job_row(job, &HashMap::new())),
            executions: Table::of(executions.iter(), execution_row),
            gone: Table::of(lives.iter(), gone_row),
        };
        page("page.html", &index)
    }

    #[test]
    fn markup_in_names_and_messages_is_text() {
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
        let event = Event {
            time: "2026-11-24T10:20:30Z".to_owned(),
            kind: EventKind::ExecutionCreated,
            execution: Some(EVIL.to_owned()),
            message: Some(EVIL.to_owned()),
        };
        let shown = shown(&[job], &[JobLife { project, region, job: name, uid, events: vec![event] }]);
        assert!(!shown.contains("<script"), "{shown}");
        assert!(shown.contains("<span class=bad>✗ Ready</span>"), "{shown}");
        assert!(shown.contains(">10:20:30</time> execution created: <a href="), "{shown}");
        assert!(!not_found(EVIL).contains("<script"));
        assert!(not_found("/a").contains("<code>&#x2f;a</code>"));
    }

    #[test]
    fn older_ones_are_counted_and_empty_tables_say_so() {
        let jobs: Vec<_> = (0..MOST_ROWS + 3)
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
