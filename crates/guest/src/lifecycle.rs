//! The guest's state machine: what happened, and what is to be done about it. Pure: no clock, no I/O.
//!
//! A person (or the agent) sets the target; events move the phase towards it. One QEMU at a time: a new one is launched
//! only when the old one was seen to have ended.

use crate::status::{GuestState, Target};
use std::time::Duration;

/// A QEMU that ends within this time of its start was not healthy: ending again and again like that is a crash loop.
pub(crate) const EARLY: Duration = Duration::from_secs(10);
/// So many early ends in a row, and the guest counts as failed.
const EARLY_ENDS_UNTIL_FAILED: u32 = 5;
/// How often a failed guest is tried again.
const FAILED_RETRY: Duration = Duration::from_secs(30);
/// How long QEMU may hold a guest that should run, until it is told to let it go on: a disk that was full may have room.
const HELD_RETRY: Duration = Duration::from_secs(30);
/// Waits before the launches after early ends; the first is none: one crash is repaired at once.
const BACKOFF: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// Where the guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No QEMU, none wanted.
    Off,
    /// QEMU was spawned and has not come up yet.
    Launching,
    /// The guest runs.
    Running,
    /// The guest stands still.
    Paused,
    /// The guest was asked to power down.
    PoweringDown,
    /// QEMU was told to end.
    Ending,
    /// No QEMU; the next launch comes after a wait.
    Waiting {
        /// It keeps ending: a person should look.
        failed: bool,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The target was set.
    Target(Target),
    /// QEMU shall be ended and started again, whatever it does.
    Restart {
        /// It is known to hang: it is not asked first.
        hangs: bool,
    },
    /// QEMU came up; the guest stands still if that was asked for at the launch.
    Launched {
        /// Whether it stands still.
        paused: bool,
    },
    /// QEMU ended, or did not come up, this long after its start.
    Ended {
        /// How long it lived.
        after: Duration,
    },
    /// The guest powered itself down; QEMU is about to end.
    GuestShutdown,
    /// QEMU says that the guest stands still.
    Stopped,
    /// QEMU says that the guest goes on.
    Resumed,
    /// The guest had its time to power down, or QEMU its time to quit.
    PatienceOver,
    /// The wait is over.
    RetryDue,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start QEMU.
    Launch,
    /// Halt the guest's processors.
    Pause,
    /// Let them go on.
    Resume,
    /// Ask the guest to power down, and say when its time is over.
    PowerDown,
    /// Ask QEMU to write its disks' images and to end, and say when its time is over.
    Quit,
    /// End QEMU at once: what it has not yet written to its disks' images is lost.
    End,
    /// Report [`Event::RetryDue`] after this.
    RetryAfter(Duration),
    /// Keep what is known of how QEMU ended.
    KeepEvidence,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    pub(crate) phase: Phase,
    pub(crate) target: Target,
    /// Launches because QEMU had ended unasked.
    pub(crate) restarts: u64,
    early_ends: u32,
    /// Launch again when the QEMU that is ending has ended.
    again: bool,
}

