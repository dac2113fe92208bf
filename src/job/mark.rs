//! The mark of a worker's jobs: which work pool and flow run a job is for, and who created it. Other workers look only after
//! jobs that carry it.
//!
//! Pool and flow run are labels, so that lists can be filtered by them. Executions inherit the labels. The rest are
//! annotations.

use std::{
    collections::BTreeMap,
    process,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::limits::MAX_LABELS;

/// Label with the version of the mark, which the upstream worker never writes.
const VERSION_LABEL: &str = "prefect-gcp-cloud-run";
/// The version that this module writes and reads.
const VERSION: &str = "1";
/// Label with the id of the work pool.
const POOL_LABEL: &str = "prefect-gcp-cloud-run-pool";
/// Label with the id of the flow run.
pub const FLOW_RUN_LABEL: &str = "prefect-gcp-cloud-run-flow-run";
/// What the keys of Prefect's labels begin with. The mark takes their place in a body that is full.
const PREFECT_PREFIX: &str = "prefect-io-";
/// The one of them that tells whose job it is, and stays.
const PREFECT_FLOW_RUN_LABEL: &str = "prefect-io-flow-run-id";
/// How many labels the mark has.
pub const MARK_LABELS: usize = 3;

/// Annotation with the id of the process that created the job.
const PROCESS: &str = "prefect-gcp-cloud-run/process";
/// Annotation with the name of its worker.
const WORKER: &str = "prefect-gcp-cloud-run/worker";
/// Annotation that says whether the job stays: `true` or `false`.
const KEEP: &str = "prefect-gcp-cloud-run/keep";
/// Annotation with the time at which the job's run has given up waiting for its start, in RFC 3339.
const GIVE_UP_AT: &str = "prefect-gcp-cloud-run/give-up-at";

/// Longest name of a worker in a mark, in characters. Prefect allows any length, and Cloud Run bounds all annotations
/// together.
const MAX_WORKER: usize = 1000;

/// What a job's mark says.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Id of the work pool.
    pub pool: Uuid,
    /// Id of the flow run.
    pub flow_run: Uuid,
    /// Id of the process that created the job.
    pub process: Uuid,
    /// Name of its worker.
    pub worker: String,
    /// Whether the job stays after its execution.
    pub keep: bool,
    /// When the job's run has given up waiting for its start, at the latest. Whole seconds.
    pub give_up_at: DateTime<Utc>,
}

/// Why a job carries no mark that can be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoMark {
    /// It carries nothing of a mark.
    Unmarked,
    /// A part of the mark, with this key, is missing or makes no sense.
    Malformed(&'static str),
}

impl Mark {
    /// The selector of a list that shows the jobs of a pool.
    pub fn selector(pool: Uuid) -> String {
        format!("{VERSION_LABEL}={VERSION},{POOL_LABEL}={pool}")
    }

