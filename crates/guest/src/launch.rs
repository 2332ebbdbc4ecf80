//! One QEMU from its start to its end.

mod stopped;

use crate::command_line::{Paths, StartOptions, command_line};
use crate::dbus::{self, Attached, BusSocket};
use crate::facts::QemuFacts;
use crate::input::GuestInput;
use crate::logs::Log;
use crate::profile::{AudioCard, Profile};
use crate::qmp::Qmp;
use crate::shared::Shared;
use loco_model::InstanceId;
use loco_process::{DeathSignal, RunDir, Spawner};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a QEMU may take from its start until its monitor and display answer. Nine that start at once on two loaded
/// cores take about a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long QEMU's last words are waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Everything that every start of one guest has in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) instance: InstanceId,
    pub(crate) program: PathBuf,
    pub(crate) facts: QemuFacts,
    pub(crate) paths: Paths,
    pub(crate) run_dir: RunDir,
    pub(crate) spawner: Spawner,
    pub(crate) qemu_log: Log,
    pub(crate) guest_log: Log,
}

/// A QEMU that is being started, or runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    logs: Vec<JoinHandle<()>>,
}

/// What a running QEMU answers to.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qmp: Qmp,
    /// Kept for as long as the guest is shown; its parts end with it.
    _attached: Attached,
    tasks: Vec<JoinHandle<()>>,
    input: GuestInput,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.input.close();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What listens for a QEMU that is about to start.
#[derive(Debug)]
pub(crate) struct Sockets {
    qmp: UnixListener,
    bus: BusSocket,
}

/// Starts QEMU; it connects to the sockets by itself.
///
/// # Errors
/// When a socket cannot be made, or the program not be started.
pub(crate) async fn spawn(plan: &Plan, start: &StartOptions) -> io::Result<(Process, Sockets)> {
    for socket in [&plan.paths.qmp_socket, &plan.paths.bus_socket] {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let sockets =
        Sockets { qmp: UnixListener::bind(&plan.paths.qmp_socket)?, bus: BusSocket::bind(&plan.paths.bus_socket)? };
    let arguments = command_line(&plan.profile, plan.instance, &plan.paths, &plan.facts, start);
    tracing::debug!(program = %plan.program.display(), ?arguments, "starting QEMU");
    let mut command = Command::new(&plan.program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = plan.spawner.spawn(command, DeathSignal::Kill).await?;
    let mut logs = Vec::with_capacity(2);
    if let Some(out) = child.stdout.take() {
        logs.push(tokio::spawn(plan.guest_log.clone().follow(out)));
    }
    if let Some(err) = child.stderr.take() {
        logs.push(tokio::spawn(plan.qemu_log.clone().follow(err)));
    }
    Ok((Process { child, logs }, sockets))
}

impl Process {
    /// Its id, while it has not ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, and until its last words are in the logs.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // Whoever waits may give up in between and come back: a log that was waited for is not waited for again.
        while let Some(log) = self.logs.last_mut() {
            // A child of QEMU's could hold the pipe open.
            let _ = tokio::time::timeout(LAST_WORDS, log).await;
            self.logs.pop();
        }
        status
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "QEMU had ended already");
        }
    }
}

/// Waits until QEMU, whose process is `pid`, has come up, and attaches to it.
///
/// # Errors
/// What went wrong, for a person; not when QEMU just ends, which its [`Process`] tells better.
pub(crate) async fn attach(
    plan: Arc<Plan>,
    pid: Option<u32>,
    sockets: Sockets,
    shared: Arc<Shared>,
    input: GuestInput,
) -> Result<Machine, String> {
    let begun = tokio::time::Instant::now();
    let qmp = async {
        let (stream, _) = sockets.qmp.accept().await.map_err(|e| format!("its monitor: {e}"))?;
        // One seat: whoever else tries is refused rather than kept waiting.
        drop(sockets.qmp);
        let _ = fs::remove_file(&plan.paths.qmp_socket);
        Qmp::open(stream).await.map_err(|e| format!("its monitor: {e}"))
    };
    let bus = async {
        let seat = sockets.bus.accept().await.map_err(|e| format!("its display: {e}"))?;
        let has_sound = plan.profile.audio.card != AudioCard::None;
        dbus::attach(seat, &shared, has_sound).await.map_err(|e| format!("its display: {e}"))
    };
    let both = async { tokio::try_join!(qmp, bus) };
    let (qmp, attached) = tokio::select! {
        come = tokio::time::timeout(PATIENCE, both) => {
            come.map_err(|_| format!("it did not come up within {} s", PATIENCE.as_secs()))??
        }
        () = stopped::for_good(pid) => return Err("it was stopped by a signal (SIGSTOP) before it came up".to_owned()),
    };
    tracing::debug!(ms = begun.elapsed().as_millis() as u64, "QEMU is up");
    input.open();
    // In a folder that is not there: it can never be opened.
    let unopenable: Arc<str> = plan.run_dir.path().join("none/kick").to_string_lossy().into();
    let monitor = qmp.clone();
    let kick = move || {
        let (monitor, unopenable) = (monitor.clone(), Arc::clone(&unopenable));
        async move { monitor.kick(&unopenable).await }
    };
    let tasks = vec![
        tokio::spawn(input.clone().run(Arc::clone(&attached.injector), Arc::clone(&shared))),
        tokio::spawn(Arc::clone(&shared.kicks).run(kick)),
    ];
    Ok(Machine { qmp, _attached: attached, tasks, input })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_can_be_waited_for_in_pieces() {
        let child = Command::new("true").spawn().expect("true");
        let (done, done_in) = tokio::sync::oneshot::channel::<()>();
        let slow = tokio::spawn(async move { drop(done_in.await) });
        let logs = vec![tokio::spawn(async {}), slow, tokio::spawn(async {})];
        let mut process = Process { child, logs };
        let waited_for_both = async {
            let ended = process.ended();
            tokio::pin!(ended);
            // By then the child has ended, and whichever log comes first.
            tokio::time::timeout(LAST_WORDS / 2, ended.as_mut()).await
        };
        assert!(waited_for_both.await.is_err(), "the slow log keeps it");
        drop(done);
        assert!(process.ended().await.is_ok_and(|status| status.success()));
        assert!(process.ended().await.is_ok(), "known for good");
    }
}
