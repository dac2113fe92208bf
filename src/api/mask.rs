//! Takes secrets out of what a server answers. Proxies, and Google itself, repeat what they were sent.

use std::cmp::Reverse;

use serde_json::Value;

use super::Secret;
use crate::job::env;

/// Shorter values are words and numbers that a message may have of its own.
const SHORTEST: usize = 6;
/// Shortest part of a value that is masked by itself, because the rest is written in another way in JSON or HTML.
const SHORTEST_PART: usize = 12;
/// What stands in a secret's place.
const MASK: &str = "…";

/// The secrets of one request, each longer one before those that may be part of it.
#[derive(Debug)]
pub(super) struct Mask(Vec<Secret>);

impl Mask {
    /// For a request with this token, and with this body if it creates something. What is `known` anyway is no secret,
    /// though it may be a value of the environment too.
    pub(super) fn of(token: Option<&Secret>, body: Option<&str>, known: &[&str]) -> Self {
        let mut secrets: Vec<_> = token.into_iter().map(|token| token.reveal().to_owned()).collect();
        let mut body = body.and_then(|body| serde_json::from_str::<Value>(body).ok()).unwrap_or_default();
        env::each_value(&mut body, &mut |value| secrets.extend(forms(value)));
        secrets.retain(|secret| secret.len() >= SHORTEST && !known.contains(&secret.as_str()));
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into_iter().map(Secret::new).collect())
    }

    /// A text without them.
    pub(super) fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), MASK))
    }
}

/// A value, as it is and as JSON has it, and its longer parts that are the same in every notation.
fn forms(value: &str) -> Vec<String> {
    let json = Value::from(value).to_string();
    let differs = |character: char| character.is_whitespace() || "\"\\<>&'".contains(character);
    let parts = value.split(differs).filter(|part| part.len() >= SHORTEST_PART);
    let mut forms: Vec<_> = parts.map(str::to_owned).collect();
    forms.extend([value.to_owned(), json[1..json.len() - 1].to_owned()]);
    forms
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        let env: Vec<_> = values.iter().map(|value| json!({"name": "A", "value": value})).collect();
        let body = json!({"spec": {"template": {"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}}});
        Mask::of(Some(&Secret::new("the-token")), Some(&body.to_string()), &["my-project"])
    }

    #[test]
    fn the_token_and_the_values_of_the_environment_are_masked() {
        let said = mask(&["hunter2", "hunter2-and-more", "true"]).apply("the-token, hunter2, hunter2-and-more, true");
        assert_eq!(said, "…, …, …, true");
    }

    #[test]
    fn what_is_known_anyway_stays() {
        assert_eq!(mask(&["my-project", "hunter2"]).apply("my-project hunter2"), "my-project …");
    }

    #[test]
    fn a_value_is_masked_in_whatever_notation() {
        let mask = mask(&["a \"b\" <c>", "x&y", "first-long-line\n'second'-long-line"]);
        for text in ["a \"b\" <c>", "a \\\"b\\\" <c>", "first-long-line\n'second'-long-line"] {
            assert_eq!(mask.apply(text), "…");
        }
        assert_eq!(mask.apply("x&amp;y first-long-line &#39;"), "x&amp;y … &#39;", "short parts may be any word");
    }

    #[test]
    fn without_a_body_nothing_but_the_token_is_masked() {
        assert_eq!(Mask::of(None, None, &[]).apply("the-token"), "the-token");
        assert_eq!(Mask::of(Some(&Secret::new("the-token")), Some("{}"), &[]).apply("the-token {}"), "… {}");
    }

    #[test]
    fn it_does_not_show_what_it_masks() {
        assert!(!format!("{:?}", mask(&["hunter2"])).contains("hunter2"));
    }
}
