//! A second QEMU for the tests, beside the system's: Debian 12 has 7.2, whose successors share a display's memory and send
//! sound in smaller pieces. It is taken from Debian's backports and only unpacked, never installed.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What its display, sound and firmware are in.
const PACKAGES: &[&str] =
    &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-system-modules-opengl", "seabios"];
const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                      http://deb.debian.org/debian bookworm-backports main\n";
/// The program in the folder: a script that says where the rest of it lies.
const PROGRAM: &str = "qemu-system-x86_64";

/// The command.
///
/// # Errors
/// As [`program`].
pub(crate) fn command() -> Result<()> {
    println!("{}", program(&shell::target_directory()?)?.display());
    Ok(())
}

/// The program, fetched if it is not there yet; or why there is none.
///
/// # Errors
/// When this is another system than Debian 12, or fetching failed.
pub(crate) fn program(target: &Path) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.contains("VERSION_CODENAME=bookworm") {
        bail!("only Debian 12 has an older QEMU with a newer one in its backports");
    }
    let folder = shell::cache().unwrap_or_else(|| target.to_owned()).join("newer-qemu");
    let program = folder.join(PROGRAM);
    if works(&program) {
        return Ok(program);
    }
    fetch(&folder).context("a newer QEMU could not be fetched")?;
    if works(&program) { Ok(program) } else { bail!("{} does not run here", program.display()) }
}

/// Whether it starts and has the display.
fn works(program: &Path) -> bool {
    let asked = Command::new(program).args(["-display", "help"]).stdin(Stdio::null()).output();
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).lines().any(|line| line.trim() == "dbus"))
}

fn fetch(folder: &Path) -> Result<()> {
    let work = folder.with_extension("unfinished");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("can't clear {}", work.display()))?;
    }
    let (lists, archives, debs) = (work.join("lists"), work.join("archives"), work.join("debs"));
    for folder in [&lists.join("partial"), &archives.join("partial"), &debs] {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    }
    let sources = work.join("sources.list");
    fs::write(&sources, SOURCE).with_context(|| format!("can't write {}", sources.display()))?;
    // Lists and archives of its own: the system's package manager does not notice, and no root is needed.
    let apt = || {
        let mut command = Command::new("apt-get");
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        for option in [
            option("Dir::Etc::sourcelist", &sources),
            "Dir::Etc::sourceparts=-".to_owned(),
            option("Dir::State::lists", &lists),
            option("Dir::Cache::archives", &archives),
            "Debug::NoLocking=1".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-q").current_dir(&debs);
        command
    };
    shell::run(apt().arg("update"))?;
    shell::run(apt().arg("download").args(PACKAGES))?;
    let root = work.join("root");
    for deb in fs::read_dir(&debs).context("can't read what was fetched")? {
        shell::run(Command::new("dpkg").arg("-x").arg(deb.context("can't read what was fetched")?.path()).arg(&root))?;
    }
    // Where it will lie, not where it is now.
    let root = folder.join("root/usr");
    let root = root.display();
    let script = format!(
        "#!/bin/sh\nexport QEMU_MODULE_DIR='{root}/lib/x86_64-linux-gnu/qemu'\n\
         exec '{root}/bin/{PROGRAM}' -L '{root}/share/qemu' -L '{root}/share/seabios' \"$@\"\n"
    );
    let program = work.join(PROGRAM);
    fs::write(&program, script).with_context(|| format!("can't write {}", program.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("can't make it a program")?;
    for spent in [lists, archives, debs] {
        fs::remove_dir_all(&spent).with_context(|| format!("can't remove {}", spent.display()))?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("can't clear {}", folder.display()))?;
    }
    fs::rename(&work, folder).with_context(|| format!("can't keep {}", folder.display()))
}