    /// Writes the mark onto a job body and the template of its executions, over what is there of a mark. In a body that has
    /// all the labels that a job may have, it takes the place of Prefect's last ones.
    ///
    /// Returns whether there was room for it. A body without room stays as it is.
    #[must_use]
    pub fn write(&self, body: &mut Value) -> bool {
        let labels = [
            (VERSION_LABEL, VERSION.to_owned()),
            (POOL_LABEL, self.pool.to_string()),
            (FLOW_RUN_LABEL, self.flow_run.to_string()),
        ];
        let annotations = [
            (PROCESS, self.process.to_string()),
            (WORKER, self.worker.chars().take(MAX_WORKER).collect()),
            (KEEP, self.keep.to_string()),
            (GIVE_UP_AT, self.give_up_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        ];
        let mut marked = body.clone();
        let is_marked = set(&mut marked, &["metadata", "labels"], &labels)
            && set(&mut marked, &["spec", "template", "metadata", "labels"], &labels)
            && set(&mut marked, &["metadata", "annotations"], &annotations);
        if is_marked {
            *body = marked;
        }
        is_marked
    }

    /// Reads the mark from a job's labels and annotations.
    ///
    /// # Errors
    /// When the job has none, or one that this version does not write.
    pub fn read(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Result<Self, NoMark> {
        let is_marked = [VERSION_LABEL, POOL_LABEL, FLOW_RUN_LABEL].iter().any(|key| labels.contains_key(*key))
            || [PROCESS, WORKER, KEEP, GIVE_UP_AT].iter().any(|key| annotations.contains_key(*key));
        if !is_marked {
            return Err(NoMark::Unmarked);
        }
        let label = |key| labels.get(key).map(String::as_str).ok_or(NoMark::Malformed(key));
        let annotation = |key| annotations.get(key).map(String::as_str).ok_or(NoMark::Malformed(key));
        if label(VERSION_LABEL)? != VERSION {
            return Err(NoMark::Malformed(VERSION_LABEL));
        }
        let give_up_at = DateTime::parse_from_rfc3339(annotation(GIVE_UP_AT)?);
        Ok(Self {
            pool: parse_id(label(POOL_LABEL)?).ok_or(NoMark::Malformed(POOL_LABEL))?,
            flow_run: parse_id(label(FLOW_RUN_LABEL)?).ok_or(NoMark::Malformed(FLOW_RUN_LABEL))?,
            process: parse_id(annotation(PROCESS)?).ok_or(NoMark::Malformed(PROCESS))?,
            worker: annotation(WORKER)?.to_owned(),
            keep: annotation(KEEP)?.parse().map_err(|_| NoMark::Malformed(KEEP))?,
            give_up_at: give_up_at.map_err(|_| NoMark::Malformed(GIVE_UP_AT))?.to_utc(),
        })
    }

    /// Whether two reads show the mark of the same job: whether it is to be kept may change.
    pub fn is_of_same_run(&self, other: &Self) -> bool {
        (self.pool, self.flow_run, self.process) == (other.pool, other.flow_run, other.process)
    }
}

/// An id as Prefect writes ids: 36 characters, in lower case.
pub fn parse_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == text)
}

/// Sets labels or annotations of a body. Returns false if their place has another shape, or no room.
fn set<const N: usize>(body: &mut Value, path: &[&str], pairs: &[(&str, String); N]) -> bool {
    let mut place = body;
    for name in path {
        let Value::Object(fields) = place else { return false };
        place = fields.entry(*name).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
    }
    let Value::Object(fields) = place else { return false };
    for (key, value) in pairs {
        fields.insert((*key).to_owned(), Value::from(value.as_str()));
    }
    if path.last() == Some(&"labels") {
        make_room(fields);
        return fields.len() <= MAX_LABELS;
    }
    true
}

/// Leaves out Prefect's labels, from the last one on, until there are no more labels than a job may have.
fn make_room(labels: &mut Map<String, Value>) {
    let is_needless = |key: &&String| key.starts_with(PREFECT_PREFIX) && *key != PREFECT_FLOW_RUN_LABEL;
    while labels.len() > MAX_LABELS {
        let Some(key) = labels.keys().rfind(is_needless).cloned() else { return };
        labels.remove(&key);
    }
}

