//! Jobs in the store: creation, replacement, readiness, deletion.

use tokio::sync::watch;

use super::{
    clock::now,
    conditions::{new_job_conditions, set_condition},
    history::{EventKind, JobLife},
    metadata::{set_resource_version, stamp_labels, stamp_update_time},
    records::{JobReadiness, JobRecord},
    regions::Store,
};
use crate::{
    api::types::{ConditionStatus, Job, JobStatus, ObjectMeta},
    emulator::wire::{ApiRefusal, ProjectRegion, fill_in_defaults},
};

impl Store {
    /// Adds a checked job, and returns it with the fields that Cloud Run fills in.
    ///
    /// # Errors
    /// When the name is taken.
    pub(crate) fn create_job(&mut self, place: &ProjectRegion, mut job: Job) -> Result<Job, ApiRefusal> {
        let name = job.metadata.name.clone();
        if self.at(place).jobs.contains(&name) {
            return Err(ApiRefusal::already_exists(&name));
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
        stamp_labels(&mut job.metadata, place);
        stamp_update_time(&mut job.metadata);
        set_resource_version(&mut job.metadata, serial);
        fill_in_defaults(&mut job.spec.template, place);
        // A status in the request is ignored, as Cloud Run does.
        job.status = new_status(JobStatus::default(), 1);
        let mut life = JobLife {
            project: place.project.clone(),
            region: place.region.to_owned(),
            job: name.clone(),
            uid,
            events: Vec::new(),
        };
        life.push(EventKind::Created, None, None);
        let created = job.clone();
        let record = JobRecord { job, life, readiness: watch::Sender::new(JobReadiness::Unknown) };
        self.at(place).jobs.insert(serial, name, record);
        Ok(created)
    }

    /// Replaces the specification, labels and annotations of a job. The new generation has to become ready again.
    ///
    /// # Errors
    /// When the name differs from the one in the path, there is no such job, or the job is being deleted.
    pub(crate) fn replace_job(&mut self, place: &ProjectRegion, name: &str, new: Job) -> Result<Job, ApiRefusal> {
        if new.metadata.name != name {
            return Err(ApiRefusal::invalid_field("metadata.name", "must be the name in the request's path."));
        }
        let serial = self.next_serial();
        let record = self.job(place, name)?;
        if record.is_deleted() {
            return Err(ApiRefusal::being_deleted(name));
        }
        let generation = record.job.metadata.generation.unwrap_or(1) + 1;
        record.job.metadata.labels = new.metadata.labels;
        record.job.metadata.annotations = new.metadata.annotations;
        record.job.metadata.generation = Some(generation);
        record.job.spec = new.spec;
        fill_in_defaults(&mut record.job.spec.template, place);
        stamp_labels(&mut record.job.metadata, place);
        stamp_update_time(&mut record.job.metadata);
        set_resource_version(&mut record.job.metadata, serial);
        record.job.status = new_status(std::mem::take(&mut record.job.status), generation);
        record.life.push(EventKind::Replaced, None, None);
        record.readiness.send_replace(JobReadiness::Unknown);
        Ok(record.job.clone())
    }

    /// Sets the readiness of a job: ready, or not ready with a reason and a message. Does nothing when the job was
    /// replaced or removed in the meantime.
    pub(crate) fn settle_job(
        &mut self,
        place: &ProjectRegion,
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
                set_condition(conditions, "Ready", ConditionStatus::True, None, None);
                record.life.push(EventKind::Ready, None, None);
                record.readiness.send_replace(JobReadiness::Ready);
            }
            Err((reason, message)) => {
                set_condition(conditions, "Ready", ConditionStatus::False, Some(reason), Some(message.clone()));
                record.life.push(EventKind::NotReady, None, Some(message));
                record.readiness.send_replace(JobReadiness::NotReady);
            }
        }
        set_resource_version(&mut record.job.metadata, serial);
    }

    /// Marks a job as deleted and tells its executions to stop. Returns the uid of the job, and whether all its
    /// executions have ended.
    pub(crate) fn delete_job(&mut self, place: &ProjectRegion, name: &str) -> Result<(String, bool), ApiRefusal> {
        let serial = self.next_serial();
        let record = self.job(place, name)?;
        let uid = record.uid().to_owned();
        if !record.is_deleted() {
            record.job.metadata.deletion_timestamp = Some(now());
            set_resource_version(&mut record.job.metadata, serial);
            record.life.push(EventKind::DeletionRequested, None, None);
        }
        let mut is_idle = true;
        let mut deleted = Vec::new();
        for execution in self.at(place).executions.iter_mut().filter(|execution| execution.job_uid == uid) {
            is_idle &= execution.is_finished();
            execution.mark_deleted();
            deleted.push(execution.execution.metadata.name.clone());
        }
        deleted.iter().for_each(|execution| self.execution_written(place, execution));
        Ok((uid, is_idle))
    }

    /// Removes a deleted job and its executions, all of which have ended. Does nothing when the name belongs to another
    /// job by now.
    pub(crate) fn remove_job(&mut self, place: &ProjectRegion, uid: &str, name: &str) {
        let region = self.at(place);
        if region.jobs.get(name).is_none_or(|record| record.uid() != uid) {
            return;
        }
        let executions: Vec<_> = region
            .executions
            .iter()
            .filter(|execution| execution.job_uid == uid)
            .map(|execution| execution.execution.metadata.name.clone())
            .collect();
        executions.iter().for_each(|execution| region.remove_execution(execution));
        if let Some(mut record) = region.jobs.remove(name) {
            record.life.push(EventKind::Deleted, None, None);
            self.deleted.push(record.life);
        }
    }
}

/// The status of a new generation: new conditions, and the executions in the old status.
fn new_status(old: JobStatus, generation: i64) -> JobStatus {
    JobStatus { observed_generation: Some(generation), conditions: new_job_conditions(), ..old }
}
