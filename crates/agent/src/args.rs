//! What `loco agent` takes.

use loco_guest::AcceleratorChoice;
use loco_http::{HostName, Origin};
use loco_media::PortRange;
use loco_model::InstanceId;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Arguments of the agent. Flags win over the environment, the environment over the defaults.
#[derive(Clone, Debug, clap::Args)]
#[command(subcommand_negates_reqs = true, subcommand_value_name = "COMMAND")]
pub struct AgentArgs {
    /// Ask an agent that runs, instead of running one
    #[command(subcommand)]
    pub command: Option<AgentCommand>,

    /// Guest profile: a built-in one by its name ("demo"), or a JSON file by its path
    #[arg(long, value_name = "NAME|FILE", env = "LOCO_PROFILE", default_value = "demo")]
    pub profile: String,

    /// Which instance this is, 0 to 8
    #[arg(long, value_name = "N", env = "LOCO_INSTANCE", default_value = "0", value_parser = parse_instance)]
    pub instance: InstanceId,

    /// Address to listen at for HTTP; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", env = "LOCO_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// File that holds the bearer token (mode 0600)
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE", required = true)]
    pub token_file: Option<PathBuf>,

    /// Folder for what must survive a restart (disk overlays, snapshots); without it they end with the agent
    #[arg(long, value_name = "DIR", env = "LOCO_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Start the guest from this snapshot of its own, each time
    #[arg(long, value_name = "NAME", env = "LOADVM_TAG")]
    pub start_from: Option<String>,

    /// Ports for media, UDP and TCP, one per viewer, such as 40000-40009; any free ones when left out
    #[arg(long, value_name = "A-B", env = "LOCO_RTC_PORTS")]
    pub rtc_ports: Option<PortRange>,

    /// Address that media is sent from [default: the one of --listen]
    #[arg(long, value_name = "ADDR", env = "LOCO_RTC_ADDRESS")]
    pub rtc_address: Option<IpAddr>,

    /// Accelerator of QEMU: auto (the best one that is proven to work here), kvm, hvf, whpx or tcg
    #[arg(long, value_name = "NAME", env = "LOCO_ACCEL", default_value = "auto")]
    pub accel: AcceleratorChoice,

    /// What the demo guest does [default: as the profile says]
    #[arg(long, value_name = "MODE", env = "LOCO_MODE", value_parser = ["town", "quiet", "box", "busy", "marker", "storm"])]
    pub mode: Option<String>,

    /// Most frames a second that are sent, 1 to 60
    #[arg(long, value_name = "N", env = "LOCO_MAX_FPS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub max_fps: u32,

    /// Ceiling of the video's bit rate in kbit/s, 100 to 50000 [default: by the picture's size, 2000 at 640x480]
    #[arg(long, value_name = "KBIT/S", env = "LOCO_BIT_RATE", value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub bit_rate: Option<u32>,

    /// Further host name by which clients call this agent (can be given several times)
    #[arg(long = "allow-host", value_name = "NAME", env = "LOCO_ALLOW_HOSTS", value_delimiter = ',')]
    pub allow_hosts: Vec<HostName>,

    /// Web site whose pages may watch, such as https://loco.example (can be given several times)
    #[arg(long = "allow-origin", value_name = "ORIGIN", env = "LOCO_ALLOW_ORIGINS", value_delimiter = ',')]
    pub allow_origins: Vec<Origin>,

    /// Seconds that the guest may take to power down at the end, 0 to 30
    #[arg(long, value_name = "S", env = "LOCO_POWER_DOWN", default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=30))]
    pub power_down: u64,

    /// Print one JSON line with the address once the agent answers
    #[arg(long)]
    pub json: bool,
}

/// What is asked of an agent that runs.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AgentCommand {
    /// Print the report of an agent as JSON
    Report(AskArgs),
    /// Check an agent and its guest, one line each; ends with status 1 when something is wrong
    Test(AskArgs),
}

/// Which agent is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// Base URL of the agent [default: the one that listens at --listen's address here]
    #[arg(long, value_name = "URL", env = "LOCO_AGENT")]
    pub agent: Option<String>,

    /// Address that the agent of this container listens at
    #[arg(long, value_name = "ADDR:PORT", env = "LOCO_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// File that holds the bearer token
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE")]
    pub token_file: PathBuf,
}

/// Reads an instance's index.
///
/// # Errors
/// When it is not a number from 0 to 8.
fn parse_instance(text: &str) -> Result<InstanceId, String> {
    text.parse::<usize>()
        .ok()
        .and_then(|index| InstanceId::try_new(index).ok().filter(|id| id.is_in_grid()))
        .ok_or_else(|| format!("{text:?} is no instance: expected a number from 0 to {}", InstanceId::COUNT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances() {
        assert_eq!(parse_instance("8").map(InstanceId::index), Ok(8));
        for bad in ["9", "-1", "", "instance-1"] {
            assert!(parse_instance(bad).is_err_and(|error| error.contains("0 to 8")), "{bad:?}");
        }
    }
}
