//! A decoded picture.

use gstreamer_video::prelude::*;
use loco_model::Size;
use std::time::Instant;

/// When a frame passed each stage.
#[derive(Clone, Copy, Debug)]
pub struct FrameTimes {
    /// RTP timestamp: the capture time on the sender's clock in 90 kHz, see [`crate::clock::video_timestamp`].
    pub timestamp: u32,
    /// Its first packet arrived.
    pub first_packet: Instant,
    /// Its last missing packet arrived.
    pub complete: Instant,
    /// The decoder was done.
    pub decoded: Instant,
}

/// A decoded picture in I420 (BT.601, limited range), mapped from the decoder's buffer without a copy.
/// Keep it no longer than needed: the decoder wants the buffer back.
pub struct VideoFrame {
    frame: gstreamer_video::VideoFrame<gstreamer_video::video_frame::Readable>,
    /// When it passed each stage.
    pub times: FrameTimes,
    /// Counts the frames of this receiver.
    pub number: u64,
}

impl VideoFrame {
    pub(crate) const fn new(
        frame: gstreamer_video::VideoFrame<gstreamer_video::video_frame::Readable>,
        times: FrameTimes,
        number: u64,
    ) -> Self {
        Self { frame, times, number }
    }

    /// Width and height of the luma plane; chroma has half of both, rounded up.
    #[must_use]
    pub fn size(&self) -> Size {
        Size::new(self.frame.width(), self.frame.height())
    }

    /// Luma: bytes, and how many from one row to the next.
    #[must_use]
    pub fn y(&self) -> (&[u8], usize) {
        self.plane(0)
    }

    /// Blue difference: bytes, and how many from one row to the next.
    #[must_use]
    pub fn u(&self) -> (&[u8], usize) {
        self.plane(1)
    }

    /// Red difference: bytes, and how many from one row to the next.
    #[must_use]
    pub fn v(&self) -> (&[u8], usize) {
        self.plane(2)
    }

    fn plane(&self, index: u32) -> (&[u8], usize) {
        let stride = self.frame.plane_stride().get(index as usize).map_or(0, |s| s.unsigned_abs() as usize);
        (self.frame.plane_data(index).unwrap_or(&[]), stride)
    }
}

impl std::fmt::Debug for VideoFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoFrame").field("size", &self.size()).field("number", &self.number).finish_non_exhaustive()
    }
}
