//! The `job` module for Python, which puts the results into the job body.

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use pythonize::pythonize;
use serde_json::{Value, json};

use super::{json, text};
use crate::job::{
    base_body, check,
    env::{self, EnvEntry, OwnEntry, SecretEnv},
    labels, name,
};

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn is_job_name(text: &Bound<'_, PyString>) -> bool {
    text.to_str().is_ok_and(name::is_legal)
}

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (slug, unique=None))]
pub(super) fn job_name(slug: Option<&str>, unique: Option<&str>) -> String {
    name::from_slug(slug.unwrap_or_default(), unique)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn sanitize_labels<'py>(labels: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let pairs = pairs("labels", labels)?;
    dict(labels.py(), labels::sanitize(borrow(&pairs)))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn added_labels<'py>(
    prefect_labels: &Bound<'py, PyDict>,
    existing_labels: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let prefect = pairs("labels", prefect_labels)?;
    // Keys that are not strings take up room too. The check of the finished body reports them.
    let own: Vec<_> = existing_labels.keys().iter().map(|key| text::shown(&key)).collect();
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    dict(prefect_labels.py(), labels::additions(borrow(&prefect), &own))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn container_env<'py>(
    own: &Bound<'py, PyList>,
    env: &Bound<'py, PyDict>,
    secrets: Vec<(String, String, String)>,
) -> PyResult<Bound<'py, PyList>> {
    let py = own.py();
    let own: Vec<_> = own.iter().collect();
    let names: Vec<_> = own.iter().map(name_of).collect();
    let entries_of_template: Vec<_> = own
        .iter()
        .zip(&names)
        .map(|(entry, name)| OwnEntry { name: name.as_deref(), is_secret: is_secret(entry) })
        .collect();
    let secrets: Vec<_> =
        secrets.into_iter().map(|(name, secret, version)| SecretEnv { name, secret, version }).collect();
    let pairs = pairs("env", env)?;
    let entries = PyList::empty(py);
    for entry in env::container_env(&entries_of_template, borrow(&pairs), &secrets) {
        match entry {
            EnvEntry::Own(index) => entries.append(&own[index])?,
            EnvEntry::Plain(name, value) => entries.append(pythonize(py, &json!({"name": name, "value": value}))?)?,
            EnvEntry::Secret(SecretEnv { name, secret, version }) => {
                let source = json!({"secretKeyRef": {"name": secret, "key": version}});
                entries.append(pythonize(py, &json!({"name": name, "valueFrom": source}))?)?;
            }
        }
    }
    Ok(entries)
}

/// Returns the name of an entry of a container's `env`, or `None` if it has no readable name.
fn name_of(entry: &Bound<'_, PyAny>) -> Option<String> {
    entry.cast::<PyDict>().ok()?.get_item("name").ok()??.extract().ok()
}

/// Returns whether an entry of a container's `env` takes its value from a secret.
fn is_secret(entry: &Bound<'_, PyAny>) -> bool {
    let source = entry.cast::<PyDict>().ok().and_then(|entry| entry.get_item("valueFrom").ok().flatten());
    source.is_some_and(|source| source.is_truthy().unwrap_or(false))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn check_job_body(body: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let report = check::check(&json::from_python(body)?);
    if report.errors.is_empty() {
        return Ok(report.warnings);
    }
    Err(PyValueError::new_err(format!("The job body is invalid: {}", report.errors.join("; "))))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn base_job_body(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(pythonize(py, &base_body::base_body())?)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn check_base_job_body(body: &Bound<'_, PyAny>) -> Option<String> {
    base_body::check(&common_part(body, &base_body::base_body()))
}

/// Converts those parts of a Python value that the base body has too. Ignoring all other parts means that neither their size
/// nor cycles in them matter. A value that JSON cannot represent becomes null, which the check reports just as well.
fn common_part(value: &Bound<'_, PyAny>, base: &Value) -> Value {
    if let (Value::Object(fields), Ok(dict)) = (base, value.cast::<PyDict>()) {
        let found = |(name, field): (&String, &Value)| {
            let item = dict.get_item(name).ok().flatten()?;
            Some((name.clone(), common_part(&item, field)))
        };
        return Value::Object(fields.iter().filter_map(found).collect());
    }
    if let Value::Array(items) = base {
        let found: Option<Vec<_>> = if let Ok(list) = value.cast::<PyList>() {
            Some(list.iter().collect())
        } else {
            value.cast::<PyTuple>().ok().map(|tuple| tuple.iter().collect())
        };
        if let Some(found) = found {
            return found.iter().zip(items).map(|(item, base)| common_part(item, base)).collect();
        }
    }
    match value.cast::<PyString>() {
        Ok(text) => Value::String(text.to_string_lossy().into_owned()),
        Err(_) => Value::Null,
    }
}

/// The names and values of a mapping of strings, which is called `what` in errors. Values may be secret.
fn pairs(what: &str, dict: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    let read = |key: &Bound<'_, PyAny>, part: &Bound<'_, PyAny>, which: &str| {
        part.extract().map_err(|error| match part.is_instance_of::<PyString>() {
            true => PyValueError::new_err(format!(
                "{what}: the {which} {} is a string that cannot be encoded as UTF-8",
                text::shown(key)
            )),
            false => error,
        })
    };
    dict.iter().map(|(key, value)| Ok((read(&key, &key, "name")?, read(&key, &value, "value of")?))).collect()
}

fn borrow(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

fn dict(py: Python<'_>, labels: labels::Labels) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in labels {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}
