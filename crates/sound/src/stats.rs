//! What a [`super::Reader`] counted, readable from any thread.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters of one instance's sound at the receiver, since the reader was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReaderStats {
    /// Packets that came in.
    pub packets_received: u64,
    /// Payload bytes of these.
    pub bytes_received: u64,
    /// Packets refused because the ring was full (no one played).
    pub packets_overflowed: u64,
    /// Packets refused because their payload was empty or too long.
    pub packets_refused: u64,
    /// Packets that came after their place had been played or given up, or twice.
    pub packets_stale: u64,
    /// Packets decoded.
    pub packets_decoded: u64,
    /// Packets that Opus could not decode (concealed instead).
    pub packets_broken: u64,
    /// Concealed because lost: the successor was there.
    pub concealed_lost: u64,
    /// Concealed because late: nothing was there; the packet is played afterwards.
    pub concealed_late: u64,
    /// Sound stopped in the middle of a stretch because nothing came any more.
    pub underruns: u64,
    /// Times that too much had gathered and was thrown away.
    pub skips: u64,
    /// Times that a few milliseconds were left out or repeated where it is hardly heard, since too much or too little was
    /// in store.
    pub splices: u64,
    /// Stretches of sound begun.
    pub stretches: u64,
    /// A stretch of sound plays now.
    pub playing: bool,
    /// Sound in store at the last callback, in milliseconds: what the receiver adds to the delay.
    pub buffer_ms: f64,
    /// Estimate of guest's sample to loudspeaker without the network: the agent's packet and look-ahead, the store and
    /// the resampler, in milliseconds. What the guest's own piece and the sound device add is not in it.
    pub latency_ms: f64,
    /// Correction of the playing speed now, in parts per million; positive plays faster.
    pub drift_ppm: f64,
    /// What is kept in store for packets that come late, in milliseconds: more where some did.
    pub spare_ms: f64,
}

/// The counters themselves; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ReaderStatsHandle(pub(super) Arc<Counters>);

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets_received: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) packets_overflowed: AtomicU64,
    pub(super) packets_refused: AtomicU64,
    pub(super) packets_stale: AtomicU64,
    pub(super) packets_decoded: AtomicU64,
    pub(super) packets_broken: AtomicU64,
    pub(super) concealed_lost: AtomicU64,
    pub(super) concealed_late: AtomicU64,
    pub(super) underruns: AtomicU64,
    pub(super) skips: AtomicU64,
    pub(super) splices: AtomicU64,
    pub(super) stretches: AtomicU64,
    pub(super) playing: AtomicBool,
    /// `f64` bits.
    pub(super) buffer_ms: AtomicU64,
    /// `f64` bits.
    pub(super) latency_ms: AtomicU64,
    /// `f64` bits.
    pub(super) drift_ppm: AtomicU64,
    /// `f64` bits.
    pub(super) spare_ms: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

pub(super) fn set(place: &AtomicU64, value: f64) {
    place.store(value.to_bits(), Relaxed);
}

impl ReaderStatsHandle {
    /// The values now.
    #[must_use]
    pub fn read(&self) -> ReaderStats {
        let c = &*self.0;
        let n = |x: &AtomicU64| x.load(Relaxed);
        let f = |x: &AtomicU64| f64::from_bits(x.load(Relaxed));
        ReaderStats {
            packets_received: n(&c.packets_received),
            bytes_received: n(&c.bytes_received),
            packets_overflowed: n(&c.packets_overflowed),
            packets_refused: n(&c.packets_refused),
            packets_stale: n(&c.packets_stale),
            packets_decoded: n(&c.packets_decoded),
            packets_broken: n(&c.packets_broken),
            concealed_lost: n(&c.concealed_lost),
            concealed_late: n(&c.concealed_late),
            underruns: n(&c.underruns),
            skips: n(&c.skips),
            splices: n(&c.splices),
            stretches: n(&c.stretches),
            playing: c.playing.load(Relaxed),
            buffer_ms: f(&c.buffer_ms),
            latency_ms: f(&c.latency_ms),
            drift_ppm: f(&c.drift_ppm),
            spare_ms: f(&c.spare_ms),
        }
    }
}
