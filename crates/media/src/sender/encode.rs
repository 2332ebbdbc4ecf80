//! The encoder's thread: canvas in, frames for the sessions out.

use super::control::{Codecs, Control, Frame, Job};
use super::pace::Reason;
use crate::clock::{now_us, video_timestamp};
use crate::config::EncoderKind;
use crate::error::MediaError;
use crate::transport::{Payloads, VideoCodec};
use crate::video::{Canvas, Encoder, choose_encoder};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A frame larger than this share of what the rate allows one was made coarse by the rate control, and deserves
/// sharpening when the picture stands still.
const COARSE_SHARE: f64 = 0.5;

/// One codec's encoder and what goes with it.
struct Line {
    codec: VideoCodec,
    encoder: Option<Encoder>,
    payloads: Payloads,
    rates: (u32, u32),
}

impl Line {
    fn new(codec: VideoCodec) -> Self {
        Self { codec, encoder: None, payloads: Payloads::new(codec), rates: (0, 0) }
    }

    /// Encodes the canvas as it is now and delivers the frame; returns its bytes.
    fn frame(
        &mut self,
        canvas: &Canvas,
        kinds: &[EncoderKind],
        control: &Control,
        key: bool,
        rates: (u32, u32),
        capture_us: u64,
    ) -> Result<Option<usize>, MediaError> {
        let Some(size) = canvas.size() else { return Ok(None) };
        if self.encoder.as_ref().is_none_or(|encoder| encoder.size() != size) {
            let kind = choose_encoder(kinds, self.codec)?;
            // The old one first: two at once would be of no use.
            self.encoder = None;
            tracing::info!(encoder = kind.name(), width = size.width, height = size.height, "encoding");
            self.encoder = Some(Encoder::new(kind, size, rates.0, rates.1)?);
            self.rates = rates;
        }
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if self.rates != rates {
            encoder.set_rate(rates.0, rates.1);
            self.rates = rates;
        }
        let encoded = encoder.encode(canvas, capture_us, key)?;
        let Some(encoded) = encoded.filter(|encoded| !encoded.bytes.is_empty()) else { return Ok(None) };
        let frame = Arc::new(Frame {
            payloads: self.payloads.split(&encoded.bytes),
            timestamp: video_timestamp(capture_us),
            is_key: encoded.is_key,
            encoded_at: Instant::now(),
        });
        control.deliver(self.codec, &frame);
        let mut counters = control.counters.lock();
        counters.frames += 1;
        counters.keys += u64::from(encoded.is_key);
        counters.bytes += encoded.bytes.len() as u64;
        Ok(Some(encoded.bytes.len()))
    }
}

/// Runs until [`Control::stop`].
pub(super) fn run(canvas: &Canvas, kinds: &[EncoderKind], control: &Control) {
    let mut lines = [Line::new(VideoCodec::H264), Line::new(VideoCodec::Vp8)];
    loop {
        match control.next_job() {
            Job::Stop => break,
            Job::Rest => lines.iter_mut().for_each(|line| line.encoder = None),
            Job::Encode { reason, key, codecs, bit_rate, max_fps } => {
                let started = Instant::now();
                let waited = if let Reason::Damage(first) = reason { started - first } else { Duration::ZERO };
                // The capture time is that of the change, not that of the encoder's turn.
                let capture_us = now_us().saturating_sub(waited.as_micros() as u64);
                let mut bytes = None;
                let mut fault = None;
                for line in lines.iter_mut().filter(|line| wanted(codecs, line.codec)) {
                    match line.frame(canvas, kinds, control, key, (bit_rate, max_fps), capture_us) {
                        Ok(made) => bytes = bytes.max(made),
                        Err(error) => {
                            line.encoder = None;
                            fault = Some(error);
                        }
                    }
                }
                for line in lines.iter_mut().filter(|line| !wanted(codecs, line.codec)) {
                    line.encoder = None;
                }
                report(control, reason, bytes, fault, (bit_rate, max_fps), (waited, started));
            }
        }
    }
}

const fn wanted(codecs: Codecs, codec: VideoCodec) -> bool {
    match codec {
        VideoCodec::H264 => codecs.h264,
        VideoCodec::Vp8 => codecs.vp8,
    }
}

fn report(
    control: &Control,
    reason: Reason,
    bytes: Option<usize>,
    fault: Option<MediaError>,
    (bit_rate, max_fps): (u32, u32),
    (waited, started): (Duration, Instant),
) {
    let now = Instant::now();
    if let Some(bytes) = bytes {
        let per_frame = f64::from(bit_rate) / 8.0 / f64::from(max_fps.clamp(1, 30));
        control.encoded(reason != Reason::Sharpen && bytes as f64 > per_frame * COARSE_SHARE);
    }
    // Otherwise there is no picture yet, or the encoder failed: the next damage tries again, with a new encoder whose
    // first frame is a key frame.
    let mut counters = control.counters.lock();
    if bytes.is_some() {
        counters.fps.add(1, now);
        counters.refinements += u64::from(reason == Reason::Sharpen);
        if matches!(reason, Reason::Damage(_)) {
            counters.wait.record_us(waited.as_micros() as u64, now);
        }
        counters.encode.record_us((now - started).as_micros() as u64, now);
    }
    if counters.fault.as_ref().map(ToString::to_string) != fault.as_ref().map(ToString::to_string) {
        match &fault {
            Some(error) => tracing::warn!(%error, "no picture for the viewers"),
            None => tracing::info!("the encoder works again"),
        }
        counters.fault = fault;
    }
}
