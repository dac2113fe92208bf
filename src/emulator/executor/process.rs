//! Tries of tasks as processes of this machine.

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

use super::{Attempt, AttemptEnd, environment, group::Group, guardian::Guardian, stopped};
use crate::{api::Secret, emulator::executions::Stop};

/// Exit codes of a shell for a program that is not there, and one that can't be started.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Runs containers' commands.
#[derive(Debug)]
pub(in crate::emulator) struct ProcessExecutor {
    pub(in crate::emulator) guardian: Arc<Guardian>,
    pub(in crate::emulator) log_dir: PathBuf,
    pub(in crate::emulator) path: String,
    pub(in crate::emulator) secrets: BTreeMap<String, Secret>,
    pub(in crate::emulator) kill_grace: Duration,
}

impl ProcessExecutor {
    pub(super) async fn run(&self, attempt: &Attempt, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        let end = self.attempt(attempt, stop).await;
        let Attempt { execution, task, attempt: number, .. } = attempt;
        let how = match &end {
            AttemptEnd::Succeeded => "succeeded".to_owned(),
            AttemptEnd::Failed(code, message) => format!("failed with exit code {code}: {message}"),
            AttemptEnd::TimedOut => "was ended: the configured timeout was reached".to_owned(),
            AttemptEnd::Stopped => "was ended: the execution was cancelled or deleted".to_owned(),
        };
        self.log(execution, &format!("task {task}, attempt {number} {how}"));
        end
    }

    async fn attempt(&self, attempt: &Attempt, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        let mut words = attempt.container.command.iter().chain(&attempt.container.args);
        let program = match words.next() {
            Some(program) if !attempt.container.command.is_empty() => program,
            _ => {
                let message = "The container has no command. The emulator runs commands, not images: it can't look up \
                               the image's entry point, so set `command`.";
                return AttemptEnd::Failed(NOT_STARTED, message.to_owned());
            }
        };
        let environment = match environment::of(attempt, &self.secrets, &self.path) {
            Ok(environment) => environment,
            Err(message) => return AttemptEnd::Failed(NOT_STARTED, message),
        };
        let directory = match WorkingDirectory::of(attempt) {
            Ok(directory) => directory,
            Err(message) => return AttemptEnd::Failed(NOT_STARTED, message),
        };
        let mut command = Command::new(program);
        command.args(words).env_clear().envs(environment).current_dir(directory.path()).stdin(Stdio::null());
        let started = self.open_log(&attempt.execution).and_then(|log| {
            command.stdout(log.try_clone()?).stderr(log);
            Group::start(&mut command, self.guardian.clone())
        });
        let end = match started {
            Ok(group) => self.watch(group, attempt.timeout, stop).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("The program '{program}' was not found on this machine.");
                AttemptEnd::Failed(NOT_FOUND, message)
            }
            Err(error) => {
                AttemptEnd::Failed(NOT_STARTED, format!("The program '{program}' could not be started: {error}."))
            }
        };
        directory.remove().await;
        end
    }

    /// Waits for the end of a process, and sees to it.
    async fn watch(&self, mut group: Group, timeout: Duration, stop: &mut watch::Receiver<Stop>) -> AttemptEnd {
        tokio::select! {
            ended = group.ended() => match ended {
                Ok(status) if status.success() => AttemptEnd::Succeeded,
                Ok(status) => failure(status),
                Err(error) => AttemptEnd::Failed(NOT_STARTED, format!("The process was lost: {error}.")),
            },
            () = tokio::time::sleep(timeout) => {
                group.terminate(self.kill_grace, stop).await;
                AttemptEnd::TimedOut
            }
            () = stopped(stop, Stop::Cancelled) => {
                group.terminate(self.kill_grace, stop).await;
                AttemptEnd::Stopped
            }
        }
    }

    pub(super) fn log(&self, execution: &str, line: &str) {
        if let Ok(mut log) = self.open_log(execution) {
            let _ = log.write_all(format!("[emulator] {line}\n").as_bytes());
        }
    }

    /// Readable by this user only: what a program prints may be secret. Appending keeps lines of several tasks whole.
    fn open_log(&self, execution: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(log_path(&self.log_dir, execution))
    }
}

/// The log file of an execution.
pub(in crate::emulator) fn log_path(log_dir: &Path, execution: &str) -> PathBuf {
    log_dir.join(format!("{execution}.log"))
}

fn failure(status: ExitStatus) -> AttemptEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => AttemptEnd::Failed(code, "The container exited with an error.".to_owned()),
        (None, Some(signal)) => {
            AttemptEnd::Failed(128 + signal, format!("The container was terminated by signal {signal}."))
        }
        (None, None) => AttemptEnd::Failed(1, "The container exited with an error.".to_owned()),
    }
}

/// Where a process starts: the container's `workingDir`, or a fresh directory that goes with the try.
enum WorkingDirectory {
    Given(PathBuf),
    Fresh(TempDir),
}

impl WorkingDirectory {
    fn of(attempt: &Attempt) -> Result<Self, String> {
        match attempt.container.extra.get("workingDir").and_then(Value::as_str).filter(|path| !path.is_empty()) {
            None => tempfile::Builder::new()
                .prefix("cloud-run-task-")
                .tempdir()
                .map(Self::Fresh)
                .map_err(|error| format!("No temporary directory could be made: {error}.")),
            Some(path) if Path::new(path).is_dir() => Ok(Self::Given(PathBuf::from(path))),
            Some(path) => Err(format!("The working directory '{path}' does not exist on this machine.")),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Fresh(directory) => directory.path(),
        }
    }

    /// A task may leave many files, and removing them blocks.
    async fn remove(self) {
        if let Self::Fresh(directory) = self {
            let _ = tokio::task::spawn_blocking(move || directory.close()).await;
        }
    }
}
