//! Where credentials are, and which way they go.

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

use super::{Credentials, Identity, Prospect, Secret, TokenError, threads::blocking};
use crate::api::endpoint::is_loopback;

/// The universe of Google's public cloud.
const PUBLIC_UNIVERSE: &str = "googleapis.com";
/// gcloud's file of application default credentials, in its folder.
const WELL_KNOWN: &str = "application_default_credentials.json";
/// More than any file of credentials has, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;
/// Longest path that an error shows, in bytes.
const LONGEST_PATH: usize = 1024;
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
pub(super) async fn find(identity: &Identity) -> Result<Found, TokenError> {
    let check_key = |text: &str| check_key(text, identity.is_local);
    match identity.credentials.clone() {
        Credentials::ServiceAccountInfo(text) => check_key(text.reveal()),
        Credentials::ServiceAccountFile(path) => check_key(&read(path).await?),
        Credentials::ApplicationDefault => {
            let Some((path, is_named)) = adc_file() else { return Ok(Found::Nothing) };
            let text = match read(path.clone()).await {
                Ok(text) => text,
                Err(error) if is_named => {
                    let message = format!("GOOGLE_APPLICATION_CREDENTIALS: {}", error.message);
                    return Err(TokenError { message, ..error });
                }
                // As google-auth has it: what is no file there is none.
                Err(_) if !is_file(path.clone()).await => return Ok(Found::Nothing),
                Err(error) => return Err(error),
            };
            match kind(&text).as_deref() {
                // gcp_auth knows no quota project.
                Some("service_account") if set(QUOTA_PROJECT).is_some() => Ok(Found::Other),
                Some("service_account") => check_key(&text),
                Some("gdch_service_account") => Err(refused("Google Distributed Cloud has no Cloud Run jobs")),
                Some(_) => Ok(Found::Other),
                None => Err(refused(format!("'{}' is not a JSON file of Google credentials", path.display()))),
            }
        }
    }
}

/// The file of application default credentials, and whether the environment names it, as google-auth finds it. That
/// of gcloud need not exist.
pub(super) fn adc_file() -> Option<(PathBuf, bool)> {
    if let Some(path) = set("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some((path.into(), true));
    }
    let folder = match set("CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&set("HOME")?).join(".config/gcloud"),
    };
    Some((folder.join(WELL_KNOWN), false))
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

async fn is_file(path: PathBuf) -> bool {
    blocking(move || path.is_file()).await.unwrap_or(false)
}

/// A path as an error shows it. What is too long for one, or has braces or line breaks, may be a key that somebody put in
/// its place.
fn shown(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let is_one = text.len() <= LONGEST_PATH && !text.contains(['{', '\n']);
    is_one.then(|| text.to_owned())
}

/// The text of a file. A device or a pipe could be read for ever, and is none.
async fn read(path: PathBuf) -> Result<String, TokenError> {
    let Some(shown) = shown(&path) else {
        return Err(refused("it has to name a file, and seems to hold the key itself"));
    };
    let read = move || {
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LARGEST_FILE { Err(io::Error::other("it is too large")) } else { Ok(text) }
    };
    match blocking(read).await {
        Some(Ok(text)) => Ok(text),
        Some(Err(error)) => Err(refused(format!("the file '{shown}' of credentials can't be read: {error}"))),
        None => Err(refused("there are no threads to read files")),
    }
}

fn kind(text: &str) -> Option<String> {
    serde_json::from_str::<Value>(text).ok()?.get("type")?.as_str().map(str::to_owned)
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
    let has_proxy = PROXIES.iter().any(|name| set(name).is_some());
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
    async fn a_key_in_the_place_of_its_path_does_not_show() {
        for text in [key(json!({})), "hush".repeat(300), "hush\nhush".to_owned()] {
            let identity = Identity::new(Credentials::ServiceAccountFile(text.into()), false);
            let error = find(&identity).await.unwrap_err();
            assert!(error.message.contains("has to name a file") && !error.message.contains("hush"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_could_be_read_for_ever_is_no_file() {
        for path in ["/dev/zero", "/", "/nowhere/key.json"] {
            let identity = Identity::new(Credentials::ServiceAccountFile(path.into()), false);
            let error = find(&identity).await.unwrap_err();
            assert!(error.message.contains(path), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LARGEST_FILE + 1).unwrap();
        let identity = Identity::new(Credentials::ServiceAccountFile(file.path().into()), false);
        assert!(find(&identity).await.unwrap_err().message.contains("too large"));
    }
}
