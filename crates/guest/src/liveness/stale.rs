//! Whether the picture that we have is the one that QEMU shows.
//!
//! Nobody tells of an update that never came: a display that went stale looks like a desktop on which nothing moves. So when
//! QEMU has said nothing of its picture for long, it is asked for the whole of it, past the display, and both are compared.
//! A picture that QEMU tells of is never doubted, however little of it changes.

use crate::qmp::Qmp;
use crate::shared::Shared;
use crate::status::{GuestState, GuestStatus};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A picture of which QEMU has said nothing for so long, and that was not compared for so long, is compared. At 640x480 that
/// takes 4 ms of processor time, 3 of them QEMU's.
const STILL_FOR: Duration = Duration::from_secs(45);
/// What QEMU saw changed when it was asked, it tells of at once: by then that has come, however busy the host is.
const ON_ITS_WAY: Duration = Duration::from_secs(3);
/// So many comparisons in a row must find a difference of which nothing was told.
const DIFFERENCES: u32 = 2;

/// What is compared, and with what.
pub(super) struct Doubt<'a> {
    pub(super) qmp: Qmp,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) status: watch::Receiver<GuestStatus>,
    /// Where QEMU puts its picture for us.
    pub(super) file: PathBuf,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// QEMU told something of its picture meanwhile, or nobody can tell.
    Nothing,
    /// Both are the same.
    Same,
    /// They are not.
    Different,
}

/// Decides by what was found. Pure.
#[derive(Debug, Default)]
struct Judge {
    differences: u32,
}

// === impl Judge ===

impl Judge {
    /// Whether the picture is stale; `None` while that is as it was.
    fn take(&mut self, found: Found) -> Option<bool> {
        self.differences = if found == Found::Different { self.differences.saturating_add(1) } else { 0 };
        match found {
            Found::Same => Some(false),
            Found::Different if self.differences >= DIFFERENCES => Some(true),
            Found::Nothing | Found::Different => None,
        }
    }

    /// How long nothing must be told until the next comparison.
    const fn wait(&self) -> Duration {
        if self.differences > 0 && self.differences < DIFFERENCES { ON_ITS_WAY } else { STILL_FOR }
    }
}

// === impl Doubt ===

impl Doubt<'_> {
    /// Compares now and then, for as long as it is polled.
    pub(super) async fn compare(self) {
        let mut judge = Judge::default();
        let mut compared = Instant::now();
        loop {
            let told = self.shared.kicks.last_damage();
            tokio::time::sleep_until(told.map_or(compared, |at| at.max(compared)) + judge.wait()).await;
            let is_untold = || self.shared.kicks.last_damage() == told;
            let mut found = if is_untold() { self.look().await } else { Found::Nothing };
            if !is_untold() {
                found = Found::Nothing;
            }
            compared = Instant::now();
            if let Some(stale) = judge.take(found) {
                self.shared.set_stale(stale);
            }
        }
    }

    async fn look(&self) -> Found {
        let runs = self.status.borrow().state == GuestState::Running;
        if !runs || self.qmp.is_busy() || self.shared.size.borrow().is_none() {
            return Found::Nothing;
        }
        let picture = match self.qmp.picture(&self.file).await {
            Ok(picture) => picture,
            Err(error) => {
                tracing::debug!(%error, "the display cannot be compared");
                return Found::Nothing;
            }
        };
        let shared = Arc::clone(self.shared);
        // Some milliseconds for a large one: not on a thread that others wait for.
        match tokio::task::spawn_blocking(move || shared.shows(&picture)).await {
            Ok(Some(true)) => Found::Same,
            Ok(Some(false)) => Found::Different,
            Ok(None) | Err(_) => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_differences_in_a_row_are_stale() {
        use Found::{Different, Nothing, Same};
        for (found, told) in [
            (&[Same, Same][..], Some(false)),
            (&[Different], None),
            (&[Different, Nothing, Different], None),
            (&[Different, Same, Different], None),
            (&[Different, Different], Some(true)),
            (&[Different, Different, Different], Some(true)),
            (&[Different, Different, Nothing], None),
            (&[Different, Different, Same], Some(false)),
        ] {
            let mut judge = Judge::default();
            assert_eq!(found.iter().map(|found| judge.take(*found)).last().flatten(), told, "{found:?}");
        }
    }

    #[test]
    fn a_first_difference_is_looked_at_again_soon_and_nothing_else() {
        let mut judge = Judge::default();
        let mut waits = |found| {
            judge.take(found);
            judge.wait()
        };
        assert_eq!(waits(Found::Same), STILL_FOR);
        assert_eq!(waits(Found::Different), ON_ITS_WAY);
        assert_eq!(waits(Found::Different), STILL_FOR, "it is known");
        assert_eq!(waits(Found::Nothing), STILL_FOR);
    }
}
