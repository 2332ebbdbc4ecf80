//! `cargo xtask test`: every test there is.

use crate::count::Count;
use crate::host::Purpose;
use crate::shell::{self, Stream};
use crate::stages::Stages;
use crate::{demo, setup};
use anyhow::{Result, bail};
use std::process::Command;

/// The crate whose tests share one wall of nine guests: run alone and one after another.
const WALL: &str = "loco-tests";

/// The command.
///
/// # Errors
/// When anything failed.
pub(crate) fn command() -> Result<()> {
    let mut stages = Stages::default();
    let result = stages.run("set-up", || setup::ensure(Purpose::Test)).and_then(|()| run(&mut stages));
    eprintln!("\n{}", stages.table());
    result
}

/// All stages after set-up.
///
/// # Errors
/// When one failed: a build stops, failed tests don't keep the other tests from running.
pub(crate) fn run(stages: &mut Stages) -> Result<()> {
    let mut count = Count::default();
    let built = stages
        .run("build guest", demo::build_guest)
        .and_then(|()| stages.run("build loco", || demo::build_loco().map(drop)))
        .and_then(|()| stages.run("build tests", || shell::run(&mut test(&["--workspace", "--no-run"]))));
    let result = built.and_then(|()| {
        let crates = if shell::cargo_has("nextest") {
            let run = stages.run("crates' tests", || {
                let mut nextest = shell::cargo();
                nextest.args(["nextest", "run", "--workspace", "--no-fail-fast", "--exclude", WALL]);
                runner(&mut nextest, &mut count)
            });
            let docs = stages.run("doc tests", || {
                runner(&mut test(&["--workspace", "--doc", "--no-fail-fast", "--exclude", WALL]), &mut count)
            });
            run.and(docs)
        } else {
            stages.run("crates' tests", || {
                runner(&mut test(&["--workspace", "--no-fail-fast", "--exclude", WALL]), &mut count)
            })
        };
        let wall = stages.run("nine guests", || {
            runner(&mut test(&["-p", WALL, "--no-fail-fast", "--", "--test-threads=1"]), &mut count)
        });
        crates.and(wall)
    });
    if !count.skipped.is_empty() {
        println!("\nskipped:");
        for test in &count.skipped {
            println!("  {test}");
        }
    }
    println!("\n{}", count.summary());
    result
}

fn test(args: &[&str]) -> Command {
    let mut command = shell::cargo();
    command.arg("test").args(args);
    command
}

/// Runs a test runner and counts what it prints.
fn runner(command: &mut Command, count: &mut Count) -> Result<()> {
    let failed_before = count.failed;
    let succeeded = shell::watch(command, |stream, line| {
        // libtest speaks on stdout, nextest on stderr; a failed test's own output can't be mistaken for either, as
        // libtest shows it on stdout and nextest's summary starts with its own word.
        if stream == Stream::Out || line.trim_start().starts_with("Summary [") {
            count.see(line);
        }
    })?;
    match (succeeded, count.failed - failed_before) {
        (true, 0) => Ok(()),
        (_, 0) => bail!("`{}` failed without a failed test: it crashed or was killed", shell::shown(command)),
        (_, failed) => bail!("{failed} tests failed"),
    }
}
