//! What runs the guest's instructions.

pub(crate) mod probe;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux: /dev/kvm.
    Kvm,
    /// macOS: Hypervisor.framework.
    Hvf,
    /// Windows: Windows Hypervisor Platform.
    Whpx,
    /// QEMU's own translator: everywhere.
    Tcg,
}

impl Accelerator {
    /// All, in the order of preference.
    pub const ALL: [Self; 4] = [Self::Kvm, Self::Hvf, Self::Whpx, Self::Tcg];

    /// QEMU's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Whpx => "whpx",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which accelerator a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcceleratorChoice {
    /// The first that was seen to work here.
    #[default]
    Auto,
    /// This one and no other.
    Only(Accelerator),
}

/// The text is no accelerator's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown accelerator {0:?}: allowed are auto, kvm, hvf, whpx, tcg")]
pub struct UnknownAccelerator(pub String);

impl FromStr for AcceleratorChoice {
    type Err = UnknownAccelerator;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let named = Accelerator::ALL.into_iter().find(|a| a.as_str() == text);
        named.map(Self::Only).ok_or_else(|| UnknownAccelerator(text.to_owned()))
    }
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(accelerator) => accelerator.fmt(f),
        }
    }
}

/// An accelerator, and why it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    pub accelerator: Accelerator,
    /// Why, for a person.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in ["auto", "kvm", "hvf", "whpx", "tcg"] {
            assert_eq!(text.parse::<AcceleratorChoice>().map(|c| c.to_string()).as_deref(), Ok(text));
        }
        let error = "KVM".parse::<AcceleratorChoice>();
        assert!(error.is_err_and(|e| e.to_string().contains("\"KVM\"") && e.to_string().contains("tcg")));
    }
}
