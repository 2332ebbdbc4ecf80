//! Which accelerator works here: only what was seen to run the demo guest is believed.
//!
//! A device file says little: paravirtual KVMs inside other machines open well and then die in real mode or SSE. So a
//! hardware accelerator is taken only after the demo guest's kernel said under it that it booted. The verdict is kept for
//! this host kernel, this QEMU and this demo kernel; one that came of a time-out, as on a machine with too much to do, only
//! for a while.

use super::{Accelerator, AcceleratorChoice, Verdict};
use crate::cache;
use crate::error::GuestError;
use crate::facts::{QemuFacts, identity};
use crate::kernel::demo_kernel;
use loco_process::{DeathSignal, Spawner};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// How long the demo guest may take to boot under a hardware accelerator; under none it takes 0.1 s.
const PATIENCE: Duration = Duration::from_secs(1);
/// What its kernel writes to the debug console when it has booted.
const BOOTED: &str = "loco: boot";
/// How long a trial that timed out is believed: agents that start together share it, and one that timed out every time is
/// seldom waited for.
const BELIEVED: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(3_600), Duration::from_secs(86_400)];
/// Bytes read of what it writes.
const MAX_OUTPUT: u64 = 64 << 10;

/// The accelerator for a choice, with the reason.
///
/// # Errors
/// When the one that was asked for cannot be had.
pub(crate) async fn choose(
    choice: AcceleratorChoice,
    program: &Path,
    facts: &QemuFacts,
) -> Result<Verdict, GuestError> {
    match choice {
        AcceleratorChoice::Only(accelerator) => match missing(accelerator) {
            Some(reason) => Err(GuestError::Accelerator { name: accelerator.as_str(), reason }),
            None => Ok(Verdict { accelerator, reason: "chosen by its user".to_owned() }),
        },
        AcceleratorChoice::Auto => Ok(auto(program, facts).await),
    }
}

async fn auto(program: &Path, facts: &QemuFacts) -> Verdict {
    let mut reasons = Vec::new();
    for accelerator in [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Whpx] {
        if !exists_on_this_system(accelerator) {
            continue;
        }
        if let Some(reason) = missing(accelerator) {
            reasons.push(format!("{accelerator}: {reason}"));
            continue;
        }
        match tried_once(accelerator, program, facts).await {
            Ok(seen) => return Verdict { accelerator, reason: seen },
            Err(reason) => reasons.push(format!("{accelerator}: {reason}")),
        }
    }
    let reason = if reasons.is_empty() {
        "this system has no hardware accelerator that QEMU knows".to_owned()
    } else {
        reasons.join("; ")
    };
    Verdict { accelerator: Accelerator::Tcg, reason }
}

fn exists_on_this_system(accelerator: Accelerator) -> bool {
    match accelerator {
        Accelerator::Kvm => cfg!(target_os = "linux"),
        Accelerator::Hvf => cfg!(target_os = "macos"),
        Accelerator::Whpx => cfg!(windows),
        Accelerator::Tcg => true,
    }
}

/// Why it cannot work, as far as that shows without trying.
fn missing(accelerator: Accelerator) -> Option<String> {
    if !exists_on_this_system(accelerator) {
        return Some("it does not exist on this operating system".to_owned());
    }
    if accelerator != Accelerator::Kvm {
        return None;
    }
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => None,
        Err(error) => Some(format!("/dev/kvm cannot be opened ({error})")),
    }
}

/// What a trial showed, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    seen: Result<String, String>,
    timed_out: Option<TimedOut>,
}

/// A guest that was still silent, which another trial may show otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TimedOut {
    /// How often in a row.
    times: usize,
    /// When last, in seconds since 1970 UTC.
    at_s: u64,
}

// === impl Trial ===

impl Trial {
    fn is_believed(&self, now_s: u64) -> bool {
        self.timed_out.is_none_or(|TimedOut { times, at_s }| {
            let longest = BELIEVED[times.clamp(1, BELIEVED.len()) - 1].as_secs();
            // A clock that was set back says nothing.
            now_s.checked_sub(at_s).is_some_and(|age_s| age_s < longest)
        })
    }

    fn now(booted: Result<u128, Failed>, before: Option<&Self>, now_s: u64) -> Self {
        let timed_out = matches!(booted, Err(Failed::TimedOut)).then(|| {
            let times = before.and_then(|before| before.timed_out).map_or(0, |timed_out| timed_out.times);
            TimedOut { times: times.saturating_add(1), at_s: now_s }
        });
        let seen = booted.map(|ms| format!("the demo guest booted under it in {ms} ms")).map_err(|e| e.to_string());
        Self { seen, timed_out }
    }
}

/// Why the demo guest's kernel did not boot.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It may be that this accelerator never gets there, or that others took the time.
    #[error("the demo guest did not boot under it within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("QEMU ended before the demo guest had booted ({0})")]
    Ended(String),
    #[error("QEMU cannot be started: {0}")]
    Start(#[from] std::io::Error),
}

