//! Which accelerator works here: only what was seen to run the demo guest is believed.
//!
//! A device file says little: paravirtual KVMs inside other machines open well and then die in real mode or SSE. So a
//! hardware accelerator is taken only after the demo guest's kernel said under it that it booted. The verdict is kept for
//! this host kernel, this QEMU and this demo kernel.

use super::{Accelerator, AcceleratorChoice, Verdict};
use crate::cache;
use crate::error::GuestError;
use crate::facts::{QemuFacts, identity};
use crate::kernel::demo_kernel;
use loco_process::{DeathSignal, Spawner};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// How long the demo guest may take to boot under a hardware accelerator; under none it takes 0.1 s.
const PATIENCE: Duration = Duration::from_secs(1);
/// What its kernel writes to the debug console when it has booted.
const BOOTED: &str = "loco: boot";
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

/// The verdict of an earlier trial, or of one now; of several processes that want to know, one tries.
async fn tried_once(accelerator: Accelerator, program: &Path, facts: &QemuFacts) -> Result<String, String> {
    let kernel =
        demo_kernel().map_err(|_| "not tried, as the demo guest's kernel is not there to try it with".to_owned())?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let identity = |path: &Path| identity(path).unwrap_or_default();
    let key = format!("{accelerator} {release} {} {}", identity(program), identity(&kernel));
    let cached = || cache::load::<Result<String, String>>("accelerators", &key);
    if let Some(known) = cached() {
        return known;
    }
    let turn = tokio::task::spawn_blocking(wait_for_turn).await.ok().flatten();
    if let Some(known) = cached() {
        return known;
    }
    let begun = Instant::now();
    let seen = match boot(accelerator, program, &kernel).await {
        Ok(()) => Ok(format!("the demo guest booted under it in {} ms", begun.elapsed().as_millis())),
        Err(reason) => Err(reason),
    };
    tracing::info!(%accelerator, qemu = facts.version_text(), ?seen, "tried an accelerator");
    cache::store("accelerators", &key, &seen);
    drop(turn);
    seen
}

fn wait_for_turn() -> Option<File> {
    let folder = cache::folder()?;
    fs::create_dir_all(&folder).ok()?;
    let file = File::create(folder.join("accelerators.lock")).ok()?;
    flock(&file, FlockOperation::LockExclusive).ok()?;
    Some(file)
}

/// Boots the demo guest's kernel and waits for its word.
async fn boot(accelerator: Accelerator, program: &Path, kernel: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["-nodefaults", "-no-user-config", "-machine", "pc", "-m", "64M", "-display", "none"]);
    command.args(["-accel", accelerator.as_str(), "-device", "VGA", "-no-reboot"]);
    command.args(["-chardev", "file,id=out,path=/dev/fd/1", "-device", "isa-debugcon,iobase=0xe9,chardev=out"]);
    command.arg("-kernel").arg(kernel).args(["-append", "instance=0 mode=quiet size=640x480 music=off"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let spawner = Spawner::shared().map_err(|e| e.to_string())?;
    let mut child = spawner.spawn(command, DeathSignal::Kill).await.map_err(|e| e.to_string())?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("QEMU has no output".to_owned());
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
            Err(format!("QEMU ended before the demo guest had booted ({})", last.unwrap_or(&how)))
        }
        Err(_) => Err(format!("the demo guest did not boot under it within {} s", PATIENCE.as_secs())),
    }
}
