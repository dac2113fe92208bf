//! Where credentials are, and which way they go.

use std::{
    env,
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;
use url::Url;

use super::{Credentials, Prospect, Secret, TokenError, threads::blocking};
use crate::api::endpoint::is_loopback;

/// The universe of Google's public cloud.
const PUBLIC_UNIVERSE: &str = "googleapis.com";
/// gcloud's file of application default credentials, in its folder.
const WELL_KNOWN: &str = "application_default_credentials.json";
/// Any of these may carry a call to an HTTPS address.
const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What credentials turn out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A service account's key that gcp_auth can use.
    Key(Secret),
    /// Something else, or a key that needs more than gcp_auth has.
    Other,
    /// Neither a file nor a word about one: there may be a metadata server, or gcloud.
    Nothing,
}

/// What tells that a file was replaced.
pub(super) type Stamp = (PathBuf, Option<(SystemTime, u64)>);

/// The file that these credentials are in, as it is now.
pub(super) async fn stamp(credentials: &Credentials) -> Option<Stamp> {
    let path = match credentials {
        Credentials::ServiceAccountFile(path) => path.clone(),
        Credentials::ApplicationDefault => adc_file()?.0,
        Credentials::ServiceAccountInfo(_) => return None,
    };
    blocking(move || {
        let data = path.metadata().ok();
        let stamp = data.and_then(|data| Some((data.modified().ok()?, data.len())));
        (path, stamp)
    })
    .await
}

/// Reads credentials, as far as it takes to choose their way.
///
/// # Errors
/// When they can't be read, or a key lacks what every key has. Never with a word of their content.
pub(super) async fn find(credentials: &Credentials) -> Result<Found, TokenError> {
    match credentials.clone() {
        Credentials::ServiceAccountInfo(text) => check_key(text.reveal()),
        Credentials::ServiceAccountFile(path) => check_key(&read(path, "the key file").await?.unwrap_or_default()),
        Credentials::ApplicationDefault => {
            let Some((path, is_named)) = adc_file() else { return Ok(Found::Nothing) };
            let text = match read(path.clone(), "the file of application default credentials").await {
                Ok(Some(text)) => text,
                Ok(None) if is_named => {
                    return Err(refused(format!(
                        "GOOGLE_APPLICATION_CREDENTIALS names '{}', which does not exist",
                        path.display()
                    )));
                }
                Ok(None) => return Ok(Found::Nothing),
                Err(error) => return Err(error),
            };
            match kind(&text).as_deref() {
                Some("service_account") => check_key(&text),
                Some(_) => Ok(Found::Other),
                None => Err(refused(format!("'{}' is not a JSON file of Google credentials", path.display()))),
            }
        }
    }
}

/// The file of application default credentials, and whether the environment names it, as google-auth finds it. That
/// of gcloud need not exist.
pub(super) fn adc_file() -> Option<(PathBuf, bool)> {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(path) = set("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some((path.into(), true));
    }
    let folder = match set("CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&set("HOME")?).join(".config/gcloud"),
    };
    Some((folder.join(WELL_KNOWN), false))
}

async fn read(path: PathBuf, what: &'static str) -> Result<Option<String>, TokenError> {
    let shown = path.display().to_string();
    match blocking(move || fs::read_to_string(path)).await {
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(error)) if error.kind() == ErrorKind::NotFound && what.contains("application") => Ok(None),
        Some(Err(error)) => Err(refused(format!("{what} '{shown}' can't be read: {error}"))),
        None => Err(refused("there are no threads to read them")),
    }
}

fn kind(text: &str) -> Option<String> {
    serde_json::from_str::<Value>(text).ok()?.get("type")?.as_str().map(str::to_owned)
}

/// Checks a service account's key. Anything else is refused here, because blocks and job variables may carry it: a
/// configuration of external credentials names addresses and programs.
fn check_key(text: &str) -> Result<Found, TokenError> {
    let Ok(Value::Object(key)) = serde_json::from_str(text) else {
        return Err(refused("the service account's key is not a JSON object"));
    };
    let field = |name: &str| key.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(kind) = field("type").filter(|&kind| kind != "service_account") {
        let kind: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        return Err(refused(format!(
            "these are credentials of the type '{kind}', and only a service account's key can be given here: let \
             GOOGLE_APPLICATION_CREDENTIALS name their file"
        )));
    }
    let missing: Vec<_> =
        ["client_email", "private_key", "token_uri"].into_iter().filter(|&name| field(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(refused(format!("the service account's key has no {}", missing.join(", no "))));
    }
    let token_uri = Url::parse(field("token_uri").unwrap_or_default());
    let is_proxied = match token_uri {
        Ok(url) if url.scheme() == "https" => {
            PROXIES.iter().any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()))
        }
        // Plain HTTP stays on this machine.
        Ok(url) if url.scheme() == "http" && is_loopback(&url) => false,
        _ => return Err(refused("the key's token_uri is not an HTTPS address")),
    };
    let is_public = field("universe_domain").is_none_or(|domain| domain == PUBLIC_UNIVERSE);
    Ok(if is_public && !is_proxied { Found::Key(Secret::new(text)) } else { Found::Other })
}

fn refused(message: impl Into<String>) -> TokenError {
    TokenError::new(Prospect::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(changes: Value) -> String {
        let mut key = json!({
            "type": "service_account", "client_email": "a@b", "private_key": "hush",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key.to_string()
    }

    #[test]
    fn a_plain_key_is_gcp_auths() {
        let text = key(json!({}));
        assert_eq!(check_key(&text), Ok(Found::Key(Secret::new(text.clone()))));
        assert!(matches!(check_key(&key(json!({"universe_domain": "googleapis.com"}))), Ok(Found::Key(_))));
        assert!(matches!(check_key(&key(json!({"token_uri": "http://127.0.0.1:1/t"}))), Ok(Found::Key(_))));
    }

    #[test]
    fn another_universe_goes_the_other_way() {
        assert_eq!(check_key(&key(json!({"universe_domain": "example.goog"}))), Ok(Found::Other));
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        for (text, words) in [
            ("hush".to_owned(), "not a JSON object"),
            (json!(key(json!({}))).to_string(), "not a JSON object"),
            (key(json!({"token_uri": null})), "no token_uri"),
            (key(json!({"private_key": ["hush"], "client_email": ""})), "no client_email, no private_key"),
            (key(json!({"type": "external_account"})), "type 'external_account'"),
            (key(json!({"type": "'\n; hush"})), "type 'hush'"),
            (key(json!({"token_uri": "http://hush.example/"})), "not an HTTPS address"),
            (key(json!({"token_uri": "file:///hush"})), "not an HTTPS address"),
            (key(json!({"token_uri": "hush"})), "not an HTTPS address"),
        ] {
            let error = check_key(&text).unwrap_err();
            assert!(error.message.contains(words), "{error}");
            assert!(words.contains("hush") || !error.message.contains("hush"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let credentials = Credentials::ServiceAccountFile("/nowhere/key.json".into());
        let error = find(&credentials).await.unwrap_err();
        assert!(error.message.contains("/nowhere/key.json"), "{error}");
        assert_eq!(stamp(&credentials).await, Some(("/nowhere/key.json".into(), None)));
    }
}
