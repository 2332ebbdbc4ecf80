//! A QEMU that was stopped before it came up. Later ones are found by looking at whether the guest goes on.

use loco_process::ProcId;
use std::future::pending;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// One that was stopped for so long is not let go on any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Returns once our child `pid` has been stopped for [`PATIENCE`]; never where that is not known.
pub(super) async fn for_good(pid: Option<u32>) {
    let Some(pid) = pid else { return pending().await };
    // The kernel tells a parent of each stop and of each time that its child goes on. From here on none is missed.
    let mut children = match signal(SignalKind::child()) {
        Ok(children) => children,
        Err(error) => {
            tracing::warn!(%error, "a QEMU that is stopped while it starts will be found late");
            return pending().await;
        }
    };
    loop {
        if !is_stopped(pid) {
            if children.recv().await.is_none() {
                return pending().await;
            }
            continue;
        }
        let goes_on = async {
            while is_stopped(pid) {
                if children.recv().await.is_none() {
                    return pending().await;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, goes_on).await.is_err() {
            return;
        }
    }
}

/// Whether a signal stopped it: what a debugger stops is its user's.
fn is_stopped(pid: u32) -> bool {
    ProcId::process(pid).stat().is_some_and(|stat| stat.state == 'T')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::process::Command;

    #[tokio::test]
    async fn one_that_goes_on_is_left_alone() {
        let child = Command::new("sleep").arg("100").kill_on_drop(true).spawn().expect("sleep");
        let pid = child.id().expect("it runs");
        let signal = |signal| kill_process(Pid::from_raw(pid as i32).expect("a process"), signal).expect("ours");
        signal(Signal::STOP);
        let found = for_good(Some(pid));
        tokio::pin!(found);
        assert!(tokio::time::timeout(PATIENCE / 2, found.as_mut()).await.is_err(), "it may go on");
        signal(Signal::CONT);
        assert!(tokio::time::timeout(PATIENCE, found.as_mut()).await.is_err(), "it did");
        signal(Signal::STOP);
        tokio::time::timeout(PATIENCE * 3, found).await.expect("it does not go on");
    }
}
