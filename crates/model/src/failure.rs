//! What can be wrong with an instance, and what can be done about it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a fault lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// Nothing is wrong.
    #[default]
    None,
    /// Between us and the agent, or on the guests' segment: unreachable, loss, errors, timeouts.
    Network,
    /// The machine: its process is gone or stands still, its display or sound is gone, it is out of a limit.
    Qemu,
    /// At a viewer: its session, its decoder, its codec.
    Client,
    /// More than one of them.
    Mixed,
}

/// One thing that is done to repair an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The agent attaches to the guest's display anew.
    ResetDisplay,
    /// The agent attaches to the guest's sound anew.
    ResetSound,
    /// The agent makes its encoders anew and every viewer's session begins with a key frame.
    RestartStream,
    /// The agent's ceiling of bit rate and frame rate is halved for ten minutes.
    LowerQuality,
    /// The guest's network card is unplugged and plugged in again.
    ResetNetwork,
    /// QEMU is ended and started again, from the profile's snapshot where one is set.
    RestartQemu,
    /// The agent's process (in a cluster: its pod) is ended, so that its owner starts it again.
    RestartAgent,
}

/// Not a remedy's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown action {0:?}: allowed are {list}", list = Remedy::ALL.map(Remedy::as_str).join(", "))]
pub struct UnknownRemedy(pub String);

// === impl FailureClass ===

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 5] = [Self::None, Self::Network, Self::Qemu, Self::Client, Self::Mixed];

    /// The class's name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Network => "network",
            Self::Qemu => "qemu",
            Self::Client => "client",
            Self::Mixed => "mixed",
        }
    }

    /// The class of an instance that has faults of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, class) | (class, Self::None) => class,
            (one, two) if one == two => one,
            _ => Self::Mixed,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Remedy ===

impl Remedy {
    /// All remedies, the mildest first.
    pub const ALL: [Self; 7] = [
        Self::ResetDisplay,
        Self::ResetSound,
        Self::RestartStream,
        Self::LowerQuality,
        Self::ResetNetwork,
        Self::RestartQemu,
        Self::RestartAgent,
    ];

    /// The remedy's name, as in JSON and in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResetDisplay => "reset-display",
            Self::ResetSound => "reset-sound",
            Self::RestartStream => "restart-stream",
            Self::LowerQuality => "lower-quality",
            Self::ResetNetwork => "reset-network",
            Self::RestartQemu => "restart-qemu",
            Self::RestartAgent => "restart-agent",
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Remedy {
    type Err = UnknownRemedy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|remedy| remedy.as_str() == text).ok_or_else(|| UnknownRemedy(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json() {
        for remedy in Remedy::ALL {
            assert_eq!(serde_json::to_value(remedy).ok(), Some(remedy.as_str().into()));
            assert_eq!(remedy.as_str().parse(), Ok(remedy));
        }
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_value(class).ok(), Some(class.as_str().into()));
        }
        let Err(error) = "reboot".parse::<Remedy>() else { panic!("not a remedy") };
        assert!(error.to_string().contains("\"reboot\"") && error.to_string().contains("restart-qemu"));
    }

    #[test]
    fn two_classes_are_mixed() {
        use FailureClass::{Client, Mixed, Network, None, Qemu};
        assert_eq!((None.and(Qemu), Qemu.and(None), Qemu.and(Qemu)), (Qemu, Qemu, Qemu));
        assert_eq!((Network.and(Qemu), Mixed.and(None), Client.and(Mixed)), (Mixed, Mixed, Mixed));
    }
}
