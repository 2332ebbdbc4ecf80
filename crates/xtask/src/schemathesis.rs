//! Schemathesis, which asks the API whatever its document allows and forbids: from PyPI, into a virtual environment in the
//! user's cache, at a version that is named here.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release that the tests were written against.
const VERSION: &str = "4.32.5";

/// The program, fetched if it is not there yet; or why there is none.
///
/// # Errors
/// When Python cannot make a virtual environment, or PyPI cannot be reached.
pub(crate) fn program(target: &Path) -> Result<PathBuf> {
    let folder = shell::cache().unwrap_or_else(|| target.to_owned()).join(format!("schemathesis-{VERSION}"));
    let program = folder.join("bin/st");
    if works(&program) {
        return Ok(program);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't clear {}", folder.display()))?;
    }
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).context("no virtual environment")?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]);
    shell::run(install.arg(format!("schemathesis=={VERSION}")))
        .context("Schemathesis could not be fetched from PyPI")?;
    if works(&program) { Ok(program) } else { bail!("{} does not run here", program.display()) }
}

fn works(program: &Path) -> bool {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains(VERSION))
}
