//! Google's texts, as people have reported them, and the categories that they have to get.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Category as C, *};
use crate::api::types::{Condition, Task};

fn conditions(value: Value) -> Vec<Condition> {
    serde_json::from_value(value).unwrap()
}

fn tasks(value: Value) -> Vec<Task> {
    serde_json::from_value(value).unwrap()
}

fn failed(reason: Option<&str>, message: &str) -> Vec<Condition> {
    conditions(json!([{"type": "Completed", "status": "False", "reason": reason, "message": message}]))
}

fn of_execution(reason: Option<&str>, message: &str, last_attempt: Value) -> Diagnosis {
    let tasks = tasks(json!([{"status": {"startTime": "2026-01-01T00:00:00Z", "lastAttemptResult": last_attempt}}]));
    Diagnosis::of(&Evidence { execution: &failed(reason, message), tasks: &tasks, ..Evidence::default() })
}

#[test]
fn ends_of_executions_are_recognised() {
    let exited =
        |code: i64| json!({"status": {"code": 10, "message": "The container exited with an error."}, "exitCode": code});
    let non_zero = Some("NonZeroExitCode");
    for (reason, message, attempt, label) in [
        (
            non_zero,
            "Task j-abcde-task0 failed with exit code: 3 and message: The container exited with an error.",
            exited(3),
            "ExitCode 3",
        ),
        // The tasks could not be read.
        (
            non_zero,
            "Task j-abcde-task0 failed with exit code: 3 and message: The container exited with an error.",
            json!(null),
            "ExitCode 3",
        ),
        (None, "Task j-abcde-task0 failed with message: The container exited with an error.", exited(1), "ExitCode 1"),
        (None, "Task j-abcde-task0 failed with message: The configured timeout was reached.", json!({}), "Timeout"),
        (None, "", json!({"status": {"code": 4}}), "Timeout"),
        (
            None,
            "Task j-abcde-task0 failed with message: The configured memory limit was reached.",
            json!({}),
            "OutOfMemory",
        ),
        (
            non_zero,
            "Task j-abcde-task0 failed with exit code: 137 and message: The configured memory limit was reached.",
            json!({"termSignal": 9}),
            "OutOfMemory",
        ),
        (
            None,
            "Memory limit of 512 MiB exceeded with 516 MiB used. Consider increasing the memory limit",
            json!({}),
            "OutOfMemory",
        ),
        (None, "The user-provided container ran out of memory.", json!({}), "OutOfMemory"),
        (
            non_zero,
            "Task j-abcde-task0 failed with exit code: 137 and message: The container was terminated by signal 9.",
            json!({"termSignal": 9, "exitCode": 0}),
            "Signal 9",
        ),
        (None, "Container terminated on signal 6.", json!(null), "Signal 6"),
        (non_zero, "", exited(137), "ExitCode 137"),
        (
            non_zero,
            "terminated: Application failed to start: failed to load /usr/bin/java: exec format error",
            exited(1),
            "StartFailed",
        ),
        (
            None,
            "Instance failed to start because of insufficient free IP addresses in the subnetwork https://x/secret not found",
            json!(null),
            "VpcConnector",
        ),
        (Some("Cancelled"), "Execution was cancelled.", json!(null), "Deleted"),
        // A reason that is new, and no words.
        (Some("Unheard"), "Of.", json!(null), "ExitCode"),
    ] {
        let diagnosis = of_execution(reason, message, attempt);
        assert_eq!(diagnosis.label(), label, "{message}: {diagnosis:?}");
        assert!(diagnosis.to_string().starts_with(&format!("{label}: ")), "{diagnosis}");
    }
}

