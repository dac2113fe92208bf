//! Python's objects as a tree to render. Nothing is converted: the renderer walks the objects in place, and values are
//! inserted by identity.

use pyo3::{
    exceptions::{PyIndexError, PyKeyError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString},
};

use super::text;
use crate::template::{self, NodeView, RenderError, RenderErrorKind, Rendered, TextPiece, Tree};

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (template, values, *, unset, exact_keys))]
pub(super) fn render_template<'py>(
    template: &Bound<'py, PyAny>,
    values: &Bound<'py, PyDict>,
    unset: Bound<'py, PyAny>,
    exact_keys: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let tree = PythonTree { unset, exact_keys };
    match template::render(&tree, template, values.as_any()) {
        Ok(rendered) => Ok(rendered.unwrap_or(tree.unset)),
        Err(RenderError { kind: RenderErrorKind::Tree(error), .. }) => Err(error),
        Err(error) if error.path.is_root() => Err(PyValueError::new_err(error.to_string())),
        Err(error) => Err(PyValueError::new_err(format!("{error} (at {})", error.path))),
    }
}

/// A tree of Python's objects.
struct PythonTree<'py> {
    /// The object that stands for "no value".
    unset: Bound<'py, PyAny>,
    /// Whether a segment such as `1` finds a mapping's key `"1"` before its key `1`, as in Prefect 3.9 and later.
    exact_keys: bool,
}

impl<'py> Tree for PythonTree<'py> {
    type Node = Bound<'py, PyAny>;
    type Error = PyErr;

    fn view<'n>(&self, node: &'n Self::Node) -> PyResult<NodeView<'n>> {
        Ok(if let Ok(string) = node.cast::<PyString>() {
            NodeView::Text(text::view(string)?)
        } else if node.is_instance_of::<PyDict>() || node.is_instance_of::<PyList>() {
            NodeView::Branch
        } else if node.is_none() || is_number(node) {
            NodeView::Leaf
        } else if node.is(&self.unset) {
            NodeView::Unset
        } else {
            NodeView::Unsupported(node.get_type().name()?.to_string())
        })
    }

    fn rebuild(
        &self,
        node: &Self::Node,
        mut render: impl FnMut(&Self::Node) -> Rendered<Self>,
    ) -> Result<Self::Node, RenderError<PyErr>> {
        let py = node.py();
        if let Ok(dict) = node.cast::<PyDict>() {
            let rendered = PyDict::new(py);
            // Rendering may call `__str__` of a value, which may change the mapping. So this iterates over a copy of its items.
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

    fn concat(&self, node: &Self::Node, pieces: &[TextPiece<Self::Node>]) -> PyResult<Self::Node> {
        let py = node.py();
        let whole = node.cast::<PyString>().map_err(PyErr::from)?;
        let strings = PyList::empty(py);
        for piece in pieces {
            match piece {
                TextPiece::Literal(range) if range.is_empty() => {}
                TextPiece::Literal(range) => strings.append(text::slice(whole, range.clone())?)?,
                TextPiece::Value(value) => strings.append(value.str()?)?,
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

    // Python decides about characters: its classes differ from Rust's, and between versions of Python.

    fn is_word(&self, character: char) -> bool {
        self.is(character, "isalnum")
    }

    fn is_space(&self, character: char) -> bool {
        self.is(character, "isspace")
    }
}

impl<'py> PythonTree<'py> {
    fn found(&self, node: &Bound<'py, PyAny>, segment: &str) -> PyResult<Bound<'py, PyAny>> {
        let Some(number) = integer(node.py(), segment)? else { return node.get_item(segment) };
        if self.exact_keys && node.cast::<PyMapping>().is_ok() {
            // `int()` also accepts `01` and `1_0`. Those count as keys only as they are written.
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

/// Returns the number that Python's `int()` reads from a segment, or `None` if it rejects the segment.
fn integer<'py>(py: Python<'py>, segment: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    // Most segments are names. This shortcut avoids the call of `int()`.
    if segment.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Ok(None);
    }
    match py.get_type::<PyInt>().call1((segment,)) {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
