//! CPU and memory of a container: the combinations that Cloud Run accepts.
//!
//! The emulator checks the limits but does not enforce them while a task runs.

use serde_json::{Map, Value};

use crate::limits::{ResourceLimits, ResourceProblem};

/// The problem with a container's `resources.limits`: the name of the limit, and a sentence.
pub(super) fn limits_violation(limits: Option<&Map<String, Value>>) -> Option<(&'static str, String)> {
    let limits = ResourceLimits::of(limits);
    let ResourceLimits { cpu, memory } = limits;
    Some(match limits.problem()? {
        ResourceProblem::CpuNotANumber => ("cpu", format!("'{cpu}' is not a number of CPUs.")),
        ResourceProblem::MemoryNotANumber => ("memory", format!("'{memory}' is not an amount of memory.")),
        ResourceProblem::UnknownCpuSize => ("cpu", format!("'{cpu}' is not one of 1, 2, 4, 6 and 8 CPUs.")),
        ResourceProblem::MemoryOutOfRange(size) => {
            let (range, cpus) = (size.memory_range(), size.cpus);
            let unit = if cpus > 1.0 { "CPUs" } else { "CPU" };
            ("memory", format!("'{memory}' is outside the range that Cloud Run allows with {cpus} {unit}: {range}."))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(limits: Value) -> Option<&'static str> {
        limits_violation(limits.as_object()).map(|(name, _)| name)
    }

    #[test]
    fn documented_combinations_are_accepted() {
        assert_eq!(limits_violation(None), None);
        for (cpu, memory) in
            [("1", "512Mi"), ("1000m", "4Gi"), ("2", "8Gi"), ("4000m", "2Gi"), ("8", "32Gi"), ("1", "2G")]
        {
            assert_eq!(wrong(json!({"cpu": cpu, "memory": memory})), None, "{cpu} {memory}");
        }
    }

    #[test]
    fn the_violation_names_the_limit() {
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

    #[test]
    fn the_sentence_says_how_many_cpus() {
        for (limits, words) in [
            (json!({"memory": "5Gi"}), "'5Gi' is outside the range that Cloud Run allows with 1 CPU: 512Mi to 4Gi."),
            (json!({"cpu": "2", "memory": "9Gi"}), "with 2 CPUs: 512Mi to 8Gi."),
        ] {
            let (_, sentence) = limits_violation(limits.as_object()).unwrap();
            assert!(sentence.ends_with(words), "{sentence}");
        }
    }
}
