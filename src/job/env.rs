//! The environment of a job's container (schema `EnvVar`).

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry<'a> {
    /// The template's own entry of this index.
    Own(usize),
    /// A name and its value.
    Plain(&'a str, &'a str),
    /// A reference to a secret.
    Secret(&'a SecretEnv),
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
