//! What the sound module and the sessions hand each other: Opus packets, nothing else.

use bytes::Bytes;
use std::time::Instant;
use tokio::sync::broadcast;

/// Ticks of a sound RTP timestamp in a second, whatever the device's rate (RFC 7587 section 4.1).
pub const SOUND_CLOCK_HZ: u32 = 48_000;
/// Sound packets that may wait for a session's task before the oldest are dropped: 5 ms each.
const OUTLET_PACKETS: usize = 64;

/// One encoded piece of sound, on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// The Opus packet.
    pub bytes: Bytes,
    /// RTP timestamp: 48 kHz samples; goes on over silence that was not sent, so that the gap is seen.
    pub timestamp: u32,
    /// Whether this is the first packet after silence (the RTP marker bit, RFC 3551 section 4.1).
    pub starts: bool,
}

/// Where an encoder puts its packets: every session that takes sound gets each of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SoundOutlet {
    packets: broadcast::Sender<OpusPacket>,
}

impl SoundOutlet {
    /// An outlet that no session listens to yet.
    #[must_use]
    pub fn new() -> Self {
        Self { packets: broadcast::Sender::new(OUTLET_PACKETS) }
    }

    /// Sends to every listening session; never blocks. Returns how many there are.
    pub fn send(&self, packet: OpusPacket) -> usize {
        self.packets.send(packet).unwrap_or(0)
    }

    /// Whether nobody listens: then encoding is of no use.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.packets.receiver_count() == 0
    }

    /// The packets from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<OpusPacket> {
        self.packets.subscribe()
    }
}

impl Default for SoundOutlet {
    fn default() -> Self {
        Self::new()
    }
}

/// One received piece of sound, in the order of arrival (which need not be the order of sequence).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp, 48 kHz samples.
    pub timestamp: u32,
    /// The marker bit: first packet after silence.
    pub starts: bool,
    /// The Opus packet.
    pub payload: Bytes,
    /// When it arrived.
    pub arrival: Instant,
}

/// Takes a receiver's sound packets.
pub trait PacketSink: Send + 'static {
    /// A packet arrived. Called on the session's task: must not block.
    fn packet(&mut self, packet: ReceivedPacket);

    /// A new session begins (sequence numbers and timestamps start anew) or the old one ended.
    fn reset(&mut self);
}
