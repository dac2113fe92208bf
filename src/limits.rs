//! How much of what a job may have, and quantities as Kubernetes writes them.
//!
//! Sources: <https://cloud.google.com/run/quotas>,
//! <https://cloud.google.com/run/docs/configuring/jobs/memory-limits>.

/// Most labels of one resource.
pub const MAX_LABELS: usize = 64;
/// Most characters of a label's key or value.
pub const MAX_LABEL_LENGTH: usize = 63;
/// Most entries of a container's environment.
pub const MAX_VARIABLES: usize = 1000;
/// Longest value of a variable, in bytes.
pub const MAX_VARIABLE_BYTES: usize = 32 * 1024;
/// Most arguments of a container.
pub const MAX_ARGS: usize = 1000;

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const GIBIBYTE: f64 = 1024.0 * MEBIBYTE;

/// A number of CPUs, with the least and the most memory that goes with it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// CPUs of a container.
    pub cpus: f64,
    /// Least memory, in bytes.
    pub least: f64,
    /// Most memory, in bytes.
    pub most: f64,
}

/// What Cloud Run offers, by rising numbers of CPUs.
pub const SIZES: [Size; 5] = [
    Size { cpus: 1.0, least: 512.0 * MEBIBYTE, most: 4.0 * GIBIBYTE },
    Size { cpus: 2.0, least: 512.0 * MEBIBYTE, most: 8.0 * GIBIBYTE },
    Size { cpus: 4.0, least: 2.0 * GIBIBYTE, most: 16.0 * GIBIBYTE },
    Size { cpus: 6.0, least: 4.0 * GIBIBYTE, most: 24.0 * GIBIBYTE },
    Size { cpus: 8.0, least: 4.0 * GIBIBYTE, most: 32.0 * GIBIBYTE },
];

/// CPUs of a container whose limits name none.
pub const DEFAULT_CPU: &str = "1000m";
/// Memory of a container whose limits name none.
pub const DEFAULT_MEMORY: &str = "512Mi";

impl Size {
    /// The size of exactly this number of CPUs.
    pub fn of(cpus: f64) -> Option<Self> {
        SIZES.into_iter().find(|size| (size.cpus - cpus).abs() < 1e-6)
    }

    /// Whether an amount of memory, in bytes, goes with it.
    pub fn takes(&self, memory: f64) -> bool {
        (self.least..=self.most).contains(&memory)
    }

    /// The memory that goes with it, in words.
    pub fn memory(&self) -> String {
        format!("{}Mi to {}Mi", self.least / MEBIBYTE, self.most / MEBIBYTE)
    }
}

/// The value of a quantity: `1000m`, `2`, `512Mi`, `4G`; bytes for memory.
pub fn quantity(text: &str) -> Option<f64> {
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
    use super::*;

    #[test]
    fn quantities_have_their_units() {
        for (text, value) in [("1000m", 1.0), ("2", 2.0), ("1.5G", 1.5e9), ("512Mi", 512.0 * MEBIBYTE), ("1Ki", 1024.0)]
        {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "Mi", "512 MB", "-1", "1.2.3", "many", "1T"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn memory_goes_with_cpus() {
        let four = Size::of(4.0).unwrap();
        assert!(four.takes(2.0 * GIBIBYTE) && four.takes(16.0 * GIBIBYTE));
        assert!(!four.takes(1.0 * GIBIBYTE) && !four.takes(17.0 * GIBIBYTE));
        assert_eq!(four.memory(), "2048Mi to 16384Mi");
        assert!(Size::of(3.0).is_none());
    }
}
