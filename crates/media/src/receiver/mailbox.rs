//! What the application and the session's tasks share.

use super::assemble::{Assembled, Counts, Fate};
use super::{SessionState, Wake};
use crate::clock::{VIDEO_CLOCK_HZ, video_timestamp};
use crate::stats::{Histogram, Rate, ReceiverStats};
use crate::transport::{RepairedCounts, Told};
use crate::video::VideoFrame;
use loco_model::Size;
use loco_model::input::{KeysEvent, Pointer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// A picture that is this much later than it was captured apart from the one before was waited for.
const FREEZE: Duration = Duration::from_millis(150);
/// The least network delay is looked for in the last one to two of these.
const LEAST_WINDOW: Duration = Duration::from_secs(10);

/// Between two inputs that are watched for their acknowledgement.
const INPUT_TOLD_AGAIN: Duration = Duration::from_millis(100);

/// One receiver's shared part.
pub(super) struct Mailbox {
    pub(super) wake: Arc<dyn Fn(Wake) + Send + Sync>,
    frame: Mutex<Option<VideoFrame>>,
    state: Mutex<SessionState>,
    pub(super) meter: Mutex<Meter>,
    pub(super) outbox: Mutex<Option<Outbox>>,
    pub(super) pointer_waits: Notify,
    /// Someone read the statistics: the round trip is worth a look.
    pub(super) stats_read: Notify,
    /// An input was sent: an acknowledgement should come.
    pub(super) input_sent: Notify,
    pub(super) reconnect: Notify,
}

/// A connected session's input.
pub(super) struct Outbox {
    pub(super) keys: mpsc::Sender<KeysEvent>,
    pub(super) pointer: Option<Pointer>,
}

/// Counts and measures.
#[derive(Default)]
pub(super) struct Meter {
    pub(super) stats: ReceiverStats,
    pub(super) sent: Rate,
    pub(super) received: Rate,
    pub(super) decoded: Rate,
    pub(super) bytes: Rate,
    network: Histogram,
    assemble: Histogram,
    repair: Histogram,
    /// Counted in `stats` already, of this session.
    repaired: RepairedCounts,
    decode: Histogram,
    mailbox: Histogram,
    jitter: Jitter,
    delay: Delay,
    /// What the sender tells of itself.
    pub(super) told: Option<Arc<Told>>,
    pub(super) round_trip: Option<Duration>,
    /// When the round trip was last measured by an echo.
    pub(super) echoed: Option<Instant>,
    input_told: Option<Instant>,
    last: Option<(Instant, u32)>,
    /// When something newer than the last picture first arrived.
    awaited_since: Option<Instant>,
}

/// Interarrival jitter (RFC 3550 section 6.4.1), in microseconds.
#[derive(Default)]
struct Jitter {
    last: Option<(Instant, u32)>,
    us: f64,
}

/// The smallest value of the last seconds.
#[derive(Default)]
struct Least {
    since: Option<Instant>,
    current: Option<i64>,
    previous: Option<i64>,
}

impl Least {
    fn above(&mut self, value: i64, now: Instant) -> i64 {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) > LEAST_WINDOW {
            self.previous = self.current.take();
            self.since = Some(now);
        }
        self.current = Some(self.current.map_or(value, |least| least.min(value)));
        let least = self.current.into_iter().chain(self.previous).min().unwrap_or(value);
        value - least
    }
}

/// How long frames are on their way, by two clocks of which only the ticks are comparable.
#[derive(Default)]
struct Delay {
    /// The first one: what is between the two clocks, and the way itself.
    first: Option<u32>,
    least: Least,
}

impl Delay {
    /// Microseconds above the least of the last seconds, of a frame that came at `here_us`.
    fn above_least(&mut self, here_us: u64, timestamp: u32, now: Instant) -> u64 {
        let delay = video_timestamp(here_us).wrapping_sub(timestamp);
        let first = *self.first.get_or_insert(delay);
        self.least.above(ticks_to_us(delay.wrapping_sub(first) as i32), now).unsigned_abs()
    }
}