impl Lifecycle {
    /// Not started yet.
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Off, target: Target::Stopped, restarts: 0, early_ends: 0, again: false }
    }

    /// The phase in the words of a report.
    pub(crate) const fn state(&self) -> GuestState {
        match self.phase {
            Phase::Off => GuestState::Stopped,
            Phase::Launching | Phase::Waiting { failed: false } => GuestState::Starting,
            Phase::Running => GuestState::Running,
            Phase::Paused => GuestState::Paused,
            Phase::PoweringDown => GuestState::Stopping,
            Phase::Ending if self.again => GuestState::Starting,
            Phase::Ending => GuestState::Stopping,
            Phase::Waiting { failed: true } => GuestState::Failed,
        }
    }

    /// Takes an event; what does not fit the phase changes nothing.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Target(target) => self.on_target(target),
            Event::Restart { hangs } => self.on_restart(hangs),
            Event::Launched { paused } => self.on_launched(paused),
            Event::Ended { after } => self.on_ended(after),
            Event::GuestShutdown => {
                // Its own decision, not a fault: it stays off until someone wants it again.
                if matches!(self.phase, Phase::Running | Phase::Paused) {
                    self.target = Target::Stopped;
                    self.phase = Phase::Ending;
                }
                Vec::new()
            }
            Event::Stopped => {
                if self.phase != Phase::Running {
                    return Vec::new();
                }
                self.phase = Phase::Paused;
                // QEMU did it by itself, or it is the answer to an order that was taken back meanwhile.
                if self.target == Target::Running { vec![Action::RetryAfter(HELD_RETRY)] } else { Vec::new() }
            }
            Event::Resumed => {
                if self.phase != Phase::Paused {
                    return Vec::new();
                }
                self.phase = Phase::Running;
                if self.target == Target::Paused { vec![Action::Pause] } else { Vec::new() }
            }
            Event::PatienceOver => match self.phase {
                Phase::PoweringDown => {
                    self.phase = Phase::Ending;
                    vec![Action::Quit]
                }
                Phase::Ending => vec![Action::End],
                _ => Vec::new(),
            },
            Event::RetryDue => match (self.phase, self.target) {
                (Phase::Waiting { .. }, _) => self.launch(),
                (Phase::Paused, Target::Running) => vec![Action::Resume],
                _ => Vec::new(),
            },
        }
    }

    fn launch(&mut self) -> Vec<Action> {
        self.phase = Phase::Launching;
        self.again = false;
        vec![Action::Launch]
    }

    fn on_target(&mut self, target: Target) -> Vec<Action> {
        self.target = target;
        match (self.phase, target) {
            // A person who wants it again wants it now, whatever happened before.
            (Phase::Off | Phase::Waiting { .. }, Target::Running | Target::Paused) => {
                self.early_ends = 0;
                self.launch()
            }
            (Phase::Waiting { .. }, Target::Stopped) => {
                self.phase = Phase::Off;
                Vec::new()
            }
            (Phase::Launching, Target::Stopped) => {
                self.phase = Phase::Ending;
                vec![Action::End]
            }
            (Phase::Running | Phase::Paused, Target::Stopped) => {
                self.phase = Phase::PoweringDown;
                // A guest that stands still cannot power down.
                vec![Action::Resume, Action::PowerDown]
            }
            (Phase::Running, Target::Paused) => vec![Action::Pause],
            (Phase::Paused, Target::Running) => vec![Action::Resume],
            (Phase::PoweringDown | Phase::Ending, Target::Stopped) => {
                self.again = false;
                Vec::new()
            }
            // It is going down; it comes back afterwards.
            (Phase::PoweringDown | Phase::Ending, Target::Running | Target::Paused) => {
                self.again = true;
                Vec::new()
            }
            (Phase::Launching, Target::Running | Target::Paused)
            | (Phase::Running, Target::Running)
            | (Phase::Paused, Target::Paused)
            | (Phase::Off, Target::Stopped) => Vec::new(),
        }
    }

    fn on_restart(&mut self, hangs: bool) -> Vec<Action> {
        if self.target == Target::Stopped {
            self.target = Target::Running;
        }
        match self.phase {
            Phase::Off | Phase::Waiting { .. } => {
                self.early_ends = 0;
                self.launch()
            }
            Phase::Launching | Phase::Running | Phase::Paused | Phase::PoweringDown => {
                // One that has not come up cannot be asked.
                let can_quit = !hangs && self.phase != Phase::Launching;
                self.phase = Phase::Ending;
                self.again = true;
                vec![if can_quit { Action::Quit } else { Action::End }]
            }
            Phase::Ending => {
                self.again = true;
                if hangs { vec![Action::End] } else { Vec::new() }
            }
        }
    }

    fn on_launched(&mut self, paused: bool) -> Vec<Action> {
        if self.phase != Phase::Launching {
            return Vec::new();
        }
        self.phase = if paused { Phase::Paused } else { Phase::Running };
        // The target may have changed meanwhile.
        match (paused, self.target) {
            (true, Target::Running) => vec![Action::Resume],
            (false, Target::Paused) => vec![Action::Pause],
            _ => Vec::new(),
        }
    }

    fn on_ended(&mut self, after: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Off | Phase::Waiting { .. } => Vec::new(),
            Phase::PoweringDown | Phase::Ending => {
                if self.again {
                    return self.launch();
                }
                self.phase = Phase::Off;
                Vec::new()
            }
            Phase::Launching | Phase::Running | Phase::Paused => {
                self.early_ends = if after < EARLY { self.early_ends.saturating_add(1) } else { 0 };
                self.restarts += 1;
                let mut actions = vec![Action::KeepEvidence];
                let failed = self.early_ends >= EARLY_ENDS_UNTIL_FAILED;
                let wait = if failed {
                    FAILED_RETRY
                } else {
                    let index = usize::try_from(self.early_ends.saturating_sub(1)).unwrap_or(usize::MAX);
                    BACKOFF.get(index).copied().unwrap_or(FAILED_RETRY)
                };
                if wait.is_zero() {
                    actions.extend(self.launch());
                } else {
                    self.phase = Phase::Waiting { failed };
                    actions.push(Action::RetryAfter(wait));
                }
                actions
            }
        }
    }
}

#[cfg(test)]
mod tests;
