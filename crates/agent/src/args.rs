//! What `loco agent` takes.

use loco_http::{HostName, Origin};
use loco_model::InstanceId;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Arguments of the agent. Flags win over the environment, the environment over the defaults.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
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
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE")]
    pub token_file: PathBuf,

    /// Folder for what must survive a restart (disk overlays, snapshots); without it they end with the agent
    #[arg(long, value_name = "DIR", env = "LOCO_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Ports for media, UDP and TCP, one per viewer, such as 40000-40009; any free ones when left out
    #[arg(long, value_name = "A-B", env = "LOCO_RTC_PORTS")]
    pub rtc_ports: Option<RtcPorts>,

    /// Address that media is sent from [default: the one of --listen]
    #[arg(long, value_name = "ADDR", env = "LOCO_RTC_ADDRESS")]
    pub rtc_address: Option<IpAddr>,

    /// Accelerator of QEMU: the best one that is proven to work here, or one by name
    #[arg(long, value_name = "NAME", env = "LOCO_ACCEL", default_value = "auto", value_parser = ["auto", "tcg", "kvm", "hvf", "whpx"])]
    pub accel: String,

    /// What the demo guest does [default: as the profile says]
    #[arg(long, value_name = "MODE", env = "LOCO_MODE", value_parser = ["town", "quiet", "box", "busy"])]
    pub mode: Option<String>,

    /// Most frames a second that are sent, 1 to 60
    #[arg(long, value_name = "N", env = "LOCO_MAX_FPS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub max_fps: u32,

    /// Ceiling of the video's bit rate in kbit/s, 100 to 50000
    #[arg(long, value_name = "KBIT/S", env = "LOCO_BIT_RATE", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub bit_rate: u32,

    /// Further host name by which clients call this agent (can be given several times)
    #[arg(long = "allow-host", value_name = "NAME", env = "LOCO_ALLOW_HOSTS", value_delimiter = ',')]
    pub allow_hosts: Vec<HostName>,

    /// Web site whose pages may watch, such as https://loco.example (can be given several times)
    #[arg(long = "allow-origin", value_name = "ORIGIN", env = "LOCO_ALLOW_ORIGINS", value_delimiter = ',')]
    pub allow_origins: Vec<Origin>,

    /// Print one JSON line with the address once the agent answers
    #[arg(long)]
    pub json: bool,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcPorts {
    /// First.
    pub first: u16,
    /// Last; not below the first.
    pub last: u16,
}

/// Not a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of ports: expected FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as 40000-40009")]
pub struct RtcPortsError(String);

impl FromStr for RtcPorts {
    type Err = RtcPortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| part.parse::<u16>().ok().filter(|port| *port > 0);
        text.split_once('-')
            .and_then(|(first, last)| Some(Self { first: number(first)?, last: number(last)? }))
            .filter(|ports| ports.first <= ports.last)
            .ok_or_else(|| RtcPortsError(text.to_owned()))
    }
}

/// Reads an instance's index.
///
/// # Errors
/// When it is not a number from 0 to 8.
fn parse_instance(text: &str) -> Result<InstanceId, String> {
    text.parse::<usize>()
        .ok()
        .and_then(|index| InstanceId::try_new(index).ok())
        .ok_or_else(|| format!("{text:?} is no instance: expected a number from 0 to {}", InstanceId::COUNT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!("40000-40009".parse(), Ok(RtcPorts { first: 40000, last: 40009 }));
        assert_eq!("7-7".parse(), Ok(RtcPorts { first: 7, last: 7 }));
        for bad in ["", "1", "-", "0-1", "2-1", "1-65536", "1-2-3", "a-b", "1 - 2"] {
            let error = bad.parse::<RtcPorts>().expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn instances() {
        assert_eq!(parse_instance("8").map(InstanceId::index), Ok(8));
        for bad in ["9", "-1", "", "instance-1"] {
            assert!(parse_instance(bad).is_err_and(|error| error.contains("0 to 8")), "{bad:?}");
        }
    }
}
