//! What each rule says about a field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    labels::label_problem,
    limit::{Limit, LimitProblem, Rule},
    resources::{ResourceLimits, ResourceProblem, quantity},
    run_v1::ANNOTATIONS,
};
use crate::path::Path;

/// The fields of a message.
type Fields = Map<String, Value>;

const GPU: &str = "nvidia.com/gpu";
/// Cloud Run mounts this volume itself if the job has Cloud SQL connections.
const CLOUD_SQL: &str = "cloudsql";

impl Limit {
    /// Returns where a message exceeds this limit. A field that is absent or has another type exceeds none: the check of
    /// types reports it.
    pub fn problems(&self, message: &Fields) -> Vec<LimitProblem> {
        let at = |path: Path, what: String| {
            let advice = if self.advice.is_empty() { String::new() } else { format!(": {}", self.advice) };
            let path = path.below_key(self.field);
            LimitProblem { path, text: format!("{what}{advice} (see {})", self.source) }
        };
        self.rule.broken(message, self.field).into_iter().map(|(path, what)| at(path, what)).collect()
    }
}

impl Rule {
    /// Returns the places below the field at which the rule is broken, and how.
    fn broken(&self, message: &Fields, field: &str) -> Vec<(Path, String)> {
        let value = message.get(field).unwrap_or(&Value::Null);
        let text = value.as_str();
        let entries = || value.as_object().into_iter().flatten();
        let here = |what: String| vec![(Path::default(), what)];
        let here_if = |is_broken: bool, what: &str| if is_broken { here(what.to_owned()) } else { vec![] };
        match self {
            Self::Range(min, max) => range(value, *min, *max).into_iter().flat_map(here).collect(),
            Self::RangeWithGpu(min, max) if has_gpu(message) => range(value, *min, *max)
                .into_iter()
                .flat_map(|what| here(format!("{what} for a task with a GPU")))
                .collect(),
            Self::RangeWithGpu(..) => vec![],
            Self::Entries(max) => {
                let count = value.as_object().map_or(0, Map::len).max(value.as_array().map_or(0, Vec::len));
                let what = format!("{count} entries, but Cloud Run allows at most {max}");
                here_if(count > *max, &what)
            }
            Self::Bytes(max) => {
                let bytes = text.map_or(0, str::len);
                here_if(bytes > *max, &format!("{bytes} bytes, but Cloud Run allows at most {max}"))
            }
            Self::Required => here_if(is_empty(value), "missing or empty, but required"),
            Self::Unsupported => here_if(!is_empty(value), "not supported by Cloud Run"),
            Self::Excludes(other) => {
                let both = !value.is_null() && !is_empty(message.get(*other).unwrap_or(&Value::Null));
                here_if(both, &format!("must not be set together with {other}"))
            }
            Self::OneOf(allowed) => here_if(
                text.is_some_and(|text| !allowed.contains(&text)),
                &format!("must be one of {}", quoted(allowed)),
            ),
            Self::NoneOf(reserved) => here_if(
                text.is_some_and(|text| reserved.contains(&text)),
                &format!("{} is reserved", text.unwrap_or_default()),
            ),
            Self::Without(characters) => {
                let found = text.and_then(|text| text.chars().find(|character| characters.contains(character)));
                found.into_iter().flat_map(|character| here(format!("must not contain {character:?}"))).collect()
            }
            Self::RelativePath => here_if(
                text.is_some_and(|text| text.starts_with('/') || text.split('/').any(|part| part == "..")),
                "must be a relative path without '..'",
            ),
            Self::Memory => text.and_then(memory_problem).into_iter().flat_map(here).collect(),
            Self::Quantities => quantities(value),
            Self::Keys(known) => entries()
                .filter(|(key, _)| !known.contains(&key.as_str()))
                .map(|(key, _)| (Path::default().below_key(key), format!("Cloud Run knows only {}", quoted(known))))
                .collect(),
            Self::Entry(key, allowed) => entries()
                .filter(|(found, value)| found == key && value.as_str().is_some_and(|value| value != *allowed))
                .map(|(key, _)| (Path::default().below_key(key), format!("must be '{allowed}'")))
                .collect(),
            Self::Sizes if has_gpu(message) => vec![],
            Self::Sizes => sizes(value),
            Self::Mounts => mounts(value, message.get("volumes")),
            Self::UniqueSecrets => doubled(value, true),
            Self::UniqueNames => doubled(value, false),
            Self::Labels => entries()
                .filter_map(|(key, value)| {
                    Some((Path::default().below_key(key), label_problem(key, value.as_str().unwrap_or_default())?))
                })
                .collect(),
            Self::Annotations { here, there } => annotations(value, here, *there),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // A message without fields is there all the same: `emptyDir: {}`.
        _ => false,
    }
}

fn range(value: &Value, min: i64, max: i64) -> Option<String> {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    let allowed = if min == max { min.to_string() } else { format!("{min} to {max}") };
    (!(min..=max).contains(&number)).then(|| format!("{number} is outside the range that Cloud Run allows, {allowed}"))
}

fn quoted(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>().join(", ")
}

/// A quantity as an error shows it: only if it is short, because another value may have got into its place.
fn shown(text: &str) -> String {
    if text.len() <= 20 { format!("'{text}'") } else { "the value".to_owned() }
}

fn memory_problem(text: &str) -> Option<String> {
    if quantity(text).is_some() {
        return None;
    }
    // What people write most: `2GB`, `2 Gi`, `512mb`.
    let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let unit = text[number.len()..].trim().to_ascii_lowercase();
    let unit = match unit.trim_end_matches('b').trim_end_matches('i') {
        "k" => "K",
        "m" => "M",
        "g" => "G",
        _ => "",
    };
    let hint = match unit {
        "" => "write a number and a unit, such as 512Mi or 2Gi".to_owned(),
        unit if number.is_empty() => format!("write a number before the unit, such as 2{unit}i"),
        "K" => format!("write {number}Ki (1024 bytes each)"),
        unit => format!("write {number}{unit}i (powers of 1024) or {number}{unit} (powers of 1000)"),
    };
    Some(format!("{} is not an amount of memory; {hint}", shown(text)))
}

fn quantities(value: &Value) -> Vec<(Path, String)> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let cpu = text("cpu")
        .filter(|cpu| quantity(cpu).is_none())
        .map(|cpu| format!("{} is not a number of CPUs; write 1 or 1000m for one CPU", shown(cpu)));
    let found = [("cpu", cpu), ("memory", text("memory").and_then(memory_problem))];
    found.into_iter().filter_map(|(key, what)| Some((Path::default().below_key(key), what?))).collect()
}