#[test]
fn jobs_that_are_not_ready_are_recognised() {
    let agent = "Google Cloud Run Service Agent service-1@serverless-robot-prod.iam.gserviceaccount.com";
    for (reason, message, category) in [
        ("ContainerMissing", "Image 'gcr.io/p/i:latest' not found.".to_owned(), C::ImageNotFound),
        ("", "Revision 'r' is not ready. Image gcr.io/p/secret:latest not found.".to_owned(), C::ImageNotFound),
        (
            "ContainerPermissionDenied",
            format!(
                "{agent} must have permission to read the image, docker.io/p/i. Ensure that the provided container image \
                 URL is correct"
            ),
            C::ImagePermission,
        ),
        ("", format!("{agent} must have permission to read the image, docker.io/p/i."), C::ImagePermission),
        ("ContainerImageUnauthorized", String::new(), C::ImagePermission),
        (
            "SecretsAccessCheckFailed",
            "spec.template.spec.containers[0].env[1].value_from.secret_key_ref.name: Permission denied on secret: \
             projects/1/secrets/s/versions/latest for Revision service account 1-compute@developer.gserviceaccount.com. The \
             service account used must be granted the 'Secret Manager Secret Accessor' role"
                .to_owned(),
            C::SecretAccess,
        ),
        (
            "SecretsAccessCheckFailed",
            "Secret projects/1/secrets/s/versions/latest was not found".to_owned(),
            C::SecretMissing,
        ),
        ("SecretsAccessCheckFailed", String::new(), C::SecretAccess),
        ("", "Service account a@p.iam.gserviceaccount.com does not exist.".to_owned(), C::ServiceAccount),
        ("", format!("{agent} does not have permission to get access tokens for the service account a@b"), C::ServiceAccount),
        ("", "VPC connector projects/p/locations/r/connectors/c is not ready or does not exist.".to_owned(), C::VpcConnector),
        ("", "Quota violated: CpuAllocPerProjectRegion requested: 60000 allowed: 20000".to_owned(), C::QuotaExecutions),
        ("ProgressDeadlineExceeded", "Timed out.".to_owned(), C::StartFailed),
        ("", String::new(), C::StartFailed),
    ] {
        let job = conditions(json!([{"type": "Ready", "status": "False", "reason": reason, "message": message}]));
        assert_eq!(Diagnosis::of(&Evidence { job: &job, ..Evidence::default() }).category, category, "{reason} {message}");
        let words = format!("Ready is False, {reason}: {message}");
        let diagnosis = Diagnosis::of_start(&words);
        assert_eq!(diagnosis.category, category, "{words}");
        let is_known = category != C::StartFailed || reason == "ProgressDeadlineExceeded";
        assert_eq!(diagnosis.or_resolution("Ask.".to_owned()).resolution != "Ask.", is_known, "{words}");
    }
}

#[test]
fn refusals_are_recognised() {
    use ApiMethod::{CreateJob, GetJob, RunJob};
    let actas = "Permission 'iam.serviceaccounts.actAs' denied on service account a@b (or it may not exist).";
    let memory =
        "spec.template.spec.template.spec.containers[0].resources.limits.memory: Invalid value specified for memory.";
    for (method, kind, message, category) in [
        (CreateJob, ErrorKind::ApiDisabled, "x", C::ApiDisabled),
        (CreateJob, ErrorKind::LimitReached, "x", C::QuotaJobs),
        (RunJob, ErrorKind::LimitReached, "x", C::QuotaExecutions),
        (RunJob, ErrorKind::RateLimited, "x", C::QuotaExecutions),
        (CreateJob, ErrorKind::PermissionDenied, actas, C::ServiceAccount),
        (CreateJob, ErrorKind::PermissionDenied, "User does not have access to image x.", C::ImagePermission),
        (CreateJob, ErrorKind::PermissionDenied, "Permission 'run.jobs.create' denied on resource 'x'", C::StartFailed),
        (CreateJob, ErrorKind::InvalidRequest, memory, C::InvalidResources),
        (CreateJob, ErrorKind::InvalidRequest, "metadata.name: must be short", C::StartFailed),
        (RunJob, ErrorKind::NotFound, "x", C::Deleted),
        (GetJob, ErrorKind::NotFound, "x", C::Deleted),
        (CreateJob, ErrorKind::Unavailable, "the image was not found", C::StartFailed),
    ] {
        let error = ApiError { message: message.to_owned(), ..ApiError::example(method, kind) };
        let diagnosis = Diagnosis::of_error(&error);
        assert_eq!(diagnosis.category, category, "{kind:?} {message}");
        assert!(diagnosis.detail.contains(message.trim_end_matches('.')), "{diagnosis:?}");
        assert!(!diagnosis.resolution.is_empty() && !diagnosis.detail.contains(&diagnosis.resolution), "{diagnosis:?}");
    }
}

