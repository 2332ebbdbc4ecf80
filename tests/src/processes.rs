//! Who runs, and whether all of them are gone.

use crate::wait::wait_for;
use anyhow::{Context, Result, ensure};
use loco_bench::cpu::{self, Process};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The descendants of `root`, and itself.
#[must_use]
pub fn tree(root: u32) -> Vec<Process> {
    cpu::tree(root)
}

/// The one process below `root` for which `is` holds.
///
/// # Errors
/// When there is none, or more than one.
pub fn only(root: u32, what: &str, is: impl Fn(&Process) -> bool) -> Result<Process> {
    let found: Vec<Process> = tree(root).into_iter().filter(is).collect();
    ensure!(found.len() == 1, "expected one {what}, found {found:?}");
    found.into_iter().next().context("none")
}

/// The agent of an instance below `loco demo`.
///
/// # Errors
/// When it does not run.
pub fn agent_of(demo: u32, index: usize) -> Result<Process> {
    let place = format!(" --instance {index} ");
    only(demo, "agent", |p| p.has_argument("agent") && format!("{} ", p.command).contains(&place))
}

/// The QEMU below an agent.
///
/// # Errors
/// When it does not run.
pub fn qemu_of(agent: u32) -> Result<Process> {
    only(agent, "QEMU", |process| process.program().starts_with("qemu-system"))
}

/// Stops a process as a debugger does; it stays, with everything that it has open.
///
/// # Errors
/// When there is no such process.
pub fn freeze(pid: u32) -> Result<()> {
    signal(pid, Signal::STOP)
}

/// kill -9.
///
/// # Errors
/// When there is no such process.
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(id, signal).with_context(|| format!("can't send {signal:?} to {pid}"))
}

/// Waits until none of `processes` runs any more.
///
/// # Errors
/// When one still does after `deadline`.
pub async fn wait_gone(processes: &[Process], deadline: Duration) -> Result<()> {
    wait_for("all processes to be gone", deadline, async || {
        let left: Vec<_> = processes.iter().filter(|process| runs(process)).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .await
}

/// Whether it still runs: a process with this id and this command line that is no zombie.
#[must_use]
pub fn runs(process: &Process) -> bool {
    tree(process.pid).first().is_some_and(|now| now.command == process.command && !now.command.is_empty())
}

/// Unix sockets anywhere below a folder.
///
/// # Errors
/// When the folder can't be read.
pub fn sockets_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(sockets_below(&entry.path())?);
        } else if kind.is_socket() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_deep_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("deep/s");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(sockets_below(folder.path()).unwrap(), [path]);
    }

    #[tokio::test]
    async fn a_killed_process_is_gone() {
        let mut child = tokio::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().unwrap();
        let process = only(pid, "sleep", |p| p.program() == "sleep").unwrap();
        assert!(runs(&process));
        assert!(wait_gone(std::slice::from_ref(&process), Duration::ZERO).await.is_err());
        kill(pid).unwrap();
        wait_gone(&[process], Duration::from_secs(5)).await.unwrap();
        assert!(!child.wait().await.unwrap().success());
    }
}
