//! The lifelong thread that forks.

use std::io;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What the kernel sends to a child when its parent is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathSignal {
    /// SIGTERM: for children that have children or files of their own to clean up.
    Terminate,
    /// SIGKILL: for children that have nothing to clean up.
    Kill,
}

struct Request {
    command: Command,
    signal: DeathSignal,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts children from one thread that lives as long as the process. Cheap to clone: all are the same thread.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// The process's spawner; the first call starts its thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn shared() -> io::Result<Self> {
        static SHARED: OnceLock<Spawner> = OnceLock::new();
        if let Some(spawner) = SHARED.get() {
            return Ok(spawner.clone());
        }
        let (requests, receiver) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || serve(&receiver))?;
        // Two first callers may both get here; the loser's thread ends when its sender is dropped, before it forked.
        Ok(SHARED.get_or_init(|| Self { requests }).clone())
    }

    /// Starts `command`; the kernel sends `signal` to the child when this process ends for whatever reason.
    ///
    /// The command is otherwise taken as it is: set `kill_on_drop`, pipes and environment before. Must be called within
    /// a tokio runtime with I/O enabled, which then reaps the child.
    ///
    /// Off Linux there is no such signal: the child is then killed when its [`Child`] is dropped, but not when this
    /// process is itself killed.
    ///
    /// # Errors
    /// When the program cannot be started ([`io::ErrorKind::NotFound`]: there is no such program).
    pub async fn spawn(&self, mut command: Command, signal: DeathSignal) -> io::Result<Child> {
        arm(&mut command, signal);
        let (reply, answer) = oneshot::channel();
        let request = Request { command, signal, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the spawner's thread is gone");
        self.requests.send(request).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(requests: &mpsc::Receiver<Request>) {
    while let Ok(Request { mut command, signal, runtime, reply }) = requests.recv() {
        let _entered = runtime.enter();
        let child = command.spawn();
        if let Ok(child) = &child {
            tracing::debug!(pid = child.id(), ?signal, program = ?command.as_std().get_program(), "started a child");
        }
        // Whoever asked may have gone meanwhile: the child is then dropped, as its command's `kill_on_drop` says.
        let _ = reply.send(child);
    }
}

#[cfg(target_os = "linux")]
fn arm(command: &mut Command, signal: DeathSignal) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    let signal = match signal {
        DeathSignal::Terminate => Signal::TERM,
        DeathSignal::Kill => Signal::KILL,
    };
    // SAFETY: the closure runs between fork and exec and makes two system calls (rustix's are raw, without errno or
    // locks); it neither allocates nor panics.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            // The parent may have died before the line above: nothing would ever be sent then.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(3)) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn arm(command: &mut Command, _signal: DeathSignal) {
    command.kill_on_drop(true);
}

/// Asks a child to end (SIGTERM; off unix it is killed). Does nothing when it was reaped already.
///
/// # Errors
/// When the signal cannot be sent.
pub fn terminate(child: &mut Child) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process};
        match child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            Some(pid) => kill_process(pid, Signal::TERM).map_err(io::Error::from),
            None => Ok(()),
        }
    }
    #[cfg(not(unix))]
    child.start_kill()
}

/// Asks a child to end, waits at most `patience`, then kills it; returns how it ended.
///
/// # Errors
/// When the child cannot be signalled or waited for.
pub async fn terminate_and_wait(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    terminate(child)?;
    if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}
