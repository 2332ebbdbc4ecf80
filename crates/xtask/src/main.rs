//! `cargo xtask <command>`: set-up, demo, test, CI. Depends on nothing native, so that it builds where only Rust and gcc
//! are; it installs or names the rest.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program: printing is what it does")]

mod ci;
mod clean_room;
mod count;
mod demo;
mod foreign;
mod host;
mod icons;
mod newer_qemu;
mod schemathesis;
mod setup;
mod shell;
mod stages;
mod test;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  setup [--print]          install what build, demo and tests need (apt), or print the commands
  demo [--check] [args…]   set-up, build, then `loco demo args…`: nine guests in a window
                           --check: looks at every tile, prints one JSON line, exits 1 unless all are live
  test                     every test; the nine-guest ones too, on a screen of their own
  ci                       format, lints, licences, then all of test; minutes per stage
  clean-room [command…]    runs command (default: the README's two) in a clean Debian 12 that has only Rust and gcc
  newer-qemu               fetches a second, newer QEMU (Debian 12), prints its path: for LOCO_QEMU, as the tests do
  icons                    draws icons/*.png from icons/loco.svg";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else {
        println!("{HELP}");
        return Ok(());
    };
    match command.as_str() {
        "setup" => setup::command(rest),
        "demo" => demo::command(rest),
        "test" => no_arguments(rest).and_then(|()| test::command()),
        "ci" => no_arguments(rest).and_then(|()| ci::command()),
        "clean-room" => clean_room::command(rest),
        "newer-qemu" => no_arguments(rest).and_then(|()| newer_qemu::command()),
        "icons" => no_arguments(rest).and_then(|()| icons::command()),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("unknown command {other:?}\n\n{HELP}"),
    }
}

fn no_arguments(args: &[String]) -> Result<()> {
    match args.first() {
        None => Ok(()),
        Some(argument) => bail!("unknown argument {argument:?}: none are taken here"),
    }
}
