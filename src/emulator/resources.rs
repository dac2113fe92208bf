//! CPU and memory of a container: which combinations Cloud Run takes.
//!
//! The limits are checked, not enforced.

use serde_json::{Map, Value};

use crate::limits::{ResourceLimits, ResourceProblem};

/// What is wrong with a container's `resources.limits`: the limit's name, and a sentence.
pub(super) fn violation(limits: Option<&Map<String, Value>>) -> Option<(&'static str, String)> {
    let limits = ResourceLimits::of(limits);
    let ResourceLimits { cpu, memory } = limits;
    Some(match limits.problem()? {
        ResourceProblem::CpuNotANumber => ("cpu", format!("'{cpu}' is not a number of CPUs.")),
        ResourceProblem::MemoryNotANumber => ("memory", format!("'{memory}' is not an amount of memory.")),
        ResourceProblem::UnknownCpuSize => ("cpu", format!("'{cpu}' is not one of 1, 2, 4, 6 and 8 CPUs.")),
        ResourceProblem::MemoryOutOfRange(size) => {
            let (range, cpus) = (size.memory_range(), size.cpus);
            ("memory", format!("'{memory}' is not in the range of {range}, which goes with {cpus} CPUs."))
        }
    })
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
