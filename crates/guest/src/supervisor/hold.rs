//! Whether QEMU holds the guest for an error of its disk.

use std::time::Duration;
use tokio::time::Instant;

/// How long a guest that goes on must do without an error of its disk until it counts as held no more: it is let go on now
/// and then, and what could not be written is tried again at once.
const SETTLED: Duration = Duration::from_secs(5);

/// Whether it does, and until when that is assumed.
#[derive(Debug, Default)]
pub(super) struct Hold {
    is_held: bool,
    /// Since it was let go on.
    over_at: Option<Instant>,
}

impl Hold {
    /// QEMU stopped it for an error.
    pub(super) fn begin(&mut self) {
        *self = Self { is_held: true, over_at: None };
    }

    /// QEMU lets it go on: it is not known yet whether it can.
    pub(super) fn goes_on(&mut self, now: Instant) {
        if self.is_held {
            self.over_at = self.over_at.or(Some(now + SETTLED));
        }
    }

    /// It could, or there is nothing to hold any more. Returns whether it was held.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(self).is_held
    }

    pub(super) const fn is_held(&self) -> bool {
        self.is_held
    }

    /// When it counts as over, unless there is another error.
    pub(super) const fn over_at(&self) -> Option<Instant> {
        self.over_at
    }
}

/// What is wrong with a disk, for a person. `detail` is what the system calls the error, and may be empty.
pub(super) fn complaint(disk: &str, no_space: bool, detail: &str) -> String {
    let what = match detail {
        _ if no_space => "no space is left",
        "" => "input/output error",
        detail => detail,
    };
    format!("the guest's disk {disk} cannot be written or read: {what}")
}