fn limits(container: &Value) -> Option<&Fields> {
    container.pointer("/resources/limits")?.as_object()
}

/// Returns whether a task has a GPU.
fn has_gpu(task: &Fields) -> bool {
    let containers = task.get("containers").and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(limits).any(|limits| limits.contains_key(GPU))
}

fn sizes(containers: &Value) -> Vec<(Path, String)> {
    let Some([container]) = containers.as_array().map(Vec::as_slice) else { return vec![] };
    let resources = ResourceLimits::of(limits(container));
    let (key, what) = match resources.problem() {
        Some(ResourceProblem::MemoryOutOfRange(size)) => (
            "memory",
            format!(
                "{} is outside the range that Cloud Run allows with a CPU limit of {}, {}",
                resources.memory,
                resources.cpu,
                size.memory_range()
            ),
        ),
        Some(ResourceProblem::UnknownCpuSize) => {
            ("cpu", format!("{} is not one of the CPU limits that Cloud Run offers, 1, 2, 4, 6 and 8", resources.cpu))
        }
        // `Quantities` reports those.
        Some(ResourceProblem::CpuNotANumber | ResourceProblem::MemoryNotANumber) | None => return vec![],
    };
    vec![(Path::default().below_key(key).below_key("limits").below_key("resources").below_index(0), what)]
}

fn names(list: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("name")?.as_str())
}

fn mounts(containers: &Value, volumes: Option<&Value>) -> Vec<(Path, String)> {
    let is_unknown = |mount: &Value| {
        let name = mount.get("name").and_then(Value::as_str);
        name.is_some_and(|name| name != CLOUD_SQL && !names(volumes).any(|volume| volume == name))
    };
    let mut found = vec![];
    for (index, container) in containers.as_array().into_iter().flatten().enumerate() {
        let mounts = container.get("volumeMounts").and_then(Value::as_array);
        for (mount, _) in mounts.into_iter().flatten().enumerate().filter(|(_, mount)| is_unknown(mount)) {
            let place = Path::default().below_key("name").below_index(mount).below_key("volumeMounts");
            found.push((place.below_index(index), "there is no such volume".to_owned()));
        }
    }
    found
}

/// Returns the entries of an environment whose names stood in an earlier entry: either the names of which an entry takes its
/// value from a secret, or the others.
fn doubled(env: &Value, secrets: bool) -> Vec<(Path, String)> {
    let entries = env.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut seen: BTreeMap<&str, (Vec<usize>, bool)> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(name) = entry.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            let (indexes, has_secret) = seen.entry(name).or_default();
            indexes.push(index);
            *has_secret |= entry.get("valueFrom").is_some_and(|source| !source.is_null());
        }
    }
    let place = |index: usize| Path::default().below_key("name").below_index(index);
    let what = |name: &str, first: usize| {
        let secret = if secrets { ", once with a secret" } else { "" };
        format!("'{name}' stands in [{first}] too{secret}")
    };
    let doubled = seen.iter().filter(|(_, (_, has_secret))| *has_secret == secrets);
    let mut found: Vec<_> = doubled
        .flat_map(|(name, (indexes, _))| indexes.iter().skip(1).map(|index| (*index, what(name, indexes[0]))))
        .collect();
    found.sort();
    found.into_iter().map(|(index, what)| (place(index), what)).collect()
}

fn annotations(value: &Value, here: &str, there: Option<&str>) -> Vec<(Path, String)> {
    const EVERYWHERE: &str = "All resources";
    let is_on = |kinds: &[&str], kind: &str| kinds.iter().any(|found| *found == kind || *found == EVERYWHERE);
    let of_a_job = |kinds: &[&str]| is_on(kinds, "Job") || is_on(kinds, "Execution");
    let problem = |key: &str| {
        let (_, kinds) = ANNOTATIONS.iter().find(|(name, _)| *name == key)?;
        match there {
            Some(there) => (!is_on(kinds, here) && is_on(kinds, there))
                .then(|| format!("Cloud Run takes this annotation on {}", kinds.join(", "))),
            None => (!of_a_job(kinds)).then(|| format!("Cloud Run takes this annotation only on {}", kinds.join(", "))),
        }
    };
    let keys = value.as_object().into_iter().flat_map(Map::keys);
    keys.filter_map(|key| Some((Path::default().below_key(key), problem(key)?))).collect()
}
