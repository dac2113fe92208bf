//! What Cloud Run writes into the metadata of jobs and executions.

use super::clock::now;
use crate::{api::types::ObjectMeta, emulator::wire::ProjectRegion};

/// Adds Cloud Run's labels and annotations to a resource that is created or replaced.
pub(super) fn stamp_labels(metadata: &mut ObjectMeta, place: &ProjectRegion) {
    metadata.labels.insert("cloud.googleapis.com/location".to_owned(), place.region.to_owned());
    let author = format!("emulator@{}.iam.gserviceaccount.com", place.project);
    let annotations = &mut metadata.annotations;
    annotations.entry("run.googleapis.com/creator".to_owned()).or_insert_with(|| author.clone());
    annotations.insert("run.googleapis.com/lastModifier".to_owned(), author);
    annotations.insert("run.googleapis.com/operation-id".to_owned(), uuid::Uuid::new_v4().to_string());
}

/// Adds the label with the time of the last update, which jobs have and executions have not.
pub(super) fn stamp_update_time(metadata: &mut ObjectMeta) {
    metadata.labels.insert("run.googleapis.com/lastUpdatedTime".to_owned(), now());
}

/// Gives a resource that was written a new version.
pub(super) fn set_resource_version(metadata: &mut ObjectMeta, serial: u64) {
    metadata.resource_version = Some(serial.to_string());
}
