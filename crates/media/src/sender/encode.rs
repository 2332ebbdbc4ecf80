//! The encoder's thread: canvas in, frames for the sessions out.

use super::control::{Codecs, Control, Frame, Job, Made};
use super::crowd::Crowd;
use super::halve::Halved;
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

/// Rates that differ by less than this part of themselves are taken for equal.
const RATE_STEPS: u32 = 32;

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

    /// Encodes the canvas as it is now and delivers the frame; returns its bytes, and whether it is a key frame.
    fn frame(
        &mut self,
        canvas: &Canvas,
        kinds: &[EncoderKind],
        control: &Control,
        key: bool,
        rates: (u32, u32),
        capture_us: u64,
    ) -> Result<Option<(usize, bool)>, MediaError> {
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
        // A change that nobody could see is not worth the encoder's.
        let is_other = rates.0.abs_diff(self.rates.0) > self.rates.0 / RATE_STEPS || rates.1 != self.rates.1;
        if is_other {
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
        Ok(Some((encoded.bytes.len(), encoded.is_key)))
    }
}

/// Runs until [`Control::stop`].
pub(super) fn run(canvas: &Canvas, kinds: &[EncoderKind], control: &Control) {
    let mut lines = [Line::new(VideoCodec::H264), Line::new(VideoCodec::Vp8)];
    let mut halved: Option<Halved> = None;
    let mut crowd = Crowd::of_this_thread();
    loop {
        match control.next_job() {
            Job::Stop => break,
            Job::Rest => {
                lines.iter_mut().for_each(|line| line.encoder = None);
                halved = None;
            }
            Job::Encode { reason, key, codecs, decision, anew } => {
                if anew {
                    lines.iter_mut().for_each(|line| line.encoder = None);
                }
                let started = Instant::now();
                let waited = if let Reason::Damage(first) = reason { started - first } else { Duration::ZERO };
                // The capture time is that of the change, not that of the encoder's turn.
                let capture_us = now_us().saturating_sub(waited.as_micros() as u64);
                let picture = if decision.halved {
                    halved.get_or_insert_with(Halved::default).of(canvas)
                } else {
                    halved = None;
                    canvas
                };
                let mut made = None;
                let mut fault = None;
                let rates = (decision.bit_rate, decision.max_fps);
                for line in lines.iter_mut().filter(|line| wanted(codecs, line.codec)) {
                    match line.frame(picture, kinds, control, key, rates, capture_us) {
                        Ok(new) => made = made.max(new),
                        Err(error) => {
                            line.encoder = None;
                            fault = Some(error);
                        }
                    }
                }
                for line in lines.iter_mut().filter(|line| !wanted(codecs, line.codec)) {
                    line.encoder = None;
                }
                let size = canvas.size();
                if let (Some((bytes, is_key)), Some(size)) = (made, size) {
                    let per_frame = f64::from(rates.0) / 8.0 / f64::from(rates.1.clamp(1, 30));
                    let is_coarse = reason != Reason::Sharpen && bytes as f64 > per_frame * COARSE_SHARE;
                    control.made(&Made { reason, bytes, is_key, is_coarse, size, started }, &mut crowd);
                }
                // Otherwise there is no picture yet, or the encoder failed: the next damage tries again, with a new
                // encoder whose first frame is a key frame.
                report(control, reason, made.is_some(), fault, (waited, started));
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
    is_made: bool,
    fault: Option<MediaError>,
    (waited, started): (Duration, Instant),
) {
    let now = Instant::now();
    let mut counters = control.counters.lock();
    if is_made {
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
