//! `cargo xtask setup`: what the system has to bring.

use crate::host::{Host, Purpose};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::process::{Command, Stdio};

/// Programs that are asked for where no package manager can be asked.
const PROGRAMS: &[&str] = &["pkg-config", "cmake", "qemu-system-x86_64"];

/// The command.
///
/// # Errors
/// Unknown arguments, or packages that could not be installed.
pub(crate) fn command(args: &[String]) -> Result<()> {
    match args {
        [] => {
            ensure(Purpose::Test)?;
            println!("all that build, demo and tests need is installed");
            Ok(())
        }
        [print] if print == "--print" => {
            println!("{}", Host::detect().commands(Purpose::Test));
            Ok(())
        }
        _ => bail!("unknown arguments {args:?}: allowed is --print"),
    }
}

/// Installs what is missing for `purpose`, silently when nothing is.
///
/// # Errors
/// When something is missing that can't be installed from here; says the exact commands.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let host = Host::detect();
    let packages = host.apt_packages(purpose);
    if packages.is_empty() {
        let missing: Vec<_> = PROGRAMS.iter().filter(|name| shell::find(name).is_none()).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        bail!("missing: {}. Install what is needed by:\n{}", missing.join(", "), host.commands(purpose));
    }
    let missing = missing_packages(&packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing packages: {}", missing.join(" "));
    let Some(prefix) = as_root() else {
        bail!(
            "neither root nor sudo here. As root, run:\napt-get update\napt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    };
    shell::run(apt_get(prefix).arg("update"))?;
    shell::run(apt_get(prefix).args(["install", "-y", "--no-install-recommends"]).args(&missing))
        .context("apt-get could not install what is needed; the lines above say why")
}

/// What to put before a command that needs root: nothing, sudo, or there is no way.
fn as_root() -> Option<&'static [&'static str]> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        Some(&["env"])
    } else if shell::find("sudo").is_some() {
        Some(&["sudo", "env"])
    } else {
        None
    }
}

fn apt_get(prefix: &[&str]) -> Command {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]);
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// Those of `packages` that dpkg does not have installed.
fn missing_packages<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // Exits with 1 when a name is unknown; the known ones are printed all the same.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .context("can't start dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(not_installed(packages, &text))
}

fn not_installed<'a>(packages: &[&'a str], answer: &str) -> Vec<&'a str> {
    let installed: HashSet<&str> = answer.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    packages.iter().copied().filter(|name| !installed.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let answer = "installed cmake\nconfig-files dbus\nnot-installed xvfb\n";
        assert_eq!(not_installed(&["cmake", "dbus", "xvfb", "openbox"], answer), ["dbus", "xvfb", "openbox"]);
    }
}
