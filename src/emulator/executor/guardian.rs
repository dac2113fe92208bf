//! The guardian: a process that outlives the emulator by a moment and kills the processes that it left behind.
//!
//! A killed emulator can't end its processes. The guardian is a shell script that reads the ids of live process groups
//! from a pipe. The pipe closes when the emulator ends, for whatever reason, and the guardian kills the groups that are
//! left.
//!
//! Limits: it does not know a group that was started in the few microseconds before its id was written.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Reads lines `+ GROUP` (add) and `- GROUP` (remove) until the end of input, then kills the groups that are left.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' '
while read -r change group; do
  case $change in
    +) groups="$groups$group " ;;
    -) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// A running guardian process.
#[derive(Debug)]
pub(crate) struct Guardian {
    pipe: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
}

impl Guardian {
    /// Starts a guardian in its own process group, so that a Ctrl-C in the terminal does not end it.
    pub(crate) fn start() -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "cloud-run-emulator-guardian"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { pipe, child: Mutex::new(child) })
    }

    /// Adds a process group, which the guardian kills if the emulator ends first.
    pub(super) fn watch(&self, group: i32) {
        self.write('+', group);
    }

    /// Removes a process group that has ended. The system may reuse its id for another group.
    pub(super) fn forget(&self, group: i32) {
        self.write('-', group);
    }

    /// Ends the guardian, which first kills the groups that it still has. A second call does nothing.
    pub(crate) fn dismiss(&self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }

    /// Writes a line. This does not block, because a line is far shorter than the buffer of the pipe. Ignores errors:
    /// the emulator works without a guardian that somebody has killed.
    fn write(&self, change: char, group: i32) {
        if let Some(pipe) = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = pipe.write_all(format!("{change} {group}\n").as_bytes());
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.dismiss();
    }
}
