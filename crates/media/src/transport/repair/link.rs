//! What repair and rate control of one session tell each other.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Loss counts as present for so long after its last sign. A path that loses 3 in 1,000 of 60 packets a second is quiet for
/// 20 s once in some minutes; two minutes, never in a day.
const LOSS_MEMORY: Duration = Duration::from_secs(120);

/// Shared by a sender's repair (which tells loss and counts) and its rate control (which gives room).
///
/// Rate control calls [`set_rate`](Self::set_rate) and [`allow_parity`](Self::allow_parity) whenever they change, and
/// [`saw_loss`](Self::saw_loss) when its feedback names a packet that did not arrive; all are single stores.
#[derive(Debug)]
pub(crate) struct RepairLink {
    began: Instant,
    /// Milliseconds since `began`, plus one; 0: never.
    last_loss: AtomicU64,
    parity_allowed: AtomicBool,
    long_with_room: AtomicBool,
    bits_per_second: AtomicU32,
    asked: AtomicU64,
    resent: AtomicU64,
    resent_bytes: AtomicU64,
    refused: AtomicU64,
    parity: AtomicU64,
    parity_bytes: AtomicU64,
}

/// What a sender's repair did since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepairCounts {
    /// Packets that the player asked for again, each asking counted.
    pub(crate) asked: u64,
    /// Packets sent again.
    pub(crate) resent: u64,
    /// Their bytes, headers included.
    pub(crate) resent_bytes: u64,
    /// Askings not answered: too often, too old, or more than the rate allows.
    pub(crate) refused: u64,
    /// Parity packets sent.
    pub(crate) parity: u64,
    /// Their bytes, headers included.
    pub(crate) parity_bytes: u64,
}

impl RepairLink {
    /// Of a session that begins with that rate, and with room for parity.
    pub(crate) fn new(bits_per_second: u32) -> Self {
        Self {
            began: Instant::now(),
            last_loss: AtomicU64::new(0),
            parity_allowed: AtomicBool::new(true),
            long_with_room: AtomicBool::new(false),
            bits_per_second: AtomicU32::new(bits_per_second),
            asked: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            resent_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            parity: AtomicU64::new(0),
            parity_bytes: AtomicU64::new(0),
        }
    }

    /// The rate that the path carries now, as rate control believes; resends may take a share of it.
    pub(crate) fn set_rate(&self, bits_per_second: u32) {
        self.bits_per_second.store(bits_per_second, Relaxed);
    }

    /// The rate that was set last.
    pub(crate) fn rate(&self) -> u32 {
        self.bits_per_second.load(Relaxed)
    }

    /// Whether there is room for parity: up to 100 % more where frames are one packet each, 10 % where they are large.
    pub(crate) fn allow_parity(&self, allowed: bool) {
        self.parity_allowed.store(allowed, Relaxed);
    }

    /// Whether what is lost is missed before it can come again, while the path carries all that may be sent.
    pub(crate) fn set_long_with_room(&self, is_so: bool) {
        self.long_with_room.store(is_so, Relaxed);
    }

    /// A packet is known not to have arrived.
    pub(crate) fn saw_loss(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.began).as_millis() as u64;
        self.last_loss.fetch_max(ms + 1, Relaxed);
    }

    /// Whether loss was seen in the last two minutes, by resends asked for, reports of the receiver, or rate control.
    pub(crate) fn is_lossy(&self, now: Instant) -> bool {
        match self.last_loss.load(Relaxed) {
            0 => false,
            last => now.saturating_duration_since(self.began + Duration::from_millis(last - 1)) < LOSS_MEMORY,
        }
    }

    /// Whether frames are closed by parity now: loss is seen and there is room. A long path has to show first that it
    /// loses nothing: its first loss would be a freeze.
    pub(crate) fn wants_parity(&self, now: Instant) -> bool {
        let is_unknown = || now.saturating_duration_since(self.began) < LOSS_MEMORY;
        let may_lose = || self.is_lossy(now) || self.long_with_room.load(Relaxed) && is_unknown();
        self.parity_allowed.load(Relaxed) && may_lose()
    }

    pub(crate) fn counts(&self) -> RepairCounts {
        RepairCounts {
            asked: self.asked.load(Relaxed),
            resent: self.resent.load(Relaxed),
            resent_bytes: self.resent_bytes.load(Relaxed),
            refused: self.refused.load(Relaxed),
            parity: self.parity.load(Relaxed),
            parity_bytes: self.parity_bytes.load(Relaxed),
        }
    }

    pub(super) fn count_asked(&self, packets: u64, refused: u64) {
        self.asked.fetch_add(packets, Relaxed);
        self.refused.fetch_add(refused, Relaxed);
    }

    pub(super) fn count_resent(&self, bytes: usize) {
        self.resent.fetch_add(1, Relaxed);
        self.resent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_parity(&self, bytes: usize) {
        self.parity.fetch_add(1, Relaxed);
        self.parity_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_needs_loss_and_room() {
        let link = RepairLink::new(1_000_000);
        let now = Instant::now() + Duration::from_secs(1);
        assert!(!link.is_lossy(now) && !link.wants_parity(now), "nothing was lost yet");
        link.saw_loss(now);
        assert!(link.wants_parity(now) && link.wants_parity(now + LOSS_MEMORY / 2));
        assert!(!link.wants_parity(now + LOSS_MEMORY), "forgotten");
        link.allow_parity(false);
        assert!(link.is_lossy(now) && !link.wants_parity(now));
    }

    #[test]
    fn a_long_path_with_room_has_parity_until_it_has_shown_that_it_loses_nothing() {
        let link = RepairLink::new(1_000_000);
        link.set_long_with_room(true);
        let now = Instant::now();
        assert!(link.wants_parity(now) && !link.is_lossy(now));
        assert!(!link.wants_parity(now + LOSS_MEMORY + Duration::from_secs(1)));
        link.set_long_with_room(false);
        assert!(!link.wants_parity(now));
    }
}
