//! Between a device's callback and the mixer: whose turn it is, the device's rate and number of channels, its pulse.

use super::mixer::{MAX_PART_FRAMES, Mixer, Moment};
use super::priority;
use crate::machine::Machine;
use crate::{Bell, CHANNELS, RATE_HZ, SoundError, StereoResampler};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What all outputs share. Only the one whose number is current plays: a stream that was given up may come to life again.
#[derive(Clone)]
pub(super) struct Source {
    mixer: Arc<Mutex<Mixer>>,
    pub(super) pulse: Arc<Pulse>,
    /// Rung when an output that rests may have to play.
    pub(super) bell: Arc<Bell>,
    pub(super) machine: Arc<Machine>,
}

/// Signs of life of the callback.
pub(super) struct Pulse {
    began: Instant,
    current: AtomicU64,
    /// Microseconds since `began` of the current output's last callback.
    last_us: AtomicU64,
    frames: AtomicU32,
    /// Frames since the current output became it.
    total_frames: AtomicU64,
    /// Kernel's number of the thread that the callback runs on, in the lower half, and whose callback it is in the upper:
    /// one that is just being given up may still write here.
    thread: AtomicU64,
    /// `f64` bits; NaN where the system does not say.
    latency_ms: AtomicU64,
    bell: Arc<Bell>,
}

/// One output's way to the mixer.
pub(super) struct Feed {
    source: Source,
    number: u64,
    channels: usize,
    rate_hz: u32,
    rate: Option<Rate>,
    stereo: Box<[f32]>,
}

/// For devices that are not at 48 kHz.
struct Rate {
    resampler: StereoResampler,
    input: Box<[f32]>,
}

// === impl Source ===

impl Source {
    pub(super) fn new(mixer: Mixer) -> Self {
        let (bell, machine) = (mixer.bell(), mixer.machine());
        let pulse = Pulse {
            began: Instant::now(),
            current: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            frames: AtomicU32::new(0),
            total_frames: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            latency_ms: AtomicU64::new(f64::NAN.to_bits()),
            bell: bell.clone(),
        };
        Self { mixer: Arc::new(Mutex::new(mixer)), pulse: Arc::new(pulse), bell, machine }
    }

    /// Nothing sounds and nothing waits. False while another output is at the mixer.
    pub(super) fn is_idle(&self) -> bool {
        self.mixer.try_lock().is_some_and(|mixer| mixer.is_idle())
    }

    /// A way to the mixer for output `number` with `channels` at `rate_hz`.
    ///
    /// # Errors
    /// When there is no resampling to `rate_hz`.
    pub(super) fn feed(&self, number: u64, channels: usize, rate_hz: u32) -> Result<Feed, SoundError> {
        let rate = if rate_hz == RATE_HZ {
            None
        } else {
            let mut resampler = StereoResampler::new(RATE_HZ, rate_hz, MAX_PART_FRAMES)?;
            let most = resampler.prepare(MAX_PART_FRAMES, 1.0) + 16;
            Some(Rate { resampler, input: vec![0.0; most * CHANNELS].into_boxed_slice() })
        };
        let stereo = vec![0.0; MAX_PART_FRAMES * CHANNELS].into_boxed_slice();
        Ok(Feed { source: self.clone(), number, channels: channels.max(1), rate_hz, rate, stereo })
    }
}

// === impl Pulse ===

impl Pulse {
    /// From now on only output `number` plays.
    pub(super) fn set_current(&self, number: u64) {
        self.current.store(number, SeqCst);
        self.beat(0);
        self.total_frames.store(0, Relaxed);
        self.latency_ms.store(f64::NAN.to_bits(), Relaxed);
        self.bell.ring();
    }

    pub(super) fn is_current(&self, number: u64) -> bool {
        self.current.load(SeqCst) == number
    }

    fn beat(&self, frames: u32) {
        self.last_us.store(self.began.elapsed().as_micros() as u64, Relaxed);
        self.frames.store(frames, Relaxed);
        self.total_frames.fetch_add(frames.into(), Relaxed);
    }

    /// Frames that the current output asked for.
    pub(super) fn total_frames(&self) -> u64 {
        self.total_frames.load(Relaxed)
    }

    /// The thread of the current output's callback, once it came.
    pub(super) fn thread(&self) -> Option<u32> {
        let (number, thread) = halves(self.thread.load(Relaxed));
        (thread > 0 && number == halves(self.current.load(SeqCst)).1).then_some(thread)
    }

    /// Output `number` runs on the calling thread.
    fn note_thread(&self, number: u64) {
        let (_, number) = halves(number);
        if halves(self.thread.load(Relaxed)).0 != number {
            self.thread.store(u64::from(number) << 32 | u64::from(priority::this_thread()), Relaxed);
        }
    }

    /// How long ago the current output's last callback was (or when it became current).
    pub(super) fn silent_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_micros(self.last_us.load(Relaxed)))
    }

    /// Frames of the last callback; 0 before the first.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Relaxed)
    }

    /// Callback to loudspeaker, where the system says.
    pub(super) fn latency_ms(&self) -> Option<f64> {
        Some(f64::from_bits(self.latency_ms.load(Relaxed))).filter(|ms| ms.is_finite())
    }
}

// === impl Feed ===

