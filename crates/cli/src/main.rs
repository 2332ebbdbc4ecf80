//! `loco`: everything without a desktop.

mod client;
mod control;
mod demo;
mod logging;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Nine emulated PCs in one window.
#[derive(Debug, Parser)]
#[command(name = "loco", version, about, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    logging: logging::LoggingArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start guests on this computer and show them in a window
    Demo(demo::DemoArgs),
    /// Show the instances of a control plane in a window
    View(loco_viewer::ViewArgs),
    /// Run one guest and serve it: picture, sound, input and health over HTTP and WebRTC
    Agent(loco_agent::AgentArgs),
    /// Watch and repair agents that someone else runs, and serve the API
    Control(control::ControlArgs),
    /// Measure the product beside its peers
    Bench(loco_bench::BenchArgs),
    #[command(flatten)]
    Client(client::ClientCommand),
}

// === impl Command ===

impl Command {
    /// What it is in the logs.
    fn process(&self) -> logging::Process {
        use logging::Process;
        match self {
            // Its subcommands answer one question.
            Self::Agent(args) if args.command.is_some() => Process::Question,
            Self::Agent(args) => Process::agent(args.instance.index()),
            Self::Demo(_) => Process::Desktop("demo".to_owned()),
            Self::View(_) => Process::Desktop("view".to_owned()),
            Self::Control(_) => Process::Server("control".to_owned()),
            Self::Bench(_) => Process::Desktop("bench".to_owned()),
            Self::Client(_) => Process::Question,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Held until everything is said.
    let _log_files = logging::init(&cli.logging, &cli.command.process());
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args, &cli.logging),
        // The window system wants the process's first thread.
        Command::View(args) => loco_viewer::run(args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Agent(args) => loco_agent::run(&args),
        Command::Control(args) => control::run(args),
        Command::Bench(args) => bench(args),
        Command::Client(command) => client::run(&command),
    };
    result.unwrap_or_else(|error| {
        logging::report(&error);
        ExitCode::FAILURE
    })
}

fn bench(args: loco_bench::BenchArgs) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(loco_bench::run(args))
}
