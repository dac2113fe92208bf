//! Whether a job that has our job's name is our job.

use crate::api::types::{Execution, Job};

/// What tells our job from other jobs of the same name. A template with a fixed name makes such jobs possible.
#[derive(Clone, Debug, Default)]
pub(in crate::lifecycle) struct Ownership {
    /// The uid of the job that we created, once it is known.
    pub(in crate::lifecycle) uid: Option<String>,
    /// Key and value of a label that only our job carries.
    pub(in crate::lifecycle) label: Option<(String, String)>,
    /// Whether no other job can have the name.
    pub(in crate::lifecycle) has_unique_name: bool,
}

/// Who owns a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    Us,
    SomebodyElse,
    /// Neither a uid nor a label is known, so it can't be decided.
    Unknown,
}

impl Ownership {
    /// Decides by the uid. Decides by the label if one of the uids is unknown.
    pub(super) fn owner_of(&self, job: &Job) -> Owner {
        let is_ours = match (&self.uid, &job.metadata.uid, &self.label) {
            (Some(ours), Some(uid), _) => ours == uid,
            (_, _, Some((key, value))) => job.metadata.labels.get(key) == Some(value),
            _ => return Owner::Unknown,
        };
        if is_ours { Owner::Us } else { Owner::SomebodyElse }
    }

    /// Whether the uids show that this is another job of the same name.
    pub(super) fn is_other_job(&self, job: &Job) -> bool {
        matches!((&self.uid, &job.metadata.uid), (Some(ours), Some(uid)) if ours != uid)
    }

    /// Decides by the uids of the execution's job. One that is ours is enough: nobody here could see Google's own answers.
    pub(super) fn owner_of_execution(&self, execution: &Execution) -> Owner {
        let Some(ours) = &self.uid else { return Owner::Unknown };
        let uids: Vec<_> = execution.job_uids().collect();
        match uids.contains(&ours.as_str()) {
            true => Owner::Us,
            false if uids.is_empty() => Owner::Unknown,
            false => Owner::SomebodyElse,
        }
    }

    /// Whether this read shows that our job is being deleted, or that another job has taken its name.
    pub(in crate::lifecycle) fn is_deleted_or_replaced(&self, job: &Job) -> bool {
        job.metadata.deletion_timestamp.is_some() || self.owner_of(job) == Owner::SomebodyElse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{JOB_UID_LABEL, OwnerReference};

    fn job(uid: Option<&str>, label: Option<&str>) -> Job {
        let mut job = Job::default();
        job.metadata.uid = uid.map(Into::into);
        job.metadata.labels.extend(label.map(|value| ("key".to_owned(), value.to_owned())));
        job
    }

    #[test]
    fn the_uid_decides_before_the_label() {
        let by_label = Ownership { uid: None, label: Some(("key".into(), "mine".into())), has_unique_name: false };
        assert_eq!(by_label.owner_of(&job(Some("1"), Some("mine"))), Owner::Us);
        assert_eq!(by_label.owner_of(&job(Some("1"), Some("theirs"))), Owner::SomebodyElse);
        assert_eq!(by_label.owner_of(&job(Some("1"), None)), Owner::SomebodyElse);

        let by_uid = Ownership { uid: Some("1".into()), ..by_label };
        assert_eq!(by_uid.owner_of(&job(Some("1"), Some("theirs"))), Owner::Us);
        assert_eq!(by_uid.owner_of(&job(Some("2"), Some("mine"))), Owner::SomebodyElse);
        assert_eq!(by_uid.owner_of(&job(None, Some("mine"))), Owner::Us);

        assert_eq!(Ownership::default().owner_of(&job(Some("1"), Some("mine"))), Owner::Unknown);
    }

    #[test]
    fn an_execution_belongs_to_the_owner_of_its_job() {
        let ours = Ownership { uid: Some("1".into()), ..Ownership::default() };
        let mut execution = Execution::default();
        assert_eq!(ours.owner_of_execution(&execution), Owner::Unknown);
        execution.metadata.labels.insert(JOB_UID_LABEL.into(), "1".into());
        assert_eq!(ours.owner_of_execution(&execution), Owner::Us);
        assert_eq!(Ownership::default().owner_of_execution(&execution), Owner::Unknown);
        execution.metadata.labels.insert(JOB_UID_LABEL.into(), "2".into());
        assert_eq!(ours.owner_of_execution(&execution), Owner::SomebodyElse);
        execution.metadata.owner_references = vec![OwnerReference { uid: "1".into(), ..OwnerReference::default() }];
        assert_eq!(ours.owner_of_execution(&execution), Owner::Us);
    }
}
