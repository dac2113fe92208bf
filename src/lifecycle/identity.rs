//! Whether a job that has our job's name is our job.

use crate::api::types::Job;

/// What tells our job from others of its name, which a template with a fixed name makes possible.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// The uid of the job that we created, once it is known.
    pub(super) uid: Option<String>,
    /// Key and value of a label that no job but ours carries.
    pub(super) label: Option<(String, String)>,
}

/// Whose a job is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    Ours,
    SomebodyElses,
    /// There is nothing to tell it by.
    Unknown,
}

impl Identity {
    /// Whose this job is, by its uid, or else by its label.
    pub(super) fn whose(&self, job: &Job) -> Whose {
        let is_ours = match (&self.uid, &job.metadata.uid, &self.label) {
            (Some(ours), Some(uid), _) => ours == uid,
            (_, _, Some((key, value))) => job.metadata.labels.get(key) == Some(value),
            _ => return Whose::Unknown,
        };
        if is_ours { Whose::Ours } else { Whose::SomebodyElses }
    }

    /// Whether our job is being deleted, or was, so that this is another one of its name.
    pub(super) fn is_going(&self, job: &Job) -> bool {
        job.metadata.deletion_timestamp.is_some() || self.whose(job) == Whose::SomebodyElses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(uid: Option<&str>, label: Option<&str>) -> Job {
        let mut job = Job::default();
        job.metadata.uid = uid.map(Into::into);
        job.metadata.labels.extend(label.map(|value| ("key".to_owned(), value.to_owned())));
        job
    }

    #[test]
    fn the_uid_decides_and_then_the_label() {
        let by_label = Identity { uid: None, label: Some(("key".into(), "mine".into())) };
        assert_eq!(by_label.whose(&job(Some("1"), Some("mine"))), Whose::Ours);
        assert_eq!(by_label.whose(&job(Some("1"), Some("theirs"))), Whose::SomebodyElses);
        assert_eq!(by_label.whose(&job(Some("1"), None)), Whose::SomebodyElses);

        let by_uid = Identity { uid: Some("1".into()), ..by_label };
        assert_eq!(by_uid.whose(&job(Some("1"), Some("theirs"))), Whose::Ours);
        assert_eq!(by_uid.whose(&job(Some("2"), Some("mine"))), Whose::SomebodyElses);
        assert_eq!(by_uid.whose(&job(None, Some("mine"))), Whose::Ours);

        assert_eq!(Identity::default().whose(&job(Some("1"), Some("mine"))), Whose::Unknown);
    }
}