impl Feed {
    /// The callback: overwrites `out`, interleaved in the device's channels.
    pub(super) fn fill(&mut self, out: &mut [f32], latency: Option<Duration>) {
        let pulse = &self.source.pulse;
        // No one waits for this lock: only the current output's callback ever takes it, and it does not wait either.
        let mixer = if pulse.is_current(self.number) { self.source.mixer.try_lock() } else { None };
        let Some(mut mixer) = mixer else {
            out.fill(0.0);
            return;
        };
        pulse.beat(u32::try_from(out.len() / self.channels).unwrap_or(u32::MAX));
        pulse.note_thread(self.number);
        if let Some(latency) = latency {
            pulse.latency_ms.store((latency.as_secs_f64() * 1e3).to_bits(), Relaxed);
        }
        // PulseAudio's is polled and now and then missing for a callback: then the one before holds.
        let latency_us = pulse.latency_ms().map(|ms| (ms * 1e3) as u64);
        let moment = Moment { began_us: crate::clock::now_us(), latency_us };
        let per_frame = f64::from(RATE_HZ) / f64::from(self.rate_hz);
        for (n, part) in out.chunks_mut(MAX_PART_FRAMES * self.channels).enumerate() {
            // In frames of the mixer; the device's own resampler adds less than a millisecond.
            let offset = ((n * MAX_PART_FRAMES) as f64 * per_frame) as usize;
            let frames = part.len() / self.channels;
            let stereo = &mut self.stereo[..frames * CHANNELS];
            match &mut self.rate {
                None => mixer.fill(stereo, moment, offset),
                Some(rate) => {
                    let need = (rate.resampler.prepare(frames, 1.0) * CHANNELS).min(rate.input.len());
                    mixer.fill(&mut rate.input[..need], moment, offset);
                    rate.resampler.process(&rate.input[..need], stereo);
                }
            }
            spread(stereo, part, self.channels);
        }
    }

    /// So much time passed in silence without a callback; told also by an output whose rest another one ended.
    pub(super) fn pass(&self, time: Duration) {
        if let Some(mut mixer) = self.source.mixer.try_lock() {
            mixer.pass((time.as_secs_f64() * f64::from(RATE_HZ)) as usize);
        }
    }
}

/// Upper and lower half.
fn halves(number: u64) -> (u32, u32) {
    ((number >> 32) as u32, number as u32)
}

/// Stereo to the device's channels: the first two, or their mean where there is one.
fn spread(stereo: &[f32], out: &mut [f32], channels: usize) {
    for (from, to) in stereo.chunks_exact(CHANNELS).zip(out.chunks_exact_mut(channels)) {
        match to {
            [mono] => *mono = (from[0] + from[1]) / 2.0,
            [left, right, rest @ ..] => {
                (*left, *right) = (from[0], from[1]);
                rest.fill(0.0);
            }
            [] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::Board;
    use super::super::mixer::{Command, mixer};
    use super::super::wake::Waker;
    use super::*;
    use crate::{SoundEncoder, SoundPacket, packet_ring};
    use loco_model::InstanceId;

    fn waker() -> Arc<Waker> {
        Arc::new(Waker::start(Arc::new(|| {})).0)
    }

    #[test]
    fn the_callback_of_an_output_that_is_given_up_does_not_lend_its_thread_to_the_next() {
        let (_desk, mixer) = mixer(Arc::default(), waker()).unwrap();
        let pulse = Source::new(mixer).pulse;
        pulse.set_current(6);
        pulse.note_thread(5);
        assert_eq!(pulse.thread(), None);
        pulse.note_thread(6);
        assert_eq!(pulse.thread(), Some(priority::this_thread()));
        pulse.set_current(7);
        assert_eq!(pulse.thread(), None);
    }

    #[test]
    fn a_rest_that_another_output_ends_has_passed_all_the_same() {
        let board = Arc::new(Board::default());
        let (mut desk, mixer) = mixer(board.clone(), waker()).unwrap();
        let source = Source::new(mixer);
        let (to, packets) = std::sync::mpsc::channel();
        let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
            let _ = to.send((p.timestamp, p.marker, p.payload.to_vec()));
        });
        let encoder = encoder.unwrap();
        let (mut writer, reader) = packet_ring().unwrap();
        assert!(desk.commands.push(Command { id: InstanceId::try_new(0).unwrap(), reader: Some(reader) }).is_ok());
        source.pulse.set_current(1);
        let mut null = source.feed(1, 2, RATE_HZ).unwrap();
        // Gains are where they belong once something was played.
        null.fill(&mut [0.0; 960], None);
        let tone: Vec<i16> = (0..4800).map(|n| if n / 2 % 100 < 50 { 8000 } else { -8000 }).collect();
        encoder.push(1, &tone);
        encoder.close(1);
        for (sequence, (timestamp, marker, payload)) in packets.try_iter().enumerate() {
            writer.push(sequence as u16, timestamp, marker, &payload).unwrap();
        }
        for _ in 0..400 {
            null.fill(&mut [0.0; 960], None);
        }
        let held = board.master.meter.read(board.now_us()).hold_dbfs[0];
        assert!(source.is_idle() && held > -20.0, "{held} dB");
        source.pulse.set_current(2);
        null.pass(Duration::from_secs(3600));
        source.feed(2, 2, RATE_HZ).unwrap().fill(&mut [0.0; 960], None);
        let held = board.master.meter.read(board.now_us()).hold_dbfs[0];
        assert_eq!(held, f32::NEG_INFINITY, "an hour ago");
    }

    #[test]
    fn stereo_on_other_numbers_of_channels() {
        let stereo = [0.2, 0.4, -0.2, 0.6];
        let mut mono = [9.0; 2];
        spread(&stereo, &mut mono, 1);
        assert!((mono[0] - 0.3).abs() < 1e-6 && (mono[1] - 0.2).abs() < 1e-6);
        let mut four = [9.0; 8];
        spread(&stereo, &mut four, 4);
        assert_eq!(four, [0.2, 0.4, 0.0, 0.0, -0.2, 0.6, 0.0, 0.0]);
    }
}
