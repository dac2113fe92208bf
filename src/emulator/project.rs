//! Projects have an id, which people write, and a number, which the API answers with.

/// The number of a project: the id itself when it is one, else twelve digits that only depend on the id.
pub(super) fn number(id: &str) -> String {
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return id.to_owned();
    }
    // FNV-1a: short, and the same in every process and version.
    let hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (100_000_000_000 + hash % 900_000_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_stable_and_its_own_number() {
        let number_of_id = number("my-project");
        assert_eq!(number_of_id.len(), 12);
        assert_eq!(number(&number_of_id), number_of_id);
        assert_eq!(number("my-project"), number_of_id);
        assert_ne!(number("my-project-2"), number_of_id);
    }
}
