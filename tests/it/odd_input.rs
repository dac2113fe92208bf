//! Property tests with unusual templates, values and job bodies: none may make the core panic. `make fuzz` runs a million
//! cases of each.

use crate::properties::cases;
use prefect_gcp_core::{
    job::{base_body, check},
    template::{RenderErrorKind, json::JsonTree, render},
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::select,
};
use serde_json::{Value, json};

/// Strings of braces, names, and characters that Rust and Python classify differently, in any order.
fn text() -> impl Strategy<Value = String> {
    let parts = vec![
        "{{",
        "}}",
        "{",
        "}",
        " ",
        "a",
        "b",
        ".",
        "[0]",
        "]",
        "[",
        "-1",
        "$",
        "$PATH",
        "prefect.variables.",
        "é",
        "\u{301}",
        "\u{2003}",
        "\u{1c}",
        "😀",
        "env",
        "\0",
        "99999999999999999999",
        "{{ a }}",
        "{{ a.b }}",
        "{{ b[0] }}",
    ];
    prop_oneof![vec(select(parts), 0..8).prop_map(|parts| parts.concat()), any::<String>()]
}

/// Keys, most of which job bodies use.
fn key() -> impl Strategy<Value = String> {
    let names = vec![
        "a",
        "b",
        "apiVersion",
        "kind",
        "metadata",
        "labels",
        "annotations",
        "name",
        "spec",
        "template",
        "containers",
        "env",
        "value",
        "args",
        "resources",
        "limits",
        "cpu",
        "memory",
        "timeoutSeconds",
        "timeoutSecond",
        "volumes",
    ];
    prop_oneof![4 => select(names).prop_map(str::to_owned), 1 => text()]
}

fn tree() -> impl Strategy<Value = Value> {
    let quantity = select(vec!["1", "8Gi", "1000m", "512Mi", "1e9", "-1", "..", "9999999999999999999999G"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        quantity.prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(10, 48, 5, |below| {
        let mapping =
            btree_map(key(), below.clone(), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect()));
        prop_oneof![vec(below, 0..4).prop_map(Value::from), mapping]
    })
}

/// A base body with arbitrary values in the places that the worker fills in.
fn body() -> impl Strategy<Value = Value> {
    (tree(), tree(), tree(), tree()).prop_map(|(labels, container, task, rest)| {
        let mut body = base_body::base_body();
        body["metadata"]["labels"] = labels;
        let spec = &mut body["spec"]["template"]["spec"]["template"]["spec"];
        spec["containers"] = json!([container]);
        if let Value::Object(fields) = task {
            fields.into_iter().for_each(|(name, value)| spec[name] = value);
        }
        body["rest"] = rest;
        body
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_template_renders_or_is_too_deep(template in tree(), values in tree()) {
        match render(&JsonTree, &template, &values) {
            // Rendering changes nothing in a template without placeholders.
            Ok(Some(rendered)) if !template.to_string().contains("{{") => prop_assert_eq!(rendered, template),
            Ok(Some(_)) => {}
            Ok(None) => prop_assert!(template.is_string()),
            Err(error) => prop_assert!(matches!(error.kind, RenderErrorKind::TooDeep)),
        }
    }

    #[test]
    fn every_body_can_be_checked(body in prop_oneof![tree(), body()]) {
        let report = check::check(&body);
        prop_assert!(body.is_object() || !report.errors.is_empty());
        let sentence = base_body::check(&body);
        prop_assert!(body.get("kind") == Some(&json!("Job")) || sentence.is_some());
    }
}
