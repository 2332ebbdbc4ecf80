//! How a guest is.

use crate::accelerator::Verdict;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::SystemTime;

/// How a guest is, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestState {
    /// QEMU is being started (again).
    #[default]
    Starting,
    /// The guest runs.
    Running,
    /// QEMU is there, the guest's processor stands still.
    Paused,
    /// The guest is being powered down.
    Stopping,
    /// There is no QEMU, and none is wanted.
    Stopped,
    /// QEMU keeps ending by itself; it is tried again now and then.
    Failed,
}

impl GuestState {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a guest shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Running.
    #[default]
    Running,
    /// There, but standing still.
    Paused,
    /// Powered down.
    Stopped,
}

/// Everything that is known of a guest at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuestStatus {
    /// In one word.
    pub state: GuestState,
    /// How it shall be.
    pub target: Target,
    /// Why it is so, for a person; `None` when there is nothing to say.
    pub reason: Option<String>,
    /// QEMU holds it, as its disk cannot be written or read; it goes on when that is over. `reason` says more. It counts as
    /// held, and paused, until it has gone on for some seconds without an error.
    pub is_held: bool,
    /// QEMU's process.
    pub pid: Option<u32>,
    /// When QEMU was last started.
    pub started_at: Option<SystemTime>,
    /// How often QEMU was started again because it had ended unasked.
    pub restarts: u64,
    /// Which accelerator, and why.
    pub accelerator: Option<Verdict>,
    /// QEMU's version, "7.2.22".
    pub qemu_version: Option<String>,
    /// Whether the guest takes absolute positions now; `None` while unknown.
    pub pointer_absolute: Option<bool>,
}
