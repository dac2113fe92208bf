//! Conversion of Python's objects to JSON.

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde_json::{Map, Number, Value};

use super::text;
use crate::path::Path;

/// Maximum nesting of a job body, in levels. Google's JSON parser accepts no more.
const MAX_DEPTH: usize = 100;

/// Where an object contains a value that JSON cannot represent, and what is wrong with it.
struct NotJson {
    path: Path,
    problem: String,
}

/// Converts a job body to JSON.
///
/// # Errors
///
/// A `ValueError` with the path of a value that JSON cannot represent: another type, NaN, a key that is not a string, a
/// cycle.
pub(super) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    value(object, 0).map_err(|NotJson { path, problem }| {
        let place = if path.is_root() { "The job body".to_owned() } else { format!("The job body at {path}") };
        PyValueError::new_err(format!("{place} {problem}"))
    })
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, NotJson> {
    if depth > MAX_DEPTH {
        return not_json(format!("is nested deeper than {MAX_DEPTH} levels or contains itself"));
    }
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(string) = object.cast::<PyString>() {
        string.to_str().map(Value::from).or_else(|_| not_json("is a string that cannot be encoded as UTF-8".to_owned()))
    } else if let Ok(boolean) = object.cast::<PyBool>() {
        Ok(Value::Bool(boolean.is_true()))
    } else if let Ok(integer) = object.cast::<PyInt>() {
        let number = integer.extract::<i64>().map(Number::from).or_else(|_| integer.extract::<u64>().map(Number::from));
        number.map(Value::Number).or_else(|_| not_json("is an integer that does not fit in 64 bits".to_owned()))
    } else if let Ok(float) = object.cast::<PyFloat>() {
        let number = Number::from_f64(float.value());
        number
            .map(Value::Number)
            .ok_or(())
            .or_else(|()| not_json(format!("is {}, which JSON cannot represent", float.value())))
    } else if let Ok(dict) = object.cast::<PyDict>() {
        mapping(dict, depth)
    } else if let Ok(list) = object.cast::<PyList>() {
        items(list.iter(), depth)
    } else if let Ok(tuple) = object.cast::<PyTuple>() {
        items(tuple.iter(), depth)
    } else {
        let name = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        not_json(format!("is of type '{name}', which JSON cannot represent"))
    }
}

fn mapping(dict: &Bound<'_, PyDict>, depth: usize) -> Result<Value, NotJson> {
    let mut fields = Map::new();
    // Reading a number may run code of its type, which may change the mapping. So this iterates over a copy of its items.
    for entry in dict.items() {
        let Ok((key, item)) = entry.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else { continue };
        let Ok(Ok(name)) = key.cast::<PyString>().map(|name| name.to_str()) else {
            return not_json(format!("has the key {}, but keys in JSON must be strings in UTF-8", text::shown(&key)));
        };
        let item = value(&item, depth + 1)
            .map_err(|NotJson { path, problem }| NotJson { path: path.below_key(name), problem })?;
        fields.insert(name.to_owned(), item);
    }
    Ok(Value::Object(fields))
}

fn items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Result<Value, NotJson> {
    let item = |(index, item): (usize, Bound<'py, PyAny>)| {
        value(&item, depth + 1).map_err(|NotJson { path, problem }| NotJson { path: path.below_index(index), problem })
    };
    items.enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
}

fn not_json<T>(problem: String) -> Result<T, NotJson> {
    Err(NotJson { path: Path::default(), problem })
}