#[test]
fn names_are_not_taken_for_words() {
    for name in ["vpc-connector", "timeout-was-reached", "memory-limit-exceeded", "secret-not-found", "exit-code"] {
        let exit = format!(
            "Task {name}-abcde-task0 failed with exit code: 2 and message: The container exited with an error."
        );
        assert_eq!(of_execution(Some("NonZeroExitCode"), &exit, json!(null)).label(), "ExitCode 2");
        let missing = format!("Image 'gcr.io/{name}/the secret was not found' not found.");
        assert_eq!(Diagnosis::of_start(&missing).category, C::ImageNotFound);
    }
    let odd = "The container can't start, because image 'the vpc network' not found.";
    assert_eq!(Diagnosis::of_start(odd).category, C::ImageNotFound);
}

#[test]
fn the_task_that_failed_tells_the_cause() {
    let execution = failed(None, "");
    let tasks = tasks(json!([
        {"status": {"index": 0, "conditions": [{"type": "Completed", "status": "True"}], "lastAttemptResult": {"status": {}}}},
        {"status": {"index": 1, "conditions": [{"type": "Completed", "status": "False", "reason": "Cancelled"}]}},
        {"status": {"index": 2, "lastAttemptResult": {"exitCode": 7, "status": {"message": "The container exited with an error."}}}},
    ]));
    let diagnosis = Diagnosis::of(&Evidence { execution: &execution, tasks: &tasks, ..Evidence::default() });
    assert_eq!(
        diagnosis.to_string(),
        "ExitCode 7: The container ended with exit code 7. The container exited with an error. Look for the cause in the flow \
         run's log and in the execution's log."
    );
    assert_eq!((diagnosis.exit_code, diagnosis.signal), (Some(7), None));
}

#[test]
fn what_is_gone_was_deleted_and_what_succeeded_reported_nothing() {
    let gone = Evidence { execution: &failed(None, "exit code: 1"), is_gone: true, ..Evidence::default() };
    assert_eq!(Diagnosis::of(&gone).label(), "Deleted");
    let succeeded = conditions(json!([{"type": "Completed", "status": "True"}]));
    let diagnosis = Diagnosis::of(&Evidence { execution: &succeeded, ..Evidence::default() });
    assert_eq!(diagnosis.label(), "ExitCode 0");
    assert_eq!(Diagnosis::of(&Evidence::default()).label(), "StartFailed");
}

#[test]
fn signals_have_names_and_a_kill_a_hint() {
    let of = |signal: i64| of_execution(None, "", json!({"termSignal": signal})).to_string();
    assert!(of(11).starts_with("Signal 11: A signal ended the container: SIGSEGV. "), "{}", of(11));
    assert!(of(9).contains("memory") && !of(11).contains("memory"));
    assert!(of(40).starts_with("Signal 40: A signal ended the container: number 40. "), "{}", of(40));
}

#[test]
fn a_long_text_is_cut_and_the_message_has_every_part() {
    let text = format!("line one\n\u{7}{}", "ä".repeat(2_000));
    let diagnosis = Diagnosis::new(C::OutOfMemory, &text);
    assert_eq!(diagnosis.detail.chars().count(), MAX_DETAIL);
    assert!(diagnosis.detail.starts_with("line one ä") && diagnosis.detail.ends_with('…'));
    let line = Diagnosis::new(C::Deleted, "by a person").to_string();
    assert!(line.contains("from outside Prefect. by a person. The project's audit logs"), "{line}");
}

