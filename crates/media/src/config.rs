//! What a sender and a receiver are told at their start.

use crate::sound_link::PacketSink;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// UDP ports that sessions may use: one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text that is no port range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no port range: give FIRST-LAST with 1 <= FIRST <= LAST <= 65535, for example 50000-50008")]
pub struct PortRangeError(String);

impl PortRange {
    /// `first..=last`.
    ///
    /// # Errors
    /// When `first` is 0 or above `last`.
    pub fn try_new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 || first > last {
            return Err(PortRangeError(format!("{first}-{last}")));
        }
        Ok(Self { first, last })
    }

    /// All ports, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || PortRangeError(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let parse = |part: &str| part.trim().parse::<u16>().map_err(|_| wrong());
        Self::try_new(parse(first)?, parse(last)?).map_err(|_| wrong())
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A video encoder: a library that is called directly, or a GStreamer element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// The library `libx264` itself, told which macroblocks did not change: the cheapest one measured.
    LibX264,
    /// `x264enc`: the same library where its own interface is not one that we know.
    X264,
    /// `openh264enc`: H.264 where x264 is not installed.
    OpenH264,
    /// `vp8enc`: for players without H.264.
    Vp8,
}

impl EncoderKind {
    /// All, in the order of preference.
    pub const ALL: [Self; 4] = [Self::LibX264, Self::X264, Self::OpenH264, Self::Vp8];

    /// The library's or the GStreamer element's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LibX264 => "libx264",
            Self::X264 => "x264enc",
            Self::OpenH264 => "openh264enc",
            Self::Vp8 => "vp8enc",
        }
    }
}

/// How a [`crate::Sender`] works.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// UDP ports of the sessions; `None`: any free one.
    pub rtc_ports: Option<PortRange>,
    /// Address that sessions listen on; an unspecified one offers every interface.
    pub bind: IpAddr,
    /// Frames a second at most; frames that answer an input may exceed it for a moment.
    pub max_fps: u32,
    /// Video bits a second that a moving picture may take; `None`: by its size, 2 Mbit/s at 640x480.
    pub bit_rate: Option<u32>,
    /// Encoders to choose from, best first; what is not installed is passed over.
    pub encoders: Vec<EncoderKind>,
}

impl SenderConfig {
    /// Frame rate where nothing else is said.
    pub const DEFAULT_MAX_FPS: u32 = 60;
    /// Bits a second at 640x480 where nothing else is said: enough for 640x480 and what a 10x cliff of the link survives.
    pub const DEFAULT_BIT_RATE: u32 = 2_000_000;
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            rtc_ports: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            max_fps: Self::DEFAULT_MAX_FPS,
            bit_rate: None,
            encoders: EncoderKind::ALL.to_vec(),
        }
    }
}

/// A TURN server: carries the media where no direct path is open.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayServer {
    /// `turn:HOST:PORT`, by UDP.
    pub url: String,
    /// Who asks.
    pub user: String,
    /// Never logged.
    pub password: String,
    /// Use nothing else, so that the two ends do not see each other's addresses.
    pub only: bool,
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayServer").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where a [`crate::Receiver`] connects to.
pub struct ReceiverConfig {
    /// The agent's WHEP endpoint, for example `http://127.0.0.1:8080/whep`.
    pub whep_url: String,
    /// Bearer token; never logged.
    pub token: Option<String>,
    /// Further headers of every offer (name, value), such as the one by which a viewer names itself.
    pub headers: Vec<(String, String)>,
    /// Local address of the media socket; `None`: loopback when the URL's host is a loopback address, else any.
    pub bind: Option<IpAddr>,
    /// A relay, used where nothing else works.
    pub relay: Option<RelayServer>,
    /// Gets the received sound packets; `None`: no sound is asked for.
    pub sound: Option<Box<dyn PacketSink>>,
}

impl ReceiverConfig {
    /// A receiver of `whep_url` without token and sound.
    #[must_use]
    pub fn new(whep_url: impl Into<String>) -> Self {
        Self { whep_url: whep_url.into(), token: None, headers: Vec::new(), bind: None, relay: None, sound: None }
    }
}

impl fmt::Debug for ReceiverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverConfig")
            .field("whep_url", &self.whep_url)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("headers", &self.headers)
            .field("bind", &self.bind)
            .field("relay", &self.relay)
            .field("sound", &self.sound.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        let range: PortRange = "50000-50002".parse().expect("a range");
        assert_eq!(range.iter().collect::<Vec<_>>(), [50000, 50001, 50002]);
        assert_eq!(range.to_string(), "50000-50002");
        for wrong in ["", "50000", "2-1", "0-5", "1-65536", "a-b", "1-2-3", "-"] {
            let error = wrong.parse::<PortRange>().expect_err(wrong);
            assert!(error.to_string().contains(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn the_token_is_not_printed() {
        let config = ReceiverConfig { token: Some("secret".to_owned()), ..ReceiverConfig::new("http://h/whep") };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
