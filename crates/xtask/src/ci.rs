//! `cargo xtask ci`: what must hold for every commit, from a fresh clone, without input.

use crate::host::Purpose;
use crate::stages::Stages;
use crate::{setup, shell, test};
use anyhow::{Result, bail};
use std::env;

/// The command: stops at the first failed stage, and prints the minutes of all in any case.
///
/// # Errors
/// When a stage failed.
pub(crate) fn command() -> Result<()> {
    let mut stages = Stages::default();
    let result = run(&mut stages);
    println!("\n{}", stages.table());
    result
}

fn run(stages: &mut Stages) -> Result<()> {
    stages.run("set-up", || setup::ensure(Purpose::Test))?;
    component(stages, "format", "fmt", &[&["fmt", "--all", "--check"]])?;
    let bare = ["-p", "loco-demo-guest", "--profile", "guest", "--features", "bare", "--", "-D", "warnings"];
    let bare: Vec<&str> = std::iter::once("clippy").chain(bare).collect();
    let lints: [&[&str]; 2] = [&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &bare];
    component(stages, "lints", "clippy", &lints)?;
    // Not part of a toolchain: run where someone installed it.
    if shell::cargo_has("deny") {
        stages.run("licences, advisories", || shell::run(shell::cargo().args(["deny", "check"])))?;
    } else {
        stages.skip("licences, advisories", "cargo-deny is not installed (cargo install cargo-deny)");
    }
    test::run(stages)
}

/// Runs cargo commands of a toolchain component that a machine may lack; only outside CI may it.
fn component(stages: &mut Stages, stage: &'static str, name: &str, commands: &[&[&str]]) -> Result<()> {
    if !shell::cargo_has(name) {
        let reason = format!("this toolchain has no cargo {name} (rustup component add clippy rustfmt)");
        if env::var_os("CI").is_some() {
            bail!("{stage}: {reason}");
        }
        stages.skip(stage, reason);
        return Ok(());
    }
    stages.run(stage, || commands.iter().try_for_each(|args| shell::run(shell::cargo().args(*args))))
}
