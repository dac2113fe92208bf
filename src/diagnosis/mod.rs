//! Why a job could not be started, or why its execution failed: from what the API says about them to a cause with a name.
//!
//! Pure: no I/O and no clock. Google has no field for the cause, so its reasons and its words are recognised, by one
//! [table](TABLE). Whatever the API says, there is a [`Category`].

mod evidence;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

pub use self::{
    evidence::Evidence,
    table::{Category, CategoryRow, Severity, TABLE},
};
use self::{evidence::Told, table::recognise};
use crate::api::{ApiError, ApiMethod, ErrorKind};

/// Maximum length of [`Diagnosis::detail`] in characters. Google's texts are shorter.
const MAX_DETAIL: usize = 1000;
/// The signal that the platform sends to what has to go, and that the kernel sends when memory runs out.
const SIGKILL: i64 = 9;
/// Names of signals that end containers.
const SIGNALS: [(i64, &str); 9] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (SIGKILL, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
];
/// Where shells begin to count exit codes of signals.
const SIGNAL_BASE: i64 = 128;

/// A cause. [`Display`](fmt::Display) gives the text for people and automations: the category first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnosis {
    /// The cause's name.
    pub category: Category,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, in a sentence.
    pub summary: String,
    /// What Google says about it. May be empty.
    pub detail: String,
    /// What a person can do about it. May be empty.
    pub resolution: String,
    /// The container's exit code, if it is known.
    pub exit_code: Option<i64>,
    /// The signal that ended the container, if it is known.
    pub signal: Option<i64>,
}

impl Diagnosis {
    /// A diagnosis with the words of the table. `detail`: what Google says.
    pub fn new(category: Category, detail: &str) -> Self {
        let row = category.row();
        Self {
            category,
            severity: row.severity,
            summary: row.summary.to_owned(),
            detail: text::shortened(detail, MAX_DETAIL),
            resolution: row.resolution.to_owned(),
            exit_code: None,
            signal: None,
        }
    }

    /// Why an execution failed, from what is known about it.
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let Told { category, said, exit_code, signal } = evidence.finding();
        Self { exit_code, signal, ..Self::new(category, &said) }.with_numbers_in_words()
    }

    /// Why a job was not started, from a text that says so: a condition in words. Without a resolution if the text names no
    /// cause of the table.
    pub fn of_start(words: &str) -> Self {
        match recognise(&[words]) {
            Some(category) => Self::new(category, words),
            None => Self { resolution: String::new(), ..Self::new(Category::StartFailed, words) },
        }
    }

    /// With this resolution, unless there is one already.
    pub fn or_resolution(self, resolution: String) -> Self {
        if self.resolution.is_empty() { Self { resolution, ..self } } else { self }
    }

    /// Why a job was not started, from the failure of a call.
    pub fn of_error(error: &ApiError) -> Self {
        let category = category_of(error);
        let diagnosis = Self::new(category, &error.brief().to_string());
        // The hint knows names. What was recognised in a refusal is more than the hint knows.
        let is_recognised = matches!(error.kind, ErrorKind::InvalidRequest) && category != Category::StartFailed;
        let is_deleted = category == Category::Deleted;
        match error.hint() {
            hint if hint.is_empty() || is_recognised || is_deleted => diagnosis,
            _ if category == Category::ImagePermission => diagnosis,
            hint => Self { resolution: hint, ..diagnosis },
        }
    }

    /// What automations match: the category, and the number that belongs to it.
    pub fn label(&self) -> String {
        let number = match self.category {
            Category::ExitCode => self.exit_code,
            Category::Signal => self.signal,
            _ => None,
        };
        number.map_or_else(|| self.category.to_string(), |number| format!("{} {number}", self.category))
    }

    /// Words the summary with the numbers.
    fn with_numbers_in_words(mut self) -> Self {
        match (self.category, self.exit_code, self.signal) {
            (Category::ExitCode, Some(0), _) => {
                self.summary =
                    "The container ended with exit code 0, but the flow run did not report its end.".to_owned();
            }
            (Category::ExitCode, Some(code), _) => self.summary = format!("The container ended with exit code {code}."),
            (Category::Signal, _, Some(signal)) => {
                let name = SIGNALS.iter().find(|(number, _)| *number == signal);
                let name = name.map_or_else(|| format!("number {signal}"), |(_, name)| (*name).to_owned());
                self.summary = format!("A signal ended the container: {name}.");
            }
            _ => {}
        }
        let is_kill = match self.category {
            Category::ExitCode => self.exit_code == Some(SIGNAL_BASE + SIGKILL),
            Category::Signal => self.signal == Some(SIGKILL),
            _ => false,
        };
        if is_kill {
            self.resolution = "SIGKILL often means that the memory ran out: increase the job variable 'memory', \
                               and look for the cause in the execution's log."
                .to_owned();
        }
        self
    }
}

/// The message of a state, and the line of the log: `OutOfMemory: …`, `ExitCode 3: …`; what happened, what Google says, and
/// what to do.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [&self.summary, &self.detail, &self.resolution].map(String::as_str).map(sentence).concat();
        write!(f, "{}: {}", self.label(), words.trim_end())
    }
}

/// A text with a full stop and a space after it. Nothing for nothing.
fn sentence(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text if text.ends_with(['.', '!', ')', '…']) => format!("{text} "),
        text => format!("{text}. "),
    }
}

/// The category of a call's failure.
fn category_of(error: &ApiError) -> Category {
    match (error.kind, error.method) {
        (ErrorKind::ApiDisabled, _) => Category::ApiDisabled,
        (ErrorKind::LimitReached | ErrorKind::RateLimited, ApiMethod::CreateJob) => Category::QuotaJobs,
        (ErrorKind::LimitReached | ErrorKind::RateLimited, _) => Category::QuotaExecutions,
        (ErrorKind::NotFound, ApiMethod::GetJob | ApiMethod::RunJob | ApiMethod::GetExecution) => Category::Deleted,
        (ErrorKind::InvalidRequest | ErrorKind::PermissionDenied, _) => {
            recognise(&[&error.message]).unwrap_or(Category::StartFailed)
        }
        _ => Category::StartFailed,
    }
}
