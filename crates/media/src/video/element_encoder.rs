//! Encoders that are GStreamer elements.

use super::canvas::Canvas;
use super::convert::I420Planes;
use super::element::{Element, init};
use super::encoder::{BURST_MS, Encoded, FINEST_QUANTISER, NOMINAL_FPS, OTHER_SIZE, Source};
use crate::config::EncoderKind;
use crate::error::MediaError;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer_video as gst_video;

/// What an element is told when it is made: no frame is kept back, no second thread, no periodic key frames.
fn properties(kind: EncoderKind) -> Vec<(&'static str, String)> {
    let fixed: &[(&str, &str)] = match kind {
        EncoderKind::LibX264 => &[],
        EncoderKind::X264 => &[
            ("tune", "zerolatency"),
            ("speed-preset", "ultrafast"),
            ("threads", "1"),
            ("sliced-threads", "false"),
            ("key-int-max", "1000000"),
            ("aud", "false"),
        ],
        EncoderKind::OpenH264 => &[
            ("complexity", "low"),
            ("rate-control", "bitrate"),
            ("gop-size", "1000000"),
            ("multi-thread", "1"),
            ("usage-type", "screen"),
        ],
        EncoderKind::Vp8 => &[
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
    };
    let mut properties: Vec<_> = fixed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if kind == EncoderKind::X264 {
        properties.push(("vbv-buf-capacity", BURST_MS.to_string()));
        properties.push(("qp-min", FINEST_QUANTISER.to_string()));
    }
    properties
}

/// Name of the rate's property, and bits a second in one of its units.
const fn rate_property(kind: EncoderKind) -> (&'static str, u64) {
    match kind {
        EncoderKind::LibX264 | EncoderKind::X264 => ("bitrate", 1_000),
        EncoderKind::OpenH264 => ("bitrate", 1),
        EncoderKind::Vp8 => ("target-bitrate", 1),
    }
}

const fn output_caps(kind: EncoderKind) -> &'static str {
    match kind {
        EncoderKind::LibX264 | EncoderKind::X264 | EncoderKind::OpenH264 => {
            "video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline"
        }
        EncoderKind::Vp8 => "video/x-vp8",
    }
}

/// An element with the I420 picture that it keeps between frames.
pub(super) struct ElementEncoder {
    kind: EncoderKind,
    element: Element,
    info: gst_video::VideoInfo,
    /// The picture as it was last encoded; only what changed since is converted.
    picture: Option<gst::Buffer>,
}

impl ElementEncoder {
    /// `rate` in bits a second.
    pub(super) fn new(kind: EncoderKind, source: &Source, rate: u64) -> Result<Self, MediaError> {
        init()?;
        let failed = |reason: String| MediaError::Codec { element: kind.name(), reason };
        // A frame rate of `0/1` would cost a whole frame of delay.
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, source.width, source.height)
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
        let output = output_caps(kind).parse::<gst::Caps>().map_err(|e| failed(e.to_string()))?;
        let mut properties = properties(kind);
        properties.push((rate_property(kind).0, element_rate(kind, rate).to_string()));
        let properties: Vec<_> = properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let element = Element::new(kind.name(), &properties, &input, &output)?;
        let picture = gst::Buffer::with_size(info.size()).map_err(|e| failed(e.to_string()))?;
        Ok(Self { kind, element, info, picture: Some(picture) })
    }

    /// From the next frame on; bits a second.
    pub(super) fn set_rate(&self, rate: u64) {
        self.element.set(rate_property(self.kind).0, element_rate(self.kind, rate));
    }

    /// As [`super::Encoder::encode`]; the error is the reason alone.
    pub(super) fn encode(
        &mut self,
        canvas: &Canvas,
        source: &mut Source,
        presented_us: u64,
        key: bool,
    ) -> Result<Option<Encoded>, String> {
        let mut buffer = match self.picture.take() {
            Some(buffer) if buffer.is_writable() => buffer,
            // The element still holds the last one: go on with a copy, so that only changes need converting.
            Some(buffer) => buffer.copy_deep().map_err(|_| "no memory")?,
            None => {
                source.forget();
                gst::Buffer::with_size(self.info.size()).map_err(|_| "no memory")?
            }
        };
        let picture = buffer.get_mut().ok_or("its picture is shared")?;
        picture.set_pts(gst::ClockTime::from_useconds(presented_us));
        self.convert(canvas, source, picture).ok_or(OTHER_SIZE)?;
        if key {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
            if !self.element.send(event) {
                tracing::debug!(encoder = self.kind.name(), "it refused to make a key frame");
            }
        }
        self.picture = Some(buffer.clone());
        self.element.push(buffer).map_err(|error| match error {
            MediaError::Codec { reason, .. } => reason,
            other => other.to_string(),
        })?;
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

    fn convert(&self, canvas: &Canvas, source: &mut Source, picture: &mut gst::BufferRef) -> Option<()> {
        let [y_stride, uv_stride, _] = *self.info.stride() else { return None };
        let [_, u_offset, v_offset] = *self.info.offset() else { return None };
        let mut bytes = picture.map_writable().ok()?;
        let (y, chroma) = bytes.split_at_mut(u_offset);
        let (u, v) = chroma.split_at_mut(v_offset - u_offset);
        let (y_stride, uv_stride) = (y_stride.unsigned_abs() as usize, uv_stride.unsigned_abs() as usize);
        source.convert(canvas, &mut I420Planes { y, u, v, y_stride, uv_stride }, |_| ())
    }
}

/// A mapped buffer as the owner of bytes.
struct Mapped(gst::MappedBuffer<gst::buffer::Readable>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The rate in the element's unit.
fn element_rate(kind: EncoderKind, rate: u64) -> u32 {
    let in_units = (rate / rate_property(kind).1).max(1);
    i32::try_from(in_units).map_or(i32::MAX as u32, i32::cast_unsigned)
}
