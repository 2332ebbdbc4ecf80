//! H.264 or VP8 to pictures.

use super::element::{Element, init, is_installed};
use super::frame::{FrameTimes, VideoFrame};
use crate::error::MediaError;
use crate::transport::VideoCodec;
use gstreamer as gst;
use gstreamer_video as gst_video;
use std::time::Instant;

const fn element_of(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "avdec_h264",
        VideoCodec::Vp8 => "vp8dec",
    }
}

/// Whether `codec` can be decoded here.
///
/// # Errors
/// When GStreamer does not start or the decoder is not installed.
pub(crate) fn check(codec: VideoCodec) -> Result<(), MediaError> {
    init()?;
    if is_installed(element_of(codec)) { Ok(()) } else { Err(MediaError::NoDecoder(element_of(codec))) }
}

/// A decoder that hands out each picture in the call that fed it.
pub(crate) struct Decoder {
    element: Element,
    info: Option<(gst::Caps, gst_video::VideoInfo)>,
    fed: u64,
}

impl Decoder {
    pub(crate) fn new(codec: VideoCodec) -> Result<Self, MediaError> {
        check(codec)?;
        let name = element_of(codec);
        let failed = |reason: String| MediaError::Codec { element: name, reason };
        let (input, properties): (_, &[(&str, &str)]) = match codec {
            VideoCodec::H264 => (
                "video/x-h264,stream-format=byte-stream,alignment=au",
                &[("max-threads", "1"), ("thread-type", "slice"), ("output-corrupt", "false")],
            ),
            VideoCodec::Vp8 => ("video/x-vp8", &[("threads", "1")]),
        };
        let parse = |caps: &str| caps.parse::<gst::Caps>().map_err(|e| failed(e.to_string()));
        let element = Element::new(name, properties, &parse(input)?, &parse("video/x-raw,format=I420")?)?;
        Ok(Self { element, info: None, fed: 0 })
    }

    /// Decodes one whole frame. `None` when the decoder makes no picture of it.
    ///
    /// # Errors
    /// When the decoder fails: it must be replaced, and the stream needs a key frame.
    pub(crate) fn decode(
        &mut self,
        frame: Vec<u8>,
        timestamp: u32,
        first_packet: Instant,
        complete: Instant,
    ) -> Result<Option<VideoFrame>, MediaError> {
        self.fed += 1;
        let mut buffer = gst::Buffer::from_mut_slice(frame);
        if let Some(buffer) = buffer.get_mut() {
            // Only order matters to the decoder.
            buffer.set_pts(gst::ClockTime::from_mseconds(self.fed));
            buffer.set_dts(gst::ClockTime::from_mseconds(self.fed));
        }
        self.element.push(buffer)?;
        let mut newest = None;
        while let Some(buffer) = self.element.pull() {
            newest = Some(buffer);
        }
        let Some(picture) = newest else { return Ok(None) };
        let Some(info) = self.info() else { return Ok(None) };
        let Ok(mapped) = gst_video::VideoFrame::from_buffer_readable(picture, &info) else { return Ok(None) };
        let times = FrameTimes { timestamp, first_packet, complete, decoded: Instant::now() };
        Ok(Some(VideoFrame::new(mapped, times, self.fed)))
    }

    fn info(&mut self) -> Option<gst_video::VideoInfo> {
        let caps = self.element.output_caps()?;
        match &self.info {
            Some((known, info)) if *known == caps => Some(info.clone()),
            _ => {
                let info = gst_video::VideoInfo::from_caps(&caps).ok()?;
                self.info = Some((caps, info.clone()));
                Some(info)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::Canvas;
    use super::super::encoder::Encoder;
    use super::*;
    use crate::config::EncoderKind;
    use loco_model::Size;

    #[test]
    fn what_is_encoded_comes_back_at_once_and_close() {
        for kind in EncoderKind::ALL {
            let size = Size::new(176, 144);
            let canvas = Canvas::new();
            let Ok(mut encoder) = Encoder::new(kind, size, 2_000_000, 30) else {
                // Not installed here: said by `choose`.
                continue;
            };
            canvas.scanout(size, 176 * 4, &[200; 176 * 144 * 4]);
            canvas.update(loco_model::Rect::new(32, 32, 64, 64), 256, &[40; 64 * 64 * 4]);
            let mut decoder = Decoder::new(kind.codec()).expect("a decoder");
            for i in 1..5u64 {
                canvas.update(loco_model::Rect::new(0, 0, 16, 1), 64, &[i as u8; 64]);
                let encoded = encoder.encode(&canvas, i * 33_000, false).expect("encodes").expect("a frame");
                let now = Instant::now();
                let picture = decoder.decode(encoded.bytes.to_vec(), i as u32, now, now).expect("decodes");
                let picture = picture.expect("a picture in the same call");
                assert_eq!(picture.size(), size);
                let (y, stride) = picture.y();
                // (66 + 129 + 25) * v / 256 + 16
                for (x, row, want) in [(100, 100, 188u8), (64, 64, 50)] {
                    let got = y[row * stride + x];
                    assert!(got.abs_diff(want) <= 6, "{kind:?}: {got} instead of {want}");
                }
                assert!(picture.u().0[50].abs_diff(128) <= 3);
            }
        }
    }

    #[test]
    fn junk_is_no_picture() {
        let mut decoder = Decoder::new(VideoCodec::H264).expect("a decoder");
        let now = Instant::now();
        for junk in [vec![], vec![0], vec![0, 0, 0, 1, 0x65, 1, 2, 3], vec![255; 5_000]] {
            if let Ok(Some(_)) = decoder.decode(junk, 0, now, now) {
                panic!("a picture out of nothing");
            }
        }
    }
}
