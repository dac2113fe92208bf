//! The table of causes: what each is called, how it is recognised, and what a person can do about it.
//!
//! The words are Google's, from conditions, task results and refusals as people have reported them in public issues.
//! docs/diagnosis.md has the table for people; a test compares the two.

use std::fmt;

use super::text::{has_word, plain_words};

/// Why a job could not be started, or why its execution failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Category {
    /// The container used more memory than its limit.
    OutOfMemory,
    /// The task's timeout was reached.
    Timeout,
    /// The image may not be read or run.
    ImagePermission,
    /// The image does not exist.
    ImageNotFound,
    /// A secret does not exist.
    SecretMissing,
    /// A secret may not be read.
    SecretAccess,
    /// The job's service account does not exist or may not be used.
    ServiceAccount,
    /// The network that the job asks for can't be used.
    VpcConnector,
    /// The Cloud Run Admin API is not enabled.
    ApiDisabled,
    /// No more jobs can be created.
    QuotaJobs,
    /// No more executions can be started.
    QuotaExecutions,
    /// Cloud Run does not offer the CPU, memory or GPU that the job asks for.
    InvalidResources,
    /// The job or its execution was deleted or cancelled.
    Deleted,
    /// A signal ended the container.
    Signal,
    /// The container did not start.
    StartFailed,
    /// The container ended by itself.
    ExitCode,
}

/// How much a cause matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Something has to be changed.
    Error,
    /// Somebody wanted it, or it may pass.
    Warning,
}

