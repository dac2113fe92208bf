//! The rule for the characters of labels: <https://cloud.google.com/run/docs/configuring/jobs/labels>.

use super::table::MAX_LABEL_LENGTH;

/// Returns what is wrong with a label, or `None`. Google's own labels (`run.googleapis.com/…`), which a replaced job has
/// from its first version, are right.
pub(super) fn label_problem(key: &str, value: &str) -> Option<String> {
    if is_googles(key) {
        return None;
    }
    let fits = |text: &str| text.chars().count() <= MAX_LABEL_LENGTH && text.chars().all(is_allowed);
    if !fits(key) || !key.starts_with(char::is_alphabetic) {
        return Some(format!(
            "a label's key must have 1 to {MAX_LABEL_LENGTH} lowercase letters, digits, hyphens and underscores, and \
             start with a letter"
        ));
    }
    (!fits(value)).then(|| {
        format!(
            "a label's value must have at most {MAX_LABEL_LENGTH} lowercase letters, digits, hyphens and underscores"
        )
    })
}

fn is_allowed(character: char) -> bool {
    matches!(character, '-' | '_') || (character.is_alphanumeric() && !character.is_uppercase())
}

fn is_googles(label: &str) -> bool {
    label
        .split_once('/')
        .is_some_and(|(domain, _)| domain.ends_with(".googleapis.com") || domain.ends_with(".knative.dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_few_characters() {
        let long = "a".repeat(64);
        for (key, value) in [("team", "data-1"), ("größe", ""), ("run.googleapis.com/lastUpdatedTime", "2026:A")] {
            assert_eq!(label_problem(key, value), None, "{key}");
        }
        for (key, value) in
            [("Team", "x"), ("a.b/c", "x"), ("1a", "x"), ("", "x"), (&long, "x"), ("a", &long), ("a", "X")]
        {
            assert!(label_problem(key, value).is_some(), "{key}: {value}");
        }
    }
}
