//! Values in place of placeholders.

use super::{Cause, Error, Piece, Rendered, Source, Tree, View, placeholders};
use crate::path::Path;

/// Deepest nesting of a template, which takes half a megabyte of stack. Prefect's own renderer gives up at about 450
/// levels.
pub const MAX_DEPTH: usize = 500;

/// Renders a template: every placeholder is replaced by its value.
///
/// A text that is a placeholder and nothing else becomes the value itself; without a value it is left out, with its
/// key, and `None` is returned for a template that is such a text. In other texts a value stands as text, and nothing
/// where there is none. Keys of mappings are not rendered, nor are values.
///
/// # Errors
///
/// When the template holds something that is no text, number, boolean, null, mapping or list, when it is nested deeper
/// than [`MAX_DEPTH`], or when the tree fails.
pub fn render<T: Tree>(tree: &T, template: &T::Node, values: &T::Node) -> Rendered<T> {
    node(tree, template, values, 0)
}

fn node<T: Tree>(tree: &T, template: &T::Node, values: &T::Node, depth: usize) -> Rendered<T> {
    match tree.view(template)? {
        View::Text(content) => text(tree, template, &content, values),
        View::Branch if depth == MAX_DEPTH => Err(Error { path: Path::default(), cause: Cause::TooDeep }),
        View::Branch => tree.rebuild(template, |below| node(tree, below, values, depth + 1)).map(Some),
        View::Leaf => Ok(Some(template.clone())),
        View::Unset => Ok(None),
        View::Alien(name) => Err(Error { path: Path::default(), cause: Cause::Alien(name) }),
    }
}

fn text<T: Tree>(tree: &T, template: &T::Node, content: &str, values: &T::Node) -> Rendered<T> {
    let found = placeholders(tree, content);
    if let [only] = &found[..]
        && only.range == (0..content.len())
        && only.source() == Source::Values
    {
        return Ok(value(tree, values, only.name)?);
    }
    let mut pieces = Vec::new();
    let mut end = 0;
    for placeholder in found {
        let value = match placeholder.source() {
            Source::Values => value(tree, values, placeholder.name)?,
            Source::Environment => tree.environment(placeholder.name.trim_start_matches('$'))?,
            Source::Prefect => continue,
        };
        pieces.push(Piece::Literal(end..placeholder.range.start));
        pieces.extend(value.map(Piece::Value));
        end = placeholder.range.end;
    }
    if end == 0 {
        return Ok(Some(template.clone()));
    }
    pieces.push(Piece::Literal(end..content.len()));
    Ok(Some(tree.concat(template, &pieces)?))
}

/// What the values have at `a.b[0]`: a bracket that opens counts as a dot, one that closes as nothing.
fn value<T: Tree>(tree: &T, values: &T::Node, name: &str) -> Result<Option<T::Node>, T::Error> {
    let mut found: Option<T::Node> = None;
    for segment in name.split(['.', '[']) {
        let node = found.as_ref().unwrap_or(values);
        let below =
            if segment.contains(']') { tree.item(node, &segment.replace(']', ""))? } else { tree.item(node, segment)? };
        match below {
            Some(below) => found = Some(below),
            None => return Ok(None),
        }
    }
    Ok(match &found {
        Some(node) if matches!(tree.view(node)?, View::Unset) => None,
        _ => found,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::json::Json, *};

    fn rendered(template: Value, values: Value) -> Option<Value> {
        render(&Json, &template, &values).unwrap()
    }

    #[test]
    fn a_lone_placeholder_becomes_its_value() {
        let values = json!({"a": {"b": [1, {"c": null}]}, "n": 0});
        for (template, value) in [
            ("{{ a }}", Some(json!({"b": [1, {"c": null}]}))),
            ("{{a.b}}", Some(json!([1, {"c": null}]))),
            ("{{ a.b[0] }}", Some(json!(1))),
            ("{{ a.b[-1].c }}", Some(json!(null))),
            ("{{ a[b.1]] }}", Some(json!({"c": null}))),
            ("{{ n }}", Some(json!(0))),
            ("{{ n.x }}", None),
            ("{{ a.b[2] }}", None),
            ("{{ missing }}", None),
            ("{{ ctx.flow.name }}", None),
        ] {
            assert_eq!(rendered(json!(template), values.clone()), value, "{template}");
        }
    }

    #[test]
    fn what_has_no_value_goes_with_its_key_and_emptied_mappings_stay() {
        let template = json!({"a": {"b": "{{ x }}"}, "c": ["{{ x }}", 1, "{{ y }}"], "d": null, "{{ y }}": "k"});
        let expected = json!({"a": {}, "c": [1, null], "d": null, "{{ y }}": "k"});
        assert_eq!(rendered(template, json!({"y": null})), Some(expected));
    }

    #[test]
    fn in_a_text_values_are_text_and_missing_ones_nothing() {
        let values = json!({"a": "A", "b": 2, "c": "{{ a }}"});
        assert_eq!(rendered(json!("x{{ a }}-{{b}}{{ none }}!"), values.clone()), Some(json!("xA-2!")));
        assert_eq!(rendered(json!("{{ a }}{{ a }}"), values.clone()), Some(json!("AA")));
        // A value is not rendered again.
        assert_eq!(rendered(json!("{{ c }} {{ c }}"), values.clone()), Some(json!("{{ a }} {{ a }}")));
        assert_eq!(rendered(json!("{{ c }}"), values), Some(json!("{{ a }}")));
    }

    #[test]
    fn prefects_own_references_stay_for_prefect() {
        let values = json!({"a": "A", "prefect": {"variables": {"x": 1}}});
        for text in ["{{ prefect.variables.x }}", "{{ prefect.blocks.secret.x }} {{prefect.variables.x}}"] {
            assert_eq!(rendered(json!(text), values.clone()), Some(json!(text)));
        }
        let mixed = rendered(json!("{{ a }} {{ prefect.variables.x }} {{ a }}"), values);
        assert_eq!(mixed, Some(json!("A {{ prefect.variables.x }} A")));
    }

    #[test]
    fn a_variable_of_the_environment_is_text_even_when_it_is_missing() {
        assert_eq!(rendered(json!({"a": "{{ $NO_SUCH_VARIABLE_AT_ALL }}"}), json!({})), Some(json!({"a": ""})));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(rendered(json!("{{ $$PATH }}"), json!({})), Some(json!(path)));
    }

    #[test]
    fn a_template_that_is_too_deep_is_an_error_with_its_path() {
        let nested = |levels| (0..levels).fold(json!(1), |below, _| json!([below]));
        assert!(render(&Json, &nested(MAX_DEPTH), &json!({})).is_ok());
        let error = render(&Json, &nested(MAX_DEPTH + 1), &json!({})).unwrap_err();
        assert!(matches!(error.cause, Cause::TooDeep));
        assert!(error.path.to_string().starts_with("[0][0]"));
    }
}
