//! RTP on its way out.

use super::engine::VideoCodec;
use bytes::Bytes;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::codec::vp8::Vp8Payloader;
use rtc::rtp::packetizer::Payloader;
use std::sync::Arc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

/// Splits encoded frames into RTP payloads, once for all sessions.
pub(crate) struct Payloads {
    payloader: Box<dyn Payloader>,
}

impl Payloads {
    pub(crate) fn new(codec: VideoCodec) -> Self {
        let payloader: Box<dyn Payloader> = match codec {
            VideoCodec::H264 => Box::new(H264Payloader::default()),
            VideoCodec::Vp8 => {
                let mut payloader = Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Box::new(payloader)
            }
        };
        Self { payloader }
    }

    /// The payloads of one frame.
    pub(crate) fn split(&mut self, frame: &Bytes) -> Vec<Bytes> {
        // It fails only for a maximum of 0.
        self.payloader.payload(super::MAX_PAYLOAD_BYTES, frame).unwrap_or_default()
    }
}

/// One track of one session.
pub(crate) struct RtpOut {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) playout_delay_id: Option<u8>,
    pub(super) sequence: u16,
}

impl RtpOut {
    /// Writes one packet; returns its bytes without encryption, or `None` when the connection is gone.
    pub(crate) async fn write(&mut self, payload: Bytes, timestamp: u32, marker: bool) -> Option<usize> {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.version = 2;
        packet.header.ssrc = self.ssrc;
        packet.header.payload_type = self.payload_type;
        packet.header.sequence_number = self.sequence;
        packet.header.timestamp = timestamp;
        packet.header.marker = marker;
        if let Some(id) = self.playout_delay_id {
            // Refused only where the id is out of range; the picture is worth more than the hint.
            let _ = packet.header.set_extension(id, Bytes::from_static(&[0, 0, 0]));
        }
        let bytes = payload.len() + if self.playout_delay_id.is_some() { 20 } else { 12 };
        packet.payload = payload;
        self.sequence = self.sequence.wrapping_add(1);
        self.track.write_rtp(packet).await.ok().map(|()| bytes)
    }
}
