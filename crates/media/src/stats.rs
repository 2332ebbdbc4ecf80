//! What the two ends count and measure.

use crate::config::EncoderKind;
use crate::limits::StreamLimits;
use loco_model::Size;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Buckets per factor of two: a percentile is off by less than 1/8 of itself.
const SUB_BUCKETS: usize = 8;
/// Factors of two covered, from 1 µs to 2^25 µs = 33 s.
const OCTAVES: usize = 25;
const BUCKETS: usize = SUB_BUCKETS * (OCTAVES - 2);
/// A percentile looks back between one and two of these.
const WINDOW: Duration = Duration::from_secs(5);

/// Percentiles of durations in milliseconds; all `None` while nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of all were shorter.
    pub p50_ms: Option<f32>,
    /// 95 of 100 were shorter.
    pub p95_ms: Option<f32>,
    /// 99 of 100 were shorter.
    pub p99_ms: Option<f32>,
}

/// Durations of the last 5 to 10 s in fixed buckets: recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Histogram {
    current: [u32; BUCKETS],
    previous: [u32; BUCKETS],
    since: Option<Instant>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { current: [0; BUCKETS], previous: [0; BUCKETS], since: None }
    }
}

impl Histogram {
    /// One measured duration, in microseconds.
    pub fn record_us(&mut self, us: u64, now: Instant) {
        self.turn(now);
        self.current[bucket_of(us)] += 1;
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= WINDOW {
            self.previous = if age < WINDOW * 2 { self.current } else { [0; BUCKETS] };
            self.current = [0; BUCKETS];
            self.since = Some(now);
        }
    }

    /// The percentiles of the last 5 to 10 s.
    #[must_use]
    pub fn percentiles(&self, now: Instant) -> Percentiles {
        let mut copy = self.clone();
        copy.turn(now);
        let count = |i: usize| u64::from(copy.current[i]) + u64::from(copy.previous[i]);
        let total: u64 = (0..BUCKETS).map(count).sum();
        let at = |share: f64| {
            let rank = (total as f64 * share).ceil() as u64;
            let mut seen = 0;
            (0..BUCKETS).find_map(|i| {
                seen += count(i);
                (total > 0 && seen >= rank.max(1)).then(|| middle_us(i) as f32 / 1_000.0)
            })
        };
        Percentiles { p50_ms: at(0.50), p95_ms: at(0.95), p99_ms: at(0.99) }
    }
}

/// Values below 8 have a bucket each; above, 8 buckets per factor of two.
fn bucket_of(us: u64) -> usize {
    if us < SUB_BUCKETS as u64 {
        return us as usize;
    }
    let octave = us.ilog2() as usize; // 3 or more
    let sub = (us >> (octave - 3)) as usize & (SUB_BUCKETS - 1);
    ((octave - 2) * SUB_BUCKETS + sub).min(BUCKETS - 1)
}

fn middle_us(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let (octave, sub) = (bucket / SUB_BUCKETS + 2, bucket % SUB_BUCKETS);
    let low = (SUB_BUCKETS + sub) as u64;
    (low << (octave - 3)) + (1 << (octave - 3)) / 2
}

/// Events in a second, over the last one to two seconds: recording allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    since: Option<Instant>,
    current: u64,
    last: Option<(u64, Duration)>,
}

impl Rate {
    /// `amount` more, now.
    pub fn add(&mut self, amount: u64, now: Instant) {
        self.turn(now);
        self.current += amount;
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= Duration::from_secs(1) {
            self.last = Some((self.current, age));
            self.current = 0;
            self.since = Some(now);
        }
    }

    /// A second's worth; `None` before the first second is over.
    #[must_use]
    pub fn per_second(&self, now: Instant) -> Option<f32> {
        let mut copy = self.clone();
        copy.turn(now);
        copy.last.map(|(amount, age)| amount as f32 / age.as_secs_f32())
    }
}

