//! References of environment variables to secrets.

use serde_json::Value;

use crate::api::types::EnvVar;

/// Added to the message about a missing secret, so that the user of the emulator knows what to do.
pub(crate) const MISSING_SECRET_HINT: &str = "(The emulator knows the secrets given with --secret NAME=VALUE.)";

/// The secret that an environment variable's `valueFrom` refers to; none when it lacks a name or a key. The key is the
/// secret's version, which the emulator ignores: it has one value for each secret.
fn referenced_secret(value_from: &Value) -> Option<&str> {
    let reference = value_from.get("secretKeyRef")?;
    reference.get("key").and_then(Value::as_str).filter(|key| !key.is_empty())?;
    reference.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// The short name of the secret that a variable takes its value from: `s` for `projects/p/secrets/s` and for `s`.
pub(crate) fn secret_of(variable: &EnvVar) -> Option<&str> {
    let name = variable.extra.get("valueFrom").and_then(referenced_secret)?;
    name.rsplit('/').next()
}
