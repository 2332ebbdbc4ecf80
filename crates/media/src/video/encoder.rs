//! Pictures to H.264 or VP8.

use super::canvas::{BLOCK_SIDE, Canvas};
use super::convert::{I420Planes, bgrx_to_i420};
use super::element::{init, is_installed};
use super::element_encoder::ElementEncoder;
use super::x264;
use crate::config::EncoderKind;
use crate::error::MediaError;
use crate::transport::VideoCodec;
use bytes::Bytes;
use loco_model::{Rect, Size};

/// The encoder's idea of the frame rate: its rate control spends `bit_rate / 30` on a frame. Frames come irregularly.
pub(super) const NOMINAL_FPS: u32 = 30;
/// How many milliseconds of the bit rate one moment may have to itself. What a moment may have is also what the encoder
/// still spends at the old rate after that fell: with 300 ms three frames, which stood in a slow link's queue for a
/// second.
pub(super) const BURST_MS: u32 = 100;
/// A small moving thing on a still screen could have the whole rate to itself; finer steps than these are not seen,
/// only sent and decoded.
pub(super) const FINEST_QUANTISER: u32 = 18;
/// Smallest side that every encoder takes.
const MIN_SIDE: u32 = 16;

impl EncoderKind {
    pub(crate) const fn codec(self) -> VideoCodec {
        match self {
            Self::LibX264 | Self::X264 | Self::OpenH264 => VideoCodec::H264,
            Self::Vp8 => VideoCodec::Vp8,
        }
    }

    fn is_installed(self) -> bool {
        match self {
            Self::LibX264 => x264::library().is_ok(),
            Self::X264 | Self::OpenH264 | Self::Vp8 => is_installed(self.name()),
        }
    }
}

/// The first of `kinds` that makes `codec` and is installed.
pub(crate) fn choose(kinds: &[EncoderKind], codec: VideoCodec) -> Result<EncoderKind, MediaError> {
    init()?;
    let fitting = || kinds.iter().copied().filter(|kind| kind.codec() == codec);
    fitting().find(|kind| kind.is_installed()).ok_or_else(|| {
        let names: Vec<_> = fitting().map(EncoderKind::name).collect();
        MediaError::NoEncoder(if names.is_empty() { format!("(none for {})", codec.name()) } else { names.join(", ") })
    })
}

/// One encoded frame.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) is_key: bool,
}

/// An encoder for one picture size.
pub(crate) struct Encoder {
    kind: EncoderKind,
    codec: Codec,
    source: Source,
}

enum Codec {
    X264(Box<x264::Encoder>),
    Element(Box<ElementEncoder>),
}

/// The canvas as an encoder sees it: in I420, only what changed since the last frame converted.
pub(super) struct Source {
    /// Of the canvas for which this was made.
    size: Size,
    /// Width and height of the encoded picture: even.
    pub(super) width: u32,
    pub(super) height: u32,
    /// Canvas generation that the encoder's picture shows; 0: nothing yet.
    shows: u64,
}

impl Source {
    /// Converts what changed since the last call, and tells `changed` each rectangle of it. `None` when the canvas has
    /// another size by now.
    pub(super) fn convert(
        &mut self,
        canvas: &Canvas,
        planes: &mut I420Planes<'_>,
        mut changed: impl FnMut(Rect),
    ) -> Option<()> {
        let (width, height) = (self.width as usize, self.height as usize);
        self.shows = canvas
            .read(|view| {
                (view.size == self.size).then(|| {
                    for rect in view.changed_since(self.shows) {
                        let columns = rect.x as usize..(rect.right() as usize).min(width);
                        let rows = rect.y as usize..(rect.bottom() as usize).min(height);
                        // A last odd column or row may have a block of its own.
                        if !columns.is_empty() && !rows.is_empty() {
                            bgrx_to_i420(view.pixels, view.stride(), height, columns, rows, planes);
                            changed(rect);
                        }
                    }
                    view.generation
                })
            })
            .flatten()?;
        Some(())
    }

