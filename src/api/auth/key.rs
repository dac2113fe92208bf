//! Finds the credentials of a principal and decides which library obtains their tokens.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;
use url::Url;

use super::{
    threads::spawn_blocking,
    token::{Credentials, Principal, TokenError, TokenErrorKind},
};
use crate::{api::endpoint::is_loopback, secret::Secret};

/// Universe domain of Google's public cloud.
const PUBLIC_UNIVERSE: &str = "googleapis.com";
/// Name of gcloud's file of application default credentials, in gcloud's configuration folder.
const GCLOUD_FILE: &str = "application_default_credentials.json";
/// Maximum size of a credentials file, in bytes. Google's are far smaller.
const MAX_FILE_SIZE: u64 = 64 * 1024;
/// Maximum length of a path that an error shows, in bytes.
const MAX_SHOWN_PATH: usize = 1024;
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
        Credentials::ServiceAccountFile(path) => path.clone(),
        Credentials::ApplicationDefault => default_credentials_file()?.0,
        Credentials::ServiceAccountInfo(_) => return None,
    };
    spawn_blocking(move || {
        let metadata = path.metadata().ok();
        let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        (path, stamp)
    })
    .await
}

/// Reads the credentials of a principal and chooses their route.
///
/// # Errors
/// When they can't be read, or a key lacks a required field. No error shows any of their content.
pub(super) async fn find_route(principal: &Principal) -> Result<TokenRoute, TokenError> {
    let check_key = |text: &str| check_key(text, principal.is_local);
    match principal.credentials.clone() {
        Credentials::ServiceAccountInfo(text) => check_key(text.reveal()),
        Credentials::ServiceAccountFile(path) => check_key(&read(path).await?),
        Credentials::ApplicationDefault => {
            let Some((path, is_from_environment)) = default_credentials_file() else { return Ok(TokenRoute::NoFile) };
            let text = match read(path.clone()).await {
                Ok(text) => text,
                Err(error) if is_from_environment => {
                    let message = format!("GOOGLE_APPLICATION_CREDENTIALS: {}", error.message);
                    return Err(TokenError { message, ..error });
                }
                // google-auth, too, ignores gcloud's path when it is not a file.
                Err(_) if !is_file(path.clone()).await => return Ok(TokenRoute::NoFile),
                Err(error) => return Err(error),
            };
            match credentials_type(&text).as_deref() {
                // gcp_auth does not support quota projects.
                Some("service_account") if environment(QUOTA_PROJECT).is_some() => Ok(TokenRoute::GoogleAuth),
                Some("service_account") => check_key(&text),
                Some("gdch_service_account") => {
                    Err(rejected("these credentials are for Google Distributed Cloud, which has no Cloud Run jobs"))
                }
                Some(_) => Ok(TokenRoute::GoogleAuth),
                None => Err(rejected(format!("'{}' is not a JSON file of Google credentials", path.display()))),
            }
        }
    }
}

/// The path of the application default credentials, and whether `GOOGLE_APPLICATION_CREDENTIALS` names it, by google-auth's
/// rules. Otherwise it is gcloud's path, where no file need exist.
fn default_credentials_file() -> Option<(PathBuf, bool)> {
    if let Some(path) = environment("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some((path.into(), true));
    }
    let folder = match environment("CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&environment("HOME")?).join(".config/gcloud"),
    };
    Some((folder.join(GCLOUD_FILE), false))
}

/// The value of an environment variable, unless it is unset or empty.
fn environment(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

async fn is_file(path: PathBuf) -> bool {
    spawn_blocking(move || path.is_file()).await.unwrap_or(false)
}

/// The path as an error may show it. `None` for a text that is too long or has braces or line breaks: it may be a key
/// that somebody set in place of its path.
fn shown(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let is_path = text.len() <= MAX_SHOWN_PATH && !text.contains(['{', '\n']);
    is_path.then(|| text.to_owned())
}

/// Reads a file. Rejects devices and pipes, whose reads may never end, and files that are too large for credentials.
async fn read(path: PathBuf) -> Result<String, TokenError> {
    let Some(shown) = shown(&path) else {
        return Err(rejected("the path of the credentials file seems to hold the key itself"));
    };
    let read = move || {
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_SIZE { Err(io::Error::other("it is too large")) } else { Ok(text) }
    };
    match spawn_blocking(read).await {
        Some(Ok(text)) => Ok(text),
        Some(Err(error)) => Err(rejected(format!("the file '{shown}' of credentials can't be read: {error}"))),
        None => Err(rejected("no thread could be started to read the credentials file")),
    }
}

fn credentials_type(text: &str) -> Option<String> {
    serde_json::from_str::<Value>(text).ok()?.get("type")?.as_str().map(str::to_owned)
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
    let has_proxy = PROXIES.iter().any(|name| environment(name).is_some());
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
    async fn a_key_in_place_of_its_path_is_not_shown() {
        for text in [key(json!({})), "hush".repeat(300), "hush\nhush".to_owned()] {
            let principal = Principal::new(Credentials::ServiceAccountFile(text.into()), false);
            let error = find_route(&principal).await.unwrap_err();
            assert!(error.message.contains("seems to hold the key") && !error.message.contains("hush"), "{error}");
        }
    }

    #[tokio::test]
    async fn devices_folders_and_large_files_are_rejected() {
        for path in ["/dev/zero", "/", "/nowhere/key.json"] {
            let principal = Principal::new(Credentials::ServiceAccountFile(path.into()), false);
            let error = find_route(&principal).await.unwrap_err();
            assert!(error.message.contains(path), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE_SIZE + 1).unwrap();
        let principal = Principal::new(Credentials::ServiceAccountFile(file.path().into()), false);
        assert!(find_route(&principal).await.unwrap_err().message.contains("too large"));
    }
}
