//! `GET /`: what happens in the emulator, for people. Never shows anything of an environment.

use std::{collections::HashMap, fmt::Write};

use super::{
    cloud::Cloud,
    history::{EventKind, JobLife},
    views,
};
use crate::api::types::{Condition, ConditionStatus, Execution, Job};

/// Most resources of a kind on the page; the newest.
const MOST_ROWS: usize = 200;

/// Text as HTML shows it, in content and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The whole page.
pub(super) fn index(cloud: &Cloud) -> String {
    let (jobs, executions, lives) = (views::jobs(cloud), views::executions(cloud), views::lives(cloud));
    let mut page = String::from(HEAD);
    let _ = write!(
        page,
        "<h1>Cloud Run emulator</h1>\n<p>To use it: <code>export CLOUD_RUN_EMULATOR_HOST={}</code></p>\n",
        escape(&cloud.address.to_string())
    );
    let projects: HashMap<&str, &str> = lives.iter().map(|life| (life.uid.as_str(), life.project.as_str())).collect();
    let rows = jobs.iter().rev().map(|job| job_row(job, &projects));
    section(&mut page, "Jobs", "Name|Project|Region|Created (UTC)|Conditions", rows, jobs.len());
    let rows = executions.iter().rev().map(execution_row);
    section(&mut page, "Executions", "Name|Job|Created (UTC)|Tasks|Conditions|Log", rows, executions.len());
    let gone: Vec<&JobLife> = lives
        .iter()
        .rev()
        .filter(|life| life.events.last().is_some_and(|event| event.kind == EventKind::Deleted))
        .collect();
    let rows = gone.iter().map(|life| gone_row(life));
    section(&mut page, "Deleted jobs", "Name|Project|Region|Life (UTC)", rows, gone.len());
    page.push_str("</main>\n</html>\n");
    page
}

fn section(page: &mut String, title: &str, columns: &str, rows: impl Iterator<Item = String>, count: usize) {
    let _ = writeln!(page, "<section>\n<h2>{title} <span class=count>{count}</span></h2>");
    if count == 0 {
        page.push_str("<p class=none>None.</p>\n</section>\n");
        return;
    }
    page.push_str("<div class=scroll><table>\n<tr>");
    columns.split('|').for_each(|column| {
        let _ = write!(page, "<th>{column}");
    });
    page.push('\n');
    rows.take(MOST_ROWS).for_each(|row| page.push_str(&row));
    page.push_str("</table></div>\n");
    if count > MOST_ROWS {
        let _ = writeln!(page, "<p class=none>… and {} older ones.</p>", count - MOST_ROWS);
    }
    page.push_str("</section>\n");
}

/// The project is shown as its user named it, which the job's identity leads to: the job itself has its number.
fn job_row(job: &Job, projects: &HashMap<&str, &str>) -> String {
    let metadata = &job.metadata;
    let number = metadata.namespace.as_deref().unwrap_or_default();
    let project = metadata.uid.as_deref().and_then(|uid| projects.get(uid)).copied().unwrap_or(number);
    let deletion = if metadata.deletion_timestamp.is_some() { " <span class=wait>being deleted</span>" } else { "" };
    format!(
        "<tr><td>{}{deletion}<td>{}<td>{}<td>{}<td>{}\n",
        escape(&metadata.name),
        escape(project),
        escape(metadata.labels.get("cloud.googleapis.com/location").map_or("", String::as_str)),
        clock(metadata.creation_timestamp.as_deref()),
        conditions(&job.status.conditions),
    )
}

fn execution_row(execution: &Execution) -> String {
    let (metadata, status) = (&execution.metadata, &execution.status);
    let counts: Vec<String> = [
        (status.running_count, "running"),
        (status.succeeded_count, "succeeded"),
        (status.failed_count, "failed"),
        (status.cancelled_count, "cancelled"),
        (status.retried_count, "retried"),
    ]
    .into_iter()
    .filter_map(|(count, what)| count.map(|count| format!("{count} {what}")))
    .collect();
    format!(
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}\n",
        escape(&metadata.name),
        escape(metadata.owner_references.first().map_or("", |owner| &owner.name)),
        clock(metadata.creation_timestamp.as_deref()),
        escape(&counts.join(", ")),
        conditions(&status.conditions),
        link("log", status.log_uri.as_deref().unwrap_or_default()),
    )
}

