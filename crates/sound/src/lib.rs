//! Sound, from a guest's voice to the loudspeaker; nothing of networks or windows.
//!
//! Sender: guest voices (48 kHz) -> [`SoundEncoder`] (mix, Opus in 5 ms packets, nothing for silence) -> [`SoundLink`].
//! Receiver: RTP -> [`PacketWriter`] -> ring of packets -> [`Reader`], which decodes, conceals and corrects the drift of
//! the two clocks inside the sound device's callback.
//!
//! Decoding in the callback is what keeps the delay small: only there is it known whether a packet that is missing is
//! lost (its successor is there) or merely late (nothing is there), and no decoded sound has to lie in store.
//!
//! [`playback`] mixes the readers of all instances and keeps a device open. It is the one part that knows the sound
//! systems (by cpal); this crate is checked to compile for those that tests cannot run on.

mod bell;
pub mod clock;
mod drift;
pub mod ear;
mod encoder;
mod level;
mod link;
pub mod loudness;
pub mod machine;
pub mod meter;
pub mod playback;
mod reader;
mod resample;
mod ring;
mod stats;

pub use bell::Bell;
pub use encoder::{SoundEncoder, SoundEncoderStats};
pub use link::{SoundLink, SoundPacket};
pub use reader::{Filled, Reader};
pub use resample::StereoResampler;
pub use ring::{PacketWriter, Refused, packet_ring};
pub use stats::{ReaderStats, ReaderStatsHandle};

/// Frames a second of everything between the guest and the mixer, and RTP's clock for Opus (RFC 7587, section 4.1).
pub const RATE_HZ: u32 = 48_000;

/// Stereo.
pub const CHANNELS: usize = 2;

/// Frames in one of our Opus packets: 5 ms.
pub const PACKET_FRAMES: usize = 240;

/// Longest payload accepted or made, in bytes. Ours are 60 on average; Opus itself allows 1275 a frame.
pub const MAX_PAYLOAD_BYTES: usize = 512;

/// Setting sound up failed.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// libopus refused.
    #[error("Opus: {0}")]
    Opus(#[from] opus::Error),
    /// The resampler refused.
    #[error("resampler from {from_hz} Hz to {to_hz} Hz: {reason}")]
    Resampler {
        /// Input rate.
        from_hz: u32,
        /// Output rate.
        to_hz: u32,
        /// The crate's words.
        reason: String,
    },
    /// The loudness meter refused.
    #[error("loudness meter: {0}")]
    Loudness(String),
}
