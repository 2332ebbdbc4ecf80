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

/// Least distance of two capture times with RTP timestamps of their own: a tick of 90 kHz, rounded up.
const RTP_TICK_US: u64 = 12;

/// One codec's encoder and what goes with it.
struct Line {
    codec: VideoCodec,
    encoder: Option<Encoder>,
    payloads: Payloads,
    rates: (u32, u32),
}

/// What a frame is to be.
#[derive(Clone, Copy)]
struct Wanted {
    reason: Reason,
    key: bool,
    /// Bits and frames a second.
    rates: (u32, u32),
    captured_us: u64,
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
        Wanted { reason, key, rates, captured_us }: Wanted,
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
        let encoded = match encoder.encode(canvas, captured_us, key) {
            Err(_) if canvas.size() != Some(size) => {
                // No fault: the picture got another size meanwhile, and the next frame shows that change.
                self.encoder = None;
                return Ok(None);
            }
            encoded => encoded?,
        };
        let Some(encoded) = encoded.filter(|encoded| !encoded.bytes.is_empty()) else { return Ok(None) };
        let frame = Arc::new(Frame {
            payloads: self.payloads.split(&encoded.bytes),
            timestamp: video_timestamp(captured_us),
            is_key: encoded.is_key,
            is_sharper: reason == Reason::Sharpen,
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
    let mut captured_us = 0;
    loop {
        match control.next_job() {
            Job::Stop => break,
            Job::Rest => {
                lines.iter_mut().for_each(|line| line.encoder = None);
                halved = None;
                // Whatever was wrong, the next viewer begins with a new encoder: nobody is to repair this meanwhile.
                control.counters.lock().fault = None;
            }
            Job::Encode { reason, key, codecs, decision, anew } => {
                if anew {
                    lines.iter_mut().for_each(|line| line.encoder = None);
                }
                let started = Instant::now();
                let waited = if let Reason::Damage(first) = reason { started - first } else { Duration::ZERO };
                // The capture time is that of the change, not that of the encoder's turn.
                captured_us = capture_time(now_us().saturating_sub(waited.as_micros() as u64), captured_us);
                let picture = if decision.halved {
                    halved.get_or_insert_with(Halved::default).of(canvas)
                } else {
                    halved = None;
                    canvas
                };
                let mut made = None;
                let mut fault = None;
                let rates = (decision.bit_rate, decision.max_fps);
                let frame = Wanted { reason, key, rates, captured_us };
                for line in lines.iter_mut().filter(|line| wanted(codecs, line.codec)) {
                    match line.frame(picture, kinds, control, frame) {
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

/// When a picture that changed at `changed_us` was captured, `last_us` being the time of the one before: a change that is
/// told while a frame is made for another reason happened before that frame, but a stream's times only grow.
fn capture_time(changed_us: u64, last_us: u64) -> u64 {
    changed_us.max(last_us + RTP_TICK_US)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{RateLink, RepairLink};

    #[test]
    fn every_frame_has_a_time_of_its_own_and_a_later_one() {
        let mut last_us = 0;
        for changed_us in [5_000_000, 4_999_400, 5_000_000, 5_000_011, 5_033_333] {
            let captured_us = capture_time(changed_us, last_us);
            assert!(captured_us > last_us && captured_us.abs_diff(changed_us) < 1_000, "{captured_us}");
            assert!(video_timestamp(captured_us).wrapping_sub(video_timestamp(last_us)).cast_signed() > 0);
            last_us = captured_us;
        }
        assert_eq!(last_us, 5_033_333, "times that grow are left alone");
    }

    #[test]
    fn a_fault_is_told_while_somebody_watches() {
        let (canvas, control) = (Canvas::new(), Arc::new(Control::new(None, 30)));
        canvas.scanout(loco_model::Size::new(64, 64), 256, &[0; 64 * 64 * 4]);
        let thread = std::thread::spawn({
            let (canvas, control) = (canvas.clone(), Arc::clone(&control));
            move || run(&canvas, &[], &control)
        });
        let is_faulty = |wanted: bool| {
            let until = Instant::now() + Duration::from_secs(10);
            while control.counters.lock().fault.is_some() != wanted && Instant::now() < until {
                std::thread::yield_now();
            }
            control.counters.lock().fault.is_some() == wanted
        };
        let rate = Arc::new(RateLink::new(2_000_000, Arc::new(RepairLink::new(1))));
        let (number, _frames) = control.add_viewer(VideoCodec::H264, &rate);
        assert!(is_faulty(true), "there is no encoder in an empty list");
        control.remove_viewer(number);
        assert!(is_faulty(false), "nobody misses a picture");
        control.stop();
        thread.join().expect("it ends");
    }
}
