//! Files that hold Google credentials: which file the application default credentials are in, and how such a file is read.
//!
//! The worker's token providers use this module. Python's google-auth and the credentials block use it through
//! `_core.default_credentials_file` and `_core.read_key_file`, so the limits and the error texts exist once.
//!
//! # Guarantees
//!
//! - A read ends: devices and pipes, whose reads may never end, are rejected, and so are large files.
//! - An error shows nothing of a file's content. It shows no path that may be a key itself.
//!
//! # Errors
//!
//! All errors are `io::Error`s whose text stands alone, so that Python gets the matching subclass of `OSError`.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The variable that names the file of application default credentials.
const NAMED_BY: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Name of gcloud's file of application default credentials in gcloud's configuration directory.
const GCLOUD_FILE: &str = "application_default_credentials.json";
/// Maximum size of a file, in bytes. Credentials take a few kilobytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Maximum length of a path that an error shows, in bytes.
const MAX_SHOWN_PATH: usize = 1024;

/// A file of application default credentials.
pub struct DefaultCredentials {
    /// Path of the file.
    pub path: PathBuf,
    /// Its text, which is JSON and secret.
    pub text: String,
    /// The `type` in it, such as `service_account` or `authorized_user`.
    pub kind: String,
}

/// Returns the value of an environment variable. An empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns where the application default credentials would be, by the rules of google-auth, and whether the environment
/// names that file. gcloud's file, which counts otherwise, need not exist.
pub(super) fn default_path() -> Option<(PathBuf, bool)> {
    if let Some(path) = variable(NAMED_BY) {
        return Some((path.into(), true));
    }
    let directory = match variable("CLOUDSDK_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => env::home_dir()?.join(".config/gcloud"),
    };
    Some((directory.join(GCLOUD_FILE), false))
}

/// Reads the file of application default credentials. Blocks. Returns `None` if there is no such file, which means that
/// the metadata server or gcloud may have credentials.
///
/// # Errors
///
/// If the environment names a file that is not there, or if the file cannot be read or is not a JSON object with a `type`.
pub fn read_default() -> io::Result<Option<DefaultCredentials>> {
    let Some((path, is_named)) = default_path() else { return Ok(None) };
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if is_named => return Err(io::Error::new(error.kind(), format!("{NAMED_BY}: {error}"))),
        // google-auth also ignores gcloud's file if it is a directory or the like.
        Err(_) if !path.is_file() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(kind) = credentials_type(&text) else {
        let message = format!("'{}' is not a JSON file of Google credentials", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    };
    Ok(Some(DefaultCredentials { path, text, kind }))
}

/// Reads a file of credentials as bytes. Blocks.
///
/// # Errors
///
/// If there is no such file, if it is not a regular file, if it is too large, or if it cannot be read. If `path` seems to be
/// a key instead of the path of one, the error says so and does not show it.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_limited(path).map_err(|error| match shown(path) {
        Some(shown) => io::Error::new(error.kind(), format!("the credentials file '{shown}' cannot be read: {error}")),
        // There is such a file, so the text is no key.
        None if path.exists() => io::Error::new(error.kind(), format!("the credentials file cannot be read: {error}")),
        None => {
            let message = "expected the path of a credentials file, but got what seems to be the key itself";
            io::Error::new(io::ErrorKind::InvalidInput, message)
        }
    })
}

/// Like [`read`], as text. Text that is not UTF-8 is an error too.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| {
        let message = format!("the credentials file '{}' cannot be read: it is not UTF-8", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is too large (more than {MAX_BYTES} bytes)")));
    }
    Ok(bytes)
}

/// Returns a path as an error shows it. Returns `None` for a path that is very long or contains braces or line breaks:
/// somebody may have put the key itself in its place.
fn shown(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    (text.len() <= MAX_SHOWN_PATH && !text.contains(['{', '\n'])).then(|| text.into_owned())
}

fn credentials_type(text: &str) -> Option<String> {
    serde_json::from_str::<Value>(text).ok()?.get("type")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_place_of_a_path_is_not_shown() {
        for text in ["{\"private_key\": \"hush\"}", &"hush".repeat(300), "hush\nhush"] {
            let error = read(Path::new(text)).unwrap_err().to_string();
            assert!(error.contains("seems to be the key itself") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn the_name_of_a_file_may_look_like_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("{prod}.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap(), b"{}");
        std::fs::write(&path, " ".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn devices_directories_and_missing_files_are_rejected_with_their_path() {
        for path in ["/dev/zero", "/", "/nowhere/key.json"] {
            let error = read(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_large_file_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(file.path()).unwrap().len() as u64, MAX_BYTES);
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn text_must_be_utf8() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0xFF, 0xFE]).unwrap();
        assert_eq!(read_text(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