/// What a [`crate::Sender`] did since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SenderStats {
    /// Size of the guest's picture; `None` before the first.
    pub size: Option<Size>,
    /// Damage reports that changed a pixel.
    pub damage_updates: u64,
    /// Damage reports that changed none.
    pub unchanged_updates: u64,
    /// Time since the last change of a pixel.
    pub last_damage_age_ms: Option<u64>,
    /// The encoder in use.
    pub encoder: Option<EncoderKind>,
    /// Sessions that are connected.
    pub viewers: u32,
    /// Sessions in all, those still connecting too.
    pub sessions: u32,
    /// Whether encoding is suspended by [`crate::Sender::set_suspended`].
    pub suspended: bool,
    /// Frames encoded.
    pub frames_encoded: u64,
    /// Of those, key frames.
    pub key_frames: u64,
    /// Of those, sharpened repetitions of a still picture.
    pub refinement_frames: u64,
    /// Frames encoded in a second.
    pub fps: Option<f32>,
    /// Encoded bytes.
    pub encoded_bytes: u64,
    /// RTP packets written, video and sound, all sessions.
    pub packets_sent: u64,
    /// Their bytes, headers included, encryption and UDP not.
    pub bytes_sent: u64,
    /// Key frames asked for by viewers.
    pub key_frame_requests: u64,
    /// Frames that a session skipped because it did not keep up.
    pub frames_skipped: u64,
    /// First damage of a frame -> taken for encoding (coalescing, frame-rate limit).
    pub wait: Percentiles,
    /// Colour conversion and encoding.
    pub encode: Percentiles,
    /// Encoded -> all its packets handed to the transport.
    pub send: Percentiles,
    /// Bits a second asked of the encoder.
    pub bit_rate: u32,
    /// Bits a second at most, by what is set or by the picture's size.
    pub ceiling: u32,
    /// Frames a second at most now.
    pub max_fps: u32,
    /// What limits the stream that the encoder follows; `None` before the first frame.
    pub limits: Option<StreamLimits>,
    /// What is wrong with the encoder, if anything.
    pub fault: Option<String>,
}

/// How packets reach the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// Directly, by UDP.
    Udp,
    /// Directly, by TCP: UDP is blocked.
    Tcp,
    /// By a relay: nothing else is open.
    Relayed,
}

impl PathKind {
    /// For people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "UDP, direct",
            Self::Tcp => "TCP",
            Self::Relayed => "relayed",
        }
    }
}

/// The path in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// How.
    pub kind: PathKind,
    /// Our address on it.
    pub local: String,
    /// The other end's, as seen from here.
    pub remote: String,
}

/// What a session's path to its viewer carries, by the viewer's own reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathRate {
    /// Bits a second that may be sent.
    pub target: u32,
    /// Bits a second that arrived in the last 0.3 s of sending; `None` before the first report.
    pub received: Option<u32>,
    /// Queue on the way that even the quickest packets see, in milliseconds.
    pub queue_ms: Option<f32>,
    /// From a packet's sending to the report of it, in milliseconds.
    pub round_trip_ms: Option<f32>,
    /// Bytes sent and not reported yet.
    pub in_flight: u64,
    /// Share of packets lost lately; `None` while too few were sent to tell.
    pub loss: Option<f32>,
    /// What limited the last picture; `None` before the first.
    pub limits: Option<StreamLimits>,
}

