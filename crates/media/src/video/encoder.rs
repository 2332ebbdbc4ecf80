//! Pictures to H.264 or VP8.

use super::canvas::Canvas;
use super::convert::{I420Planes, bgrx_rows_to_i420};
use super::element::{Element, init, is_installed};
use crate::config::EncoderKind;
use crate::error::MediaError;
use crate::transport::VideoCodec;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer_video as gst_video;
use loco_model::Size;

/// The encoder's idea of the frame rate: its rate control spends `bit_rate / 30` on a frame. Frames come irregularly;
/// `0/1` would cost a whole frame of delay.
const NOMINAL_FPS: u32 = 30;
/// Smallest side that every encoder takes.
const MIN_SIDE: u32 = 16;

impl EncoderKind {
    pub(crate) const fn codec(self) -> VideoCodec {
        match self {
            Self::X264 | Self::OpenH264 => VideoCodec::H264,
            Self::Vp8 => VideoCodec::Vp8,
        }
    }

    const fn output_caps(self) -> &'static str {
        match self {
            Self::X264 | Self::OpenH264 => {
                "video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline"
            }
            Self::Vp8 => "video/x-vp8",
        }
    }

    /// Settings as measured: no frame is kept back, no second thread, no periodic key frames.
    const fn properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::X264 => &[
                ("tune", "zerolatency"),
                ("speed-preset", "ultrafast"),
                ("threads", "1"),
                ("sliced-threads", "false"),
                ("key-int-max", "1000000"),
                ("vbv-buf-capacity", "300"),
                // A small moving thing on a still screen could have the whole rate to itself; finer steps than these
                // are not seen, only sent and decoded (GStreamer's default is 10).
                ("qp-min", "18"),
                ("aud", "false"),
            ],
            Self::OpenH264 => &[
                ("complexity", "low"),
                ("rate-control", "bitrate"),
                ("gop-size", "1000000"),
                ("multi-thread", "1"),
                ("usage-type", "screen"),
            ],
            Self::Vp8 => &[
                ("deadline", "1"),
                ("cpu-used", "8"),
                ("threads", "1"),
                ("end-usage", "cbr"),
                ("keyframe-max-dist", "1000000"),
                ("lag-in-frames", "0"),
                ("buffer-size", "500"),
                ("buffer-initial-size", "300"),
                ("buffer-optimal-size", "400"),
            ],
        }
    }

    /// Name of the rate's property, and bits a second in one of its units.
    const fn rate(self) -> (&'static str, u32) {
        match self {
            Self::X264 => ("bitrate", 1_000),
            Self::OpenH264 => ("bitrate", 1),
            Self::Vp8 => ("target-bitrate", 1),
        }
    }
}

/// The first of `kinds` that makes `codec` and is installed.
pub(crate) fn choose(kinds: &[EncoderKind], codec: VideoCodec) -> Result<EncoderKind, MediaError> {
    init()?;
    let fitting = || kinds.iter().copied().filter(|kind| kind.codec() == codec);
    fitting().find(|kind| is_installed(kind.element())).ok_or_else(|| {
        let names: Vec<_> = fitting().map(EncoderKind::element).collect();
        MediaError::NoEncoder(if names.is_empty() { format!("(none for {})", codec.name()) } else { names.join(", ") })
    })
}

/// One encoded frame.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) is_key: bool,
}

/// An encoder for one picture size, with the I420 picture that it keeps between frames.
pub(crate) struct Encoder {
    kind: EncoderKind,
    element: Element,
    info: gst_video::VideoInfo,
    /// The picture as it was last encoded; only what changed since is converted.
    picture: Option<gst::Buffer>,
    /// Canvas generation that `picture` shows.
    shows: u64,
    /// Size of the canvas for which this was made.
    size: Size,
}

