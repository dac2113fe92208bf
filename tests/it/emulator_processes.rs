//! The emulator's process executor: environment, attempts, ends, and that no process stays.

use std::time::{Duration, Instant};

use crate::emulator_support::{Cloud, EXECUTIONS, JOBS, condition, content, job, lives, quick, task};
use prefect_gcp_core::{api::Secret, emulator::EmulatorConfig};
use serde_json::{Value, json};

/// A script that writes its process id and that of a background child to a file, and keeps running.
fn stays(file: &std::path::Path, trap: &str) -> String {
    format!("{trap} sleep 300 & echo $$ $! > {}; wait; sleep 300", file.display())
}

fn all_ended(pids: &str) -> bool {
    pids.split_whitespace().all(|pid| !lives(pid))
}

#[tokio::test]
async fn a_command_runs_and_its_output_is_the_log() {
    let cloud = Cloud::start(quick()).await;
    cloud.create(job("hello", "echo out; echo err >&2")).await;
    let execution = cloud.wait_ended(&cloud.run("hello").await).await;
    assert_eq!(condition(&execution, "Completed")["status"], "True");
    let log = cloud.log(&execution).await;
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
}

#[tokio::test]
async fn the_environment_has_only_the_containers_variables_path_and_cloud_runs_variables() {
    let path = std::env::var("PATH").unwrap();
    let cloud = Cloud::start(EmulatorConfig { path: format!("/nowhere:{path}"), ..quick() }).await;
    let mut env = job("env", "");
    let container = &mut task(&mut env)["containers"][0];
    container["command"] = json!(["env"]);
    container["env"] = json!([{"name": "GREETING", "value": "hello $(NAME)"}, {"name": "EMPTY"}]);
    cloud.create(env).await;
    let execution = cloud.wait_ended(&cloud.run("env").await).await;
    let log = cloud.log(&execution).await;
    let mut lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("[emulator]")).collect();
    lines.sort_unstable();
    let name = execution["metadata"]["name"].as_str().unwrap();
    let expected = [
        &format!("CLOUD_RUN_EXECUTION={name}"),
        "CLOUD_RUN_JOB=env",
        "CLOUD_RUN_TASK_ATTEMPT=0",
        "CLOUD_RUN_TASK_COUNT=1",
        "CLOUD_RUN_TASK_INDEX=0",
        "EMPTY=",
        "GREETING=hello $(NAME)",
        &format!("PATH=/nowhere:{path}"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_path_of_a_container_takes_precedence_and_finds_the_program() {
    let bin = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/echo", bin.path().join("say")).unwrap();
    let cloud = Cloud::start(quick()).await;
    let mut say = job("say", "");
    let container = &mut task(&mut say)["containers"][0];
    container["command"] = json!(["say"]);
    container["args"] = json!(["it worked"]);
    container["env"] = json!([{"name": "PATH", "value": bin.path()}]);
    cloud.create(say).await;
    let execution = cloud.wait_ended(&cloud.run("say").await).await;
    assert!(cloud.log(&execution).await.starts_with("it worked\n"));
}

#[tokio::test]
async fn a_secret_becomes_a_variable_and_a_missing_secret_makes_the_job_not_ready() {
    let secrets = [("token".to_owned(), Secret::new("hunter2"))].into();
    let config = EmulatorConfig { secrets, ..quick() };
    assert!(!format!("{config:?}").contains("hunter2"));
    let cloud = Cloud::start(config).await;
    let with_secret = |name: &str, secret: &str| {
        let mut job = job(name, "test \"$KEY\" = hunter2");
        let reference = json!({"secretKeyRef": {"name": secret, "key": "latest"}});
        task(&mut job)["containers"][0]["env"] = json!([{"name": "KEY", "valueFrom": reference}]);
        job
    };
    cloud.create(with_secret("known", "token")).await;
    let execution = cloud.wait_ended(&cloud.run("known").await).await;
    assert_eq!(condition(&execution, "Completed")["status"], "True");
    let unready = cloud.create(with_secret("unknown", "nothing")).await;
    assert_eq!(condition(&unready, "Ready")["reason"], "SecretsAccessCheckFailed");
}

#[tokio::test]
async fn each_attempt_has_its_own_temporary_directory() {
    let cloud = Cloud::start(quick()).await;
    let mut twice = job("twice", "pwd; ls -A | wc -l; touch mine; exit 3");
    task(&mut twice)["maxRetries"] = json!(1);
    cloud.create(twice).await;
    let execution = cloud.wait_ended(&cloud.run("twice").await).await;
    let log = cloud.log(&execution).await;
    let directories: Vec<&str> = log.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(directories.len(), 2, "{log}");
    assert_ne!(directories[0], directories[1]);
    assert_eq!(log.lines().filter(|line| line.trim() == "0").count(), 2, "{log}");
    assert!(directories.iter().all(|directory| !std::path::Path::new(directory).exists()));
}

#[tokio::test]
async fn a_log_folder_that_is_gone_is_named_and_not_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let log_dir = directory.path().join("logs");
    std::fs::create_dir(&log_dir).unwrap();
    let cloud = Cloud::start(EmulatorConfig { log_dir: Some(log_dir.clone()), ..quick() }).await;
    std::fs::remove_dir_all(log_dir).unwrap();
    cloud.create(job("unlogged", "true")).await;
    let execution = cloud.wait_ended(&cloud.run("unlogged").await).await;
    let message = condition(&execution, "Completed")["message"].to_string();
    assert!(message.contains("The emulator's log folder can't be written"), "{message}");
}

#[tokio::test]
async fn the_working_directory_is_used_and_the_error_names_a_missing_one() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(quick()).await;
    for (name, path, status) in
        [("here", directory.path().to_str().unwrap(), "True"), ("gone", "/no/such/dir", "False")]
    {
        let mut job = job(name, "touch made");
        task(&mut job)["containers"][0]["workingDir"] = json!(path);
        cloud.create(job).await;
        let execution = cloud.wait_ended(&cloud.run(name).await).await;
        let completed = condition(&execution, "Completed");
        assert_eq!(completed["status"], status, "{completed}");
        if status == "False" {
            assert!(completed["message"].as_str().unwrap().contains("/no/such/dir"), "{completed}");
        }
    }
    assert!(directory.path().join("made").exists());
}

