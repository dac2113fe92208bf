//! The region that a request is for: Google puts it in front of the host name.

/// The region of requests whose host name has none, such as `127.0.0.1:PORT`.
const DEFAULT_REGION: &str = "us-central1";

/// The regions of Cloud Run (<https://cloud.google.com/run/docs/locations>).
const REGIONS: &[&str] = &[
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "asia-southeast3",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
];

/// The region in an authority (`host` or `host:port`): `europe-west1` for `europe-west1-run.googleapis.com`. The default
/// region when the first label of the host name does not end in `-run`; none when Cloud Run has no such region.
pub(crate) fn region_of_authority(authority: Option<&str>) -> Option<&'static str> {
    let first_label = authority.unwrap_or_default().split('.').next().unwrap_or_default();
    match first_label.strip_suffix("-run") {
        Some(name) => REGIONS.iter().copied().find(|region| region.eq_ignore_ascii_case(name)),
        None => Some(DEFAULT_REGION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_has_the_region() {
        assert_eq!(region_of_authority(Some("europe-west1-run.googleapis.com")), Some("europe-west1"));
        assert_eq!(region_of_authority(Some("Europe-West1-run.emulator:80")), Some("europe-west1"));
    }

    #[test]
    fn a_host_without_a_region_is_in_the_default_one() {
        for authority in [None, Some("127.0.0.1:8080"), Some("localhost:1"), Some("run.emulator")] {
            assert_eq!(region_of_authority(authority), Some(DEFAULT_REGION));
        }
    }

    #[test]
    fn an_unknown_region_is_none() {
        assert_eq!(region_of_authority(Some("europe-middle1-run.googleapis.com")), None);
        assert_eq!(region_of_authority(Some("-run.googleapis.com")), None);
    }
}
