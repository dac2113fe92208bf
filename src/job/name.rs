//! Names of jobs: the rule that Cloud Run has for them, and how the worker makes a legal one.

/// Maximum length of a job name, in characters.
pub const MAX_LENGTH: usize = 63;
/// Maximum length of a slug that is followed by a dash and 32 hexadecimal digits, in characters.
const MAX_SLUG_LENGTH: usize = 30;

/// Returns whether Cloud Run accepts `name` as the name of a job: `[a-z]([-a-z0-9]*[a-z0-9])?`, at most [`MAX_LENGTH`]
/// characters (schema `ObjectMeta.name` and its documentation).
pub fn is_legal(name: &str) -> bool {
    let letter_or_digit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= MAX_LENGTH
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(letter_or_digit)
        && name.chars().all(|c| letter_or_digit(c) || c == '-')
}

/// Makes a legal job name of a slug, which consists of lower-case letters, digits and dashes.
///
/// An empty slug becomes `flow-run`. A slug that does not start with a letter gets the prefix `run-`. `unique`, 32
/// hexadecimal digits, is appended and makes the name different from every other.
pub fn from_slug(slug: &str, unique: Option<&str>) -> String {
    let slug = slug.trim_matches('-');
    let slug = match slug.chars().next() {
        None => "flow-run".to_owned(),
        Some(first) if first.is_ascii_lowercase() => slug.to_owned(),
        Some(_) => format!("run-{slug}"),
    };
    let cut = |length| slug.chars().take(length).collect::<String>().trim_end_matches('-').to_owned();
    match unique {
        Some(unique) => format!("{}-{unique}", cut(MAX_SLUG_LENGTH)),
        None => cut(MAX_LENGTH),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{from_slug, is_legal};

    const UNIQUE: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_slug_starts_with_a_letter_and_does_not_end_with_a_dash() {
        for (slug, name) in [("etl", "etl"), ("1-a", "run-1-a"), ("", "flow-run"), ("--a--", "a"), ("-", "flow-run")] {
            assert_eq!(from_slug(slug, None), name);
            assert_eq!(from_slug(slug, Some(UNIQUE)), format!("{name}-{UNIQUE}"));
        }
        assert_eq!(from_slug(&("a".repeat(29) + "-b"), Some(UNIQUE)), format!("{}-{UNIQUE}", "a".repeat(29)));
    }

    proptest! {
        #[test]
        fn every_slug_gives_a_legal_name(slug in "[a-z0-9-]{0,80}") {
            prop_assert!(is_legal(&from_slug(&slug, None)));
            prop_assert!(is_legal(&from_slug(&slug, Some(UNIQUE))));
        }
    }

    #[test]
    fn a_name_consists_of_lower_case_letters_digits_and_inner_dashes() {
        for name in ["a", "my-etl", "a1", "a--b", &"a".repeat(63)] {
            assert!(is_legal(name), "{name}");
        }
        for name in ["", "-a", "a-", "1a", "A", "a_b", "a.b", "ä", "a\n", &"a".repeat(64)] {
            assert!(!is_legal(name), "{name:?}");
        }
    }
}
