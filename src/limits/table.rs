//! The documented limits that the discovery document does not have, or has in words that no program reads.

use super::{
    limit::{
        Consequence::{self, *},
        Limit,
        Rule::{self, *},
    },
    run_v1::{DISCOVERY, DOCUMENTED},
};

/// Maximum number of labels of one resource.
pub const MAX_LABELS: usize = 64;
/// Maximum length of a label's key or value, in characters.
pub const MAX_LABEL_LENGTH: usize = 63;
/// Maximum number of environment variables of a container.
pub const MAX_VARIABLES: usize = 1000;
/// Maximum length of an environment variable's value, in bytes.
pub const MAX_VARIABLE_BYTES: usize = 32 * 1024;
/// Maximum number of arguments of a container.
pub const MAX_ARGS: usize = 1000;

const QUOTAS: &str = "https://cloud.google.com/run/quotas";
const TIMEOUT: &str = "https://cloud.google.com/run/docs/configuring/task-timeout";
const RETRIES: &str = "https://cloud.google.com/run/docs/configuring/max-retries";
const TASKS: &str = "https://cloud.google.com/run/docs/create-jobs";
const PARALLELISM: &str = "https://cloud.google.com/run/docs/configuring/parallelism";
const LABELS: &str = "https://cloud.google.com/run/docs/configuring/jobs/labels";
const ENVIRONMENT: &str = "https://cloud.google.com/run/docs/configuring/jobs/environment-variables";
const SECRETS: &str = "https://cloud.google.com/run/docs/configuring/jobs/secrets";
const MEMORY: &str = "https://cloud.google.com/run/docs/configuring/jobs/memory-limits";
const CONTRACT: &str = "https://cloud.google.com/run/docs/container-contract#jobs-env-vars";
const VOLUMES: &str = "https://cloud.google.com/run/docs/configuring/jobs/in-memory-volume-mounts";

/// What Cloud Run sets in the environment of a task.
const RESERVED: &[&str] =
    &["CLOUD_RUN_JOB", "CLOUD_RUN_EXECUTION", "CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_ATTEMPT", "CLOUD_RUN_TASK_COUNT"];

#[rustfmt::skip]
static LIMITS: &[Limit] = &[
    limit("ExecutionSpec", "taskCount", Range(1, 10_000), Refuses, "run fewer tasks, each with more to do", TASKS),
    limit("ExecutionSpec", "parallelism", Range(0, i32::MAX as i64), Refuses, "0 or absent means as many as possible", PARALLELISM),
    limit("TaskSpec", "maxRetries", Range(0, 10), Refuses, "", RETRIES),
    limit("TaskSpec", "timeoutSeconds", Range(1, 604_800), Refuses, "that is 168 hours at most", TIMEOUT),
    limit("TaskSpec", "timeoutSeconds", RangeWithGpu(1, 3600), MayRefuse, "tasks with a GPU have an hour", TIMEOUT),
    limit("TaskSpec", "containers", Required, Refuses, "a task needs a container", DISCOVERY),
    limit("TaskSpec", "containers", Sizes, MayRefuse, "change the memory or the CPU limit", MEMORY),
    limit("TaskSpec", "containers", Mounts, Refuses, "add the volume to the task's volumes", DISCOVERY),

    limit("ObjectMeta", "labels", Entries(MAX_LABELS), Refuses, "remove some", LABELS),
    limit("ObjectMeta", "labels", Rule::Labels, MayRefuse, "", LABELS),
    Limit {
        within: Some("Job"),
        ..limit("ObjectMeta", "annotations", Annotations { here: "Job", there: Some("Execution") }, Refuses, "move it to spec.template.metadata.annotations", DISCOVERY)
    },
    Limit {
        within: Some("ExecutionTemplateSpec"),
        ..limit("ObjectMeta", "annotations", Annotations { here: "Execution", there: Some("Job") }, MayRefuse, "move it to the job's own metadata.annotations", DISCOVERY)
    },
    limit("ObjectMeta", "annotations", Annotations { here: "Job", there: None }, Ignores, "remove it", DISCOVERY),

    limit("Container", "args", Entries(MAX_ARGS), Refuses, "pass them in a file or a variable", QUOTAS),
    limit("Container", "env", Entries(MAX_VARIABLES), Refuses, "pass them in a file", ENVIRONMENT),
    limit("Container", "env", UniqueSecrets, Refuses, "keep one of the entries", DISCOVERY),
    limit("Container", "env", UniqueNames, Ignores, "the container gets only the last; keep one of the entries", DISCOVERY),
    limit("EnvVar", "name", Without(&['=', '\0']), Refuses, "rename the variable", ENVIRONMENT),
    limit("EnvVar", "name", NoneOf(RESERVED), MayRefuse, "Cloud Run sets this variable itself; rename yours", CONTRACT),
    limit("EnvVar", "value", Bytes(MAX_VARIABLE_BYTES), Refuses, "pass it in a file or a secret", QUOTAS),
    limit("EnvVar", "value", Without(&['\0']), Refuses, "pass it in a file", ENVIRONMENT),
    limit("EnvVar", "valueFrom", Excludes("value"), Refuses, "keep one of the two", DISCOVERY),
    limit("EnvVarSource", "secretKeyRef", Required, Refuses, "name a secret in Secret Manager", SECRETS),
    limit("SecretKeySelector", "name", Required, Refuses, "set it to the name of the secret in Secret Manager", SECRETS),

    limit("ResourceRequirements", "limits", Quantities, Refuses, "", MEMORY),
    limit("ResourceRequirements", "requests", Quantities, Refuses, "", MEMORY),
    limit("ResourceRequirements", "limits", Keys(&["cpu", "memory", "nvidia.com/gpu"]), MayRefuse, "remove it", DISCOVERY),
    limit("ResourceRequirements", "requests", Keys(&["cpu", "memory"]), MayRefuse, "remove it", DISCOVERY),
    limit("ResourceRequirements", "limits", Entry("nvidia.com/gpu", "1"), MayRefuse, "", DISCOVERY),

    limit("Volume", "name", Required, Refuses, "name the volume, so that it can be mounted", DISCOVERY),
    limit("VolumeMount", "mountPath", Without(&[':']), Refuses, "mount it at another path", DISCOVERY),
    limit("EmptyDirVolumeSource", "sizeLimit", Memory, Refuses, "", VOLUMES),
    limit("EmptyDirVolumeSource", "medium", OneOf(&["", "Memory", "Disk"]), Refuses, "", DISCOVERY),
    limit("SecretVolumeSource", "secretName", Required, Refuses, "set it to the name of the secret in Secret Manager", SECRETS),
    limit("KeyToPath", "key", Required, Refuses, "set it to a version of the secret, such as latest", DISCOVERY),
    limit("KeyToPath", "path", Required, Refuses, "set it to the name of the file", DISCOVERY),
    limit("KeyToPath", "path", RelativePath, Refuses, "set it to a path below the mount", DISCOVERY),
];

const fn limit(
    message: &'static str,
    field: &'static str,
    rule: Rule,
    consequence: Consequence,
    advice: &'static str,
    source: &'static str,
) -> Limit {
    Limit { message, field, within: None, rule, consequence, advice, source }
}

/// Returns the limits of the fields of a message, by the name of the message, of the message that holds it, and of the
/// field in which that holds it.
pub fn limits_of(message: &str, parent: &str, field: &str) -> impl Iterator<Item = &'static Limit> {
    let applies = move |limit: &&Limit| {
        limit.message == message && limit.within.is_none_or(|within| within == parent || within == field)
    };
    LIMITS.iter().chain(DOCUMENTED).filter(applies)
}
