//! Names of jobs.

/// Whether the service takes this as a job's name: `[a-z]([-a-z0-9]*[a-z0-9])?`, 63 characters at most (schema
/// `ObjectMeta.name` and its documentation).
pub fn is_legal(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= MAX_LENGTH
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-')
}

/// Most characters of a name.
const MAX_LENGTH: usize = 63;
/// Most characters of a slug that stands before a dash and 32 hexadecimal digits.
const MAX_SLUG_LENGTH: usize = 30;

/// A legal name made of a slug, which has lower-case letters, digits and dashes. A slug that no letter begins gets a
/// word in front, and a missing one is replaced by a word. With `unique`, 32 hexadecimal digits, the name differs from
/// every other.
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
    fn a_slug_begins_with_a_letter_and_ends_with_no_dash() {
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
    fn a_name_is_lower_case_letters_digits_and_inner_dashes() {
        for name in ["a", "my-etl", "a1", "a--b", &"a".repeat(63)] {
            assert!(is_legal(name), "{name}");
        }
        for name in ["", "-a", "a-", "1a", "A", "a_b", "a.b", "ä", "a\n", &"a".repeat(64)] {
            assert!(!is_legal(name), "{name:?}");
        }
    }
}
