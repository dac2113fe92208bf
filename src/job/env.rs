//! The environment of a job's container.

use serde_json::{Value, json};

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

/// The container's `env` (schema `EnvVar`): the entries of `own`, the template's, unless `env` sets the same name; then
/// `env` as name and value; then `secrets`, which replace what else has their names.
pub fn container_env<'a>(
    own: &[Value],
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    secrets: &[SecretEnv],
) -> Vec<Value> {
    let secret = |name: &str| secrets.iter().any(|secret| secret.name == name);
    let plain: Vec<_> = env.into_iter().filter(|(name, _)| !secret(name)).collect();
    let is_free = |entry: &&Value| match entry.get("name").and_then(Value::as_str) {
        Some(name) => !secret(name) && !plain.iter().any(|(set, _)| *set == name),
        None => true,
    };
    let mut entries: Vec<_> = own.iter().filter(is_free).cloned().collect();
    entries.extend(plain.iter().map(|(name, value)| json!({"name": name, "value": value})));
    entries.extend(secrets.iter().map(|SecretEnv { name, secret, version }| {
        json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": version}}})
    }));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_entries_stay_unless_prefect_sets_them() {
        let own = [json!({"name": "A", "value": "template"}), json!({"name": "B", "valueFrom": {}})];
        assert_eq!(
            container_env(&own, [("A", "prefect"), ("C", "")], &[]),
            [own[1].clone(), json!({"name": "A", "value": "prefect"}), json!({"name": "C", "value": ""})]
        );
    }

    #[test]
    fn a_secret_takes_the_place_of_the_plain_value() {
        let secret = SecretEnv { name: "KEY".into(), secret: "s".into(), version: "7".into() };
        let reference = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "7"}}});
        let once = container_env(
            &[json!({"name": "KEY", "value": "y"})],
            [("KEY", "x"), ("A", "b")],
            std::slice::from_ref(&secret),
        );
        assert_eq!(once, [json!({"name": "A", "value": "b"}), reference]);
        assert_eq!(container_env(&once, [("KEY", "x"), ("A", "b")], &[secret]), once);
    }
}
