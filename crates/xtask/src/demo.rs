//! `cargo xtask demo`: from nothing to nine guests in a window.

use crate::host::Purpose;
use crate::{setup, shell};
use anyhow::{Context, Result, bail};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Size of the virtual screen: the wall of the benchmarks.
const SCREEN: &str = "1280x960x24";

/// The command. Does not return when all is well: this process becomes `loco demo`, so that Ctrl+C and the exit status
/// are its own.
///
/// # Errors
/// Set-up or build failed, or there is no display.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let asks = |flag: &str| args.iter().any(|arg| arg == flag);
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()));
    let needs_screen = cfg!(target_os = "linux") && !display && !asks("--headless") && !asks("--help");
    if needs_screen && !asks("--check") {
        bail!(
            "no display: neither DISPLAY nor WAYLAND_DISPLAY is set. Run this in a desktop session; or without a window: \
             `cargo xtask demo --check` (own virtual screen) or `cargo xtask demo --headless --json`"
        );
    }
    setup::ensure(Purpose::Demo)?;
    build_guest()?;
    let loco = build_loco()?;
    let mut demo = Command::new(&loco);
    demo.arg("demo").args(args);
    if needs_screen {
        demo.env("DISPLAY", virtual_screen()?);
    }
    become_program(demo)
}

/// Builds the bare-metal demo guest: `target/guest/loco-demo-guest`.
///
/// # Errors
/// When cargo fails.
pub(crate) fn build_guest() -> Result<()> {
    shell::run(shell::cargo().args(["build", "-p", "loco-demo-guest", "--profile", "guest", "--features", "bare"]))
}

/// Builds the `loco` executable and says where it is.
///
/// # Errors
/// When cargo fails.
pub(crate) fn build_loco() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "-p", "loco"]))?;
    Ok(shell::target_directory()?.join("debug").join(format!("loco{}", env::consts::EXE_SUFFIX)))
}

/// Starts an Xvfb that ends with this process (also when it was replaced by, or killed as, another program), and
/// returns its `DISPLAY`.
fn virtual_screen() -> Result<String> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "Xvfb", "-displayfd", "1", "-screen", "0", SCREEN]);
    command.args(["-nolisten", "tcp", "-noreset"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A group of its own: Ctrl+C must reach it only after the window that is on it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("can't start Xvfb by setpriv")?;
    let mut number = String::new();
    let out = child.stdout.take().context("Xvfb has no output")?;
    BufReader::new(out).read_line(&mut number).context("Xvfb did not say its display number")?;
    if number.trim().is_empty() {
        bail!("Xvfb ended at once: {}", child.wait()?);
    }
    Ok(format!(":{}", number.trim()))
}

#[cfg(unix)]
fn become_program(mut command: Command) -> Result<()> {
    let line = shell::shown(&command);
    eprintln!("$ {line}");
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(error).with_context(|| format!("can't start `{line}`"))
}

#[cfg(not(unix))]
fn become_program(mut command: Command) -> Result<()> {
    shell::run(&mut command)
}
