//! Names of jobs.

/// Whether the service takes this as a job's name: `[a-z]([-a-z0-9]*[a-z0-9])?`, 63 characters at most (schema
/// `ObjectMeta.name` and its documentation).
pub fn is_legal(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::is_legal;

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
