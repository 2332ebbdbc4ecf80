//! `cargo xtask clean-room`: does it work where nobody has been before? A fresh Debian 12 with nothing but Rust and gcc,
//! a fresh clone of the last commit, and the README's commands in it.
//!
//! The room is made new each time from a base that is kept in the user's cache. Mounts and processes live in namespaces
//! of their own, so that nothing of them outlasts the command.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is run when nothing else is asked for: the README's two commands; the demo as a machine without a screen can.
const README: &str = "cargo xtask demo --check && cargo xtask test";

/// Beside the minimal system: the "gcc" of the README, and what lets cargo reach its registry.
const INCLUDE: &str = "--include=gcc,libc6-dev,ca-certificates";

const MIRROR: &str = "http://deb.debian.org/debian";

/// Runs as root inside of its own mount and process namespaces; `$1` is the room, `$2` the command.
const ENTER: &str = r#"
set -eu
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
status=0
chroot "$1" sh -c "cd /root/loco-cluster && $2" || status=$?
# What the kernel kills with its parent may take a moment to be gone.
sleep 1
for process in "$1"/proc/[0-9]*; do
  line=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null || true)
  if [ "${process##*/}" != 1 ] && [ -n "$line" ]; then echo "left running: $line"; status=1; fi
done
exit $status
"#;

/// The command.
///
/// # Errors
/// Not root, no debootstrap, or the commands failed in the room.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let wanted = if args.is_empty() { README.to_owned() } else { args.join(" ") };
    for program in ["debootstrap", "unshare", "chroot", "git"] {
        if shell::find(program).is_none() {
            bail!("{program} is needed: sudo apt-get install debootstrap util-linux coreutils git");
        }
    }
    if shell::output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("mounting and chroot need root: sudo -E env PATH=\"$PATH\" cargo xtask clean-room");
    }
    let cache = cache_folder()?;
    let base = base(&cache)?;
    let room = cache.join("room");
    if room.exists() {
        fs::remove_dir_all(&room).with_context(|| format!("can't clear {}", room.display()))?;
    }
    shell::run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&base).arg(&room))?;
    furnish(&room)?;
    let mut enter = Command::new("unshare");
    enter.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]).arg(&room).arg(&wanted);
    keep_environment(&mut enter);
    eprintln!("$ {wanted}    # in {}", room.display());
    let status = enter.status().context("can't start unshare")?;
    if status.success() { Ok(()) } else { bail!("`{wanted}` failed in the clean room: {status}") }
}

fn cache_folder() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("loco-clean-room");
    fs::create_dir_all(&cache).with_context(|| format!("can't make {}", cache.display()))?;
    Ok(cache)
}

/// The minimal system; made once (about a minute).
fn base(cache: &Path) -> Result<PathBuf> {
    let base = cache.join("debian-12");
    if !base.exists() {
        let unfinished = cache.join("debian-12.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("can't clear {}", unfinished.display()))?;
        }
        shell::run(
            Command::new("debootstrap").args(["--variant=minbase", INCLUDE, "bookworm"]).arg(&unfinished).arg(MIRROR),
        )?;
        fs::rename(&unfinished, &base).context("can't keep the base system")?;
    }
    Ok(base)
}

/// Puts Rust, the clone and this machine's way to the network into the room.
fn furnish(room: &Path) -> Result<()> {
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    shell::run(Command::new("cp").args(["-a", sysroot.trim()]).arg(room.join("opt/rust")))?;
    shell::run(Command::new("git").args(["clone", "--quiet"]).arg(shell::root()?).arg(room.join("root/loco-cluster")))?;
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        let inside = room.join(file.trim_start_matches('/'));
        fs::copy(file, &inside).with_context(|| format!("can't copy {file}"))?;
    }
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    if Path::new(bundle).exists() {
        fs::copy(bundle, room.join(&bundle[1..])).with_context(|| format!("can't copy {bundle}"))?;
    }
    let security = "deb http://deb.debian.org/debian-security bookworm-security main\n\
                    deb http://deb.debian.org/debian bookworm-updates main\n";
    fs::write(room.join("etc/apt/sources.list.d/updates.list"), security).context("can't write apt sources")
}

/// Only what a fresh login has, and the way to the network.
fn keep_environment(command: &mut Command) {
    let proxies = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TERM"];
    let kept: Vec<_> = proxies.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    command.env_clear().envs(kept);
    command.env("HOME", "/root").env("LANG", "C.UTF-8");
    command.env("PATH", "/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}
