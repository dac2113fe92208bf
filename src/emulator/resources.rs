//! CPU and memory of a container: which combinations Cloud Run takes.
//!
//! Source: <https://cloud.google.com/run/docs/configuring/jobs/memory-limits>. The limits are checked, not enforced.

use serde_json::{Map, Value};

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const GIBIBYTE: f64 = 1024.0 * MEBIBYTE;

/// Numbers of CPUs with the least and the most memory that goes with each, in bytes.
const SIZES: [(f64, f64, f64); 5] = [
    (1.0, 512.0 * MEBIBYTE, 4.0 * GIBIBYTE),
    (2.0, 512.0 * MEBIBYTE, 8.0 * GIBIBYTE),
    (4.0, 2.0 * GIBIBYTE, 16.0 * GIBIBYTE),
    (6.0, 4.0 * GIBIBYTE, 24.0 * GIBIBYTE),
    (8.0, 4.0 * GIBIBYTE, 32.0 * GIBIBYTE),
];

/// What is wrong with a container's `resources.limits`: the limit's name, and a sentence.
pub(super) fn violation(limits: Option<&Map<String, Value>>) -> Option<(&'static str, String)> {
    let limit = |name: &str, default: &'static str| {
        limits.and_then(|limits| limits.get(name)).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let (cpu, memory) = (limit("cpu", "1000m"), limit("memory", "512Mi"));
    let Some(cpus) = quantity(&cpu) else { return Some(("cpu", format!("'{cpu}' is not a number of CPUs."))) };
    let Some(bytes) = quantity(&memory) else {
        return Some(("memory", format!("'{memory}' is not an amount of memory.")));
    };
    let Some((_, least, most)) = SIZES.iter().find(|(size, ..)| (size - cpus).abs() < 1e-6) else {
        return Some(("cpu", format!("'{cpu}' is not one of 1, 2, 4, 6 and 8 CPUs.")));
    };
    if (*least..=*most).contains(&bytes) {
        return None;
    }
    let (least, most) = (least / MEBIBYTE, most / MEBIBYTE);
    Some(("memory", format!("'{memory}' is not between {least}Mi and {most}Mi, which go with {cpus} CPUs.")))
}

/// The value of a Kubernetes quantity: `1000m`, `2`, `512Mi`, `4G`.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => MEBIBYTE,
        "Gi" => GIBIBYTE,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(limits: Value) -> Option<&'static str> {
        violation(limits.as_object()).map(|(name, _)| name)
    }

    #[test]
    fn combinations_of_the_table_pass() {
        assert_eq!(violation(None), None);
        for (cpu, memory) in
            [("1", "512Mi"), ("1000m", "4Gi"), ("2", "8Gi"), ("4000m", "2Gi"), ("8", "32Gi"), ("1", "2G")]
        {
            assert_eq!(wrong(json!({"cpu": cpu, "memory": memory})), None, "{cpu} {memory}");
        }
    }

    #[test]
    fn others_are_named() {
        for (limits, name) in [
            (json!({"cpu": "3"}), "cpu"),
            (json!({"cpu": "500m"}), "cpu"),
            (json!({"cpu": "many"}), "cpu"),
            (json!({"memory": "5Gi"}), "memory"),
            (json!({"memory": "256Mi"}), "memory"),
            (json!({"memory": "512 MB"}), "memory"),
            (json!({"memory": ""}), "memory"),
            (json!({"cpu": "4"}), "memory"),
        ] {
            assert_eq!(wrong(limits.clone()), Some(name), "{limits}");
        }
    }
}
