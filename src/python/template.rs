//! Python's objects as a tree to render: they are walked where they lie, and values pass as the objects that they are.

use pyo3::{
    exceptions::{PyIndexError, PyKeyError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString},
};

use super::text;
use crate::template::{self, Cause, Error, Piece, Rendered, Tree, View};

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (template, values, *, unset, exact_keys))]
pub(super) fn render_template<'py>(
    template: &Bound<'py, PyAny>,
    values: &Bound<'py, PyDict>,
    unset: Bound<'py, PyAny>,
    exact_keys: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let tree = Objects { unset, exact_keys };
    match template::render(&tree, template, values.as_any()) {
        Ok(rendered) => Ok(rendered.unwrap_or(tree.unset)),
        Err(Error { cause: Cause::Tree(error), .. }) => Err(error),
        Err(error) if error.path.is_root() => Err(PyValueError::new_err(error.to_string())),
        Err(error) => Err(PyValueError::new_err(format!("{error} (at {})", error.path))),
    }
}

/// Python's objects.
struct Objects<'py> {
    /// The one that stands for no value.
    unset: Bound<'py, PyAny>,
    /// Whether a mapping's key that reads as a number is looked for as a text first, as Prefect does since 3.9.
    exact_keys: bool,
}

impl<'py> Tree for Objects<'py> {
    type Node = Bound<'py, PyAny>;
    type Error = PyErr;

    fn view<'n>(&self, node: &'n Self::Node) -> PyResult<View<'n>> {
        Ok(if let Ok(string) = node.cast::<PyString>() {
            View::Text(text::view(string)?)
        } else if node.is_instance_of::<PyDict>() || node.is_instance_of::<PyList>() {
            View::Branch
        } else if node.is_none() || is_number(node) {
            View::Leaf
        } else if node.is(&self.unset) {
            View::Unset
        } else {
            View::Alien(node.get_type().name()?.to_string())
        })
    }

    fn rebuild(
        &self,
        node: &Self::Node,
        mut render: impl FnMut(&Self::Node) -> Rendered<Self>,
    ) -> Result<Self::Node, Error<PyErr>> {
        let py = node.py();
        if let Ok(dict) = node.cast::<PyDict>() {
            let rendered = PyDict::new(py);
            // Text is made of values by code of theirs, which may change the mapping: a list of its items stays.
            for entry in dict.items() {
                let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = entry.extract()?;
                if let Some(value) = render(&value).map_err(|error| error.below_key(&text::shown(&key)))? {
                    rendered.set_item(key, value)?;
                }
            }
            return Ok(rendered.into_any());
        }
        let rendered = PyList::empty(py);
        for (index, item) in node.cast::<PyList>().map_err(PyErr::from)?.iter().enumerate() {
            if let Some(item) = render(&item).map_err(|error| error.below_index(index))? {
                rendered.append(item)?;
            }
        }
        Ok(rendered.into_any())
    }

    fn item(&self, node: &Self::Node, segment: &str) -> PyResult<Option<Self::Node>> {
        let py = node.py();
        match self.found(node, segment) {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                let missing = error.is_instance_of::<PyKeyError>(py)
                    || error.is_instance_of::<PyIndexError>(py)
                    || error.is_instance_of::<PyTypeError>(py);
                if missing { Ok(None) } else { Err(error) }
            }
        }
    }

    fn concat(&self, node: &Self::Node, pieces: &[Piece<Self::Node>]) -> PyResult<Self::Node> {
        let py = node.py();
        let whole = node.cast::<PyString>().map_err(PyErr::from)?;
        let strings = PyList::empty(py);
        for piece in pieces {
            match piece {
                Piece::Literal(range) if range.is_empty() => {}
                Piece::Literal(range) => strings.append(text::slice(whole, range.clone())?)?,
                Piece::Value(value) => strings.append(value.str()?)?,
            }
        }
        PyString::new(py, "").call_method1(intern!(py, "join"), (strings,))
    }

    fn environment(&self, name: &str) -> PyResult<Option<Self::Node>> {
        let py = self.unset.py();
        let environ = py.import(intern!(py, "os"))?.getattr(intern!(py, "environ"))?;
        let found = environ.call_method1(intern!(py, "get"), (name,))?;
        Ok((!found.is_none()).then_some(found))
    }

    // Python's own classes, of the version that runs: they differ from Rust's, and from each other's.

    fn is_word(&self, character: char) -> bool {
        self.is(character, "isalnum")
    }

    fn is_space(&self, character: char) -> bool {
        self.is(character, "isspace")
    }
}

impl<'py> Objects<'py> {
    fn found(&self, node: &Bound<'py, PyAny>, segment: &str) -> PyResult<Bound<'py, PyAny>> {
        let Some(number) = integer(node.py(), segment)? else { return node.get_item(segment) };
        if self.exact_keys && node.cast::<PyMapping>().is_ok() {
            // `01` and `1_0` are numbers to Python, but nobody writes a key so.
            let is_canonical = number.str()?.to_str()? == segment;
            if node.contains(segment)? || !is_canonical {
                return node.get_item(segment);
            }
        }
        node.get_item(number)
    }

    fn is(&self, character: char, class: &str) -> bool {
        let text = PyString::new(self.unset.py(), character.encode_utf8(&mut [0; 4]));
        text.call_method0(class).and_then(|is| is.is_truthy()).unwrap_or(false)
    }
}

fn is_number(node: &Bound<'_, PyAny>) -> bool {
    node.is_instance_of::<PyBool>() || node.is_instance_of::<PyInt>() || node.is_instance_of::<PyFloat>()
}

/// The number that a segment is, as Python reads numbers.
fn integer<'py>(py: Python<'py>, segment: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    // Most segments are names, which this tells without asking Python.
    if segment.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Ok(None);
    }
    match py.get_type::<PyInt>().call1((segment,)) {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