    /// Macroblocks in a row, and rows of them.
    pub(super) const fn blocks(&self) -> (usize, usize) {
        (self.width.div_ceil(BLOCK_SIDE) as usize, self.height.div_ceil(BLOCK_SIDE) as usize)
    }

    /// The encoder's picture is a new, empty one.
    pub(super) const fn forget(&mut self) {
        self.shows = 0;
    }
}

impl Encoder {
    /// An encoder for a canvas of `size`, whose sides are cut to even numbers. The first frame is a key frame.
    pub(crate) fn new(kind: EncoderKind, size: Size, bit_rate: u32, max_fps: u32) -> Result<Self, MediaError> {
        if size.width < MIN_SIDE || size.height < MIN_SIDE {
            let reason = format!("a picture of {}x{} is too small", size.width, size.height);
            return Err(MediaError::Codec { element: kind.name(), reason });
        }
        let source = Source { size, width: size.width & !1, height: size.height & !1, shows: 0 };
        let rate = encoder_rate(bit_rate, max_fps);
        let codec = match kind {
            EncoderKind::LibX264 => Codec::X264(Box::new(x264::Encoder::new(&source, rate)?)),
            EncoderKind::X264 | EncoderKind::OpenH264 | EncoderKind::Vp8 => {
                Codec::Element(Box::new(ElementEncoder::new(kind, &source, rate)?))
            }
        };
        Ok(Self { kind, codec, source })
    }

    pub(crate) const fn size(&self) -> Size {
        self.source.size
    }

    /// From the next frame on.
    pub(crate) fn set_rate(&mut self, bit_rate: u32, max_fps: u32) {
        let rate = encoder_rate(bit_rate, max_fps);
        let set = match &mut self.codec {
            Codec::X264(encoder) => encoder.set_rate(rate),
            Codec::Element(encoder) => {
                encoder.set_rate(rate);
                Ok(())
            }
        };
        if let Err(error) = set {
            tracing::warn!(%error, bit_rate, "the encoder keeps its bit rate");
        }
    }

    /// Encodes the canvas as it is now; `None` where the encoder made nothing of it, an error where the canvas has
    /// another size by now or the encoder fails. `presented_us` must grow from frame to frame.
    pub(crate) fn encode(
        &mut self,
        canvas: &Canvas,
        presented_us: u64,
        key: bool,
    ) -> Result<Option<Encoded>, MediaError> {
        let encoded = match &mut self.codec {
            Codec::X264(encoder) => encoder.encode(canvas, &mut self.source, presented_us, key),
            Codec::Element(encoder) => encoder.encode(canvas, &mut self.source, presented_us, key),
        };
        encoded.map_err(|reason| MediaError::Codec { element: self.kind.name(), reason })
    }
}

/// Why no frame came out when the canvas no longer has the encoder's size.
pub(super) const OTHER_SIZE: &str = "the picture changed its size";

