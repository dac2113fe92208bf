//! Why a template cannot be rendered.

use crate::path::Path;

/// Maximum nesting of a template, in levels. Rendering that many takes half a megabyte of stack. Prefect's own renderer
/// fails at about 450 levels.
pub const MAX_DEPTH: usize = 500;

/// Why a template cannot be rendered, and where in it. `E` is the error of the tree.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct RenderError<E> {
    /// The path in the template.
    pub path: Path,
    /// What is wrong there.
    pub kind: RenderErrorKind<E>,
}

/// What can be wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum RenderErrorKind<E> {
    /// The template contains a value of this type, which no template can contain. Alerts match the first words.
    #[error("Unexpected template type '{0}'")]
    UnexpectedType(String),
    /// The template is nested deeper than [`MAX_DEPTH`], or contains itself.
    #[error("The template is nested deeper than {MAX_DEPTH} levels or contains itself")]
    TooDeep,
    /// The tree failed.
    #[error("{0}")]
    Tree(E),
}

impl<E> From<E> for RenderError<E> {
    fn from(error: E) -> Self {
        Self { path: Path::default(), kind: RenderErrorKind::Tree(error) }
    }
}

impl<E> RenderError<E> {
    /// The error as seen from the mapping that has this template at `key`.
    #[must_use]
    pub fn below_key(self, key: &str) -> Self {
        Self { path: self.path.below_key(key), ..self }
    }

    /// The error as seen from the list that has this template at `index`.
    #[must_use]
    pub fn below_index(self, index: usize) -> Self {
        Self { path: self.path.below_index(index), ..self }
    }
}
