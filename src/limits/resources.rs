//! CPU and memory of a container, as quantities in the notation of Kubernetes.
//!
//! Source: <https://cloud.google.com/run/docs/configuring/jobs/memory-limits>.

use serde_json::{Map, Value};

/// CPU limit of a container that sets none.
pub const DEFAULT_CPU: &str = "1000m";
/// Memory limit of a container that sets none.
pub const DEFAULT_MEMORY: &str = "512Mi";

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const GIBIBYTE: f64 = 1024.0 * MEBIBYTE;

/// A number of CPUs that Cloud Run offers, with the range of memory that it allows with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuSize {
    /// Number of CPUs of a container.
    pub cpus: f64,
    /// Minimum memory, in bytes.
    pub min_memory: f64,
    /// Maximum memory, in bytes.
    pub max_memory: f64,
}

/// The sizes that Cloud Run offers, in ascending order of CPUs.
pub const CPU_SIZES: [CpuSize; 5] = [
    CpuSize { cpus: 1.0, min_memory: 512.0 * MEBIBYTE, max_memory: 4.0 * GIBIBYTE },
    CpuSize { cpus: 2.0, min_memory: 512.0 * MEBIBYTE, max_memory: 8.0 * GIBIBYTE },
    CpuSize { cpus: 4.0, min_memory: 2.0 * GIBIBYTE, max_memory: 16.0 * GIBIBYTE },
    CpuSize { cpus: 6.0, min_memory: 4.0 * GIBIBYTE, max_memory: 24.0 * GIBIBYTE },
    CpuSize { cpus: 8.0, min_memory: 4.0 * GIBIBYTE, max_memory: 32.0 * GIBIBYTE },
];

impl CpuSize {
    /// Returns the size with exactly this number of CPUs.
    fn of(cpus: f64) -> Option<Self> {
        CPU_SIZES.into_iter().find(|size| (size.cpus - cpus).abs() < 1e-6)
    }

    fn allows(&self, memory: f64) -> bool {
        (self.min_memory..=self.max_memory).contains(&memory)
    }

    /// The allowed range of memory, as an error message shows it.
    pub fn memory_range(&self) -> String {
        let min = match self.min_memory {
            min if min < GIBIBYTE => format!("{}Mi", min / MEBIBYTE),
            min => format!("{}Gi", min / GIBIBYTE),
        };
        format!("{min} to {}Gi", self.max_memory / GIBIBYTE)
    }
}

/// The CPU and memory limits of a container, with Cloud Run's defaults for what it does not set.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLimits<'a> {
    /// The CPU limit as a quantity.
    pub cpu: &'a str,
    /// The memory limit as a quantity.
    pub memory: &'a str,
}

/// Why Cloud Run does not accept a container's limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResourceProblem {
    /// The CPU limit is not a quantity.
    CpuNotANumber,
    /// The memory limit is not a quantity.
    MemoryNotANumber,
    /// The CPU limit is none of [`CPU_SIZES`].
    UnknownCpuSize,
    /// The memory limit is outside the range of this size, which is the CPU limit's.
    MemoryOutOfRange(CpuSize),
}

impl<'a> ResourceLimits<'a> {
    /// Reads a container's `resources.limits`. A limit that is missing or not a string counts as the default.
    pub fn of(limits: Option<&'a Map<String, Value>>) -> Self {
        let limit = |name: &str, default: &'a str| {
            limits.and_then(|limits| limits.get(name)).and_then(Value::as_str).unwrap_or(default)
        };
        Self { cpu: limit("cpu", DEFAULT_CPU), memory: limit("memory", DEFAULT_MEMORY) }
    }

    /// Returns what is wrong with the limits, or `None` if Cloud Run documents that it accepts them.
    pub fn problem(&self) -> Option<ResourceProblem> {
        let Some(cpus) = quantity(self.cpu) else { return Some(ResourceProblem::CpuNotANumber) };
        let Some(bytes) = quantity(self.memory) else { return Some(ResourceProblem::MemoryNotANumber) };
        let Some(size) = CpuSize::of(cpus) else { return Some(ResourceProblem::UnknownCpuSize) };
        (!size.allows(bytes)).then_some(ResourceProblem::MemoryOutOfRange(size))
    }
}

/// Reads a quantity such as `1000m`, `2`, `512Mi` or `4G`. Returns a number of CPUs, or of bytes for memory; `None` if the
/// text is not a quantity.
pub(super) fn quantity(text: &str) -> Option<f64> {
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
        "T" => 1e12,
        "Ti" => 1024.0 * GIBIBYTE,
        _ => 10_f64.powi(unit.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_have_units() {
        for (text, value) in [
            ("1000m", 1.0),
            ("2", 2.0),
            ("1.5G", 1.5e9),
            ("512Mi", 512.0 * MEBIBYTE),
            ("1Ki", 1024.0),
            ("2e9", 2e9),
            ("1T", 1e12),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "Mi", "512 MB", "-1", "1.2.3", "many", "2GB", "1e", "1ex"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn each_cpu_size_allows_a_range_of_memory() {
        let four = CpuSize::of(4.0).unwrap();
        assert!(four.allows(2.0 * GIBIBYTE) && four.allows(16.0 * GIBIBYTE));
        assert!(!four.allows(1.0 * GIBIBYTE) && !four.allows(17.0 * GIBIBYTE));
        assert_eq!(four.memory_range(), "2Gi to 16Gi");
        assert!(CpuSize::of(3.0).is_none());
    }

    #[test]
    fn limits_that_are_not_set_have_the_defaults() {
        let limits = json!({"cpu": "4", "memory": 1});
        let read = ResourceLimits::of(limits.as_object());
        assert_eq!((read.cpu, read.memory), ("4", DEFAULT_MEMORY));
        assert_eq!(read.problem(), CpuSize::of(4.0).map(ResourceProblem::MemoryOutOfRange));
        assert_eq!(ResourceLimits::of(None).problem(), None);
    }

    #[test]
    fn unreadable_and_unknown_limits_are_told_apart() {
        let problem = |cpu, memory| ResourceLimits { cpu, memory }.problem();
        assert_eq!(problem("many", "512Mi"), Some(ResourceProblem::CpuNotANumber));
        assert_eq!(problem("1", "much"), Some(ResourceProblem::MemoryNotANumber));
        assert_eq!(problem("3", "512Mi"), Some(ResourceProblem::UnknownCpuSize));
        assert_eq!(problem("1000m", "4Gi"), None);
    }
}
