//! Which instance, and how it is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One emulated PC with its agent. People count from 1 ("Loco 1"), the API from 0 (`instance-0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(value_type = String, pattern = "^instance-(0|[1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-5])$")
)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u16);

/// The text is no instance's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown instance {0:?}: allowed are instance-0 to instance-{max}", max = InstanceId::MAX_COUNT - 1)]
pub struct UnknownInstance(pub String);

impl InstanceId {
    /// How many instances a wall shows: the 3x3 grid's places. A game's cluster has no more.
    pub const COUNT: usize = 9;
    /// How many instances one control plane watches at most: rooms with several walls.
    pub const MAX_COUNT: usize = 4_096;

    /// The ids of the grid, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..Self::COUNT as u16).map(Self)
    }

    /// The id of an index.
    ///
    /// # Errors
    /// When `index` is [`Self::MAX_COUNT`] or more.
    pub fn try_new(index: usize) -> Result<Self, UnknownInstance> {
        if index < Self::MAX_COUNT { Ok(Self(index as u16)) } else { Err(UnknownInstance(format!("instance-{index}"))) }
    }

    /// Whether it has a place in the grid.
    #[must_use]
    pub fn is_in_grid(self) -> bool {
        self.index() < Self::COUNT
    }

    /// 0.., as the API counts; 0..=8 in the grid.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// 1.., as people and the keyboard count.
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
        let unknown = || UnknownInstance(text.chars().take(64).collect());
        let digits = text.strip_prefix("instance-").ok_or_else(unknown)?;
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        let index = digits.parse().ok().filter(|_| is_plain).ok_or_else(unknown)?;
        Self::try_new(index).map_err(|_| unknown())
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
        for id in InstanceId::all().chain([InstanceId(10), InstanceId(4_095)]) {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "instance-",
            "instance-4096",
            "instance-+1",
            "instance-99999999999999999999",
            "instance-00",
            "instance-1 ",
            "Instance-1",
            "1",
            "instance--1",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
        let Err(error) = "instance-5000".parse::<InstanceId>() else { panic!("too many") };
        assert_eq!(error.to_string(), "unknown instance \"instance-5000\": allowed are instance-0 to instance-4095");
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
