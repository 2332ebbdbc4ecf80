//! `loco demo`.

use crate::logging::LoggingArgs;
use std::process::ExitCode;

/// Arguments of the demo.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many guests, 1 to 9
    #[arg(short = 'n', long = "instances", value_name = "N", env = "LOCO_INSTANCES", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) instances: u8,
}

pub(crate) fn run(args: &DemoArgs, _logging: &LoggingArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo of {} guests is not built yet", args.instances)
}
