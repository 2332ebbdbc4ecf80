//! The process beside one guest: guest and media behind HTTP.

mod args;

pub use args::{AgentArgs, RtcPorts, RtcPortsError};

/// Runs the agent until it is told to stop (SIGTERM or SIGINT) or cannot go on.
///
/// # Errors
/// When it cannot start: port in use, bad token file, bad profile, missing QEMU.
pub fn run(args: &AgentArgs) -> anyhow::Result<()> {
    anyhow::bail!("the agent for {} is not built yet", args.instance)
}
