//! Rendering of `{{ placeholder }}` templates, as Prefect's work pools have them.
//!
//! The renderer walks a [`Tree`] that somebody else keeps: Python's objects in a worker, [`json::Json`] elsewhere. It
//! never looks into a value that takes a placeholder's place, so values of any type pass through, by identity.
//!
//! minijinja has no part in it: Prefect's grammar is not Jinja's. `{{ my-name }}` is a name and not a difference,
//! `{{ $HOME }}` and `{{ a[0].b] }}` are names too, `{{ a + b }}` and `{% if %}` are plain text, and a lone placeholder
//! gives a value and not a text.

pub mod json;
mod placeholder;
mod render;

use std::{borrow::Cow, ops::Range};

pub use placeholder::{Placeholder, Source, placeholders};
pub use render::{MAX_DEPTH, render};

use crate::path::Path;

/// Trees of mappings, lists and leaves: what a template is made of, and the values for its placeholders.
pub trait Tree {
    /// A mapping, a list or a leaf; cheap to clone.
    type Node: Clone;
    /// What can go wrong with one.
    type Error;

    /// What a node is.
    fn view<'n>(&self, node: &'n Self::Node) -> Result<View<'n>, Self::Error>;

    /// A new mapping or list like `node`, with what `render` makes of each value or item; `None` leaves it out. The
    /// error says at which key or index it happened.
    fn rebuild(
        &self,
        node: &Self::Node,
        render: impl FnMut(&Self::Node) -> Rendered<Self>,
    ) -> Result<Self::Node, Error<Self::Error>>;

    /// What a mapping has at a key, or a list or a text at an index, if it has it.
    fn item(&self, node: &Self::Node, segment: &str) -> Result<Option<Self::Node>, Self::Error>;

    /// A text that is made of pieces of `text` and of other nodes, as text.
    fn concat(&self, text: &Self::Node, pieces: &[Piece<Self::Node>]) -> Result<Self::Node, Self::Error>;

    /// The value of an environment variable of this process.
    fn environment(&self, name: &str) -> Result<Option<Self::Node>, Self::Error>;

    /// Whether a character that is not ASCII may stand in a placeholder's name.
    fn is_word(&self, character: char) -> bool;

    /// Whether a character that is not ASCII may stand around a placeholder's name.
    fn is_space(&self, character: char) -> bool;
}

/// A rendered node, or `None` where a lone placeholder has no value.
pub type Rendered<T> = Result<Option<<T as Tree>::Node>, Error<<T as Tree>::Error>>;

/// What a template's node is. Has no `Debug`: a text may be a value, and a value a secret.
pub enum View<'n> {
    /// A text, which may have placeholders. What UTF-8 can't encode is replaced by other text of the same length.
    Text(Cow<'n, str>),
    /// A mapping or a list.
    Branch,
    /// Something that stays as it is.
    Leaf,
    /// The absence of a value, given as one.
    Unset,
    /// What no template can hold: the name of its type.
    Alien(String),
}

/// A piece of a rendered text.
pub enum Piece<N> {
    /// Bytes of the template's text.
    Literal(Range<usize>),
    /// A placeholder's value.
    Value(N),
}

/// Why a template can't be rendered, and where in it.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Error<E> {
    /// The place in the template.
    pub path: Path,
    /// What happened there.
    pub cause: Cause<E>,
}

/// Why a template can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Cause<E> {
    /// The template holds something of this type.
    #[error("Unexpected template type '{0}'")]
    Alien(String),
    /// The template is nested deeper than [`MAX_DEPTH`], or holds itself.
    #[error("the template is nested deeper than {MAX_DEPTH} levels, or holds itself")]
    TooDeep,
    /// The tree's own error.
    #[error("{0}")]
    Tree(E),
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self { path: Path::default(), cause: Cause::Tree(error) }
    }
}

impl<E> Error<E> {
    /// The same error, seen from the mapping that has this template at `key`.
    #[must_use]
    pub fn below_key(self, key: &str) -> Self {
        Self { path: self.path.below_key(key), ..self }
    }

    /// The same error, seen from the list that has this template at `index`.
    #[must_use]
    pub fn below_index(self, index: usize) -> Self {
        Self { path: self.path.below_index(index), ..self }
    }
}