/// The verdict of an earlier trial, or of one now; of several processes that want to know, one tries.
async fn tried_once(accelerator: Accelerator, program: &Path, facts: &QemuFacts) -> Result<String, String> {
    let kernel =
        demo_kernel().map_err(|_| "not tried, as the demo guest's kernel is not there to try it with".to_owned())?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let identity = |path: &Path| identity(path).unwrap_or_default();
    let key = format!("{accelerator} {release} {} {}", identity(program), identity(&kernel));
    let cached = || cache::load::<Trial>("accelerators", &key);
    if let Some(known) = cached().filter(|known| known.is_believed(now_s())) {
        return known.seen;
    }
    let turn = tokio::task::spawn_blocking(wait_for_turn).await.ok().flatten();
    let before = cached();
    if let Some(known) = before.as_ref().filter(|known| known.is_believed(now_s())) {
        return known.seen.clone();
    }
    let begun = Instant::now();
    let booted = boot(accelerator, program, &kernel).await.map(|()| begun.elapsed().as_millis());
    let trial = Trial::now(booted, before.as_ref(), now_s());
    tracing::info!(%accelerator, qemu = facts.version_text(), ?trial, "tried an accelerator");
    cache::store("accelerators", &key, &trial);
    drop(turn);
    trial.seen
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn wait_for_turn() -> Option<File> {
    let folder = cache::folder()?;
    fs::create_dir_all(&folder).ok()?;
    let file = File::create(folder.join("accelerators.lock")).ok()?;
    flock(&file, FlockOperation::LockExclusive).ok()?;
    Some(file)
}

/// Boots the demo guest's kernel and waits for its word.
async fn boot(accelerator: Accelerator, program: &Path, kernel: &Path) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(["-nodefaults", "-no-user-config", "-machine", "pc", "-m", "64M", "-display", "none"]);
    command.args(["-accel", accelerator.as_str(), "-device", "VGA", "-no-reboot"]);
    command.args(["-chardev", "file,id=out,path=/dev/fd/1", "-device", "isa-debugcon,iobase=0xe9,chardev=out"]);
    command.arg("-kernel").arg(kernel).args(["-append", "instance=0 mode=quiet size=640x480 music=off"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = Spawner::shared()?.spawn(command, DeathSignal::Kill).await?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failed::Start(std::io::Error::other("it has no output")));
    };
    let booted = async {
        let mut lines = BufReader::new(out.take(MAX_OUTPUT)).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if String::from_utf8_lossy(&line).contains(BOOTED) {
                return true;
            }
        }
        false
    };
    let seen = tokio::time::timeout(PATIENCE, booted).await;
    // Ended by us, if not by itself; its complaints are then all there.
    let _ = child.start_kill();
    let mut complaints = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, err.take(MAX_OUTPUT).read_to_end(&mut complaints)).await;
    let status = child.wait().await;
    match seen {
        Ok(true) => Ok(()),
        Ok(false) => {
            let complaints = String::from_utf8_lossy(&complaints);
            let last = complaints.lines().rfind(|line| !line.trim().is_empty()).map(str::trim);
            let how = status.map(|s| s.to_string()).unwrap_or_default();
            Err(Failed::Ended(last.unwrap_or(&how).to_owned()))
        }
        Err(_) => Err(Failed::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_time_out_is_believed_for_a_while_and_longer_each_time() {
        let mut trial = None;
        for (times, believed_s) in [(1, 60), (2, 3_600), (3, 86_400), (4, 86_400)] {
            let now = Trial::now(Err(Failed::TimedOut), trial.as_ref(), 1_000);
            assert_eq!(now.timed_out, Some(TimedOut { times, at_s: 1_000 }));
            for (at_s, believed) in [(1_000, true), (999 + believed_s, true), (1_000 + believed_s, false), (999, false)]
            {
                assert_eq!(now.is_believed(at_s), believed, "{times} time-outs, at {at_s} s");
            }
            trial = Some(now);
        }
        let booted = Trial::now(Ok(80), trial.as_ref(), 2_000);
        assert_eq!((booted.timed_out, booted.is_believed(u64::MAX)), (None, true));
        let again = Trial::now(Err(Failed::TimedOut), Some(&booted), 3_000);
        assert_eq!(again.timed_out.map(|timed_out| timed_out.times), Some(1), "what came between was none");
        let ended = Trial::now(Err(Failed::Ended("no".into())), None, 1);
        assert!(ended.is_believed(u64::MAX) && ended.seen.is_err());
    }

    #[tokio::test]
    async fn only_silence_is_a_time_out() {
        let dir = tempfile::tempdir().expect("dir");
        let tried = async |script: &str| {
            let program = dir.path().join("qemu");
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("mode");
            loop {
                match boot(Accelerator::Tcg, &program, Path::new("kernel")).await {
                    // Another test's child has just been forked, and holds what was written for a moment.
                    Err(Failed::Start(error)) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                    tried => return tried,
                }
            }
        };
        assert!(tried("echo loco: boot").await.is_ok());
        assert!(matches!(tried("echo no such thing >&2").await, Err(Failed::Ended(why)) if why == "no such thing"));
        assert!(matches!(tried("exec sleep 100").await, Err(Failed::TimedOut)));
        let missing = boot(Accelerator::Tcg, &dir.path().join("none"), Path::new("kernel")).await;
        assert!(matches!(missing, Err(Failed::Start(_))));
    }
}
