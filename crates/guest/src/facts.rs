//! What this machine's QEMU is and can.

use crate::error::GuestError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};
use tokio::process::Command;

/// What a QEMU program is and can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuFacts {
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// Whether it has the D-Bus display.
    pub has_dbus_display: bool,
}

impl QemuFacts {
    /// "7.2.22".
    #[must_use]
    pub fn version_text(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }
}

/// Name of the program that is looked for.
const PROGRAM: &str = "qemu-system-x86_64";
/// How long asking it may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Packages, by distribution.
const QEMU_PACKAGE: &str =
    "qemu-system-x86 (Debian, Ubuntu), qemu-system-x86-core (Fedora), qemu-system-x86 (Arch), qemu (Homebrew)";
const DISPLAY_PACKAGE: &str = "qemu-system-common (Debian 12), qemu-system-modules-opengl (Debian 13, Ubuntu 24.04), qemu-ui-dbus and qemu-audio-dbus (Fedora, Arch)";

/// The QEMU to use: `choice`, else `$LOCO_QEMU`, else what the path has.
///
/// # Errors
/// When there is none.
pub(crate) fn find_program(choice: Option<&Path>) -> Result<PathBuf, GuestError> {
    let named = choice.map(Path::to_owned).or_else(|| std::env::var_os("LOCO_QEMU").map(PathBuf::from));
    let wanted = named.unwrap_or_else(|| PathBuf::from(PROGRAM));
    let missing = || GuestError::QemuMissing { program: wanted.clone(), package: QEMU_PACKAGE };
    if wanted.components().count() > 1 {
        return if wanted.is_file() { Ok(wanted) } else { Err(missing()) };
    }
    let path = std::env::var_os("PATH").ok_or_else(missing)?;
    std::env::split_paths(&path).map(|dir| dir.join(&wanted)).find(|file| file.is_file()).ok_or_else(missing)
}

/// Asks the program, or the cache of an earlier answer of the very same program.
///
/// # Errors
/// When it is no QEMU, or has no D-Bus display.
pub(crate) async fn facts_of(program: &Path) -> Result<QemuFacts, GuestError> {
    let key = identity(program);
    let cached: Option<QemuFacts> = key.as_deref().and_then(|key| crate::cache::load("qemu", key));
    let facts = match cached {
        Some(facts) => facts,
        None => {
            // Both at once: each costs a start of QEMU.
            let (version, displays) =
                tokio::try_join!(ask(program, &["--version"]), ask(program, &["-display", "help"]))?;
            let unknown = || GuestError::QemuUnknown {
                program: program.to_owned(),
                detail: format!("--version says {:?}", version.lines().next().unwrap_or_default()),
            };
            let facts = QemuFacts {
                version: parse_version(&version).ok_or_else(unknown)?,
                has_dbus_display: displays.lines().any(|line| line.trim() == "dbus"),
            };
            // A missing display may be installed any time without the program changing.
            if let Some(key) = key.filter(|_| facts.has_dbus_display) {
                crate::cache::store("qemu", &key, &facts);
            }
            facts
        }
    };
    if facts.has_dbus_display {
        return Ok(facts);
    }
    let version = facts.version_text();
    Err(GuestError::DisplayMissing { program: program.to_owned(), version, package: DISPLAY_PACKAGE })
}

/// Path, size and time of change: another build is another program.
pub(crate) fn identity(program: &Path) -> Option<String> {
    let meta = std::fs::metadata(program).ok()?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(format!("{} {} {changed}", program.display(), meta.len()))
}

async fn ask(program: &Path, arguments: &[&str]) -> Result<String, GuestError> {
    let unknown = |detail: String| GuestError::QemuUnknown { program: program.to_owned(), detail };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .map_err(|_| unknown(format!("{arguments:?} took more than {} s", PATIENCE.as_secs())))?
        .map_err(|e| unknown(e.to_string()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// "QEMU emulator version 7.2.22 (Debian …)".
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let number = text.strip_prefix("QEMU emulator version ")?;
    let number = number.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?;
    let mut parts = number.split('.').map(str::parse);
    let version = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next().and_then(Result::ok).unwrap_or(0));
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", Some((7, 2, 22))),
            ("QEMU emulator version 10.0.2\n", Some((10, 0, 2))),
            ("QEMU emulator version 11.1-rc0", Some((11, 1, 0))),
            ("busybox", None),
        ] {
            assert_eq!(parse_version(text), version, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_no_qemu_is_refused() {
        let error = find_program(Some(Path::new("/nowhere/qemu"))).expect_err("missing");
        assert!(error.to_string().contains("/nowhere/qemu") && error.to_string().contains("qemu-system-x86"));
        let error = find_program(Some(Path::new("no-such-program"))).expect_err("missing");
        assert!(error.to_string().contains("no-such-program"));
        let error = facts_of(Path::new("/bin/true")).await.expect_err("not QEMU");
        assert!(error.to_string().contains("/bin/true"), "{error}");
    }

    #[tokio::test]
    async fn a_qemu_without_the_display_names_the_package() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("dir");
        let program = dir.path().join("qemu");
        let script =
            "#!/bin/sh\ncase $1 in --version) echo QEMU emulator version 9.0.1;; *) echo none; echo gtk;; esac\n";
        std::fs::write(&program, script).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("mode");
        let error = facts_of(&program).await.expect_err("no display").to_string();
        assert!(error.contains("9.0.1") && error.contains("qemu-system-modules-opengl"), "{error}");
    }
}
