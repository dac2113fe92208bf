//! What is known about a job and its execution, and which of it tells the cause.

use super::{
    table::{Category, recognise},
    text::{number_after, plain_words},
};
use crate::api::types::{Condition, ConditionStatus, Task, TaskAttemptResult, find_condition};

/// `DEADLINE_EXCEEDED` of `google.rpc.Code`.
const DEADLINE_EXCEEDED: i64 = 4;

/// What is known. All of it may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// Conditions of the job.
    pub job: &'a [Condition],
    /// Conditions of the execution.
    pub execution: &'a [Condition],
    /// Tasks of the execution.
    pub tasks: &'a [Task],
    /// What Google said about the end of the execution, if its conditions are not at hand.
    pub words: Option<&'a str>,
    /// Whether the job or the execution is known to be gone.
    pub is_gone: bool,
}

/// What the evidence tells.
pub(super) struct Told {
    pub(super) category: Category,
    /// What Google says about it; empty if it says nothing.
    pub(super) said: String,
    pub(super) exit_code: Option<i64>,
    pub(super) signal: Option<i64>,
}

impl Evidence<'_> {
    pub(super) fn finding(&self) -> Told {
        let completed = find_condition(self.execution, "Completed");
        if completed.is_some_and(|completed| completed.status == ConditionStatus::True) && !self.is_gone {
            return Told { category: Category::ExitCode, said: String::new(), exit_code: Some(0), signal: None };
        }
        let result = self.failed_task().and_then(|task| task.status.last_attempt_result.as_ref());
        let texts = self.texts(result);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (exit_code, signal) = numbers(result, &texts);
        let category = self.category(result, &texts, exit_code, signal);
        let said = match category {
            Category::Deleted if self.is_gone => "",
            category => texts
                .iter()
                .copied()
                .find(|text| category_is_in(text, category))
                .or_else(|| texts.first().copied())
                .unwrap_or_default(),
        };
        Told { category, said: said.to_owned(), exit_code, signal }
    }

    fn category(
        &self,
        result: Option<&TaskAttemptResult>,
        texts: &[&str],
        exit_code: Option<i64>,
        signal: Option<i64>,
    ) -> Category {
        // The words of an exit say less than the numbers.
        let is_specific = |category: &Category| !matches!(category, Category::Signal | Category::ExitCode);
        let has_timed_out = result.is_some_and(|result| result.status.code == Some(DEADLINE_EXCEEDED));
        match recognise(texts).filter(is_specific) {
            _ if self.is_gone => Category::Deleted,
            Some(category) => category,
            None if signal.is_some() => Category::Signal,
            None if exit_code.is_some() => Category::ExitCode,
            None if has_timed_out => Category::Timeout,
            None if self.has_run(result) => Category::ExitCode,
            None => Category::StartFailed,
        }
    }

    /// The task that tells most: one that failed, before one that was stopped because of it.
    fn failed_task(&self) -> Option<&Task> {
        let result = |task: &Task| task.status.last_attempt_result.clone().unwrap_or_default();
        let has_failed = |task: &&Task| {
            let result = result(task);
            [result.status.code, result.exit_code, result.term_signal].iter().any(|number| number.unwrap_or(0) != 0)
        };
        let has_succeeded = |task: &&Task| {
            find_condition(&task.status.conditions, "Completed")
                .is_some_and(|completed| completed.status == ConditionStatus::True)
        };
        self.tasks.iter().filter(|task| !has_succeeded(task)).find(has_failed)
    }

    /// What Google says about the failure, the most specific first.
    fn texts(&self, result: Option<&TaskAttemptResult>) -> Vec<String> {
        let completed = |conditions: &[Condition]| find_condition(conditions, "Completed").cloned();
        let failed = |condition: &Condition| condition.status == ConditionStatus::False;
        let mut texts = Vec::new();
        texts.extend(completed(self.execution).filter(failed).map(|condition| in_words(&condition)));
        texts.extend(self.words.map(str::to_owned));
        texts.extend(result.and_then(|result| result.status.message.clone()));
        texts.extend(self.failed_task().and_then(|task| completed(&task.status.conditions)).map(|it| in_words(&it)));
        for conditions in [self.execution, self.job] {
            texts.extend(conditions.iter().filter(|condition| failed(condition)).map(in_words));
        }
        texts.retain(|text| !text.is_empty());
        texts.dedup();
        texts
    }

    fn has_run(&self, result: Option<&TaskAttemptResult>) -> bool {
        let is_true = |kind| {
            find_condition(self.execution, kind).is_some_and(|condition| condition.status == ConditionStatus::True)
        };
        result.is_some()
            || self.words.is_some()
            || is_true("Started")
            || self.tasks.iter().any(|task| task.status.start_time.is_some())
    }
}

/// A condition's reason and message.
fn in_words(condition: &Condition) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let (reason, message) = (part(&condition.reason), part(&condition.message));
    match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        _ => reason + &message,
    }
}

/// Whether this text alone tells this category.
fn category_is_in(text: &str, category: Category) -> bool {
    recognise(&[text]) == Some(category)
}

/// The exit code and the signal: from the task, or else from the words.
fn numbers(result: Option<&TaskAttemptResult>, texts: &[&str]) -> (Option<i64>, Option<i64>) {
    let known = |number: Option<i64>| number.filter(|number| *number != 0);
    let (exit_code, signal) =
        (result.and_then(|result| known(result.exit_code)), result.and_then(|result| known(result.term_signal)));
    if exit_code.is_some() || signal.is_some() {
        return (exit_code, signal);
    }
    let words: Vec<_> = texts.iter().map(|text| plain_words(text)).collect();
    let first = |start: &str| words.iter().find_map(|words| number_after(words, start));
    let signal = known(first("terminated by signal").or_else(|| first("terminated on signal")));
    // A shell's exit code for a signal says no more than the signal.
    if signal.is_some() { (None, signal) } else { (known(first("exit code")), None) }
}