fn ticks_to_us(ticks: i32) -> i64 {
    i64::from(ticks) * 1_000_000 / i64::from(VIDEO_CLOCK_HZ)
}

/// How much longer two packets or pictures were `apart` here than their timestamps are, in microseconds; wraps as those do
/// (RFC 3550 section 6.4.1), so that hours of stillness are none.
fn late_us(apart: Duration, timestamp: u32, last_timestamp: u32) -> i64 {
    let apart = video_timestamp(apart.as_micros() as u64);
    ticks_to_us(apart.wrapping_sub(timestamp.wrapping_sub(last_timestamp)) as i32)
}

impl Meter {
    /// A new session: what is relative to the old one's numbers is forgotten.
    pub(super) fn new_session(&mut self, told: Option<Arc<Told>>) {
        self.told = told;
        self.jitter = Jitter::default();
        self.delay = Delay::default();
        self.repaired = RepairedCounts::default();
        (self.last, self.awaited_since) = (None, None);
        (self.round_trip, self.echoed) = (None, None);
        self.stats.sessions += 1;
    }

    /// The session is over, and with it what is known of its path.
    pub(super) fn end_session(&mut self) {
        self.stats.path = None;
        (self.told, self.round_trip, self.echoed) = (None, None, None);
    }

    /// A video packet arrived.
    pub(super) fn packet(&mut self, timestamp: u32, bytes: usize, now: Instant) {
        self.stats.bytes_received += bytes as u64;
        self.bytes.add(bytes as u64, now);
        if let Some((last_arrival, last_timestamp)) = self.jitter.last {
            let late_us = late_us(now.saturating_duration_since(last_arrival), timestamp, last_timestamp);
            self.jitter.us += (late_us.unsigned_abs() as f64 - self.jitter.us) / 16.0;
        }
        self.jitter.last = Some((now, timestamp));
        let is_newer = |last: u32| timestamp != last && timestamp.wrapping_sub(last) < 1 << 31;
        if self.awaited_since.is_none() && self.last.is_some_and(|(_, last)| is_newer(last)) {
            self.awaited_since = Some(now);
        }
    }

    /// The session's counts went on from `before` to `after`.
    pub(super) fn count(&mut self, before: Counts, after: Counts, now: Instant) {
        self.sent.add(after.seen - before.seen, now);
        self.stats.packets_received += after.received - before.received;
        self.stats.frames_dropped += after.dropped - before.dropped;
        self.stats.frames_skipped += after.skipped - before.skipped;
        // Signed: a late packet makes up for one that counted as lost.
        let lost = |counts: Counts| counts.expected as i64 - counts.received as i64;
        self.stats.packets_lost = self.stats.packets_lost.saturating_add_signed(lost(after) - lost(before));
    }

    /// A frame arrived whole.
    pub(super) fn whole(&mut self, frame: &Assembled) {
        self.stats.frames_received += 1;
        self.received.add(1, frame.complete);
        match frame.fate {
            Fate::Intact => return,
            Fate::Rebuilt => self.stats.frames_rebuilt += 1,
            Fate::Resent => self.stats.frames_resent += 1,
        }
        self.repair.record_us(frame.waited.as_micros() as u64, frame.complete);
    }

    /// What this session's repair did so far.
    pub(super) const fn repairs(&mut self, counts: RepairedCounts) {
        let RepairedCounts { asked, resent, rebuilt } = counts;
        let before = self.repaired;
        self.stats.packets_asked += asked - before.asked;
        self.stats.packets_resent += resent - before.resent;
        self.stats.packets_rebuilt += rebuilt - before.rebuilt;
        self.repaired = counts;
    }

