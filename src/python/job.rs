//! What goes into a job, for Python: the results are new objects, which Python puts in place.

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use pythonize::{depythonize, pythonize};
use serde_json::Value;

use crate::job::{
    env::{self, SecretEnv},
    labels, name, skeleton,
};

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn is_job_name(text: &str) -> bool {
    name::is_legal(text)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn sanitize_labels<'py>(labels: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let pairs = pairs(labels)?;
    dict(labels.py(), labels::sanitize(borrow(&pairs)))
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn merge_labels<'py>(
    prefect_labels: &Bound<'py, PyDict>,
    existing_labels: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let (prefect, own) = (pairs(prefect_labels)?, pairs(existing_labels)?);
    dict(prefect_labels.py(), labels::merge(borrow(&prefect), &own))
}

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (own, env, secrets))]
pub(super) fn container_env<'py>(
    own: &Bound<'py, PyList>,
    env: &Bound<'py, PyDict>,
    secrets: Vec<(String, String, String)>,
) -> PyResult<Bound<'py, PyAny>> {
    let own: Vec<Value> =
        depythonize(own.as_any()).map_err(|error| PyValueError::new_err(format!("container env: {error}")))?;
    let secrets: Vec<_> =
        secrets.into_iter().map(|(name, secret, version)| SecretEnv { name, secret, version }).collect();
    let pairs = pairs(env)?;
    Ok(pythonize(env.py(), &env::container_env(&own, borrow(&pairs), &secrets))?)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn check_body_skeleton(body: &Bound<'_, PyAny>) -> Option<String> {
    skeleton::check(&shape(body, &skeleton::skeleton()))
}

/// As much of a Python value as the skeleton asks for. What is no JSON is null, which is as wrong as itself; what the
/// skeleton does not name is not looked at, so that neither size nor cycles matter.
fn shape(value: &Bound<'_, PyAny>, skeleton: &Value) -> Value {
    if let (Value::Object(fields), Ok(dict)) = (skeleton, value.cast::<PyDict>()) {
        let found = |(name, field): (&String, &Value)| {
            let item = dict.get_item(name).ok().flatten()?;
            Some((name.clone(), shape(&item, field)))
        };
        return Value::Object(fields.iter().filter_map(found).collect());
    }
    if let Value::Array(items) = skeleton {
        let found: Option<Vec<_>> = if let Ok(list) = value.cast::<PyList>() {
            Some(list.iter().collect())
        } else {
            value.cast::<PyTuple>().ok().map(|tuple| tuple.iter().collect())
        };
        if let Some(found) = found {
            return found.iter().zip(items).map(|(item, skeleton)| shape(item, skeleton)).collect();
        }
    }
    match value.cast::<PyString>() {
        Ok(text) => Value::String(text.to_string_lossy().into_owned()),
        Err(_) => Value::Null,
    }
}

fn pairs(dict: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    dict.iter().map(|(key, value)| Ok((key.extract()?, value.extract()?))).collect()
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
