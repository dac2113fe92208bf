//! A process and its descendants, as one process group.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{guardian::Guardian, stopped};
use crate::emulator::{STOP_GRACE, executions::Stop};

/// A running process that leads a group of its own. Dropping it kills the group.
pub(super) struct Group {
    leader: Child,
    group: Option<Pid>,
    guardian: Arc<Guardian>,
}

impl Group {
    /// Starts a command as the leader of a new group.
    pub(super) fn start(command: &mut Command, guardian: Arc<Guardian>) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let group = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            guardian.watch(group.as_raw_nonzero().get());
        }
        Ok(Self { leader, group, guardian })
    }

    /// Waits for the leader's end. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Sends SIGTERM to the group, and SIGKILL after the grace, which a stop of the emulator shortens.
    pub(super) async fn terminate(&mut self, grace: Duration, stop: &mut watch::Receiver<Stop>) {
        self.signal(Signal::TERM);
        let mut end = Instant::now() + grace;
        let mut halted = false;
        loop {
            tokio::select! {
                _ = self.leader.wait() => return,
                () = sleep_until(end) => break,
                () = stopped(stop, Stop::Halt), if !halted => {
                    halted = true;
                    end = end.min(Instant::now() + STOP_GRACE);
                }
            }
        }
        self.signal(Signal::KILL);
        let _ = self.leader.wait().await;
    }

    /// A group without members is no error: it ended by itself.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    /// What the leader left behind goes too. (Linux and macOS give the group's number to nobody else while a member
    /// lives; that a new group got it since the leader was reaped just now would need all other numbers to be used up.)
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(group) = self.group {
            self.guardian.forget(group.as_raw_nonzero().get());
        }
    }
}
