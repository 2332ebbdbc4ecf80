//! One QEMU: profile, command line, QMP, display, sound, input, snapshots.

pub mod accelerator;
mod error;
mod guest;
mod input;
pub mod profile;
mod sink;
mod status;

pub use accelerator::{Accelerator, AcceleratorChoice, Verdict};
pub use error::{GuestError, InputError};
pub use guest::{Guest, GuestConfig, RgbImage};
pub use input::GuestInput;
pub use profile::{Profile, ProfileError};
pub use sink::{DisplaySink, NoSink, SoundFormat, SoundSink};
pub use status::{GuestState, GuestStatus, Target};