impl Encoder {
    /// An encoder for a canvas of `size`, whose sides are cut to even numbers. The first frame is a key frame.
    pub(crate) fn new(kind: EncoderKind, size: Size, bit_rate: u32, max_fps: u32) -> Result<Self, MediaError> {
        init()?;
        let failed = |reason: String| MediaError::Codec { element: kind.element(), reason };
        if size.width < MIN_SIDE || size.height < MIN_SIDE {
            return Err(failed(format!("a picture of {}x{} is too small", size.width, size.height)));
        }
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, size.width & !1, size.height & !1)
            .fps(gst::Fraction::new(NOMINAL_FPS as i32, 1))
            .colorimetry(&gst_video::VideoColorimetry::new(
                gst_video::VideoColorRange::Range16_235,
                gst_video::VideoColorMatrix::Bt601,
                gst_video::VideoTransferFunction::Bt709,
                gst_video::VideoColorPrimaries::Smpte170m,
            ))
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let input = info.to_caps().map_err(|e| failed(e.to_string()))?;
        let output = kind.output_caps().parse::<gst::Caps>().map_err(|e| failed(e.to_string()))?;
        let (rate, unit) = kind.rate();
        let value = element_rate(bit_rate, max_fps, unit).to_string();
        let properties: Vec<_> = kind.properties().iter().copied().chain([(rate, value.as_str())]).collect();
        let element = Element::new(kind.element(), &properties, &input, &output)?;
        let picture = gst::Buffer::with_size(info.size()).map_err(|e| failed(e.to_string()))?;
        Ok(Self { kind, element, info, picture: Some(picture), shows: 0, size })
    }

    pub(crate) const fn size(&self) -> Size {
        self.size
    }

    /// From the next frame on.
    pub(crate) fn set_rate(&self, bit_rate: u32, max_fps: u32) {
        let (rate, unit) = self.kind.rate();
        self.element.set(rate, element_rate(bit_rate, max_fps, unit));
    }

    /// Encodes the canvas as it is now; `None` where the encoder made nothing of it, an error where the canvas has
    /// another size by now or the encoder fails. `presented_us` must grow from frame to frame.
    pub(crate) fn encode(
        &mut self,
        canvas: &Canvas,
        presented_us: u64,
        key: bool,
    ) -> Result<Option<Encoded>, MediaError> {
        let element = self.kind.element();
        let failed = |reason: &str| MediaError::Codec { element, reason: reason.to_owned() };
        let mut buffer = match self.picture.take() {
            Some(buffer) if buffer.is_writable() => buffer,
            // The element still holds the last one: go on with a copy, so that only changes need converting.
            Some(buffer) => buffer.copy_deep().map_err(|_| failed("no memory"))?,
            None => {
                self.shows = 0;
                gst::Buffer::with_size(self.info.size()).map_err(|_| failed("no memory"))?
            }
        };
        let picture = buffer.get_mut().ok_or_else(|| failed("its picture is shared"))?;
        picture.set_pts(gst::ClockTime::from_useconds(presented_us));
        self.convert(canvas, picture).ok_or_else(|| failed("the picture changed its size"))?;
        if key {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
            if !self.element.send(event) {
                tracing::debug!(encoder = self.kind.element(), "it refused to make a key frame");
            }
        }
        self.picture = Some(buffer.clone());
        self.element.push(buffer)?;
        let mut encoded: Option<Encoded> = None;
        while let Some(buffer) = self.element.pull() {
            let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let Ok(mapped) = buffer.into_mapped_buffer_readable() else { continue };
            // Without lookahead one comes out for each that goes in; were there more, none may be lost.
            if let Some(first) = &mut encoded {
                first.bytes = [first.bytes.as_ref(), mapped.as_slice()].concat().into();
                first.is_key |= is_key;
            } else {
                encoded = Some(Encoded { bytes: Bytes::from_owner(Mapped(mapped)), is_key });
            }
        }
        Ok(encoded)
    }

    /// Converts what changed since `self.shows`; `None` when the canvas has another size.
    fn convert(&mut self, canvas: &Canvas, picture: &mut gst::BufferRef) -> Option<()> {
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        let [y_stride, uv_stride, _] = *self.info.stride() else { return None };
        let [_, u_offset, v_offset] = *self.info.offset() else { return None };
        let mut bytes = picture.map_writable().ok()?;
        let (y, chroma) = bytes.split_at_mut(u_offset);
        let (u, v) = chroma.split_at_mut(v_offset - u_offset);
        let (y_stride, uv_stride) = (y_stride.unsigned_abs() as usize, uv_stride.unsigned_abs() as usize);
        let mut planes = I420Planes { y, u, v, y_stride, uv_stride };
        let (since, size) = (self.shows, self.size);
        self.shows = canvas
            .read(|view| {
                (view.size == size).then(|| {
                    for rows in view.rows_since(since) {
                        let rows = rows.start as usize..(rows.end as usize).min(height);
                        bgrx_rows_to_i420(view.pixels, view.stride(), width, height, rows, &mut planes);
                    }
                    view.generation
                })
            })
            .flatten()?;
        Some(())
    }
}

/// A mapped buffer as the owner of bytes.
struct Mapped(gst::MappedBuffer<gst::buffer::Readable>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The rate as the element wants it: its frames are taken for 1/30 s each, so where fewer are allowed each may be larger.
const fn element_rate(bit_rate: u32, max_fps: u32, unit: u32) -> u32 {
    let fps = if max_fps < NOMINAL_FPS { if max_fps == 0 { 1 } else { max_fps } } else { NOMINAL_FPS };
    let scaled = bit_rate as u64 * NOMINAL_FPS as u64 / fps as u64 / unit as u64;
    if scaled == 0 {
        1
    } else if scaled > i32::MAX as u64 {
        i32::MAX as u32
    } else {
        scaled as u32
    }
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
        assert_eq!(element_rate(2_000_000, 60, 1_000), 2_000);
        assert_eq!(element_rate(2_000_000, 10, 1_000), 6_000);
        assert_eq!(element_rate(0, 0, 1_000), 1);
    }
}
