//! The environment of a job's container (schema `EnvVar`).

use std::fmt;

use serde_json::Value;

/// A variable whose value Google's Secret Manager holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretEnv {
    /// Name of the variable.
    pub name: String,
    /// Name of the secret.
    pub secret: String,
    /// Version of the secret: a number or `latest`.
    pub version: String,
}

/// An entry of a container's environment.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Entry<'a> {
    /// The template's own entry of this index.
    Own(usize),
    /// A name and its value.
    Plain(&'a str, &'a str),
    /// A reference to a secret.
    Secret(&'a SecretEnv),
}

/// Without the value, which may be a secret.
impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(index) => f.debug_tuple("Own").field(index).finish(),
            Self::Plain(name, _) => f.debug_tuple("Plain").field(name).finish_non_exhaustive(),
            Self::Secret(secret) => f.debug_tuple("Secret").field(secret).finish(),
        }
    }
}

/// Does something with each plain value of the environments that a body of the API's holds, whatever its message.
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

/// The container's `env`: the template's own entries, of which `own` has the names, unless `env` or `secrets` set the
/// same name; then `env`; then `secrets`, which replace what else has their names.
pub fn container_env<'a>(
    own: &[Option<&str>],
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    secrets: &'a [SecretEnv],
) -> Vec<Entry<'a>> {
    let is_secret = |name: &str| secrets.iter().any(|secret| secret.name == name);
    let plain: Vec<_> = env.into_iter().filter(|(name, _)| !is_secret(name)).collect();
    let is_set = |name: &str| is_secret(name) || plain.iter().any(|(set, _)| *set == name);
    let stays = |(index, name): (usize, &Option<&str>)| (!name.is_some_and(is_set)).then_some(Entry::Own(index));
    let mut entries: Vec<_> = own.iter().enumerate().filter_map(stays).collect();
    entries.extend(plain.iter().map(|(name, value)| Entry::Plain(name, value)));
    entries.extend(secrets.iter().map(Entry::Secret));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_does_not_show_its_value() {
        assert_eq!(format!("{:?}", Entry::Plain("A", "very-private")), "Plain(\"A\", ..)");
    }

    #[test]
    fn every_plain_value_of_an_environment_is_found() {
        let env =
            json!([{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": 1}, "env"]);
        let mut body = json!({"containers": [{"env": env, "value": "no"}], "env": {"env": [{"value": "y"}]}});
        let mut found = vec![];
        each_value(&mut body, &mut |value| found.push(std::mem::take(value)));
        assert_eq!(found, ["x", "y"]);
        assert_eq!(body["containers"][0]["env"][0]["value"], "");
    }

    #[test]
    fn the_templates_entries_stay_unless_prefect_sets_them() {
        assert_eq!(
            container_env(&[Some("A"), Some("B"), None], [("A", "prefect"), ("C", "")], &[]),
            [Entry::Own(1), Entry::Own(2), Entry::Plain("A", "prefect"), Entry::Plain("C", "")]
        );
    }

    #[test]
    fn a_secret_takes_the_place_of_the_plain_value_and_of_the_templates() {
        let secrets = [SecretEnv { name: "KEY".into(), secret: "s".into(), version: "7".into() }];
        assert_eq!(
            container_env(&[Some("KEY")], [("KEY", "x"), ("A", "b")], &secrets),
            [Entry::Plain("A", "b"), Entry::Secret(&secrets[0])]
        );
    }
}
