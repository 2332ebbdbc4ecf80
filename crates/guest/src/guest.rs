//! The guest's life.

use crate::{AcceleratorChoice, DisplaySink, GuestError, GuestInput, GuestStatus, Profile, SoundSink, Target};
use loco_model::{InstanceId, Size};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// What kind of PC.
    pub profile: Profile,
    /// Which instance it is.
    pub instance: InstanceId,
    /// Where overlays, evidence and the guest's log are kept; made when missing. One guest at a time.
    pub state_dir: PathBuf,
    /// What runs its instructions.
    pub accelerator: AcceleratorChoice,
    /// QEMU's program; without, `$LOCO_QEMU`, else `qemu-system-x86_64` of the path.
    pub qemu: Option<PathBuf>,
    /// How it shall be at first.
    pub target: Target,
    /// The snapshot that it starts from.
    pub start_from: Option<String>,
}

/// A picture: rows from the top, 3 bytes a pixel, red first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// In pixels.
    pub size: Size,
    /// `width * height * 3` bytes.
    pub pixels: Vec<u8>,
}

/// A guest. Ends with everything it started when dropped; [`Guest::stop`] also waits for it.
#[derive(Debug)]
pub struct Guest {
    status: watch::Receiver<GuestStatus>,
    input: GuestInput,
}

impl Guest {
    /// Checks everything that can be checked, makes the disks, and lets the guest start.
    ///
    /// # Errors
    /// When something is missing or refused. What fails later shows in [`Guest::state`].
    pub async fn start(
        _config: GuestConfig,
        _display: Box<dyn DisplaySink>,
        _sound: Box<dyn SoundSink>,
    ) -> Result<Self, GuestError> {
        Err(GuestError::Ended)
    }

    /// How it is, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<GuestStatus> {
        self.status.clone()
    }

    /// Its keyboard and pointer.
    #[must_use]
    pub fn input(&self) -> GuestInput {
        self.input.clone()
    }

    /// How it shall be. Powering down takes as long as [`Guest::power_down`] with its default.
    pub fn set_target(&self, _target: Target) {}

    /// Ends QEMU and starts it again, whatever it does.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn restart(&self) -> Result<(), GuestError> {
        Err(GuestError::Ended)
    }

    /// Asks the guest to power down, ends QEMU when it has not after `timeout`; returns when QEMU is gone.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn power_down(&self, _timeout: Duration) -> Result<(), GuestError> {
        Err(GuestError::Ended)
    }

    /// Saves the whole guest, memory included, under a name; replaces an older one of that name.
    ///
    /// # Errors
    /// When it does not run, has no disk for it, or QEMU refuses.
    pub async fn snapshot(&self, _tag: &str) -> Result<(), GuestError> {
        Err(GuestError::Ended)
    }

    /// Brings the guest back to a snapshot.
    ///
    /// # Errors
    /// When it does not run, or there is none of this name.
    pub async fn load_snapshot(&self, _tag: &str) -> Result<(), GuestError> {
        Err(GuestError::Ended)
    }

    /// What it shows now.
    ///
    /// # Errors
    /// When it shows nothing.
    pub async fn screenshot(&self) -> Result<RgbImage, GuestError> {
        Err(GuestError::Ended)
    }

    /// Powers down within `timeout`, and ends everything.
    pub async fn stop(self, _timeout: Duration) {}
}
