//! The renderer: replaces placeholders by values.

use super::{
    error::{MAX_DEPTH, RenderError, RenderErrorKind},
    placeholder::{ValueSource, placeholders},
    tree::{NodeView, Rendered, TextPiece, Tree},
};
use crate::path::Path;

/// Renders a template: replaces every placeholder by its value.
///
/// - A string that consists of one placeholder becomes the value itself. Without a value, it is removed together with its
///   key. If it is the whole template, the result is `None`.
/// - In any other string, a value is inserted as text. Without a value, nothing is inserted.
/// - Keys of mappings are not rendered, and neither are values.
///
/// # Errors
///
/// If the template contains a value that is not a string, number, boolean, null, mapping or list, if it is nested deeper
/// than [`MAX_DEPTH`], or if the tree fails.
pub fn render<T: Tree>(tree: &T, template: &T::Node, values: &T::Node) -> Rendered<T> {
    node(tree, template, values, 0)
}

fn node<T: Tree>(tree: &T, template: &T::Node, values: &T::Node, depth: usize) -> Rendered<T> {
    match tree.view(template)? {
        NodeView::Text(content) => text(tree, template, &content, values),
        NodeView::Branch if depth == MAX_DEPTH => {
            Err(RenderError { path: Path::default(), kind: RenderErrorKind::TooDeep })
        }
        NodeView::Branch => tree.rebuild(template, |below| node(tree, below, values, depth + 1)).map(Some),
        NodeView::Leaf => Ok(Some(template.clone())),
        NodeView::Unset => Ok(None),
        NodeView::Unsupported(name) => {
            Err(RenderError { path: Path::default(), kind: RenderErrorKind::UnexpectedType(name) })
        }
    }
}

fn text<T: Tree>(tree: &T, template: &T::Node, content: &str, values: &T::Node) -> Rendered<T> {
    let found = placeholders(tree, content);
    if let [only] = &found[..]
        && only.range == (0..content.len())
        && only.source() == ValueSource::Values
    {
        return Ok(value(tree, values, only.name)?);
    }
    let mut pieces = Vec::new();
    let mut end = 0;
    for placeholder in found {
        let value = match placeholder.source() {
            ValueSource::Values => value(tree, values, placeholder.name)?,
            ValueSource::Environment => tree.environment(placeholder.name.trim_start_matches('$'))?,
            ValueSource::Prefect => continue,
        };
        pieces.push(TextPiece::Literal(end..placeholder.range.start));
        pieces.extend(value.map(TextPiece::Value));
        end = placeholder.range.end;
    }
    if end == 0 {
        return Ok(Some(template.clone()));
    }
    pieces.push(TextPiece::Literal(end..content.len()));
    Ok(Some(tree.concat(template, &pieces)?))
}

/// Looks up a name such as `a.b[0]` in the values. An opening bracket counts as a dot. Closing brackets are ignored.
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
        Some(node) if matches!(tree.view(node)?, NodeView::Unset) => None,
        _ => found,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::json::JsonTree, *};

    fn rendered(template: Value, values: Value) -> Option<Value> {
        render(&JsonTree, &template, &values).unwrap()
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
    fn a_placeholder_without_value_is_removed_with_its_key_and_empty_mappings_stay() {
        let template = json!({"a": {"b": "{{ x }}"}, "c": ["{{ x }}", 1, "{{ y }}"], "d": null, "{{ y }}": "k"});
        let expected = json!({"a": {}, "c": [1, null], "d": null, "{{ y }}": "k"});
        assert_eq!(rendered(template, json!({"y": null})), Some(expected));
    }

    #[test]
    fn in_a_string_values_are_inserted_as_text_and_missing_ones_as_nothing() {
        let values = json!({"a": "A", "b": 2, "c": "{{ a }}"});
        assert_eq!(rendered(json!("x{{ a }}-{{b}}{{ none }}!"), values.clone()), Some(json!("xA-2!")));
        assert_eq!(rendered(json!("{{ a }}{{ a }}"), values.clone()), Some(json!("AA")));
        // A value is not rendered again.
        assert_eq!(rendered(json!("{{ c }} {{ c }}"), values.clone()), Some(json!("{{ a }} {{ a }}")));
        assert_eq!(rendered(json!("{{ c }}"), values), Some(json!("{{ a }}")));
    }

    #[test]
    fn references_to_blocks_and_variables_stay_for_prefect() {
        let values = json!({"a": "A", "prefect": {"variables": {"x": 1}}});
        for text in ["{{ prefect.variables.x }}", "{{ prefect.blocks.secret.x }} {{prefect.variables.x}}"] {
            assert_eq!(rendered(json!(text), values.clone()), Some(json!(text)));
        }
        let mixed = rendered(json!("{{ a }} {{ prefect.variables.x }} {{ a }}"), values);
        assert_eq!(mixed, Some(json!("A {{ prefect.variables.x }} A")));
    }

    #[test]
    fn an_environment_variable_is_text_even_if_it_is_not_set() {
        assert_eq!(rendered(json!({"a": "{{ $NO_SUCH_VARIABLE_AT_ALL }}"}), json!({})), Some(json!({"a": ""})));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(rendered(json!("{{ $$PATH }}"), json!({})), Some(json!(path)));
    }

    #[test]
    fn too_deep_a_template_is_an_error_with_its_path() {
        let nested = |levels| (0..levels).fold(json!(1), |below, _| json!([below]));
        assert!(render(&JsonTree, &nested(MAX_DEPTH), &json!({})).is_ok());
        let error = render(&JsonTree, &nested(MAX_DEPTH + 1), &json!({})).unwrap_err();
        assert!(matches!(error.kind, RenderErrorKind::TooDeep));
        assert!(error.path.to_string().starts_with("[0][0]"));
    }
}
