//! One QEMU: profile, command line, QMP, display, sound, input, snapshots.
//!
//! [`Guest::start`] checks a [`Profile`] against this machine and hands it to a supervisor, a task that moves the guest's
//! state towards its target and starts QEMU again when it ends unasked. Picture and sound go to the sinks that the caller
//! brings, input comes from [`GuestInput`].

pub mod accelerator;
mod backend;
mod cache;
mod command_line;
mod dbus;
mod disks;
mod error;
mod evidence;
mod facts;
mod guest;
mod held;
mod input;
mod kernel;
mod kick;
mod launch;
mod lifecycle;
mod liveness;
mod logs;
mod picture;
pub mod profile;
mod qmp;
mod shared;
mod sink;
mod status;
mod supervisor;

pub use accelerator::{Accelerator, AcceleratorChoice, Verdict};
pub use command_line::{Paths, StartOptions, command_line};
pub use error::{GuestError, InputError};
pub use evidence::End;
pub use facts::QemuFacts;
pub use guest::{DEFAULT_POWER_DOWN, Guest, GuestConfig, Snapshot};
pub use input::GuestInput;
pub use kick::KickStats;
pub use liveness::Liveness;
pub use logs::{LogLine, LogSource};
pub use picture::RgbImage;
pub use profile::{Profile, ProfileError};
pub use shared::DisplayStats;
pub use sink::{DisplaySink, NoSink, SoundFormat, SoundSink};
pub use status::{GuestState, GuestStatus, Target};
