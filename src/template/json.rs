//! JSON values as a tree, for callers in Rust: benchmarks and property tests.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    error::RenderError,
    tree::{NodeView, Rendered, TextPiece, Tree},
};

/// Trees of [`Value`]. Inside a string, a string value is inserted as it is and any other value as JSON. Rust decides which
/// characters are letters and spaces.
#[derive(Clone, Copy, Debug)]
pub struct JsonTree;

impl Tree for JsonTree {
    type Node = Value;
    type Error = std::convert::Infallible;

    fn view<'n>(&self, node: &'n Value) -> Result<NodeView<'n>, Self::Error> {
        Ok(match node {
            Value::String(text) => NodeView::Text(Cow::Borrowed(text)),
            Value::Array(_) | Value::Object(_) => NodeView::Branch,
            Value::Null | Value::Bool(_) | Value::Number(_) => NodeView::Leaf,
        })
    }

    fn rebuild(
        &self,
        node: &Value,
        mut render: impl FnMut(&Value) -> Rendered<Self>,
    ) -> Result<Value, RenderError<Self::Error>> {
        match node {
            Value::Object(fields) => {
                let field = |(key, value)| match render(value) {
                    Ok(value) => value.map(|value| Ok((String::clone(key), value))),
                    Err(error) => Some(Err(error.below_key(key))),
                };
                fields.iter().filter_map(field).collect::<Result<_, _>>().map(Value::Object)
            }
            Value::Array(items) => {
                let item = |(index, item)| render(item).map_err(|error| error.below_index(index)).transpose();
                items.iter().enumerate().filter_map(item).collect::<Result<_, _>>().map(Value::Array)
            }
            leaf => Ok(leaf.clone()),
        }
    }

    fn item(&self, node: &Value, segment: &str) -> Result<Option<Value>, Self::Error> {
        Ok(match node {
            Value::Object(fields) => fields.get(segment).cloned(),
            Value::Array(items) => index(segment, items.len()).map(|index| items[index].clone()),
            Value::String(text) => {
                let index = index(segment, text.chars().count());
                index.and_then(|index| text.chars().nth(index)).map(|character| character.to_string().into())
            }
            _ => None,
        })
    }

    fn concat(&self, text: &Value, pieces: &[TextPiece<Value>]) -> Result<Value, Self::Error> {
        let text = text.as_str().unwrap_or_default();
        let piece = |piece: &TextPiece<Value>| match piece {
            TextPiece::Literal(range) => text[range.clone()].to_owned(),
            TextPiece::Value(Value::String(text)) => text.clone(),
            TextPiece::Value(other) => other.to_string(),
        };
        Ok(Value::String(pieces.iter().map(piece).collect()))
    }

    fn environment(&self, name: &str) -> Result<Option<Value>, Self::Error> {
        // `env::var_os` panics on names that no variable can have, such as the empty one. A search finds nothing.
        let found = std::env::vars_os().find(|(variable, _)| variable == name);
        Ok(found.map(|(_, value)| value.to_string_lossy().into_owned().into()))
    }

    fn is_word(&self, character: char) -> bool {
        character.is_alphanumeric()
    }

    fn is_space(&self, character: char) -> bool {
        character.is_whitespace()
    }
}

/// Returns the index that a segment denotes in a list or string of this length. Negative numbers count from the end.
fn index(segment: &str, length: usize) -> Option<usize> {
    let number: i64 = segment.parse().ok()?;
    let index = usize::try_from(number.unsigned_abs()).ok()?;
    let index = if number < 0 { length.checked_sub(index)? } else { index };
    (index < length).then_some(index)
}
