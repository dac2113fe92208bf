//! What the emulator knows: jobs and executions by project and region. Everything here is synchronous and cheap; the
//! passing of time is in `lifecycle`. This module has the jobs, `executions` the rest.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;
use tokio::sync::watch;

use super::{
    collection::Collection,
    conditions,
    errors::ApiError,
    executions::ExecutionRecord,
    history::{EventKind, Gone, JobLife},
    project,
};
use crate::api::types::{API_VERSION, ConditionStatus, ExecutionTemplateSpec, Job, JobStatus, ObjectMeta};

/// Now, in RFC 3339 with microseconds, as the API writes times.
pub(super) fn now() -> String {
    timestamp(Utc::now())
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// What places are kept by: the project's number, and the region.
pub(super) type PlaceKey = (String, &'static str);

/// A project and region: names are unique within.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Place {
    /// The project, as the first call named it: id or number.
    pub(super) project: String,
    /// The project's number, which alone identifies it.
    pub(super) number: String,
    pub(super) region: &'static str,
}

impl Place {
    pub(super) fn new(project: &str, region: &'static str) -> Self {
        Self { project: project.to_owned(), number: project::number(project), region }
    }

    pub(super) fn key(&self) -> PlaceKey {
        (self.number.clone(), self.region)
    }

    pub(super) fn no_such_job(&self, name: &str) -> ApiError {
        ApiError::no_such("JOB", name, self.region, &self.project)
    }

    pub(super) fn no_such_execution(&self, name: &str) -> ApiError {
        ApiError::no_such("EXECUTION", name, self.region, &self.project)
    }

    pub(super) fn self_link(&self, kind: &str, name: &str) -> String {
        format!("/apis/{API_VERSION}/namespaces/{}/{kind}/{name}", self.number)
    }
}

/// Whether a job can be run. What waits for it watches this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Readiness {
    Unknown,
    Ready,
    NotReady,
}

#[derive(Debug)]
pub(super) struct JobRecord {
    pub(super) job: Job,
    pub(super) life: JobLife,
    pub(super) readiness: watch::Sender<Readiness>,
}

impl JobRecord {
    /// The job's identity.
    pub(super) fn uid(&self) -> &str {
        &self.life.uid
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.job.metadata.deletion_timestamp.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) jobs: Collection<JobRecord>,
    pub(super) executions: Collection<ExecutionRecord>,
}

/// All that the emulator knows.
#[derive(Debug, Default)]
pub(super) struct State {
    contents: HashMap<PlaceKey, Contents>,
    pub(super) gone: Gone,
    serial: u64,
}

impl State {
    /// The next serial: microseconds since 1970, and always higher than the one before. Orders resources, and is
    /// their resource version.
    pub(super) fn next_serial(&mut self) -> u64 {
        let micros = u64::try_from(Utc::now().timestamp_micros()).unwrap_or_default();
        self.serial = micros.max(self.serial + 1);
        self.serial
    }

    pub(super) fn at(&mut self, place: &Place) -> &mut Contents {
        self.contents.entry(place.key()).or_default()
    }

    /// Everything, with its place.
    pub(super) fn places(&self) -> impl Iterator<Item = (&PlaceKey, &Contents)> {
        self.contents.iter()
    }

    /// How many jobs there are in a place.
    pub(super) fn jobs(&mut self, place: &Place) -> usize {
        self.at(place).jobs.len()
    }

    /// How many executions there are in a place that have not ended.
    pub(super) fn running_executions(&mut self, place: &Place) -> usize {
        self.at(place).executions.iter().filter(|execution| !execution.is_finished()).count()
    }

