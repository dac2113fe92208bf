//! Conversion of Python's strings, which may contain lone surrogates (halves of surrogate pairs). UTF-8 cannot encode those.

use std::{borrow::Cow, ops::Range};

use pyo3::{
    intern,
    prelude::*,
    types::{PyBytes, PyString},
};

/// Returns a string's text with U+FFFD in place of each lone surrogate. Both take three bytes, so offsets stay the same.
pub(super) fn view<'n>(string: &'n Bound<'_, PyString>) -> PyResult<Cow<'n, str>> {
    if let Ok(text) = string.to_str() {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = encode(string)?.as_bytes().to_vec();
    // Only the encoding of a surrogate starts with ED followed by A0 or more.
    for at in 0..bytes.len().saturating_sub(2) {
        if bytes[at] == 0xED && bytes[at + 1] >= 0xA0 {
            bytes[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns the part of a string at this byte range of its [`view`].
pub(super) fn slice<'py>(string: &Bound<'py, PyString>, range: Range<usize>) -> PyResult<Bound<'py, PyAny>> {
    let py = string.py();
    if let Ok(text) = string.to_str() {
        return Ok(PyString::new(py, text.get(range).unwrap_or_default()).into_any());
    }
    let bytes = encode(string)?;
    let part = PyBytes::new(py, bytes.as_bytes().get(range).unwrap_or_default());
    part.call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))
}

/// Returns a mapping's key as an error shows it.
pub(super) fn shown(key: &Bound<'_, PyAny>) -> String {
    key.str().map_or_else(|_| "?".to_owned(), |text| text.to_string_lossy().into_owned())
}

fn encode<'py>(string: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = string.call_method1(intern!(string.py(), "encode"), ("utf-8", "surrogatepass"))?;
    Ok(bytes.cast_into()?)
}
