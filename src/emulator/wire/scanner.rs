//! Takes tokens from the front of a query parameter. Spaces between tokens do not count.

/// The part of a text that was not taken yet.
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    /// Takes `token` if it comes next, and returns whether it did.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    /// Takes all characters up to the first one that is not part of a word. The word may be empty.
    pub(super) fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    /// Takes all characters up to `end`, and `end` itself. `None` if there is no `end`; then nothing is taken.
    pub(super) fn take_until(&mut self, end: char) -> Option<&'a str> {
        let (word, rest) = self.rest.split_once(end)?;
        self.rest = rest.trim_start();
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_from_the_front_and_spaces_do_not_count() {
        let mut scanner = Scanner::new(" ab , (`c d`) ");
        assert!(!scanner.take(","));
        assert_eq!(scanner.word(char::is_alphanumeric), "ab");
        assert!(scanner.take(",") && scanner.take("(") && scanner.take("`"));
        assert_eq!((scanner.take_until('`'), scanner.take_until('`')), (Some("c d"), None));
        assert_eq!(scanner.rest(), ")");
    }
}