    /// Everything, by place.
    pub(super) fn all(&self) -> impl Iterator<Item = &Contents> {
        self.contents.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Contents> {
        self.contents.values_mut()
    }

    pub(super) fn job(&mut self, place: &Place, name: &str) -> Result<&mut JobRecord, ApiError> {
        self.at(place).jobs.get_mut(name).ok_or_else(|| place.no_such_job(name))
    }

    /// Takes a checked job, fills in what Cloud Run fills in, and answers with it.
    pub(super) fn create_job(&mut self, place: &Place, mut job: Job) -> Result<Job, ApiError> {
        let name = job.metadata.name.clone();
        if self.at(place).jobs.contains(&name) {
            return Err(ApiError::already_exists(&name));
        }
        let serial = self.next_serial();
        let uid = uuid::Uuid::new_v4().to_string();
        job.metadata = ObjectMeta {
            name: name.clone(),
            namespace: Some(place.number.clone()),
            uid: Some(uid.clone()),
            generation: Some(1),
            self_link: Some(place.self_link("jobs", &name)),
            creation_timestamp: Some(now()),
            labels: job.metadata.labels,
            annotations: job.metadata.annotations,
            ..ObjectMeta::default()
        };
        sign(&mut job.metadata, place, true);
        touch(&mut job.metadata, serial);
        fill_in_defaults(&mut job.spec.template, place);
        // Whatever the request says of it: a status is the service's.
        job.status = new_status(JobStatus::default(), 1);
        let mut life = JobLife {
            project: place.project.clone(),
            region: place.region.to_owned(),
            job: name.clone(),
            uid,
            events: Vec::new(),
        };
        life.push(EventKind::Created, None, None);
        let answer = job.clone();
        let record = JobRecord { job, life, readiness: watch::Sender::new(Readiness::Unknown) };
        self.at(place).jobs.insert(serial, name, record);
        Ok(answer)
    }

    /// Replaces a job's specification, labels and annotations: a new generation, which has to become ready again.
    pub(super) fn replace_job(&mut self, place: &Place, name: &str, new: Job) -> Result<Job, ApiError> {
        if new.metadata.name != name {
            return Err(ApiError::invalid_field("metadata.name", "must be the name in the request's path."));
        }
        let serial = self.next_serial();
        let record = self.job(place, name)?;
        if record.is_deleted() {
            return Err(being_deleted(name));
        }
        let generation = record.job.metadata.generation.unwrap_or(1) + 1;
        record.job.metadata.labels = new.metadata.labels;
        record.job.metadata.annotations = new.metadata.annotations;
        record.job.metadata.generation = Some(generation);
        record.job.spec = new.spec;
        fill_in_defaults(&mut record.job.spec.template, place);
        sign(&mut record.job.metadata, place, true);
        touch(&mut record.job.metadata, serial);
        record.job.status = new_status(std::mem::take(&mut record.job.status), generation);
        record.life.push(EventKind::Replaced, None, None);
        record.readiness.send_replace(Readiness::Unknown);
        Ok(record.job.clone())
    }

    /// Decides the readiness of a job, unless it was replaced or removed meanwhile.
    pub(super) fn settle_job(
        &mut self,
        place: &Place,
        uid: &str,
        name: &str,
        generation: Option<i64>,
        verdict: Result<(), (&str, String)>,
    ) {
        let serial = self.next_serial();
        let Ok(record) = self.job(place, name) else { return };
        if record.uid() != uid || record.job.metadata.generation != generation {
            return;
        }
        let conditions = &mut record.job.status.conditions;
        match verdict {
            Ok(()) => {
                conditions::set(conditions, "Ready", ConditionStatus::True, None, None);
                record.life.push(EventKind::Ready, None, None);
                record.readiness.send_replace(Readiness::Ready);
            }
            Err((reason, message)) => {
                conditions::set(conditions, "Ready", ConditionStatus::False, Some(reason), Some(message.clone()));
                record.life.push(EventKind::NotReady, None, Some(message));
                record.readiness.send_replace(Readiness::NotReady);
            }
        }
        touch(&mut record.job.metadata, serial);
    }

    /// Marks a job as deleted and tells its executions to stop. Answers its identity, and whether nothing of it runs.
    pub(super) fn delete_job(&mut self, place: &Place, name: &str) -> Result<(String, bool), ApiError> {
        let serial = self.next_serial();
        let record = self.job(place, name)?;
        let uid = record.uid().to_owned();
        if !record.is_deleted() {
            record.job.metadata.deletion_timestamp = Some(now());
            touch(&mut record.job.metadata, serial);
            record.life.push(EventKind::DeletionRequested, None, None);
        }
        let mut idle = true;
        for execution in self.at(place).executions.iter_mut().filter(|execution| execution.job_uid == uid) {
            idle &= execution.is_finished();
            execution.mark_deleted();
        }
        Ok((uid, idle))
    }

    /// Removes a job and its executions, which have ended.
    pub(super) fn remove_job(&mut self, place: &Place, uid: &str, name: &str) {
        let contents = self.at(place);
        if contents.jobs.get(name).is_none_or(|record| record.uid() != uid) {
            return;
        }
        contents.executions.remove_if(|execution| execution.job_uid == uid);
        if let Some(mut record) = contents.jobs.remove(name) {
            record.life.push(EventKind::Deleted, None, None);
            self.gone.push(record.life);
        }
    }
}

/// 400 for a change to a job that is on its way out.
pub(super) fn being_deleted(name: &str) -> ApiError {
    ApiError::failed_precondition(format!("Resource '{name}' is being deleted."))
}

/// Labels and annotations that Cloud Run puts on what it creates.
pub(super) fn sign(metadata: &mut ObjectMeta, place: &Place, modified: bool) {
    metadata.labels.insert("cloud.googleapis.com/location".to_owned(), place.region.to_owned());
    let somebody = format!("emulator@{}.iam.gserviceaccount.com", place.project);
    let annotations = &mut metadata.annotations;
    annotations.entry("run.googleapis.com/creator".to_owned()).or_insert_with(|| somebody.clone());
    annotations.insert("run.googleapis.com/lastModifier".to_owned(), somebody);
    annotations.insert("run.googleapis.com/operation-id".to_owned(), uuid::Uuid::new_v4().to_string());
    if modified {
        metadata.labels.insert("run.googleapis.com/lastUpdatedTime".to_owned(), now());
    }
}

/// Gives a resource that was written its new version.
pub(super) fn touch(metadata: &mut ObjectMeta, serial: u64) {
    metadata.resource_version = Some(serial.to_string());
}

/// The status of a job's new generation; the executions stay what they were.
fn new_status(old: JobStatus, generation: i64) -> JobStatus {
    JobStatus { observed_generation: Some(generation), conditions: conditions::of_new_job(), ..old }
}

/// Defaults that the API fills in: seen in captured objects.
fn fill_in_defaults(template: &mut ExecutionTemplateSpec, place: &Place) {
    template.spec.task_count.get_or_insert(1);
    let task = &mut template.spec.template.spec;
    task.max_retries.get_or_insert(3);
    task.timeout_seconds.get_or_insert(600);
    task.service_account_name.get_or_insert_with(|| format!("{}-compute@developer.gserviceaccount.com", place.number));
    for container in &mut task.containers {
        let resources = container.extra.entry("resources").or_insert_with(|| json!({}));
        let Some(resources) = resources.as_object_mut() else { continue };
        let Some(limits) = resources.entry("limits").or_insert_with(|| json!({})).as_object_mut() else { continue };
        limits.entry("cpu").or_insert_with(|| json!("1000m"));
        limits.entry("memory").or_insert_with(|| json!("512Mi"));
    }
}
