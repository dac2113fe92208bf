//! Python's objects as JSON.

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde_json::{Map, Number, Value};

use super::text;
use crate::path::Path;

/// Deepest nesting of a job body; Google's JSON reader takes no more.
const MAX_DEPTH: usize = 100;

/// Where an object holds something that JSON can't carry, and what it is.
struct Unfit {
    path: Path,
    what: String,
}

/// An object as a JSON value.
///
/// # Errors
///
/// A `ValueError` with the path of what JSON can't carry: another type, NaN, a key that is no text, a cycle.
pub(super) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    value(object, 0).map_err(|Unfit { path, what }| {
        let place = if path.is_root() { "The job body".to_owned() } else { format!("The job body at {path}") };
        PyValueError::new_err(format!("{place} {what}"))
    })
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Unfit> {
    if depth > MAX_DEPTH {
        return unfit(format!("is nested deeper than {MAX_DEPTH} levels, or holds itself"));
    }
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(string) = object.cast::<PyString>() {
        string.to_str().map(Value::from).or_else(|_| unfit("is text that UTF-8 can't encode".to_owned()))
    } else if let Ok(boolean) = object.cast::<PyBool>() {
        Ok(Value::Bool(boolean.is_true()))
    } else if let Ok(integer) = object.cast::<PyInt>() {
        let number = integer.extract::<i64>().map(Number::from).or_else(|_| integer.extract::<u64>().map(Number::from));
        number.map(Value::Number).or_else(|_| unfit("is an integer of more than 64 bits".to_owned()))
    } else if let Ok(float) = object.cast::<PyFloat>() {
        let number = Number::from_f64(float.value());
        number
            .map(Value::Number)
            .ok_or(())
            .or_else(|()| unfit(format!("is {}, which is no number of JSON", float.value())))
    } else if let Ok(dict) = object.cast::<PyDict>() {
        mapping(dict, depth)
    } else if let Ok(list) = object.cast::<PyList>() {
        items(list.iter(), depth)
    } else if let Ok(tuple) = object.cast::<PyTuple>() {
        items(tuple.iter(), depth)
    } else {
        let name = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        unfit(format!("is of type '{name}', which JSON can't carry"))
    }
}

fn mapping(dict: &Bound<'_, PyDict>, depth: usize) -> Result<Value, Unfit> {
    let mut fields = Map::new();
    // Reading a number may run code of its type, which may change the mapping: a list of its items stays.
    for entry in dict.items() {
        let Ok((key, item)) = entry.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else { continue };
        let Ok(Ok(name)) = key.cast::<PyString>().map(|name| name.to_str()) else {
            return unfit(format!("has the key {}, which is no text that JSON can carry", text::shown(&key)));
        };
        let item =
            value(&item, depth + 1).map_err(|Unfit { path, what }| Unfit { path: path.below_key(name), what })?;
        fields.insert(name.to_owned(), item);
    }
    Ok(Value::Object(fields))
}

fn items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Result<Value, Unfit> {
    let item = |(index, item): (usize, Bound<'py, PyAny>)| {
        value(&item, depth + 1).map_err(|Unfit { path, what }| Unfit { path: path.below_index(index), what })
    };
    items.enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
}

fn unfit<T>(what: String) -> Result<T, Unfit> {
    Err(Unfit { path: Path::default(), what })
}
