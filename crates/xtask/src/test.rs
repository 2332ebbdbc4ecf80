//! `cargo xtask test`: every test there is.

use crate::count::Count;
use crate::host::Purpose;
use crate::shell::{self, Stream};
use crate::stages::Stages;
use crate::{demo, foreign, newer_qemu, schemathesis, setup};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crate whose tests share one wall of nine guests: run alone and one after another.
const WALL: &str = "loco-tests";
/// Its test program that breaks things.
const RECOVERY: &str = "recovery";
/// Its test program that asks the API whatever its document allows and forbids.
const CONTRACT: &str = "contract";

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
        let elsewhere = foreign::check(stages);
        let newer = newer_qemu_tests(stages, &mut count);
        let wall = stages.run("nine guests", || nine_guests(&mut count));
        let faults = stages.run("faults and remedies", || run_alone(RECOVERY, &[], &mut count));
        let contract = contract_tests(stages, &mut count);
        crates.and(elsewhere).and(newer).and(wall).and(faults).and(contract)
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

/// Runs the wall's test programs one after another. `cargo test -p` would choose the dependencies' features for that one
/// crate and build most of them a second time; what the whole workspace's build made is run instead.
fn nine_guests(count: &mut Count) -> Result<()> {
    let mut programs = test_programs("tests", None)?;
    // These have stages of their own.
    for apart in [RECOVERY, CONTRACT] {
        let apart = test_programs("tests", Some(apart))?;
        programs.retain(|program| !apart.contains(program));
    }
    if programs.is_empty() {
        bail!("crate {WALL} has no test programs");
    }
    let mut result = Ok(());
    for program in programs {
        // The first failure is told at the end; the others still run and are counted.
        result = result.and(run_one(&program, &[], count));
    }
    result
}

/// Runs one of the wall's test programs by its name.
fn run_alone(name: &str, environment: &[(&str, &Path)], count: &mut Count) -> Result<()> {
    let programs = test_programs("tests", Some(name))?;
    let program = programs.first().with_context(|| format!("crate {WALL} has no test program {name}"))?;
    run_one(program, environment, count)
}

fn run_one(program: &Path, environment: &[(&str, &Path)], count: &mut Count) -> Result<()> {
    let folder = shell::root()?.join("tests");
    let mut command = Command::new(program);
    command.arg("--test-threads=1").current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder);
    command.envs(environment.iter().copied());
    runner(&mut command, count)
}

/// The API against its document: generated requests too, where Schemathesis can be had.
fn contract_tests(stages: &mut Stages, count: &mut Count) -> Result<()> {
    let program = match schemathesis::program(&shell::target_directory()?) {
        Ok(program) => Some(program),
        Err(reason) => {
            stages.skip("generated requests", format!("{reason:#}"));
            None
        }
    };
    let environment: Vec<(&str, &Path)> = program.iter().map(|path| ("LOCO_SCHEMATHESIS", path.as_path())).collect();
    stages.run("the API's document", || run_alone(CONTRACT, &environment, count))
}

/// Runs the guests' tests once more, on a newer QEMU beside the system's.
fn newer_qemu_tests(stages: &mut Stages, count: &mut Count) -> Result<()> {
    const STAGE: &str = "newer QEMU";
    let program = match newer_qemu::program(&shell::target_directory()?) {
        Ok(program) => program,
        Err(reason) => {
            stages.skip(STAGE, format!("{reason:#}"));
            return Ok(());
        }
    };
    stages.run(STAGE, || {
        let folder = "crates/guest";
        let tests = test_programs(folder, Some("real_qemu"))?;
        let tests = tests.first().with_context(|| format!("{folder} has no test program real_qemu"))?;
        let folder = shell::root()?.join(folder);
        let mut command = Command::new(tests);
        command.current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder).env("LOCO_QEMU", program);
        runner(&mut command, count)
    })
}

/// The test programs that were built of the crate in `folder`: all, or the one of that name.
fn test_programs(folder: &str, name: Option<&str>) -> Result<Vec<PathBuf>> {
    let messages = shell::output(&mut test(&["--workspace", "--no-run", "--quiet", "--message-format=json"]))?;
    let manifest = shell::root()?.join(folder).join("Cargo.toml");
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo did not write JSON")?;
        let ours = message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
        if ours
            && message["profile"]["test"] == true
            && name.is_none_or(|name| message["target"]["name"] == name)
            && let Some(program) = message["executable"].as_str()
        {
            programs.push(program.into());
        }
    }
    Ok(programs)
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
