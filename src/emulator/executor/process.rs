//! Attempts of tasks as processes of this machine, and the log files of executions.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, sync::watch};

use super::{
    attempt::{TaskAttempt, TaskAttemptEnd, wait_for_stop},
    environment::environment_of,
    guardian::Guardian,
    process_group::ProcessGroup,
};
use crate::{api::Secret, emulator::store::StopRequest};

/// A shell's exit code for a program that does not exist.
const NOT_FOUND: i32 = 127;
/// A shell's exit code for a program that can't be started.
const NOT_STARTED: i32 = 126;

/// Runs the commands of containers as processes.
#[derive(Debug)]
pub(crate) struct ProcessExecutor {
    pub(crate) guardian: Arc<Guardian>,
    pub(crate) log_dir: PathBuf,
    pub(crate) path: String,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) kill_grace: Duration,
}

impl ProcessExecutor {
    pub(super) async fn run(&self, attempt: &TaskAttempt, stop: &mut watch::Receiver<StopRequest>) -> TaskAttemptEnd {
        let end = self.run_process(attempt, stop).await;
        let TaskAttempt { execution, task, number, .. } = attempt;
        let how = match &end {
            TaskAttemptEnd::Succeeded => "succeeded".to_owned(),
            TaskAttemptEnd::Failed(failure) => {
                let code = failure.shell_code().unwrap_or_default();
                format!("failed with exit code {code}: {}", failure.message)
            }
            TaskAttemptEnd::TimedOut => "timed out: the configured timeout was reached".to_owned(),
            TaskAttemptEnd::Stopped => "was stopped: the execution was cancelled or deleted".to_owned(),
        };
        self.log(execution, &format!("task {task}, attempt {number} {how}"));
        end
    }

    async fn run_process(&self, attempt: &TaskAttempt, stop: &mut watch::Receiver<StopRequest>) -> TaskAttemptEnd {
        let mut words = attempt.container.command.iter().chain(&attempt.container.args);
        let program = match words.next() {
            Some(program) if !attempt.container.command.is_empty() => program,
            _ => {
                let message = "The container has no command. The emulator runs commands, not images: it can't look up \
                               the image's entry point, so set `command`.";
                return TaskAttemptEnd::failed(NOT_STARTED, message);
            }
        };
        let environment = match environment_of(attempt, &self.secrets, &self.path) {
            Ok(environment) => environment,
            Err(message) => return TaskAttemptEnd::failed(NOT_STARTED, message),
        };
        let log = match self.open_log(&attempt.execution).and_then(|log| Ok((log.try_clone()?, log))) {
            Ok(log) => log,
            Err(error) => {
                let message = format!("The emulator's log folder can't be written: {error}.");
                return TaskAttemptEnd::failed(NOT_STARTED, message);
            }
        };
        let directory = match WorkingDirectory::new(attempt) {
            Ok(directory) => directory,
            Err(message) => return TaskAttemptEnd::failed(NOT_STARTED, message),
        };
        let mut command = Command::new(program);
        command.args(words).env_clear().envs(environment).current_dir(directory.path()).stdin(Stdio::null());
        command.stdout(log.0).stderr(log.1);
        let end = match ProcessGroup::start(&mut command, self.guardian.clone()) {
            Ok(group) => self.wait(group, attempt.timeout, stop).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("The program '{program}' was not found on this machine.");
                TaskAttemptEnd::failed(NOT_FOUND, message)
            }
            Err(error) => {
                TaskAttemptEnd::failed(NOT_STARTED, format!("The program '{program}' could not be started: {error}."))
            }
        };
        directory.remove().await;
        end
    }

    /// Waits for the end of a process. Terminates it when its timeout is reached or its execution has to stop.
    async fn wait(
        &self,
        mut group: ProcessGroup,
        timeout: Duration,
        stop: &mut watch::Receiver<StopRequest>,
    ) -> TaskAttemptEnd {
        tokio::select! {
            ended = group.ended() => match ended {
                Ok(status) if status.success() => TaskAttemptEnd::Succeeded,
                Ok(status) => failure(status),
                Err(error) => TaskAttemptEnd::failed(NOT_STARTED, format!("Waiting for the process failed: {error}.")),
            },
            () = tokio::time::sleep(timeout) => {
                group.terminate(self.kill_grace, stop).await;
                TaskAttemptEnd::TimedOut
            }
            () = wait_for_stop(stop, StopRequest::Cancel) => {
                group.terminate(self.kill_grace, stop).await;
                TaskAttemptEnd::Stopped
            }
        }
    }

    /// Adds a line from the emulator to the log of an execution. Ignores errors.
    pub(super) fn log(&self, execution: &str, line: &str) {
        if let Ok(mut log) = self.open_log(execution) {
            let _ = log.write_all(format!("[emulator] {line}\n").as_bytes());
        }
    }

    /// Opens a log for appending, which keeps the lines of concurrent tasks whole. Only the current user can read it: the
    /// output of a program may have secrets.
    fn open_log(&self, execution: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(log_path(&self.log_dir, execution))
    }
}

/// The log file of an execution.
pub(crate) fn log_path(log_dir: &Path, execution: &str) -> PathBuf {
    log_dir.join(format!("{execution}.log"))
}

fn failure(status: ExitStatus) -> TaskAttemptEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => TaskAttemptEnd::exited(code),
        (None, Some(signal)) => TaskAttemptEnd::signalled(signal),
        (None, None) => TaskAttemptEnd::exited(1),
    }
}

/// The directory in which a process starts.
enum WorkingDirectory {
    /// The container's `workingDir`.
    Given(PathBuf),
    /// A new directory, which is removed after the attempt.
    Temporary(TempDir),
}

impl WorkingDirectory {
    fn new(attempt: &TaskAttempt) -> Result<Self, String> {
        match attempt.container.extra.get("workingDir").and_then(Value::as_str).filter(|path| !path.is_empty()) {
            None => tempfile::Builder::new()
                .prefix("cloud-run-task-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|error| format!("A temporary directory could not be created: {error}.")),
            Some(path) if Path::new(path).is_dir() => Ok(Self::Given(PathBuf::from(path))),
            Some(path) => Err(format!("The working directory '{path}' does not exist on this machine.")),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    /// Removes a temporary directory. It may have many files, and removing them blocks, so this uses another thread.
    async fn remove(self) {
        if let Self::Temporary(directory) = self {
            let _ = tokio::task::spawn_blocking(move || directory.close()).await;
        }
    }
}
