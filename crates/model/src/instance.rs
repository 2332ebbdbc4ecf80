//! Which instance, and how it is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One emulated PC with its agent. People count from 1 ("Loco 1"), the API from 0 (`instance-0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u8);

/// The text is not `instance-0` … `instance-8`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown instance {0:?}: allowed are instance-0 to instance-{max}", max = InstanceId::COUNT - 1)]
pub struct UnknownInstance(pub String);

impl InstanceId {
    /// How many instances a cluster has at most: the 3x3 grid's places.
    pub const COUNT: usize = 9;

    /// All ids in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..Self::COUNT as u8).map(Self)
    }

    /// The id of index 0..=8.
    ///
    /// # Errors
    /// When `index` is 9 or more.
    pub fn try_new(index: usize) -> Result<Self, UnknownInstance> {
        if index < Self::COUNT { Ok(Self(index as u8)) } else { Err(UnknownInstance(format!("instance-{index}"))) }
    }

    /// 0..=8, as the API counts.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// 1..=9, as people and the keyboard count.
    #[must_use]
    pub fn number(self) -> usize {
        self.index() + 1
    }

    /// "Loco 1" … "Loco 9", unless its owner named it.
    #[must_use]
    pub fn display_name(self) -> String {
        format!("Loco {}", self.number())
    }

    /// Name of its pod in a cluster.
    #[must_use]
    pub fn pod_name(self) -> String {
        format!("loco-emulator-{}", self.0)
    }

    /// Name of the guest on its LAN: `LOCO-00` … `LOCO-08`.
    #[must_use]
    pub fn host_name(self) -> String {
        format!("LOCO-{:02}", self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance-{}", self.0)
    }
}

impl FromStr for InstanceId {
    type Err = UnknownInstance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("instance-").map(str::as_bytes) {
            Some([digit @ b'0'..=b'8']) => Ok(Self(digit - b'0')),
            _ => Err(UnknownInstance(text.to_owned())),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = UnknownInstance;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

/// How an instance is, in the one word that a person sees. Always shown as colour, icon and word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Known, not yet (or not any more) in contact; being tried.
    #[default]
    Connecting,
    /// Runs and answers. A still picture is live.
    Live,
    /// Runs, but worse than it should.
    Degraded,
    /// Something is being repaired right now.
    Recovering,
    /// Not repaired; a person is needed.
    Failed,
    /// Off on purpose.
    Stopped,
}

impl InstanceState {
    /// All states, the best first.
    pub const ALL: [Self; 6] =
        [Self::Live, Self::Degraded, Self::Recovering, Self::Connecting, Self::Stopped, Self::Failed];

    /// The word on the tile's plate.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Live => "Live",
            Self::Degraded => "Degraded",
            Self::Recovering => "Recovering",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_only_what_they_print() {
        for id in InstanceId::all() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "instance-", "instance-9", "instance-00", "instance-1 ", "Instance-1", "1", "instance--1"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
        let Err(error) = "instance-12".parse::<InstanceId>() else { panic!("12 is too many") };
        assert_eq!(error.to_string(), "unknown instance \"instance-12\": allowed are instance-0 to instance-8");
    }

    #[test]
    fn names() {
        let id = InstanceId(3);
        assert_eq!(
            (id.display_name(), id.pod_name(), id.host_name()),
            ("Loco 4".into(), "loco-emulator-3".into(), "LOCO-03".into())
        );
    }
}
