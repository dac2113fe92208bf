//! Finds the credentials of a principal and decides which library obtains their tokens.

use std::{io, path::PathBuf, time::SystemTime};

use serde_json::Value;
use url::Url;

use super::{
    credentials_file,
    threads::spawn_blocking,
    token::{Credentials, Principal, TokenError, TokenErrorKind},
};
use crate::{api::endpoint::is_loopback, secret::Secret};

/// Universe domain of Google's public cloud.
const PUBLIC_UNIVERSE: &str = "googleapis.com";
/// Environment variable with the project that calls are counted against.
const QUOTA_PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";
/// Environment variables that may name a proxy for HTTPS addresses.
const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Which library obtains the tokens of a principal.
#[derive(Debug, PartialEq)]
pub(super) enum TokenRoute {
    /// gcp_auth, with this key of a service account.
    GcpAuth(Secret),
    /// google-auth: the credentials are of another type, or the key needs something that gcp_auth does not support.
    GoogleAuth,
    /// No file was found: there may be a metadata server, or the gcloud command.
    NoFile,
}

/// Path, modification time and size of a file, which show when it was replaced.
pub(super) type FileStamp = (PathBuf, Option<(SystemTime, u64)>);

/// The stamp of the file that these credentials come from. `None` when they come from no file.
pub(super) async fn file_stamp(credentials: &Credentials) -> Option<FileStamp> {
    let path = match credentials {
        Credentials::ServiceAccountFile(path) => Some(path.clone()),
        Credentials::ApplicationDefault => None,
        Credentials::ServiceAccountInfo(_) => return None,
    };
    spawn_blocking(move || {
        // Without HOME, this asks the user database, which may block.
        let path = path.or_else(|| credentials_file::default_path().map(|(path, _)| path))?;
        let metadata = path.metadata().ok();
        let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        Some((path, stamp))
    })
    .await
    .flatten()
}

/// Reads the credentials of a principal and chooses their route.
///
/// # Errors
/// When they can't be read, or a key lacks a required field. No error shows any of their content.
pub(super) async fn find_route(principal: &Principal) -> Result<TokenRoute, TokenError> {
    let check_key = |text: &str| check_key(text, principal.is_local);
    match principal.credentials.clone() {
        Credentials::ServiceAccountInfo(text) => check_key(text.reveal()),
        Credentials::ServiceAccountFile(path) => {
            check_key(&read_in_thread(move || credentials_file::read_text(&path)).await?)
        }
        Credentials::ApplicationDefault => {
            let Some(file) = read_in_thread(credentials_file::read_default).await? else {
                return Ok(TokenRoute::NoFile);
            };
            match file.kind.as_str() {
                // gcp_auth does not support quota projects.
                "service_account" if credentials_file::variable(QUOTA_PROJECT).is_some() => Ok(TokenRoute::GoogleAuth),
                "service_account" => check_key(&file.text),
                "gdch_service_account" => {
                    Err(rejected("these credentials are for Google Distributed Cloud, which has no Cloud Run jobs"))
                }
                _ => Ok(TokenRoute::GoogleAuth),
            }
        }
    }
}

/// Reads a file in a thread that may block.
async fn read_in_thread<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, TokenError> {
    match spawn_blocking(read).await {
        Some(found) => found.map_err(|error| rejected(error.to_string())),
        None => Err(rejected("no thread could be started to read the credentials file")),
    }
}

/// Checks a service account's key and chooses its route.
///
/// Other types of credentials are rejected here, because blocks and job variables may carry this text: configurations of
/// external accounts name addresses to call and programs to start.
fn check_key(text: &str, is_local: bool) -> Result<TokenRoute, TokenError> {
    let Ok(Value::Object(key)) = serde_json::from_str(text) else {
        return Err(rejected("the service account's key is not a JSON object"));
    };
    let field = |name: &str| key.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(kind) = field("type").filter(|&kind| kind != "service_account") {
        let kind: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        return Err(rejected(format!(
            "these are credentials of the type '{kind}', and only a service account's key can be given here: set \
             GOOGLE_APPLICATION_CREDENTIALS to the path of their file instead"
        )));
    }
    let missing: Vec<_> =
        ["client_email", "private_key", "token_uri"].into_iter().filter(|&name| field(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(rejected(format!("the service account's key has no {}", missing.join(", no "))));
    }
    if field("universe_domain").is_some_and(|domain| domain != PUBLIC_UNIVERSE) {
        // Other universes take tokens that the key signs itself. gcp_auth does not make these.
        return Ok(TokenRoute::GoogleAuth);
    }
    let token_uri = Url::parse(field("token_uri").unwrap_or_default());
    // gcp_auth uses no proxies.
    let has_proxy = PROXIES.iter().any(|name| credentials_file::variable(name).is_some());
    match token_uri {
        Ok(url) if is_local && is_loopback(&url) && url.scheme() == "http" => {
            Ok(TokenRoute::GcpAuth(Secret::new(text)))
        }
        Ok(url) if url.scheme() == "https" && (is_google(&url) || (is_local && is_loopback(&url))) => {
            Ok(if has_proxy { TokenRoute::GoogleAuth } else { TokenRoute::GcpAuth(Secret::new(text)) })
        }
        _ => Err(rejected("the key's token_uri is not Google's, such as https://oauth2.googleapis.com/token")),
    }
}

/// Whether an address is one of Google's token endpoints. Old keys have accounts.google.com.
fn is_google(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "accounts.google.com" || host.ends_with(".googleapis.com")
}

fn rejected(message: impl Into<String>) -> TokenError {
    TokenError::new(TokenErrorKind::Rejected, message)
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
    fn gcp_auth_uses_plain_keys() {
        for (changes, is_local) in [
            (json!({}), false),
            (json!({"universe_domain": "googleapis.com"}), false),
            (json!({"token_uri": "https://accounts.google.com/o/oauth2/token"}), false),
            (json!({"token_uri": "https://oauth2-mine.p.googleapis.com/token"}), false),
            (json!({"token_uri": "http://127.0.0.1:1/t"}), true),
        ] {
            let text = key(changes);
            assert_eq!(check_key(&text, is_local), Ok(TokenRoute::GcpAuth(Secret::new(text.clone()))), "{text}");
        }
    }

    #[test]
    fn google_auth_uses_keys_of_other_universes() {
        assert_eq!(check_key(&key(json!({"universe_domain": "example.goog"})), false), Ok(TokenRoute::GoogleAuth));
    }

    #[test]
    fn a_key_leads_to_no_token_endpoint_but_googles() {
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
    fn an_unusable_key_is_rejected_without_showing_it() {
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
    async fn a_file_that_cannot_be_read_is_rejected() {
        for path in ["/dev/zero", "{\"private_key\": \"hush\"}"] {
            let principal = Principal::new(Credentials::ServiceAccountFile(path.into()), false);
            let error = find_route(&principal).await.unwrap_err();
            assert_eq!(error.kind, TokenErrorKind::Rejected);
            assert!(!error.message.contains("hush"), "{error}");
        }
    }
}