    /// A frame was decoded.
    pub(super) fn frame(&mut self, size: Size, times: &crate::video::FrameTimes) {
        let now = times.decoded;
        self.stats.size = Some(size);
        self.stats.frames_decoded += 1;
        self.decoded.add(1, now);
        let us = |from: Instant, to: Instant| to.saturating_duration_since(from).as_micros() as u64;
        self.assemble.record_us(us(times.first_packet, times.complete), now);
        self.decode.record_us(us(times.complete, now), now);
        // The sender's clock is another one: only what exceeds the least seen is known, and the path's half round trip.
        let here_us = crate::clock::now_us().saturating_sub(us(times.complete, Instant::now()));
        let extra_us = self.delay.above_least(here_us, times.timestamp, now);
        if let Some(round_trip) = self.round_trip {
            self.network.record_us(extra_us + round_trip.as_micros() as u64 / 2, now);
        }
        if let Some((last_decoded, last_timestamp)) = self.last {
            // Late by its capture time, or because what was captured in between never became a picture.
            let late_us = late_us(now.saturating_duration_since(last_decoded), times.timestamp, last_timestamp);
            let late = Duration::from_micros(late_us.max(0).unsigned_abs());
            let awaited = self.awaited_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            let late = late.max(awaited);
            if late > FREEZE {
                self.stats.freezes += 1;
                self.stats.frozen_ms += late.as_millis() as u64;
            }
        }
        self.last = Some((now, times.timestamp));
        self.awaited_since = None;
    }

    fn report(&self, now: Instant) -> ReceiverStats {
        ReceiverStats {
            fps_sent: self.sent.per_second(now),
            fps_received: self.received.per_second(now),
            fps_decoded: self.decoded.per_second(now),
            bytes_per_second: self.bytes.per_second(now),
            jitter_ms: self.jitter.last.map(|_| (self.jitter.us / 1_000.0) as f32),
            round_trip_ms: self.round_trip.map(|time| time.as_secs_f32() * 1_000.0),
            network: self.network.percentiles(now),
            assemble: self.assemble.percentiles(now),
            repair: self.repair.percentiles(now),
            decode: self.decode.percentiles(now),
            mailbox: self.mailbox.percentiles(now),
            limits: self.told.as_ref().and_then(|told| told.limits()),
            last_frame_age_ms: self.last.map(|(at, _)| now.saturating_duration_since(at).as_millis() as u64),
            ..self.stats.clone()
        }
    }
}

