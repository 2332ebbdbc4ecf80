//! The kinds of fault: where each lies, how bad it is, how long it must last before something is done, and what.

use crate::failure::{FailureClass, Remedy};
use crate::report::OverallStatus;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The agent's process ended; its owner starts it again.
    AgentEnded,
    /// The agent was started several times in vain.
    AgentFailed,
    /// The agent should be there and does not answer.
    AgentSilent,
    /// The agent answers, and a part of it hangs.
    AgentStuck,
    /// QEMU ended unasked; its agent starts it again.
    GuestEnded,
    /// The guest was started several times in vain.
    GuestFailed,
    /// The guest does not get past its start.
    GuestStuck,
    /// The guest stands still: QEMU is stopped, or its processor hangs.
    Frozen,
    /// QEMU's process is there and its monitor does not answer.
    QemuSilent,
    /// The guest runs, and there is no picture to be had.
    DisplayGone,
    /// The guest runs, and its sound cannot be had.
    SoundGone,
    /// The agent cannot encode the picture.
    EncoderFault,
    /// QEMU takes more CPU than it may.
    CpuOver,
    /// QEMU takes more memory than it should.
    MemoryOver,
    /// The agent takes more memory than it should.
    AgentMemoryOver,
    /// The agent says that it is unwell, and not in words that are known here.
    Unwell,
    /// The agent says that something is worse than it should be.
    Worse,
    /// The guests' segment is down.
    SegmentDown,
    /// Frames get lost on the guests' segment.
    SegmentErrors,
    /// Packets get lost on the way to every viewer.
    PathLoss,
    /// A viewer's session fails though the agent is well.
    SessionFailed,
    /// A viewer cannot decode what it gets.
    DecoderFault,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::AgentEnded,
        Self::AgentFailed,
        Self::AgentSilent,
        Self::AgentStuck,
        Self::GuestEnded,
        Self::GuestFailed,
        Self::GuestStuck,
        Self::Frozen,
        Self::QemuSilent,
        Self::DisplayGone,
        Self::SoundGone,
        Self::EncoderFault,
        Self::CpuOver,
        Self::MemoryOver,
        Self::AgentMemoryOver,
        Self::Unwell,
        Self::Worse,
        Self::SegmentDown,
        Self::SegmentErrors,
        Self::PathLoss,
        Self::SessionFailed,
        Self::DecoderFault,
    ];

    /// Where it lies.
    #[must_use]
    pub const fn class(self) -> FailureClass {
        match self {
            Self::AgentSilent | Self::SegmentDown | Self::SegmentErrors | Self::PathLoss => FailureClass::Network,
            Self::SessionFailed | Self::DecoderFault => FailureClass::Client,
            Self::AgentEnded
            | Self::AgentFailed
            | Self::AgentStuck
            | Self::GuestEnded
            | Self::GuestFailed
            | Self::GuestStuck
            | Self::Frozen
            | Self::QemuSilent
            | Self::DisplayGone
            | Self::SoundGone
            | Self::EncoderFault
            | Self::CpuOver
            | Self::MemoryOver
            | Self::AgentMemoryOver
            | Self::Unwell
            | Self::Worse => FailureClass::Qemu,
        }
    }

    /// What it makes of the instance.
    #[must_use]
    pub const fn severity(self) -> OverallStatus {
        match self {
            Self::AgentEnded
            | Self::AgentFailed
            | Self::AgentSilent
            | Self::AgentStuck
            | Self::GuestEnded
            | Self::GuestFailed
            | Self::GuestStuck
            | Self::Frozen
            | Self::QemuSilent
            | Self::DisplayGone
            | Self::Unwell => OverallStatus::Unhealthy,
            Self::SoundGone
            | Self::EncoderFault
            | Self::CpuOver
            | Self::MemoryOver
            | Self::AgentMemoryOver
            | Self::Worse
            | Self::SegmentDown
            | Self::SegmentErrors
            | Self::PathLoss
            | Self::SessionFailed
            | Self::DecoderFault => OverallStatus::Degraded,
        }
    }

    /// For how long it must be seen without a break before something is done about it, in milliseconds.
    #[must_use]
    pub const fn patience_ms(self) -> u64 {
        match self {
            // Found by who has waited already: the agent, or the limits of a start.
            Self::GuestFailed | Self::GuestStuck | Self::Frozen | Self::DisplayGone => 0,
            Self::SegmentDown | Self::QemuSilent => 3_000,
            Self::SoundGone | Self::EncoderFault | Self::DecoderFault => 5_000,
            // Its owner restarts one that ended at once, and a network's hiccup is over by then.
            Self::SessionFailed | Self::AgentSilent => 10_000,
            Self::AgentStuck | Self::SegmentErrors | Self::Unwell | Self::PathLoss => 15_000,
            Self::CpuOver | Self::MemoryOver | Self::AgentMemoryOver => 60_000,
            Self::AgentEnded | Self::AgentFailed | Self::GuestEnded | Self::Worse => 0,
        }
    }

    /// What is done about it, in this order; empty where nothing that can be ordered helps.
    #[must_use]
    pub const fn remedies(self) -> &'static [Remedy] {
        use Remedy::{LowerQuality, ResetDisplay, ResetNetwork, ResetSound, RestartAgent, RestartQemu, RestartStream};
        match self {
            Self::AgentSilent | Self::AgentStuck | Self::AgentMemoryOver => &[RestartAgent],
            Self::GuestFailed
            | Self::GuestStuck
            | Self::Frozen
            | Self::QemuSilent
            | Self::CpuOver
            | Self::MemoryOver
            | Self::Unwell => &[RestartQemu, RestartAgent],
            Self::DisplayGone => &[ResetDisplay, RestartQemu, RestartAgent],
            Self::SoundGone => &[ResetSound, RestartQemu, RestartAgent],
            Self::EncoderFault => &[RestartStream, RestartAgent],
            Self::SegmentDown | Self::SegmentErrors => &[ResetNetwork, RestartStream],
            Self::SessionFailed | Self::DecoderFault => &[RestartStream, LowerQuality],
            Self::AgentEnded | Self::AgentFailed | Self::GuestEnded | Self::Worse | Self::PathLoss => &[],
        }
    }

    /// Whether it is over in a moment: what ended is being started again.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::AgentEnded | Self::GuestEnded)
    }

    /// Where it stands among faults that are repaired one after the other: the network's first, then the machine's.
    #[must_use]
    pub const fn turn(self) -> u8 {
        match self.class() {
            FailureClass::Network => 0,
            FailureClass::Qemu | FailureClass::None | FailureClass::Mixed => 1,
            FailureClass::Client => 2,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// In plain words, one line.
    pub text: String,
    /// What is done about it, in this order.
    pub remedies: Vec<Remedy>,
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), remedies: kind.remedies().to_vec() }
    }
}

/// A remedy as a person would say it.
#[must_use]
pub const fn spoken(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::ResetDisplay => "attach to its display anew",
        Remedy::ResetSound => "attach to its sound anew",
        Remedy::RestartStream => "restart its stream",
        Remedy::LowerQuality => "lower its quality for ten minutes",
        Remedy::ResetNetwork => "unplug its network card and plug it in again",
        Remedy::RestartQemu => "restart its QEMU",
        Remedy::RestartAgent => "restart its agent",
    }
}