#[test]
fn each_category_has_one_row_with_words_for_people() {
    for row in &TABLE {
        assert_eq!(TABLE.iter().filter(|other| other.category == row.category).count(), 1, "{}", row.category);
        assert!(std::ptr::eq(row.category.row(), row));
        assert!(row.summary.ends_with('.') && !row.resolution.is_empty());
        assert!(!(row.reasons.is_empty() && row.phrases.is_empty()));
        for part in row.phrases.iter().copied().flatten() {
            assert_eq!(*part, part.to_lowercase(), "texts are compared in lower case");
        }
    }
}

#[test]
fn the_documentation_has_the_table() {
    let cell = |text: &str| text.replace('|', "\\|");
    let row = |row: &CategoryRow| {
        let mut signs: Vec<String> = row.reasons.iter().map(|reason| format!("`{reason}`")).collect();
        signs.extend(row.phrases.iter().map(|phrase| format!("“{}”", phrase.join(" … "))));
        signs.extend((!row.other_sign.is_empty()).then(|| row.other_sign.to_owned()));
        let (name, level) = (row.category, row.severity.name());
        format!(
            "| `{name}` | {level} | {} | {} | {} |",
            cell(row.summary),
            cell(&signs.join(", ")),
            cell(row.resolution)
        )
    };
    let table = TABLE.iter().map(row).collect::<Vec<_>>().join("\n");
    let documentation = include_str!("../../docs/diagnosis.md");
    assert!(documentation.contains(&table), "docs/diagnosis.md must have these rows:\n{table}");
}

fn any_text() -> impl Strategy<Value = String> {
    let phrases: Vec<String> = TABLE
        .iter()
        .flat_map(|row| {
            row.phrases.iter().map(|phrase| phrase.join(" ")).chain(row.reasons.iter().map(|it| (*it).to_owned()))
        })
        .chain(["'", "\"", "exit code: ", "signal ", "99999999999999999999", "-task", "a/b", "…"].map(str::to_owned))
        .collect();
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(prop_oneof![proptest::sample::select(phrases), any::<String>()], 0..6)
            .prop_map(|parts| parts.join(" ")),
    ]
}

fn any_conditions() -> impl Strategy<Value = Vec<Condition>> {
    let kind = proptest::sample::select(vec!["Completed", "Started", "Ready", "ContainerReady", "x"]);
    let status = proptest::sample::select(vec!["True", "False", "Unknown"]);
    let condition = (kind, status, any_text(), any_text()).prop_map(
        |(kind, status, reason, message)| json!({"type": kind, "status": status, "reason": reason, "message": message}),
    );
    proptest::collection::vec(condition, 0..4).prop_map(|list| conditions(Value::from(list)))
}

fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
    let number = || proptest::option::of(prop_oneof![0..256_i64, any::<i64>()]);
    let task = (number(), number(), number(), any_text(), any_conditions()).prop_map(
        |(code, exit, signal, text, conditions)| {
            let result = json!({"status": {"code": code, "message": text}, "exitCode": exit, "termSignal": signal});
            json!({"status": {"conditions": conditions, "lastAttemptResult": result}})
        },
    );
    proptest::collection::vec(task, 0..3).prop_map(|list| tasks(Value::from(list)))
}

proptest! {
    #[test]
    fn whatever_the_api_says_there_is_a_category(
        job in any_conditions(),
        execution in any_conditions(),
        tasks in any_tasks(),
        words in proptest::option::of(any_text()),
        is_gone in any::<bool>(),
    ) {
        let diagnosis = Diagnosis::of(&Evidence { job: &job, execution: &execution, tasks: &tasks, words: words.as_deref(), is_gone });
        prop_assert!(diagnosis.to_string().starts_with(&diagnosis.category.to_string()));
        prop_assert!(diagnosis.detail.chars().count() <= MAX_DETAIL && !diagnosis.to_string().contains('\n'));
        prop_assert!(!is_gone || diagnosis.category == C::Deleted);
        let started = Diagnosis::of_start(&words.unwrap_or_default());
        prop_assert!(started.to_string().starts_with(&started.category.to_string()));
    }
}