/// The id of this process in marks. A process that was forked from this one has another one.
pub fn process_id() -> Uuid {
    static ID: Mutex<Option<(u32, Uuid)>> = Mutex::new(None);
    let mut id = ID.lock().unwrap_or_else(PoisonError::into_inner);
    match *id {
        Some((of, id)) if of == process::id() => id,
        _ => id.insert((process::id(), Uuid::new_v4())).1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{base_body::base_body, check::check};
    use serde_json::json;

    fn mark() -> Mark {
        Mark {
            pool: Uuid::from_u128(1),
            flow_run: Uuid::from_u128(2),
            process: process_id(),
            worker: "Älter, \"one\"".into(),
            keep: true,
            give_up_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        }
    }

    #[test]
    fn the_mark_takes_the_place_of_prefects_last_labels() {
        let mut body = base_body();
        let prefects =
            ["prefect-io-deployment-id", "prefect-io-flow-run-id", "prefect-io-version", "prefect-io-worker-name"];
        let own = (0..60).map(|number| format!("own{number}"));
        let labels: Map<_, _> = own.chain(prefects.map(str::to_owned)).map(|key| (key, Value::from("v"))).collect();
        body["metadata"]["labels"] = labels.into();
        assert!(mark().write(&mut body));
        let labels = map(&body["metadata"]["labels"]);
        assert_eq!(labels.len(), MAX_LABELS);
        assert_eq!(
            labels.keys().filter(|key| key.starts_with("prefect-io-")).collect::<Vec<_>>(),
            ["prefect-io-flow-run-id"]
        );
        assert_eq!(labels.keys().filter(|key| key.starts_with("own")).count(), 60);
    }

    fn map(value: &Value) -> BTreeMap<String, String> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }

    fn read(body: &Value) -> Result<Mark, NoMark> {
        Mark::read(&map(&body["metadata"]["labels"]), &map(&body["metadata"]["annotations"]))
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut body = base_body();
        assert!(mark().write(&mut body));
        assert_eq!(read(&body), Ok(mark()));
        let inherited = &body["spec"]["template"]["metadata"]["labels"];
        assert_eq!(inherited, &body["metadata"]["labels"]);
        assert_eq!(inherited[FLOW_RUN_LABEL], mark().flow_run.to_string());
        let mut plain = base_body();
        let image = json!([{"image": "i"}]);
        for body in [&mut body, &mut plain] {
            body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = image.clone();
        }
        assert_eq!(check(&body), check(&plain));
    }

    #[test]
    fn a_mark_replaces_one_and_leaves_everything_else() {
        let mut body = json!({"metadata": {"name": "j", "labels": {"a": "b", POOL_LABEL: "x", VERSION_LABEL: "7"},
            "annotations": {"run.googleapis.com/launch-stage": "BETA", KEEP: "maybe"}}, "spec": {"template": {}}});
        assert!(mark().write(&mut body));
        assert_eq!(read(&body), Ok(mark()));
        assert_eq!(body["metadata"]["labels"]["a"], "b");
        assert_eq!(body["metadata"]["annotations"]["run.googleapis.com/launch-stage"], "BETA");
    }

    #[test]
    fn a_body_without_room_stays_as_it_is() {
        let labels = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
        let body = |job: usize, template: usize| json!({"metadata": {"labels": labels(job)}, "spec": {"template": {"metadata": {"labels": labels(template)}}}});
        assert!(mark().write(&mut body(MAX_LABELS - MARK_LABELS, MAX_LABELS - MARK_LABELS)));
        let odd = [
            body(MAX_LABELS - MARK_LABELS + 1, 0),
            body(0, MAX_LABELS - MARK_LABELS + 1),
            json!({"metadata": {"labels": "text"}}),
            json!({"metadata": {"annotations": []}, "spec": {"template": {}}}),
            json!([]),
        ];
        for original in odd {
            let mut body = original.clone();
            assert!(!mark().write(&mut body), "{original}");
            assert_eq!(body, original);
        }
    }

    #[test]
    fn a_mark_with_a_part_that_is_missing_or_odd_is_none() {
        let mut body = json!({"spec": {"template": {}}});
        assert!(mark().write(&mut body));
        let (labels, annotations) = (map(&body["metadata"]["labels"]), map(&body["metadata"]["annotations"]));
        for key in labels.keys().chain(annotations.keys()) {
            let (mut fewer, mut less) = (labels.clone(), annotations.clone());
            assert!(fewer.remove(key).is_some() || less.remove(key).is_some());
            assert!(matches!(Mark::read(&fewer, &less), Err(NoMark::Malformed(found)) if found == key), "{key}");
            if key != WORKER {
                let (mut odd, mut odder) = (labels.clone(), annotations.clone());
                odd.entry(key.clone()).and_modify(|value| *value = "7".into());
                odder.entry(key.clone()).and_modify(|value| *value = "7".into());
                assert!(matches!(Mark::read(&odd, &odder), Err(NoMark::Malformed(found)) if found == key), "{key}");
            }
        }
        let upstream = BTreeMap::from([("prefect-io-flow-run-id".to_owned(), mark().flow_run.to_string())]);
        assert_eq!(Mark::read(&upstream, &BTreeMap::new()), Err(NoMark::Unmarked));
    }

    #[test]
    fn an_id_is_written_in_one_way() {
        let id = mark().pool.to_string();
        assert_eq!(parse_id(&id), Some(mark().pool));
        let upper = process_id().to_string().to_uppercase();
        for text in ["", "1", &id.replace('-', ""), &format!("{{{id}}}"), &upper] {
            assert_eq!(parse_id(text), None, "{text}");
        }
        assert_eq!(process_id(), process_id());
    }
}