impl Mailbox {
    pub(super) fn new(wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Self {
        Self {
            wake,
            frame: Mutex::new(None),
            state: Mutex::new(SessionState::Connecting),
            meter: Mutex::default(),
            outbox: Mutex::new(None),
            pointer_waits: Notify::new(),
            stats_read: Notify::new(),
            input_sent: Notify::new(),
            reconnect: Notify::new(),
        }
    }

    /// The newest frame replaces one that nobody took; the application is woken only when it knows of none.
    pub(super) fn put(&self, frame: VideoFrame) {
        let times = frame.times;
        let replaced = self.frame.lock().replace(frame).is_some();
        tracing::trace!(?times, replaced, "frame");
        if replaced {
            self.meter.lock().stats.frames_replaced += 1;
        } else {
            (self.wake)(Wake::Frame);
        }
    }

    pub(super) fn take(&self) -> Option<VideoFrame> {
        let frame = self.frame.lock().take()?;
        let now = Instant::now();
        let waited_us = (now - frame.times.decoded).as_micros() as u64;
        self.meter.lock().mailbox.record_us(waited_us, now);
        Some(frame)
    }

    pub(super) fn state(&self) -> SessionState {
        self.state.lock().clone()
    }

    pub(super) fn set_state(&self, state: SessionState) {
        let mut current = self.state.lock();
        if *current != state {
            *current = state;
            drop(current);
            (self.wake)(Wake::State);
        }
    }

    /// One more input is on its way.
    pub(super) fn input_sent(&self) {
        let mut meter = self.meter.lock();
        meter.stats.inputs_sent += 1;
        let now = Instant::now();
        // A fast mouse needs no vigil a thousand times a second.
        if meter.input_told.is_none_or(|told| now.saturating_duration_since(told) > INPUT_TOLD_AGAIN) {
            meter.input_told = Some(now);
            drop(meter);
            self.input_sent.notify_one();
        }
    }

    pub(super) fn stats(&self) -> ReceiverStats {
        self.stats_read.notify_one();
        self.meter.lock().report(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::FrameTimes;

    #[test]
    fn stillness_is_no_freeze_and_a_late_picture_is() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let mut frame = |captured_ms: u32, decoded_ms: u64| {
            let at = start + Duration::from_millis(decoded_ms);
            let times = FrameTimes { timestamp: captured_ms * 90, first_packet: at, complete: at, decoded: at };
            meter.frame(Size::new(1, 1), &times);
            meter.stats.freezes
        };
        assert_eq!(frame(0, 10), 0);
        assert_eq!(frame(33, 43), 0);
        assert_eq!(frame(60_033, 60_043), 0, "a minute of stillness");
        assert_eq!(frame(60_066, 60_276), 1);
        assert_eq!(meter.stats.frozen_ms, 200);
        // Two frames that never became pictures, and a key frame 300 ms later.
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [60_300u64, 60_333, 60_600] {
            meter.packet(ms as u32 * 90, 100, at(ms));
        }
        let at = at(60_600);
        meter.frame(
            Size::new(1, 1),
            &FrameTimes { timestamp: 60_600 * 90, first_packet: at, complete: at, decoded: at },
        );
        assert_eq!((meter.stats.freezes, meter.stats.frozen_ms), (2, 500));
    }

    #[test]
    fn hours_of_stillness_are_neither_freeze_nor_jitter() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        // Beyond the half of what 32 bits of 90 kHz count, and beyond the whole.
        for hours in [0, 8, 23, 63] {
            let since = Duration::from_secs(3_600 * hours);
            let (at, timestamp) = (start + since, video_timestamp(since.as_micros() as u64));
            meter.packet(timestamp, 100, at);
            meter.frame(Size::new(1, 1), &FrameTimes { timestamp, first_packet: at, complete: at, decoded: at });
            assert_eq!((meter.stats.freezes, meter.stats.frozen_ms), (0, 0), "after {hours} h");
        }
        assert!(meter.report(start).jitter_ms.is_some_and(|ms| ms < 0.1), "{:?}", meter.report(start).jitter_ms);
    }

    #[test]
    fn a_sender_that_runs_for_longer_than_this_machine_is_not_slow() {
        let (mut delay, start) = (Delay::default(), Instant::now());
        // This machine began 20 minutes ago, the sender's ten hours; and one whose ticks lie half their range away.
        for ahead in [10 * 3_600 * VIDEO_CLOCK_HZ, (1 << 31) - 1] {
            for second in 0..60u64 {
                let here_us = (20 * 60 + second) * 1_000_000;
                let late_us = 1_000 * (second % 2);
                let timestamp = video_timestamp(here_us - late_us).wrapping_add(ahead);
                let above_us = delay.above_least(here_us, timestamp, start + Duration::from_secs(second));
                assert!(above_us.abs_diff(late_us) < 12, "{above_us} us at {second}");
            }
            delay = Delay::default();
        }
    }

    #[test]
    fn irregular_frames_are_no_jitter() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        for ms in [0u32, 33, 500, 510, 4_000] {
            meter.packet(ms * 90, 100, start + Duration::from_millis(u64::from(ms)));
        }
        assert!(meter.report(start).jitter_ms.is_some_and(|ms| ms < 0.01));
        meter.packet(4_033 * 90, 100, start + Duration::from_millis(4_065));
        assert!(meter.report(start).jitter_ms.is_some_and(|ms| (ms - 2.0).abs() < 0.01), "32 ms / 16");
    }

    #[test]
    fn the_least_delay_is_subtracted() {
        let (mut least, now) = (Least::default(), Instant::now());
        assert_eq!(least.above(-1_000, now), 0);
        assert_eq!(least.above(-900, now), 100);
        assert_eq!(least.above(-900, now + LEAST_WINDOW * 2), 100, "the last window still counts");
        assert_eq!(least.above(-900, now + LEAST_WINDOW * 4), 0, "a drifted clock is followed");
    }
}
