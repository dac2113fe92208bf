//! Removes secrets from the server's texts. Proxies, and Google itself, repeat parts of a request in their responses.

use std::cmp::Reverse;

use serde_json::Value;

use crate::{job::env, secret::Secret};

/// Shorter values are not redacted: they are words and numbers that a message may contain for other reasons.
const MIN_SECRET: usize = 6;
/// Minimum length of a part of a value that is redacted by itself. The rest of the value may be escaped in JSON or HTML.
const MIN_PART: usize = 12;
/// Stands in place of a secret.
const REDACTED: &str = "…";

/// The secrets of one request, longer ones first: a shorter one may be a part of a longer one.
#[derive(Debug)]
pub(super) struct Redactor(Vec<Secret>);

impl Redactor {
    /// A redactor of a request's token and of all environment values in its body. A value of the environment that is among
    /// `known`, such as the project, is not redacted.
    pub(super) fn new(token: Option<&Secret>, body: Option<&str>, known: &[&str]) -> Self {
        let mut secrets: Vec<_> = token.into_iter().map(|token| token.reveal().to_owned()).collect();
        let mut body = body.and_then(|body| serde_json::from_str::<Value>(body).ok()).unwrap_or_default();
        env::each_value(&mut body, &mut |value| secrets.extend(forms(value)));
        secrets.retain(|secret| secret.len() >= MIN_SECRET && !known.contains(&secret.as_str()));
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into_iter().map(Secret::new).collect())
    }

    /// The text without the secrets.
    pub(super) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), REDACTED))
    }
}

/// The forms in which a response may repeat a value: as it is, escaped as in JSON, and the longer parts that no notation
/// escapes.
fn forms(value: &str) -> Vec<String> {
    let json = Value::from(value).to_string();
    let may_be_escaped = |character: char| character.is_whitespace() || "\"\\<>&'".contains(character);
    let parts = value.split(may_be_escaped).filter(|part| part.len() >= MIN_PART);
    let mut forms: Vec<_> = parts.map(str::to_owned).collect();
    forms.extend([value.to_owned(), json[1..json.len() - 1].to_owned()]);
    forms
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let env: Vec<_> = values.iter().map(|value| json!({"name": "A", "value": value})).collect();
        let body = json!({"spec": {"template": {"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}}});
        Redactor::new(Some(&Secret::new("the-token")), Some(&body.to_string()), &["my-project"])
    }

    #[test]
    fn the_token_and_environment_values_are_redacted() {
        let text =
            redactor(&["hunter2", "hunter2-and-more", "true"]).redact("the-token, hunter2, hunter2-and-more, true");
        assert_eq!(text, "…, …, …, true");
    }

    #[test]
    fn known_values_stay() {
        assert_eq!(redactor(&["my-project", "hunter2"]).redact("my-project hunter2"), "my-project …");
    }

    #[test]
    fn a_value_is_redacted_in_every_notation() {
        let redactor = redactor(&["a \"b\" <c>", "x&y", "first-long-line\n'second'-long-line"]);
        for text in ["a \"b\" <c>", "a \\\"b\\\" <c>", "first-long-line\n'second'-long-line"] {
            assert_eq!(redactor.redact(text), "…");
        }
        assert_eq!(redactor.redact("x&amp;y first-long-line &#39;"), "x&amp;y … &#39;", "short parts may be any word");
    }

    #[test]
    fn without_a_body_only_the_token_is_redacted() {
        assert_eq!(Redactor::new(None, None, &[]).redact("the-token"), "the-token");
        assert_eq!(Redactor::new(Some(&Secret::new("the-token")), Some("{}"), &[]).redact("the-token {}"), "… {}");
    }

    #[test]
    fn a_redactor_does_not_print_its_secrets() {
        assert!(!format!("{:?}", redactor(&["hunter2"])).contains("hunter2"));
    }
}
