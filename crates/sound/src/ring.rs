//! The ring of packets between the network and the sound device's callback.

use super::stats::{ReaderStatsHandle, count};
use super::{Bell, MAX_PAYLOAD_BYTES, PACKET_FRAMES, RATE_HZ, Reader, SoundError};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

/// Packets that the ring holds: 640 ms of ours. The callback empties it into the reader's own places every few
/// milliseconds.
const RING_PACKETS: usize = 128;

/// Bytes up to which a packet says that silence follows.
const LONGEST_END: usize = 2;

/// One packet, of fixed size so that nothing is allocated or freed on either side.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    /// Which session of the receiver; sequence numbers of different sessions have nothing to do with each other.
    pub(super) epoch: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// How long it sounds, in frames; nothing for the end of a stretch.
    pub(super) frames: u16,
    len: u16,
    data: [u8; MAX_PAYLOAD_BYTES],
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No one plays: the ring is full.
    #[error("the ring is full")]
    Full,
    /// Empty, or longer than [`MAX_PAYLOAD_BYTES`].
    #[error("a payload of {0} bytes, allowed are 1 to {max}", max = MAX_PAYLOAD_BYTES)]
    Length(usize),
}

/// The network's end.
pub struct PacketWriter {
    ring: Producer<Packet>,
    epoch: u32,
    stats: ReaderStatsHandle,
    bell: Arc<OnceLock<Arc<Bell>>>,
}

/// A ring for one instance: the network's end and the callback's.
///
/// # Errors
/// When Opus or the resampler cannot be set up.
pub fn packet_ring() -> Result<(PacketWriter, Reader), SoundError> {
    let (producer, consumer) = RingBuffer::new(RING_PACKETS);
    let reader = Reader::new(consumer)?;
    let writer = PacketWriter { ring: producer, epoch: 0, stats: reader.stats(), bell: reader.bell() };
    Ok((writer, reader))
}

// === impl Packet ===

impl Packet {
    pub(super) fn payload(&self) -> &[u8] {
        &self.data[..usize::from(self.len)]
    }

    /// A TOC byte alone: the sender says that silence follows.
    pub(super) fn is_end(&self) -> bool {
        self.payload().len() <= LONGEST_END
    }
}

/// How long a payload sounds, by its first bytes (RFC 6716, section 3.1): nothing for an end, what is usual for one that
/// makes no sense.
fn frames_of(payload: &[u8]) -> u16 {
    if payload.len() <= LONGEST_END {
        return 0;
    }
    opus::packet::get_nb_samples(payload, RATE_HZ).ok().and_then(|n| n.try_into().ok()).unwrap_or(PACKET_FRAMES as u16)
}

pub(super) type PacketReader = Consumer<Packet>;

// === impl PacketWriter ===

impl PacketWriter {
    /// Hands one RTP packet to the callback. Never blocks.
    ///
    /// # Errors
    /// When no one plays, or the payload has a length that is not allowed; both are counted.
    pub fn push(&mut self, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Result<(), Refused> {
        let counters = &*self.stats.0;
        if payload.is_empty() || payload.len() > MAX_PAYLOAD_BYTES {
            count(&counters.packets_refused);
            return Err(Refused::Length(payload.len()));
        }
        let mut data = [0; MAX_PAYLOAD_BYTES];
        data[..payload.len()].copy_from_slice(payload);
        let (epoch, frames, len) = (self.epoch, frames_of(payload), payload.len() as u16);
        let packet = Packet { epoch, sequence, timestamp, marker, frames, len, data };
        if self.ring.push(packet).is_err() {
            count(&counters.packets_overflowed);
            return Err(Refused::Full);
        }
        count(&counters.packets_received);
        counters.bytes_received.fetch_add(payload.len() as u64, Relaxed);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
        Ok(())
    }

    /// A new session begins: what follows has its own sequence numbers and timestamps.
    pub fn new_session(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The counters that the reader writes as well.
    #[must_use]
    pub fn stats(&self) -> ReaderStatsHandle {
        self.stats.clone()
    }
}
