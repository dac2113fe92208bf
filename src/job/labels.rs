//! Labels: makes Prefect's labels valid for Google Cloud, and adds them to the template's own.
//!
//! Rules: <https://cloud.google.com/run/docs/configuring/jobs/labels>.

use crate::limits::{MAX_LABEL_LENGTH, MAX_LABELS};

/// Keys and values of labels, in the order in which they were set.
pub type Labels = Vec<(String, String)>;

/// Makes every label valid.
///
/// Converts keys and values to lower case, replaces each character outside `[a-z0-9_-]` by `-`, removes what stands
/// before the first letter of a key, and cuts both to [`MAX_LABEL_LENGTH`]. Drops a label whose key becomes empty. If two
/// keys become equal, the last value wins and keeps the place of the first.
pub fn sanitize<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    let mut valid = Labels::new();
    for (key, value) in labels {
        let key = replace_illegal(key);
        let key = cut(key.trim_start_matches(|c: char| !c.is_ascii_lowercase()));
        let value = cut(&replace_illegal(value));
        if !key.is_empty() {
            set(&mut valid, key, value);
        }
    }
    valid
}

/// Returns those of Prefect's labels, made valid, that may be added to the template's own labels, whose keys are `own`.
///
/// The template's labels win: a label of Prefect's with the same key is left out. Prefect's labels fill up to
/// [`MAX_LABELS`] in total; the last ones are left out first.
pub fn additions<'a>(prefect: impl IntoIterator<Item = (&'a str, &'a str)>, own: &[&str]) -> Labels {
    let mut added = sanitize(prefect);
    added.retain(|(key, _)| !own.contains(&key.as_str()));
    added.truncate(MAX_LABELS.saturating_sub(own.len()));
    added
}

fn replace_illegal(text: &str) -> String {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    text.to_lowercase().chars().map(|c| if legal(c) { c } else { '-' }).collect()
}

/// Cuts a label to the maximum length.
fn cut(text: &str) -> String {
    text.chars().take(MAX_LABEL_LENGTH).collect()
}

fn set(labels: &mut Labels, key: String, value: String) {
    match labels.iter_mut().find(|(existing, _)| *existing == key) {
        Some(label) => label.1 = value,
        None => labels.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn sanitized(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        sanitize(labels.iter().copied())
    }

    fn label(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn prefects_labels_become_valid() {
        let labels = [("prefect.io/flow-run-name", "Älter Dachs"), ("prefect.io/version", "3.8.8")];
        let expected = [label("prefect-io-flow-run-name", "-lter-dachs"), label("prefect-io-version", "3-8-8")];
        assert_eq!(sanitized(&labels), expected);
    }

    #[test]
    fn a_key_starts_at_its_first_letter_or_is_dropped() {
        assert_eq!(sanitized(&[("_9-a9", "_9"), ("123", "x"), ("", "x")]), [label("a9", "_9")]);
    }

    #[test]
    fn of_equal_keys_the_last_value_wins_and_keeps_the_first_place() {
        assert_eq!(sanitized(&[("a.b", "1"), ("c", "2"), ("A/B", "3")]), [label("a-b", "3"), label("c", "2")]);
    }

    #[test]
    fn keys_and_values_are_cut() {
        let long = "x".repeat(100);
        assert_eq!(sanitized(&[(&long, &long)]), [label(&long[..63], &long[..63])]);
    }

    #[test]
    fn the_templates_labels_win_and_the_last_of_prefects_are_left_out() {
        let keys: Vec<_> = (0..63).map(|n| format!("Own{n}")).collect();
        let own: Vec<_> = keys.iter().map(String::as_str).collect();
        // Prefect's `Own1` becomes `own1`, which is a different key.
        assert_eq!(additions([("Own1", "x"), ("b", "y"), ("c", "z")], &own), [label("own1", "x")]);
        assert_eq!(additions([("b", "y")], &vec!["k"; 70]), []);
        assert_eq!(additions([("b", "y"), ("c", "z")], &["b"]), [label("c", "z")]);
    }

    proptest! {
        #[test]
        fn every_label_is_valid_and_sanitizing_twice_changes_nothing(labels in vec((any::<String>(), any::<String>()), 0..80)) {
            let once = sanitize(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            for (key, value) in &once {
                prop_assert!(key.starts_with(|c: char| c.is_ascii_lowercase()));
                prop_assert!(key.len() <= MAX_LABEL_LENGTH && value.len() <= MAX_LABEL_LENGTH);
                let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
                prop_assert!(key.bytes().chain(value.bytes()).all(legal));
            }
            let twice = sanitize(once.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn additions_fill_up_to_the_limit_and_replace_nothing(
            labels in vec((any::<String>(), any::<String>()), 0..80),
            own in vec("[a-c]{1,2}", 0..70),
        ) {
            let own: Vec<_> = own.iter().map(String::as_str).collect();
            let added = additions(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())), &own);
            prop_assert!(added.is_empty() || own.len() + added.len() <= MAX_LABELS);
            prop_assert!(added.iter().all(|(key, _)| !own.contains(&key.as_str())));
        }
    }
}