#[tokio::test]
async fn a_failed_task_is_retried_and_its_exit_code_is_reported() {
    let cloud = Cloud::start(quick()).await;
    let mut failing = job("failing", "echo attempt $CLOUD_RUN_TASK_ATTEMPT; exit 7");
    task(&mut failing)["maxRetries"] = json!(2);
    cloud.create(failing).await;
    let execution = cloud.wait_ended(&cloud.run("failing").await).await;
    let (completed, name) = (condition(&execution, "Completed"), execution["metadata"]["name"].as_str().unwrap());
    assert_eq!((&completed["status"], &completed["reason"]), (&json!("False"), &json!("NonZeroExitCode")));
    let message = completed["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("Task {name}-task0 failed with exit code: 7")), "{message}");
    assert_eq!(execution["status"]["failedCount"], 1);
    assert_eq!(execution["status"]["retriedCount"], 2);
    assert_eq!(condition(&execution, "Retry")["severity"], "Info");
    let log = cloud.log(&execution).await;
    assert!(["attempt 0", "attempt 1", "attempt 2"].iter().all(|line| log.contains(line)), "{log}");
}

#[tokio::test]
async fn a_retry_that_succeeds_makes_the_execution_succeed() {
    let cloud = Cloud::start(quick()).await;
    let mut flaky = job("flaky", "test $CLOUD_RUN_TASK_ATTEMPT -ge 1");
    task(&mut flaky)["maxRetries"] = Value::Null;
    cloud.create(flaky).await;
    let execution = cloud.wait_ended(&cloud.run("flaky").await).await;
    assert_eq!(condition(&execution, "Completed")["status"], "True");
    assert_eq!(execution["status"]["succeededCount"], 1);
    assert_eq!(execution["status"]["retriedCount"], 1);
    assert!(execution["status"]["failedCount"].is_null());
}

#[tokio::test]
async fn all_tasks_run_and_parallelism_limits_how_many_run_at_once() {
    let cloud = Cloud::start(quick()).await;
    let mut many = job("many", "echo task $CLOUD_RUN_TASK_INDEX of $CLOUD_RUN_TASK_COUNT; sleep 0.1");
    many["spec"]["template"]["spec"]["taskCount"] = json!(4);
    many["spec"]["template"]["spec"]["parallelism"] = json!(2);
    cloud.create(many).await;
    let path = cloud.run("many").await;
    let mut most = 0;
    let execution = loop {
        let (_, execution) = cloud.get(&path).await;
        most = most.max(execution["status"]["runningCount"].as_i64().unwrap_or(0));
        if condition(&execution, "Completed")["status"] != "Unknown" {
            break execution;
        }
    };
    assert_eq!((most, execution["status"]["succeededCount"].as_i64()), (2, Some(4)));
    let log = cloud.log(&execution).await;
    assert!((0..4).all(|index| log.contains(&format!("task {index} of 4\n"))), "{log}");
}

#[tokio::test]
async fn a_timeout_ends_an_attempt_and_has_no_reason() {
    let cloud = Cloud::start(quick()).await;
    let mut slow = job("slow", "exec sleep 300");
    task(&mut slow)["timeoutSeconds"] = json!(1);
    cloud.create(slow).await;
    let begin = Instant::now();
    let execution = cloud.wait_ended(&cloud.run("slow").await).await;
    assert!(begin.elapsed() < Duration::from_secs(4));
    let completed = condition(&execution, "Completed");
    assert_eq!(completed["status"], "False");
    assert!(completed["reason"].is_null());
    assert!(completed["message"].as_str().unwrap().ends_with("The configured timeout was reached."), "{completed}");
}

#[tokio::test]
async fn a_cancel_sends_sigterm_and_respects_the_grace_period() {
    let directory = tempfile::tempdir().unwrap();
    let (pids, goodbye) = (directory.path().join("pids"), directory.path().join("goodbye"));
    let cloud = Cloud::start(quick()).await;
    let trap = format!("trap 'sleep 0.2; echo bye > {}; exit 0' TERM;", goodbye.display());
    cloud.create(job("polite", &stays(&pids, &trap))).await;
    let path = cloud.run("polite").await;
    let pids = content(&pids).await;
    let (status, _) = cloud.post(&format!("{path}:cancel"), json!({})).await;
    assert_eq!(status, 200);
    let execution = cloud.wait_ended(&path).await;
    assert_eq!(condition(&execution, "Completed")["reason"], "Cancelled");
    assert_eq!(execution["status"]["cancelledCount"], 1);
    assert_eq!(content(&goodbye).await, "bye\n");
    assert!(all_ended(&pids), "{pids}");
    let (status, error) = cloud.post(&format!("{path}:cancel"), json!({})).await;
    assert_eq!((status.as_u16(), &error["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let grace = Duration::from_millis(600);
    let cloud = Cloud::start(EmulatorConfig { kill_grace: grace, ..quick() }).await;
    cloud.create(job("stubborn", &stays(&pids, "trap '' TERM;"))).await;
    let path = cloud.run("stubborn").await;
    let pids = content(&pids).await;
    let begin = Instant::now();
    cloud.post(&format!("{path}:cancel"), json!({})).await;
    cloud.wait_ended(&path).await;
    let took = begin.elapsed();
    assert!(took >= grace && took < grace * 4, "{took:?}");
    assert!(all_ended(&pids), "{pids}");
}

#[tokio::test]
async fn deleting_a_running_job_ends_its_processes_and_frees_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let cloud = Cloud::start(quick()).await;
    cloud.create(job("gone", &stays(&pids, "trap 'sleep 0.3; exit 0' TERM;"))).await;
    let execution = cloud.run("gone").await;
    let pids = content(&pids).await;
    let path = format!("{JOBS}/gone");
    let (status, answer) = cloud.delete(&path).await;
    assert_eq!((status.as_u16(), &answer["status"]), (200, &json!("Success")));
    let (_, present) = cloud.get(&path).await;
    assert!(present["metadata"]["deletionTimestamp"].is_string(), "{present}");
    let (status, error) = cloud.post(JOBS, job("gone", "true")).await;
    assert_eq!((status.as_u16(), &error["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    let (status, error) = cloud.post(&format!("{path}:run"), json!({})).await;
    assert_eq!((status.as_u16(), &error["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
    cloud.wait_gone(&path).await;
    assert!(all_ended(&pids), "{pids}");
    assert_eq!(cloud.get(&execution).await.0, 404);
    cloud.create(job("gone", "true")).await;
}

#[tokio::test]
async fn processes_that_a_task_leaves_behind_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let cloud = Cloud::start(quick()).await;
    cloud.create(job("leaver", &format!("sleep 300 & echo $! > {}", pids.display()))).await;
    cloud.wait_ended(&cloud.run("leaver").await).await;
    let pids = content(&pids).await;
    assert!(all_ended(&pids), "{pids}");
}

#[tokio::test]
async fn stopping_the_emulator_ends_all_processes_within_its_short_grace_period() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(quick()).await;
    let mut all = String::new();
    for (name, trap) in [("stubborn", "trap '' TERM;"), ("polite", "")] {
        let pids = directory.path().join(name);
        cloud.create(job(name, &stays(&pids, trap))).await;
        cloud.run(name).await;
        all += &content(&pids).await;
    }
    // A stop also shortens the grace period of a cancel, which is ten seconds.
    let (_, listed) = cloud.get(EXECUTIONS).await;
    let name = listed["items"][1]["metadata"]["name"].as_str().unwrap();
    cloud.post(&format!("{EXECUTIONS}/{name}:cancel"), json!({})).await;
    let begin = Instant::now();
    cloud.emulator.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert!(all_ended(&all), "{all}");
}

#[test]
fn the_processes_end_with_the_tokio_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pids = runtime.block_on(async {
        let cloud = Cloud::start(quick()).await;
        cloud.create(job("lost", &stays(&pids, "trap '' TERM;"))).await;
        cloud.run("lost").await;
        let pids = content(&pids).await;
        std::mem::forget(cloud.emulator);
        pids
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    std::thread::sleep(Duration::from_millis(200));
    assert!(all_ended(&pids), "{pids}");
}

#[tokio::test]
async fn a_command_that_cannot_run_fails_with_a_message_in_condition_and_log() {
    let cloud = Cloud::start(quick()).await;
    for (name, command, words) in [
        ("image", json!([]), "The emulator runs commands, not images"),
        ("missing", json!(["no-such-program"]), "The program 'no-such-program' was not found"),
        ("refused", json!(["/etc/passwd"]), "The program '/etc/passwd' could not be started"),
    ] {
        let mut job = job(name, "");
        task(&mut job)["containers"][0]["command"] = command;
        cloud.create(job).await;
        let execution = cloud.wait_ended(&cloud.run(name).await).await;
        let message = condition(&execution, "Completed")["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
        assert!(cloud.log(&execution).await.contains(words));
    }
}

#[tokio::test]
async fn of_several_containers_the_first_one_with_a_command_runs() {
    let cloud = Cloud::start(quick()).await;
    let mut job = job("several", "echo first");
    let containers = task(&mut job)["containers"].as_array_mut().unwrap();
    containers.insert(0, json!({"name": "proxy", "image": "proxy"}));
    containers.push(json!({"name": "other", "image": "busybox", "command": ["echo", "second"]}));
    cloud.create(job).await;
    let execution = cloud.wait_ended(&cloud.run("several").await).await;
    let log = cloud.log(&execution).await;
    assert!(log.starts_with("first\n") && !log.contains("second"), "{log}");
}

#[tokio::test]
async fn overrides_change_only_one_execution() {
    let cloud = Cloud::start(quick()).await;
    let mut base = job("base", "");
    let container = &mut task(&mut base)["containers"][0];
    container["command"] = json!(["sh", "-c", "echo $A $B $0 $CLOUD_RUN_TASK_COUNT"]);
    container["args"] = json!(["first"]);
    container["env"] = json!([{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]);
    cloud.create(base).await;
    let overrides = json!({"overrides": {"taskCount": 2, "timeoutSeconds": 30, "delayExecution": true, "containerOverrides": [
        {"args": ["second"], "env": [{"name": "B", "value": "other"}]},
    ]}});
    let (status, execution) = cloud.post(&format!("{JOBS}/base:run"), overrides).await;
    assert_eq!(status, 200, "{execution}");
    assert_eq!(execution["spec"]["template"]["spec"]["timeoutSeconds"], "30");
    assert_eq!(execution["spec"]["delayExecution"], true);
    let path = format!("{EXECUTIONS}/{}", execution["metadata"]["name"].as_str().unwrap());
    let execution = cloud.wait_ended(&path).await;
    assert_eq!(cloud.log(&execution).await.matches("a other second 2\n").count(), 2);
    let execution = cloud.wait_ended(&cloud.run("base").await).await;
    assert!(cloud.log(&execution).await.starts_with("a b first 1\n"));
    for bad in [json!({"taskCount": 0}), json!({"containerOverrides": [{"name": "x"}]})] {
        let (status, answer) = cloud.post(&format!("{JOBS}/base:run"), json!({"overrides": bad})).await;
        assert_eq!(status, 400, "{answer}");
    }
}
