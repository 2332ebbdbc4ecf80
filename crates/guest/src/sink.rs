//! What a guest shows and plays, handed to whoever wants it.

use crate::picture::RgbImage;
use loco_model::{Rect, Size};

/// Takes a guest's picture. Called from the display's own task: whoever needs long copies what it needs and returns,
/// or QEMU piles up updates.
///
/// Pixels are x8r8g8b8, little-endian: bytes B, G, R, and one that means nothing.
pub trait DisplaySink: Send + 'static {
    /// A whole picture, of a size that may be new. Row y starts at `y * stride_bytes`.
    fn scanout(&mut self, size: Size, stride_bytes: u32, pixels: &[u8]);
    /// A part of it; `pixels` holds only that part, and its row y starts at `y * stride_bytes`.
    fn update(&mut self, rect: Rect, stride_bytes: u32, pixels: &[u8]);
    /// There is no picture (any more).
    fn disabled(&mut self);
    /// Whether the guest takes absolute positions (a tablet) or relative motion (a mouse) now.
    fn pointer_mode(&mut self, absolute: bool);
    /// Whether it has this very picture; `None` when it has none, or keeps none. Asked now and then of a picture that has
    /// stood still for long.
    fn shows(&self, _picture: &RgbImage) -> Option<bool> {
        None
    }
}

/// Samples of a frame.
pub(crate) const CHANNELS: usize = 2;

/// A voice's format as it is handed out. Samples are always handed out as interleaved 16 bit stereo at 48 kHz; this says
/// that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundFormat {
    /// Frames a second.
    pub rate_hz: u32,
    /// Samples in a frame.
    pub channels: u8,
}

/// Takes a guest's sound. Called from a task of its own.
pub trait SoundSink: Send + 'static {
    /// The guest opened a voice; `voice` is its id until it is closed.
    fn opened(&mut self, voice: u64, format: SoundFormat);
    /// It plays, or pauses.
    fn enabled(&mut self, voice: u64, enabled: bool);
    /// What it plays: interleaved stereo at 48 kHz.
    fn samples(&mut self, voice: u64, samples: &[i16]);
    /// It is gone. Also sent for every open voice when QEMU is.
    fn closed(&mut self, voice: u64);
}

/// Throws a guest's picture and sound away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl DisplaySink for NoSink {
    fn scanout(&mut self, _: Size, _: u32, _: &[u8]) {}
    fn update(&mut self, _: Rect, _: u32, _: &[u8]) {}
    fn disabled(&mut self) {}
    fn pointer_mode(&mut self, _: bool) {}
}

impl SoundSink for NoSink {
    fn opened(&mut self, _: u64, _: SoundFormat) {}
    fn enabled(&mut self, _: u64, _: bool) {}
    fn samples(&mut self, _: u64, _: &[i16]) {}
    fn closed(&mut self, _: u64) {}
}
