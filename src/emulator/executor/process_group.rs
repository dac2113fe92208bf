//! A process and its descendants as one process group.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{attempt::wait_for_stop, guardian::Guardian};
use crate::emulator::store::StopRequest;

/// Time between SIGTERM and SIGKILL when the emulator stops. It is short because the user waits.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// A running process that leads its own process group. Dropping it kills the group.
pub(super) struct ProcessGroup {
    leader: Child,
    id: Option<Pid>,
    guardian: Arc<Guardian>,
}

impl ProcessGroup {
    /// Starts a command as the leader of a new group.
    pub(super) fn start(command: &mut Command, guardian: Arc<Guardian>) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            guardian.watch(id.as_raw_nonzero().get());
        }
        Ok(Self { leader, id, guardian })
    }

    /// Waits for the end of the leader. The future may be dropped, and the method called again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Sends SIGTERM to the group, and SIGKILL after the grace period. A stop of the emulator shortens the period.
    pub(super) async fn terminate(&mut self, grace: Duration, stop: &mut watch::Receiver<StopRequest>) {
        self.signal(Signal::TERM);
        let mut end = Instant::now() + grace;
        let mut is_shortened = false;
        loop {
            tokio::select! {
                _ = self.leader.wait() => return,
                () = sleep_until(end) => break,
                () = wait_for_stop(stop, StopRequest::Shutdown), if !is_shortened => {
                    is_shortened = true;
                    end = end.min(Instant::now() + STOP_GRACE);
                }
            }
        }
        self.signal(Signal::KILL);
        let _ = self.leader.wait().await;
    }

    /// Ignores errors: a group that has ended has no members to signal.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for ProcessGroup {
    /// Kills the processes that the leader left behind.
    ///
    /// Linux and macOS do not reuse the id of a group while it has a member. If it has none, the id could only belong to
    /// another group by now if all other ids had been used since the leader was reaped, a moment ago.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(id) = self.id {
            self.guardian.forget(id.as_raw_nonzero().get());
        }
    }
}
