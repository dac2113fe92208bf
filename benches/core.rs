//! Measures rendering, checking and preparing one job in the core, without Python.

#![allow(missing_docs, reason = "criterion's macros document nothing")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use prefect_gcp_core::{
    job::{
        base_body, check,
        env::{self, OwnEntry},
        labels,
    },
    template::{json::JsonTree, render},
};
use serde_json::{Value, json};

fn job_body() -> Value {
    let mut body = base_body::base_body();
    body["metadata"]["name"] = json!("{{ name }}");
    let task = &mut body["spec"]["template"]["spec"]["template"]["spec"];
    task["timeoutSeconds"] = json!("{{ timeout }}");
    let resources = json!({"cpu": "{{ cpu }}", "memory": "{{ memory }}"});
    task["containers"][0] = json!({
        "image": "{{ image }}",
        "command": "{{ command }}",
        "resources": {"limits": resources, "requests": resources},
    });
    body
}

fn with_keys(count: usize) -> (Value, Value) {
    let mut body = job_body();
    let mut values = json!({
        "name": "my-etl", "image": "example/image:1", "cpu": "1000m", "memory": "2Gi", "timeout": 3600,
    });
    for n in 0..count {
        body["metadata"]["annotations"][format!("key-{n}")] = json!(format!("{{{{ key_{n} }}}} and {{{{ cpu }}}}"));
        values[format!("key_{n}")] = json!(format!("value {n}"));
    }
    (body, values)
}

fn rendering(criterion: &mut Criterion) {
    for keys in [0, 500] {
        let (template, values) = with_keys(keys);
        criterion.bench_function(&format!("render, {keys} keys more"), |bencher| {
            bencher.iter(|| render(&JsonTree, black_box(&template), black_box(&values)));
        });
    }
}

fn preparing(criterion: &mut Criterion) {
    let (template, values) = with_keys(0);
    let body = render(&JsonTree, &template, &values).ok().flatten().unwrap_or_default();
    criterion
        .bench_function("check against the base body", |bencher| bencher.iter(|| base_body::check(black_box(&body))));
    criterion.bench_function("check of the finished body", |bencher| bencher.iter(|| check::check(black_box(&body))));
    let pairs: Vec<_> = (0..10).map(|n| (format!("prefect.io/label-{n}"), format!("Value {n}"))).collect();
    let borrowed = || pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    criterion.bench_function("10 labels", |bencher| bencher.iter(|| labels::additions(borrowed(), &["team"])));
    criterion.bench_function("10 variables", |bencher| {
        bencher.iter(|| {
            env::container_env(black_box(&[OwnEntry { name: Some("OWN"), is_secret: false }]), borrowed(), &[]).len()
        });
    });
}

criterion_group!(benches, rendering, preparing);
criterion_main!(benches);
