//! Rendering of `{{ placeholder }}` templates, as Prefect's work pools have them.
//!
//! [`render`] walks a [`Tree`] that somebody else owns: Python's objects in a worker, [`json::JsonTree`] elsewhere.
//!
//! # Guarantees
//!
//! - A lone placeholder becomes the value itself, by identity and whatever its type: the renderer never looks into values.
//! - Results equal those of `prefect.utilities.templating.apply_values`, except where Prefect's own result depends on the
//!   order of a set.
//!
//! # Limits
//!
//! Prefect's grammar is not Jinja's, so no Jinja engine can serve here. `{{ my-name }}` is a name and not a difference.
//! `{{ $HOME }}` and `{{ a[0].b] }}` are names too. `{{ a + b }}` and `{% if %}` are plain text.

mod error;
pub mod json;
mod placeholder;
mod render;
mod tree;

pub use error::{MAX_DEPTH, RenderError, RenderErrorKind};
pub use placeholder::{Placeholder, ValueSource, placeholders};
pub use render::render;
pub use tree::{NodeView, Rendered, TextPiece, Tree};