/// What a [`crate::Receiver`] saw since its start; rates and percentiles are of the last seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverStats {
    /// Size of the newest frame.
    pub size: Option<Size>,
    /// Codec, as in the SDP (`H264`).
    pub codec: Option<String>,
    /// Sessions that were connected.
    pub sessions: u64,
    /// Sessions that the agent accepted, connected later or not.
    pub sessions_accepted: u64,
    /// Frames that the sender sent in a second, told by packet markers that arrived or must have.
    pub fps_sent: Option<f32>,
    /// Frames that arrived whole in a second.
    pub fps_received: Option<f32>,
    /// Frames decoded in a second.
    pub fps_decoded: Option<f32>,
    /// Frames that arrived whole.
    pub frames_received: u64,
    /// Frames decoded.
    pub frames_decoded: u64,
    /// Frames decoded that nobody took before the next came.
    pub frames_replaced: u64,
    /// Frames that arrived whole and that the decoder refused.
    pub frames_refused: u64,
    /// Of those that arrived whole: lost packets were rebuilt from parity.
    pub frames_rebuilt: u64,
    /// Of those that arrived whole: lost packets were sent again.
    pub frames_resent: u64,
    /// Frames given up because a packet never came.
    pub frames_dropped: u64,
    /// Frames passed over for a key frame that came behind a gap, or is still needed.
    pub frames_skipped: u64,
    /// Key frames asked for.
    pub key_frame_requests: u64,
    /// Video packets received.
    pub packets_received: u64,
    /// Video packets that did not arrive in time, by sequence number.
    pub packets_lost: u64,
    /// Lost packets asked for again, each asking counted.
    pub packets_asked: u64,
    /// Packets that came after they were asked for.
    pub packets_resent: u64,
    /// Lost packets rebuilt from parity.
    pub packets_rebuilt: u64,
    /// RTP bytes received, video and sound, headers included.
    pub bytes_received: u64,
    /// The same in a second.
    pub bytes_per_second: Option<f32>,
    /// Interarrival jitter of video (RFC 3550 section 6.4.1), in milliseconds.
    pub jitter_ms: Option<f32>,
    /// Round trip of the path, by ICE's own checks.
    pub round_trip_ms: Option<f32>,
    /// The path in use; `None` while there is none.
    pub path: Option<Path>,
    /// Times that a session went on by another path, or by the same one found again.
    pub path_changes: u64,
    /// Pictures that came more than 150 ms later than their capture times or the first newer packet ask.
    pub freezes: u64,
    /// Those in all, in milliseconds.
    pub frozen_ms: u64,
    /// Captured -> whole frame here, above the least seen, plus half the round trip.
    pub network: Percentiles,
    /// First packet of a frame -> its last.
    pub assemble: Percentiles,
    /// What the repair of a frame cost: from its last packet that needed none to its last repaired one.
    pub repair: Percentiles,
    /// Whole frame -> decoded picture.
    pub decode: Percentiles,
    /// Decoded -> taken by the application.
    pub mailbox: Percentiles,
    /// Time since the newest frame was decoded.
    pub last_frame_age_ms: Option<u64>,
    /// Input messages sent.
    pub inputs_sent: u64,
    /// What limits the picture, as the sender told last; `None` where it says nothing.
    pub limits: Option<StreamLimits>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_an_eighth() {
        let (mut histogram, now) = (Histogram::default(), Instant::now());
        assert_eq!(histogram.percentiles(now), Percentiles::default(), "unknown is none");
        for us in 1..=10_000 {
            histogram.record_us(us, now);
        }
        let got = histogram.percentiles(now);
        for (got_ms, want_ms) in [(got.p50_ms, 5.0), (got.p95_ms, 9.5), (got.p99_ms, 9.9)] {
            let got_ms = got_ms.expect("measured");
            assert!((got_ms - want_ms).abs() < want_ms / 8.0, "{got_ms} instead of {want_ms}");
        }
    }

    #[test]
    fn old_values_leave() {
        let (mut histogram, now) = (Histogram::default(), Instant::now());
        histogram.record_us(1_000_000, now);
        histogram.record_us(10, now + WINDOW);
        assert!(histogram.percentiles(now + WINDOW).p99_ms.is_some_and(|ms| ms > 900.0), "still in the window");
        assert!(histogram.percentiles(now + WINDOW * 2).p99_ms.is_some_and(|ms| ms < 1.0));
        assert_eq!(histogram.percentiles(now + WINDOW * 9), Percentiles::default());
    }

    #[test]
    fn every_duration_has_its_bucket() {
        let mut last = 0;
        for us in (0..200_000).chain([u64::from(u32::MAX), u64::MAX]) {
            let bucket = bucket_of(us);
            assert!(bucket >= last && bucket < BUCKETS);
            last = bucket;
            if us < 200_000 {
                assert!(middle_us(bucket).abs_diff(us) <= us / 8, "{us} is told as {}", middle_us(bucket));
            }
        }
    }

    #[test]
    fn rates() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        for i in 0..=60 {
            rate.add(1, now + Duration::from_millis(i * 1_000 / 30));
        }
        let got = rate.per_second(now + Duration::from_millis(2_010)).expect("two seconds are over");
        assert!((got - 30.0).abs() < 1.0, "{got}");
        assert_eq!(rate.per_second(now + Duration::from_secs(9)).map(|r| r as u32), Some(0));
    }
}
