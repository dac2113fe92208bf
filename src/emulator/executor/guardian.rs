//! The last resort against orphans: a process that outlives the emulator by a moment.
//!
//! A killed emulator can't end its processes. The guardian, a shell script, reads the numbers of live process groups
//! from a pipe; the pipe closes when the emulator is gone, however it went, and the guardian kills what is left. What
//! it can't help: a group that began within the few microseconds before its number was written.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Reads `+ GROUP` and `- GROUP` until the end, then kills the groups that were not taken off again.
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

/// A running guardian.
#[derive(Debug)]
pub(in crate::emulator) struct Guardian {
    pipe: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
}

impl Guardian {
    /// Starts a guardian, in a process group of its own so that a terminal's Ctrl-C does not reach it.
    pub(in crate::emulator) fn start() -> io::Result<Self> {
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

    /// Puts a process group under guard.
    pub(super) fn watch(&self, group: i32) {
        self.write('+', group);
    }

    /// Takes a process group off guard: it has ended, and its number may come to mean another.
    pub(super) fn forget(&self, group: i32) {
        self.write('-', group);
    }

    /// Ends the guardian, which kills what it still guards. A second call does nothing.
    pub(in crate::emulator) fn dismiss(&self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }

    /// Lines are far shorter than the pipe is long, so that this does not block; a guardian that somebody killed is
    /// done without.
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
