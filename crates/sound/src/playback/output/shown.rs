//! What the window may read of the supervision.

use super::super::{DeviceInfo, SoundStatus};
use super::worker::Closing;
use std::thread::JoinHandle;

/// What was told last, and what hangs.
#[derive(Default)]
pub(in crate::playback) struct Shown {
    pub(in crate::playback) status: SoundStatus,
    pub(in crate::playback) devices: Vec<DeviceInfo>,
    pub(super) closing: Closing,
    /// Threads whose calls to the system hang.
    pub(super) abandoned: Vec<JoinHandle<()>>,
}

impl Shown {
    /// Calls to the system that have not returned and were given up.
    pub(in crate::playback) fn hanging(&self) -> u32 {
        self.closing.count() + self.abandoned.iter().filter(|handle| !handle.is_finished()).count() as u32
    }
}