impl Severity {
    /// Its name: `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The category's name, which automations match.
impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What is known about a category.
#[derive(Debug)]
pub struct CategoryRow {
    /// The category.
    pub category: Category,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, in a sentence.
    pub summary: &'static str,
    /// What a person can do about it.
    pub resolution: &'static str,
    /// Reasons of conditions that say so.
    pub reasons: &'static [&'static str],
    /// Words that say so: all of one entry, in lower case, in a text without its names (see `plain_words`).
    pub phrases: &'static [&'static [&'static str]],
    /// What else says so, for people. Empty if nothing does.
    pub other_sign: &'static str,
}

/// The categories. What stands above wins: what is more specific comes first.
pub static TABLE: [CategoryRow; 16] = [
    CategoryRow {
        category: Category::OutOfMemory,
        severity: Severity::Error,
        summary: "The container used more memory than its limit.",
        resolution: "Increase the job variable 'memory', or let the flow use less. Files that it writes count as memory too.",
        reasons: &[],
        phrases: &[&["memory limit was reached"], &["memory limit", "exceeded"], &["out of memory"]],
        other_sign: "",
    },
    CategoryRow {
        category: Category::Timeout,
        severity: Severity::Error,
        summary: "The container ran for longer than its task's timeout.",
        resolution: "Increase timeoutSeconds in the work pool's job body, or split the flow.",
        reasons: &[],
        phrases: &[&["timeout was reached"], &["exceeded", "task timeout"]],
        other_sign: "a task result with the code 4 (DEADLINE_EXCEEDED)",
    },
    CategoryRow {
        category: Category::ImagePermission,
        severity: Severity::Error,
        summary: "The container image can't be read, or may not be run.",
        resolution: "Check the image's name. Then grant the Cloud Run service agent \
                     (service-PROJECT_NUMBER@serverless-robot-prod.iam.gserviceaccount.com) and the worker's account \
                     roles/artifactregistry.reader on the image's repository. A Binary Authorization policy may refuse it too.",
        reasons: &["ContainerPermissionDenied", "ContainerImageUnauthorized", "ContainerImageAuthorizationCheckFailed"],
        phrases: &[
            &["permission to read the image"],
            &["does not have access to image"],
            &["artifactregistry.repositories.downloadartifacts"],
            &["binary authorization"],
        ],
        other_sign: "",
    },
    CategoryRow {
        category: Category::ImageNotFound,
        severity: Severity::Error,
        summary: "The container image does not exist.",
        resolution: "Check the job variable 'image', and that the image was pushed with this tag.",
        reasons: &["ContainerMissing"],
        phrases: &[&["image '' not found"], &["image … not found"], &["manifest unknown"]],
        other_sign: "",
    },
    CategoryRow {
        category: Category::SecretMissing,
        severity: Severity::Error,
        summary: "A secret that the job uses does not exist, or has no such version.",
        resolution: "Create it in Secret Manager, or correct its name and version in the job variables. Secrets of another \
                     project need the annotation run.googleapis.com/secrets.",
        reasons: &[],
        phrases: &[&["secret", "not found"], &["secret", "does not exist"]],
        other_sign: "",
    },
    CategoryRow {
        category: Category::SecretAccess,
        severity: Severity::Error,
        summary: "The job's service account may not read a secret that the job uses.",
        resolution: "Grant the job's service account roles/secretmanager.secretAccessor on the secret.",
        reasons: &["SecretsAccessCheckFailed"],
        phrases: &[&["permission denied on secret"], &["secretmanager.versions.access"]],
        other_sign: "",
    },
    CategoryRow {
        category: Category::ServiceAccount,
        severity: Severity::Error,
        summary: "The job's service account does not exist, is disabled, or may not be used by the worker.",
        resolution: "Check the job variable 'service_account_name', and grant the worker's account \
                     roles/iam.serviceAccountUser on that account.",
        reasons: &[],
        phrases: &[
            &["iam.serviceaccounts.actas"],
            &["denied on service account"],
            &["access tokens for the service account"],
            &["service account", "not found"],
            &["service account", "does not exist"],
            &["service account", "is disabled"],
        ],
        other_sign: "",
    },
    CategoryRow {
        category: Category::VpcConnector,
        severity: Severity::Error,
        summary: "The network or VPC connector that the job uses can't be used.",
        resolution: "Check the job variable 'vpc_connector_name' and the network annotations of the job body: they must name \
                     something that is ready, is in the job's region, and has free addresses.",
        reasons: &[],
        phrases: &[
            &["vpc connector"],
            &["vpc access connector"],
            &["vpcaccess.connectors.use"],
            &["vpc network"],
            &["in the subnetwork"],
        ],
        other_sign: "",
    },
    CategoryRow {
        category: Category::ApiDisabled,
        severity: Severity::Error,
        summary: "The Cloud Run Admin API is not enabled in the project.",
        resolution: "Enable it: gcloud services enable run.googleapis.com --project PROJECT",
        reasons: &["SERVICE_DISABLED"],
        phrases: &[&["api has not been used in project"]],
        other_sign: "",
    },
    CategoryRow {
        category: Category::QuotaJobs,
        severity: Severity::Warning,
        summary: "The region accepts no more jobs for now.",
        resolution: "Delete jobs that are not needed any more, use another region, or ask Google for a higher quota.",
        reasons: &[],
        phrases: &[&["number of jobs"]],
        other_sign: "the create was refused with status 429 for longer than the worker waits",
    },
    CategoryRow {
        category: Category::QuotaExecutions,
        severity: Severity::Warning,
        summary: "The region accepts no more executions for now.",
        resolution: "Run fewer flows at a time, use another region, or ask Google for a higher quota.",
        reasons: &[],
        phrases: &[&["quota violated"], &["quota exceeded"], &["exceeded", "quota"]],
        other_sign: "the start was refused with status 429 for longer than the worker waits",
    },
    CategoryRow {
        category: Category::InvalidResources,
        severity: Severity::Error,
        summary: "Cloud Run does not offer the CPU, memory or GPU that the job asks for.",
        resolution: "Check the job variables 'cpu' and 'memory': each number of CPUs allows a range of memory.",
        reasons: &[],
        phrases: &[
            &["resources.limits"],
            &["invalid value specified for cpu"],
            &["invalid value specified for memory"],
            &["total memory"],
            &["total cpu"],
            &["accelerator", "not"],
        ],
        other_sign: "",
    },
    CategoryRow {
        category: Category::Deleted,
        severity: Severity::Warning,
        summary: "The job or its execution was deleted or cancelled from outside Prefect.",
        resolution: "The project's audit logs (methods Jobs.DeleteJob, Executions.CancelExecution) show who did it.",
        reasons: &["Cancelled"],
        phrases: &[&["execution was cancelled"]],
        other_sign: "the job or the execution is gone",
    },
    CategoryRow {
        category: Category::StartFailed,
        severity: Severity::Error,
        summary: "The container was not started.",
        resolution: "Check the command and the image: it must exist for linux/amd64 and contain the command. The execution's \
                     log may say more.",
        reasons: &["ProgressDeadlineExceeded", "HealthCheckContainerError"],
        phrases: &[&["failed to start"], &["exec format error"], &["failed to load"], &["exec likely failed"]],
        other_sign: "anything else before the container runs",
    },
    CategoryRow {
        category: Category::Signal,
        severity: Severity::Error,
        summary: "A signal ended the container.",
        resolution: "Look for the cause in the execution's log.",
        reasons: &[],
        phrases: &[&["terminated by signal"], &["terminated on signal"]],
        other_sign: "a task result with a signal",
    },
    CategoryRow {
        category: Category::ExitCode,
        severity: Severity::Error,
        summary: "The container ended by itself and reported an error.",
        resolution: "Look for the cause in the flow run's log and in the execution's log.",
        reasons: &["NonZeroExitCode"],
        phrases: &[&["exit code"]],
        other_sign: "a task result with an exit code, and anything else after the container ran",
    },
];

impl Category {
    /// The category's row of the table.
    pub fn row(self) -> &'static CategoryRow {
        // Each category has one; a test shows it.
        TABLE.iter().find(|row| row.category == self).unwrap_or(&TABLE[TABLE.len() - 1])
    }
}

impl CategoryRow {
    /// Whether a text says that this is the cause. `words`: the text's [`plain_words`].
    fn has_phrase(&self, words: &str) -> bool {
        self.phrases.iter().any(|phrase| phrase.iter().all(|part| words.contains(part)))
    }
}

/// The category that one of these texts tells. Words count more than reasons: a reason may stand for several causes.
pub(super) fn recognise(texts: &[&str]) -> Option<Category> {
    let words: Vec<_> = texts.iter().map(|text| plain_words(text)).collect();
    let by_phrase = TABLE.iter().find(|row| words.iter().any(|words| row.has_phrase(words)));
    let has_reason =
        |row: &&CategoryRow| row.reasons.iter().any(|reason| texts.iter().any(|text| has_word(text, reason)));
    by_phrase.or_else(|| TABLE.iter().find(has_reason)).map(|row| row.category)
}
