//! Where credentials are, and which way they go.

use std::{io, path::PathBuf, time::SystemTime};

use serde_json::Value;
use url::Url;

use super::{Credentials, Identity, Prospect, Secret, TokenError, key_file, threads::blocking};
use crate::api::endpoint::is_loopback;

/// The universe of Google's public cloud.
const PUBLIC_UNIVERSE: &str = "googleapis.com";
/// Names the project that calls count for.
const QUOTA_PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";
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
        Credentials::ApplicationDefault => key_file::default_path()?.0,
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
pub(super) async fn find(identity: &Identity) -> Result<Found, TokenError> {
    let check_key = |text: &str| check_key(text, identity.is_local);
    match identity.credentials.clone() {
        Credentials::ServiceAccountInfo(text) => check_key(text.reveal()),
        Credentials::ServiceAccountFile(path) => check_key(&read_in_thread(move || key_file::read_text(&path)).await?),
        Credentials::ApplicationDefault => {
            let Some(file) = read_in_thread(key_file::read_default).await? else { return Ok(Found::Nothing) };
            match file.kind.as_str() {
                // gcp_auth does not support quota projects.
                "service_account" if key_file::variable(QUOTA_PROJECT).is_some() => Ok(Found::Other),
                "service_account" => check_key(&file.text),
                "gdch_service_account" => Err(refused("Google Distributed Cloud has no Cloud Run jobs")),
                _ => Ok(Found::Other),
            }
        }
    }
}

/// Reads a file in a thread that may block.
async fn read_in_thread<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, TokenError> {
    match blocking(read).await {
        Some(found) => found.map_err(|error| refused(error.to_string())),
        None => Err(refused("there are no threads to read files")),
    }
}

/// Checks a service account's key. Anything else is refused here, because blocks and job variables may carry it: a
/// configuration of external credentials names addresses and programs.
fn check_key(text: &str, is_local: bool) -> Result<Found, TokenError> {
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
    if field("universe_domain").is_some_and(|domain| domain != PUBLIC_UNIVERSE) {
        // Such keys sign their tokens themselves.
        return Ok(Found::Other);
    }
    let token_uri = Url::parse(field("token_uri").unwrap_or_default());
    let has_proxy = PROXIES.iter().any(|name| key_file::variable(name).is_some());
    match token_uri {
        Ok(url) if is_local && is_loopback(&url) && url.scheme() == "http" => Ok(Found::Key(Secret::new(text))),
        Ok(url) if url.scheme() == "https" && (is_googles(&url) || (is_local && is_loopback(&url))) => {
            Ok(if has_proxy { Found::Other } else { Found::Key(Secret::new(text)) })
        }
        _ => Err(refused("the key's token_uri is not Google's, such as https://oauth2.googleapis.com/token")),
    }
}

/// Whether an address is one of Google's token endpoints. Keys of old have accounts.google.com.
fn is_googles(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "accounts.google.com" || host.ends_with(".googleapis.com")
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
        for (changes, is_local) in [
            (json!({}), false),
            (json!({"universe_domain": "googleapis.com"}), false),
            (json!({"token_uri": "https://accounts.google.com/o/oauth2/token"}), false),
            (json!({"token_uri": "https://oauth2-mine.p.googleapis.com/token"}), false),
            (json!({"token_uri": "http://127.0.0.1:1/t"}), true),
        ] {
            let text = key(changes);
            assert_eq!(check_key(&text, is_local), Ok(Found::Key(Secret::new(text.clone()))), "{text}");
        }
    }

    #[test]
    fn another_universe_goes_the_other_way() {
        assert_eq!(check_key(&key(json!({"universe_domain": "example.goog"})), false), Ok(Found::Other));
    }

    #[test]
    fn a_key_can_not_lead_elsewhere_than_to_google() {
        for uri in [
            "http://127.0.0.1:8080/admin",
            "https://localhost/admin",
            "http://hush.example/",
            "https://hush.example/token",
            "https://googleapis.com.hush.example/",
            "https://hush-googleapis.com/",
            "http://oauth2.googleapis.com/token",
            "https://169.254.169.254/",
            "file:///hush",
            "hush",
        ] {
            let error = check_key(&key(json!({"token_uri": uri})), false).unwrap_err();
            assert!(error.message.contains("is not Google's") && !error.message.contains("hush"), "{uri}: {error}");
        }
        for uri in ["http://hush.example/", "https://hush.example/"] {
            assert!(check_key(&key(json!({"token_uri": uri})), true).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        for (text, words) in [
            ("hush".to_owned(), "not a JSON object"),
            (json!(key(json!({}))).to_string(), "not a JSON object"),
            (key(json!({"token_uri": null})), "no token_uri"),
            (key(json!({"private_key": ["hush"], "client_email": ""})), "no client_email, no private_key"),
            (key(json!({"type": "external_account"})), "type 'external_account'"),
            (key(json!({"type": "'\n; external"})), "type 'external'"),
        ] {
            let error = check_key(&text, false).unwrap_err();
            assert!(error.message.contains(words) && !error.message.contains("hush"), "{error}");
        }
    }

    #[tokio::test]
    async fn errors_of_reading_the_file_are_refusals() {
        for path in ["/dev/zero", "{\"private_key\": \"hush\"}"] {
            let identity = Identity::new(Credentials::ServiceAccountFile(path.into()), false);
            let error = find(&identity).await.unwrap_err();
            assert_eq!(error.prospect, Prospect::Refused);
            assert!(!error.message.contains("hush"), "{error}");
        }
    }
}