fn gone_row(life: &JobLife) -> String {
    let mut events = String::from("<ol>");
    for event in &life.events {
        let words = match event.kind {
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
        };
        let _ = write!(events, "<li>{} {words}", clock(Some(&event.time)));
        if let (Some(execution), EventKind::ExecutionCreated) = (&event.execution, event.kind) {
            let address = format!("/logs/{}/{}/{execution}", life.project, life.region);
            let _ = write!(events, ": {}", link(execution, &address));
        }
        if let Some(message) = &event.message {
            let _ = write!(events, ": {}", escape(message));
        }
    }
    events.push_str("</ol>");
    let [name, project, region] = [&life.job, &life.project, &life.region].map(|text| escape(text));
    format!("<tr><td>{name}<td>{project}<td>{region}<td>{events}\n")
}

fn conditions(conditions: &[Condition]) -> String {
    let mut list = String::from("<ul>");
    for condition in conditions {
        let (class, mark) = match condition.status {
            ConditionStatus::True => ("good", "✓"),
            ConditionStatus::False => ("bad", "✗"),
            ConditionStatus::Unknown => ("wait", "…"),
        };
        let _ = write!(list, "<li><span class={class}>{mark} {}</span>", escape(&condition.kind));
        if let Some(reason) = &condition.reason {
            let _ = write!(list, " <b>{}</b>", escape(reason));
        }
        if let Some(message) = &condition.message {
            let _ = write!(list, " {}", escape(message));
        }
    }
    list + "</ul>"
}

fn link(words: &str, address: &str) -> String {
    format!("<a href=\"{}\">{}</a>", escape(address), escape(words))
}

/// The time of day of a timestamp, in UTC; the whole of it as a tooltip.
fn clock(timestamp: Option<&str>) -> String {
    let timestamp = timestamp.unwrap_or_default();
    format!("<time title=\"{}\">{}</time>", escape(timestamp), escape(timestamp.get(11..19).unwrap_or(timestamp)))
}

const HEAD: &str = "<!DOCTYPE html>
<html lang=en>
<meta charset=utf-8>
<meta http-equiv=refresh content=2>
<meta name=viewport content=\"width=device-width, initial-scale=1\">
<title>Cloud Run emulator</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --good: light-dark(#137333, #81c995);
          --bad: light-dark(#b3261e, #f28b82); --wait: light-dark(#8a5a00, #fdd663); }
  body { font: 15px/1.45 system-ui, sans-serif; margin: 0; }
  main { max-width: 80rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
  h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  code { font: .9em ui-monospace, monospace; background: #8882; padding: .15em .4em; border-radius: 4px; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); }
  th { font-weight: 600; font-size: .85rem; }
  td:first-child { font-weight: 600; white-space: nowrap; } b { font-weight: 600; }
  ul, ol { margin: 0; padding: 0; list-style: none; }
  time { font-variant-numeric: tabular-nums; }
  .count, .none { opacity: .7; font-weight: normal; }
  .good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); }
</style>
<main>
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ObjectMeta;

    #[test]
    fn markup_in_names_and_messages_is_text() {
        assert_eq!(escape("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
        let evil = "<script>alert(1)</script>";
        let condition = Condition { kind: evil.to_owned(), message: Some(evil.to_owned()), ..Condition::default() };
        let metadata = ObjectMeta { name: evil.to_owned(), namespace: Some(evil.to_owned()), ..ObjectMeta::default() };
        let mut job = Job { metadata, ..Job::default() };
        job.status.conditions.push(condition);
        assert!(!job_row(&job, &HashMap::new()).contains("<script"));
    }
}
