//! Checks that what plays sound compiles for the systems that tests cannot run on: WASAPI on Windows, CoreAudio on macOS.

use crate::shell;
use crate::stages::Stages;
use anyhow::{Context, Result};

/// The name in the table of stages.
const STAGE: &str = "sound elsewhere";
/// What it is checked for.
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "x86_64-apple-darwin"];

/// Checks each target. Without rustup, or where it cannot bring the targets' standard library, the stage is skipped.
///
/// # Errors
/// When the crate does not compile for one of them.
pub(crate) fn check(stages: &mut Stages) -> Result<()> {
    let tools = shell::find("rustup").context("rustup is not there, which brings other targets' standard library");
    let tools = tools.and_then(|rustup| {
        let mut add = std::process::Command::new(rustup);
        add.args(["target", "add"]).args(TARGETS).current_dir(shell::root()?);
        shell::run(&mut add).context("rustup cannot bring other targets' standard library")?;
        shell::find("true").context("there is no program `true`")
    });
    let nothing = match tools {
        Ok(nothing) => nothing,
        Err(reason) => {
            stages.skip(STAGE, format!("{reason:#}"));
            return Ok(());
        }
    };
    stages.run(STAGE, || {
        TARGETS.iter().try_for_each(|target| {
            let mut check = shell::cargo();
            // Nothing is linked, so libopus need not be built by compilers for those systems.
            check.args(["check", "-p", "loco-sound", "--target", target]).env("CMAKE", &nothing);
            shell::run(&mut check)
        })
    })
}
