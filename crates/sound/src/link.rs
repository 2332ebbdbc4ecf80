//! Where encoded sound goes.

/// One Opus packet on its way to the viewers. Sequence numbers are the transport's, one series a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundPacket<'a> {
    /// RTP timestamp, 48 kHz: when its first frame was captured. It goes on through silence, so gaps are real.
    pub timestamp: u32,
    /// RTP marker bit: first packet after silence (RFC 3551, section 4.1).
    pub marker: bool,
    /// Opus. A single byte (a TOC with nothing after it, as Opus's own DTX sends) ends a stretch of sound.
    pub payload: &'a [u8],
}

/// Takes encoded sound to the viewers. Called on the thread that pushes samples: must not block.
pub trait SoundLink: Send {
    /// Sends one packet to everyone who listens.
    fn send(&mut self, packet: SoundPacket<'_>);

    /// Whether anyone listens. While no one does, nothing is encoded (but the level is still measured).
    fn has_listeners(&self) -> bool {
        true
    }
}

impl<F: FnMut(SoundPacket<'_>) + Send> SoundLink for F {
    fn send(&mut self, packet: SoundPacket<'_>) {
        self(packet);
    }
}