/// The rate as encoders want it, in bits a second: frames are taken for 1/30 s each, so where fewer are allowed each may
/// be larger.
const fn encoder_rate(bit_rate: u32, max_fps: u32) -> u64 {
    let fps = if max_fps < NOMINAL_FPS { if max_fps == 0 { 1 } else { max_fps } } else { NOMINAL_FPS };
    bit_rate as u64 * NOMINAL_FPS as u64 / fps as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(size: Size, value: u8) -> Canvas {
        let canvas = Canvas::new();
        canvas.scanout(size, size.width as usize * 4, &vec![value; size.area() as usize * 4]);
        canvas
    }

    #[test]
    fn every_installed_encoder_makes_a_frame_at_once_and_keys_on_demand() {
        for kind in EncoderKind::ALL {
            if choose(&[kind], kind.codec()).is_err() {
                continue;
            }
            let size = Size::new(161, 97);
            let canvas = canvas(size, 99);
            let mut encoder = Encoder::new(kind, size, 1_000_000, 30).expect("an encoder");
            let mut keys = Vec::new();
            for i in 0..8u64 {
                canvas.update(loco_model::Rect::new(0, 0, 1, 1), 4, &[i as u8; 4]);
                if i == 4 {
                    encoder.set_rate(500_000, 10);
                }
                let frame = encoder.encode(&canvas, i * 20_000 + 1, i == 6).expect("encodes").expect("a frame");
                assert!(!frame.bytes.is_empty());
                keys.push(frame.is_key);
            }
            if kind == EncoderKind::OpenH264 {
                keys[4] = false; // a new rate costs it a key frame
            }
            assert_eq!(keys, [true, false, false, false, false, false, true, false], "{kind:?}");
            canvas.scanout(Size::new(64, 64), 256, &[0; 64 * 64 * 4]);
            assert!(encoder.encode(&canvas, 1_000_000, false).is_err(), "another size wants another encoder");
        }
    }

    #[test]
    fn encoders_are_chosen_from_the_list() {
        let error = choose(&[EncoderKind::Vp8], VideoCodec::H264).expect_err("VP8 makes no H.264");
        assert!(error.to_string().contains("H264"), "{error}");
        assert!(Encoder::new(EncoderKind::X264, Size::new(8, 8), 1, 1).is_err());
    }

    #[test]
    fn rates_are_scaled_to_the_frame_rate() {
        assert_eq!(encoder_rate(2_000_000, 60), 2_000_000);
        assert_eq!(encoder_rate(2_000_000, 10), 6_000_000);
        assert_eq!(encoder_rate(0, 0), 0);
    }

    /// Bytes of `count` frames of a picture of which nothing is as it was in the frame before.
    fn storm(encoder: &mut Encoder, canvas: &Canvas, from: u64, count: u64) -> Vec<usize> {
        let size = encoder.size();
        (from..from + count)
            .map(|i| {
                let pixels: Vec<u8> = (0..size.area())
                    .flat_map(|at| {
                        let (x, y) = (at % u64::from(size.width) / 16 + i * 13, at / u64::from(size.width) / 16);
                        let mut mixed = ((x * 0x9e37_79b9) ^ (y * 0x85eb_ca6b)).wrapping_mul(0xff51_afd7_ed55_8ccd);
                        mixed ^= mixed >> 33;
                        let [r, g, b, ..] = mixed.to_le_bytes();
                        [r, g, b, 0]
                    })
                    .collect();
                canvas.update(loco_model::Rect::new(0, 0, size.width, size.height), size.width as usize * 4, &pixels);
                encoder.encode(canvas, i * 33_333 + 1, false).expect("encodes").expect("a frame").bytes.len()
            })
            .collect()
    }

    #[test]
    fn frames_follow_the_rate_at_once() {
        if choose(&[EncoderKind::LibX264], VideoCodec::H264).is_err() {
            return;
        }
        let size = Size::new(640, 480);
        let canvas = canvas(size, 99);
        let mut encoder = Encoder::new(EncoderKind::LibX264, size, 2_000_000, 30).expect("an encoder");
        let fair = |rate: usize, fps: usize| rate / 8 / fps;
        let before = storm(&mut encoder, &canvas, 0, 60);
        assert!(before.iter().all(|bytes| *bytes < fair(2_000_000, 30) * 2), "{before:?}");
        let settled: usize = before[30..].iter().sum();
        assert!(settled * 100 > fair(2_000_000, 30) * 30 * 80, "the rate is used: {before:?}");
        encoder.set_rate(200_000, 16);
        let after = storm(&mut encoder, &canvas, 60, 30);
        // What is too much here is a queue on a link that just became slow.
        assert!(after[..4].iter().sum::<usize>() < fair(2_000_000, 30) * 3 / 2, "{after:?}");
        assert!(after[4..].iter().all(|bytes| *bytes < fair(200_000, 16) * 2), "{after:?}");
        encoder.set_rate(2_000_000, 30);
        let again = storm(&mut encoder, &canvas, 90, 30);
        assert!(again[8..].iter().all(|bytes| *bytes > fair(2_000_000, 30) * 3 / 4), "{again:?}");
    }
}
