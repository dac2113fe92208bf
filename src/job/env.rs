//! The environment variables of a job's container (schema `EnvVar`).

use std::fmt;

use serde_json::Value;

/// A variable whose value Cloud Run reads from Secret Manager.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretEnv {
    /// Name of the variable.
    pub name: String,
    /// Name of the secret.
    pub secret: String,
    /// Version of the secret: a number, or `latest`.
    pub version: String,
}

/// An entry of the `env` list that the template holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnEntry<'a> {
    /// Name of the variable. `None` if the entry has no readable name.
    pub name: Option<&'a str>,
    /// Whether it takes its value from elsewhere, which is a secret (`valueFrom`).
    pub is_secret: bool,
}

/// One entry of a container's `env` list.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum EnvEntry<'a> {
    /// The entry at this index of the list that the template holds.
    Own(usize),
    /// A variable's name and value.
    Plain(&'a str, &'a str),
    /// A variable that refers to a secret.
    Secret(&'a SecretEnv),
}

/// Omits the value, which may be a secret.
impl fmt::Debug for EnvEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(index) => f.debug_tuple("Own").field(index).finish(),
            Self::Plain(name, _) => f.debug_tuple("Plain").field(name).finish_non_exhaustive(),
            Self::Secret(secret) => f.debug_tuple("Secret").field(secret).finish(),
        }
    }
}

/// Calls `change` with every plain-text value of every `env` list in `body`, which may be any message of the API.
pub fn each_value(body: &mut Value, change: &mut impl FnMut(&mut String)) {
    match body {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Array(variables) if name == "env" => {
                        for variable in variables {
                            if let Some(Value::String(value)) = variable.get_mut("value") {
                                change(value);
                            }
                        }
                    }
                    _ => each_value(field, change),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_value(item, change)),
        _ => {}
    }
}

/// Builds a container's `env` list.
///
/// The result holds, in this order:
/// 1. the template's own entries, except those that `secrets` set, and those with a plain value that `env` sets;
/// 2. `env`, except the names that `secrets` or the template's own secrets set;
/// 3. `secrets`.
///
/// So a secret is never replaced by plain text. An entry without a readable name stays.
pub fn container_env<'a>(
    own: &[OwnEntry<'_>],
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    secrets: &'a [SecretEnv],
) -> Vec<EnvEntry<'a>> {
    let is_secret = |name: &str| secrets.iter().any(|secret| secret.name == name);
    let is_own_secret = |name: &str| own.iter().any(|entry| entry.is_secret && entry.name == Some(name));
    let plain: Vec<_> = env.into_iter().filter(|(name, _)| !is_secret(name) && !is_own_secret(name)).collect();
    let is_set = |name: &str| is_secret(name) || plain.iter().any(|(set, _)| *set == name);
    let stays =
        |(index, entry): (usize, &OwnEntry<'_>)| (!entry.name.is_some_and(is_set)).then_some(EnvEntry::Own(index));
    let mut entries: Vec<_> = own.iter().enumerate().filter_map(stays).collect();
    entries.extend(plain.iter().map(|(name, value)| EnvEntry::Plain(name, value)));
    entries.extend(secrets.iter().map(EnvEntry::Secret));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn own(name: Option<&str>) -> OwnEntry<'_> {
        OwnEntry { name, is_secret: false }
    }

    #[test]
    fn debug_output_does_not_show_the_value() {
        assert_eq!(format!("{:?}", EnvEntry::Plain("A", "very-private")), "Plain(\"A\", ..)");
    }

    #[test]
    fn every_plain_text_value_is_visited() {
        let env =
            json!([{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": 1}, "env"]);
        let mut body = json!({"containers": [{"env": env, "value": "no"}], "env": {"env": [{"value": "y"}]}});
        let mut found = vec![];
        each_value(&mut body, &mut |value| found.push(std::mem::take(value)));
        assert_eq!(found, ["x", "y"]);
        assert_eq!(body["containers"][0]["env"][0]["value"], "");
    }

    #[test]
    fn the_templates_entries_stay_unless_prefect_sets_the_same_name() {
        assert_eq!(
            container_env(&[own(Some("A")), own(Some("B")), own(None)], [("A", "prefect"), ("C", "")], &[]),
            [EnvEntry::Own(1), EnvEntry::Own(2), EnvEntry::Plain("A", "prefect"), EnvEntry::Plain("C", "")]
        );
    }

    #[test]
    fn a_secret_replaces_the_plain_text_value_and_the_templates_entry() {
        let secrets = [SecretEnv { name: "KEY".into(), secret: "s".into(), version: "7".into() }];
        assert_eq!(
            container_env(&[own(Some("KEY"))], [("KEY", "x"), ("A", "b")], &secrets),
            [EnvEntry::Plain("A", "b"), EnvEntry::Secret(&secrets[0])]
        );
    }

    #[test]
    fn a_secret_of_the_template_replaces_plain_text_but_not_a_configured_secret() {
        let own = [OwnEntry { name: Some("KEY"), is_secret: true }, own(None)];
        assert_eq!(
            container_env(&own, [("KEY", "x"), ("A", "b")], &[]),
            [EnvEntry::Own(0), EnvEntry::Own(1), EnvEntry::Plain("A", "b")]
        );
        let secrets = [SecretEnv { name: "KEY".into(), secret: "s".into(), version: "7".into() }];
        assert_eq!(container_env(&own, [("KEY", "x")], &secrets), [EnvEntry::Own(1), EnvEntry::Secret(&secrets[0])]);
    }
}
