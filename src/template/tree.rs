//! The interface between the renderer and what it renders.

use std::{borrow::Cow, ops::Range};

use super::error::RenderError;

/// Nested mappings, lists and leaves: templates, and the values for their placeholders.
pub trait Tree {
    /// A mapping, a list or a leaf. Cheap to clone.
    type Node: Clone;
    /// Why an operation on a node can fail.
    type Error;

    /// Returns what a node is to the renderer.
    fn view<'n>(&self, node: &'n Self::Node) -> Result<NodeView<'n>, Self::Error>;

    /// Builds a new mapping or list like `node` from what `render` makes of each value or item. Leaves out those for which
    /// `render` returns `None`.
    ///
    /// # Errors
    ///
    /// The error of `render`, with the key or index prepended to its path.
    fn rebuild(
        &self,
        node: &Self::Node,
        render: impl FnMut(&Self::Node) -> Rendered<Self>,
    ) -> Result<Self::Node, RenderError<Self::Error>>;

    /// Returns the value of a mapping at a key, or the item of a list or the character of a string at an index. Returns
    /// `None` if there is none.
    fn item(&self, node: &Self::Node, segment: &str) -> Result<Option<Self::Node>, Self::Error>;

    /// Joins pieces of the string `text` and other nodes, converted to strings, to one string.
    fn concat(&self, text: &Self::Node, pieces: &[TextPiece<Self::Node>]) -> Result<Self::Node, Self::Error>;

    /// Returns the value of an environment variable of this process.
    fn environment(&self, name: &str) -> Result<Option<Self::Node>, Self::Error>;

    /// Returns whether a character outside ASCII may be part of a placeholder's name.
    fn is_word(&self, character: char) -> bool;

    /// Returns whether a character outside ASCII may surround a placeholder's name.
    fn is_space(&self, character: char) -> bool;
}

/// A rendered node, or `None` for a lone placeholder that has no value.
pub type Rendered<T> = Result<Option<<T as Tree>::Node>, RenderError<<T as Tree>::Error>>;

/// What a node is to the renderer. Has no `Debug`: a string may be a value, and a value a secret.
pub enum NodeView<'n> {
    /// A string, which may contain placeholders. What UTF-8 cannot encode is replaced by other text of the same length.
    Text(Cow<'n, str>),
    /// A mapping or a list.
    Branch,
    /// A value that rendering does not change.
    Leaf,
    /// The object that stands for "no value".
    Unset,
    /// A value that no template can contain, with the name of its type.
    Unsupported(String),
}

/// A piece of a rendered string.
pub enum TextPiece<N> {
    /// A byte range of the template's string.
    Literal(Range<usize>),
    /// The value of a placeholder.
    Value(N),
}
