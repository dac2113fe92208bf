//! What a limit is: a rule about a field, and what happens if it is broken.

use crate::path::Path;

/// One documented limit: a row of the table.
#[derive(Debug)]
pub struct Limit {
    /// Name of the message, as in the discovery document.
    pub message: &'static str,
    /// Name of its field.
    pub field: &'static str,
    /// The name of the message, or of the field, in which the message has to stand for the limit to apply.
    pub within: Option<&'static str>,
    /// What the field must be like.
    pub rule: Rule,
    /// What Cloud Run does if it is not.
    pub consequence: Consequence,
    /// What a person can do about it, as the second half of a sentence. Empty if the rule says it all.
    pub advice: &'static str,
    /// URL of the page that documents the limit.
    pub source: &'static str,
}

/// What Cloud Run does with a value beyond a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consequence {
    /// It refuses the job: the document says so, or no job could run with the value.
    Refuses,
    /// It probably refuses the job. Such limits depend on hardware, or have been changed before.
    MayRefuse,
    /// It takes the job, and ignores the value or a part of it.
    Ignores,
}

/// What a field must be like.
#[derive(Debug)]
pub enum Rule {
    /// A whole number in this range.
    Range(i64, i64),
    /// The same, for a task with a GPU.
    RangeWithGpu(i64, i64),
    /// At most this many items or keys.
    Entries(usize),
    /// At most this many bytes.
    Bytes(usize),
    /// There, and not empty.
    Required,
    /// Not there: Cloud Run does not support the field.
    Unsupported,
    /// Not empty together with this other field.
    Excludes(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// None of these texts.
    NoneOf(&'static [&'static str]),
    /// Text without these characters.
    Without(&'static [char]),
    /// A path that is neither absolute nor leads upwards.
    RelativePath,
    /// An amount of memory.
    Memory,
    /// A mapping whose `cpu` and `memory` are quantities.
    Quantities,
    /// A mapping with no other keys than these.
    Keys(&'static [&'static str]),
    /// A mapping that has this value at this key, or not this key.
    Entry(&'static str, &'static str),
    /// A list with one container whose CPU and memory go together. Several containers share the resources of a task, and
    /// GPUs have sizes of their own, so nothing is known about those.
    Sizes,
    /// A list of containers that mount no other volumes than those of the task.
    Mounts,
    /// A list of variables in which the name of one with a secret appears once.
    UniqueSecrets,
    /// A list of variables without secrets in which each name appears once.
    UniqueNames,
    /// Labels of allowed characters and lengths.
    Labels,
    /// Annotations that the discovery document allows on this kind of resource.
    Annotations {
        /// The kind of resource that has the annotations.
        here: &'static str,
        /// The other kind that is looked at. Without one: annotations that a job has nowhere.
        there: Option<&'static str>,
    },
}

/// One place where a limit is exceeded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LimitProblem {
    /// The path below the message.
    pub path: Path,
    /// What is wrong there. Of the values, it shows only numbers, CPU and memory, because any other may be a secret.
    pub text: String,
}
