//! What keeps a picture from being more: for statistics, and in plain words for people.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What limits a stream now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Limiter {
    /// Nothing: the picture stands still, or asks for no more than it gets.
    #[default]
    Still = 0,
    /// The path to this viewer carries no more.
    Network = 1,
    /// The encoder takes longer for a frame than there is time, or its machine has no time for it.
    Encoder = 2,
    /// A viewer: another one's path is slower and is followed, or this one does not take frames as fast as they come.
    Viewer = 3,
    /// The bit rate or frame rate that is set.
    Setting = 4,
}

impl Limiter {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Still, Self::Network, Self::Encoder, Self::Viewer, Self::Setting];

    /// In a word, as in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Network => "network",
            Self::Encoder => "encoder",
            Self::Viewer => "viewer",
            Self::Setting => "setting",
        }
    }
}

/// One viewer's stream and what limits it, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLimits {
    /// What limits it.
    pub limiter: Limiter,
    /// Bits a second that may be sent now.
    pub bit_rate: u32,
    /// Bits a second that are set as the most.
    pub ceiling: u32,
    /// Bits a second that were sent in the last second.
    pub sent: u32,
    /// Queue on the way, in milliseconds; `None` where the viewer does not report.
    pub queue_ms: Option<u16>,
    /// Frames a second at most.
    pub max_fps: u16,
    /// Time that a frame takes to encode, in milliseconds.
    pub encode_ms: Option<u16>,
    /// Whether the picture is sent at half its width and height.
    pub halved: bool,
    /// Whether another transfer keeps the queue full.
    pub shared: bool,
}

impl StreamLimits {
    /// In plain words, such as `limited by the network: 1.2 Mbit/s of 2.0, queue 35 ms`.
    #[must_use]
    pub fn line(&self) -> String {
        let of = |rate: u32| format!("{} of {}", mbit(rate), mbit_number(self.ceiling));
        let mut line = match self.limiter {
            Limiter::Still => "nothing limits it: the picture asks for no more".to_owned(),
            Limiter::Network => format!("limited by the network: {}", of(self.bit_rate)),
            Limiter::Encoder => match self.encode_ms {
                Some(ms) if f32::from(ms) * f32::from(self.max_fps) < BUSY as f32 * 1000.0 => {
                    format!("limited by the agent's machine, which is busy: {} fps", self.max_fps)
                }
                Some(ms) => format!("limited by the encoder: a frame takes {ms} ms"),
                None => "limited by the encoder".to_owned(),
            },
            Limiter::Viewer => format!("limited by a slower viewer: {}", of(self.bit_rate)),
            Limiter::Setting => format!("limited by the setting: {}, {} fps", mbit(self.ceiling), self.max_fps),
        };
        if self.limiter == Limiter::Network {
            if let Some(ms) = self.queue_ms {
                // Writing to a string cannot fail.
                let _ = write!(line, ", queue {ms} ms");
            }
            if self.shared {
                line.push_str(", another transfer fills it");
            }
        }
        if self.halved {
            line.push_str(", picture halved");
        }
        line
    }
}

fn mbit_number(rate: u32) -> String {
    format!("{:.1}", f64::from(rate) / 1e6)
}

fn mbit(rate: u32) -> String {
    if rate < 950_000 {
        format!("{:.2} Mbit/s", f64::from(rate) / 1e6)
    } else {
        format!("{} Mbit/s", mbit_number(rate))
    }
}

/// What a stream's limiter is told by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signs {
    /// Time since the last change of the picture was encoded, in microseconds.
    pub(crate) still_us: u64,
    /// Share of time that the encoder was at work.
    pub(crate) encoder_busy: f64,
    /// The machine has no room for the frame rate that is set, so that it is lower.
    pub(crate) is_crowded: bool,
    /// A frame waited for room on a path in the last second.
    pub(crate) was_held: bool,
    /// This viewer did not take a frame in the last second.
    pub(crate) was_skipped: bool,
    /// This viewer's own path's rate.
    pub(crate) own: u32,
    /// The rate that the encoder has.
    pub(crate) followed: u32,
    /// The rate that is set.
    pub(crate) ceiling: u32,
    /// What was sent in the last second, in bits.
    pub(crate) sent: u32,
    /// Frames made in the last second, and the most that may be.
    pub(crate) fps: (f32, u32),
}

/// A picture that did not change for this long stands still, in microseconds.
const STILL_US: u64 = 1_000_000;
/// An encoder at work for this share of the time has none left.
const BUSY: f64 = 0.9;
/// Of a rate that is used to this share, more would be used.
const USED: f64 = 0.7;
/// Of the frame rate.
const USED_FPS: f32 = 0.95;

impl Signs {
    /// The one that acts.
    pub(crate) fn limiter(&self) -> Limiter {
        if self.still_us >= STILL_US {
            return Limiter::Still;
        }
        if self.encoder_busy >= BUSY || self.is_crowded && self.fps.0 >= self.fps.1 as f32 * USED_FPS {
            return Limiter::Encoder;
        }
        if self.was_skipped && self.own >= self.followed {
            return Limiter::Viewer;
        }
        let is_used = f64::from(self.sent) >= f64::from(self.followed) * USED;
        if self.own < self.ceiling && self.own <= self.followed && (is_used || self.was_held)
            || self.own < self.followed
        {
            return Limiter::Network;
        }
        if self.followed < self.ceiling && self.own > self.followed && is_used {
            return Limiter::Viewer;
        }
        if is_used && self.followed >= self.ceiling || self.fps.0 >= self.fps.1 as f32 * USED_FPS {
            return Limiter::Setting;
        }
        if self.was_held { Limiter::Network } else { Limiter::Still }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_is_the_one_that_acts() {
        let free = Signs {
            still_us: 0,
            encoder_busy: 0.2,
            is_crowded: false,
            was_held: false,
            was_skipped: false,
            own: 2_000_000,
            followed: 2_000_000,
            ceiling: 2_000_000,
            sent: 300_000,
            fps: (30.0, 60),
        };
        let network = Signs { own: 500_000, followed: 500_000, sent: 480_000, ..free };
        for (signs, want) in [
            (free, Limiter::Still),
            (network, Limiter::Network),
            (Signs { still_us: 2_000_000, ..network }, Limiter::Still),
            (Signs { sent: 100_000, ..network }, Limiter::Still),
            (Signs { sent: 100_000, was_held: true, ..network }, Limiter::Network),
            (Signs { encoder_busy: 0.95, ..network }, Limiter::Encoder),
            (Signs { is_crowded: true, fps: (20.0, 20), ..free }, Limiter::Encoder),
            (Signs { is_crowded: true, fps: (3.0, 20), ..free }, Limiter::Still),
            (Signs { sent: 1_900_000, ..free }, Limiter::Setting),
            (Signs { fps: (60.0, 60), ..free }, Limiter::Setting),
            (Signs { followed: 700_000, sent: 650_000, ..free }, Limiter::Viewer),
            (Signs { was_skipped: true, ..free }, Limiter::Viewer),
            // Too slow to be followed: it gets key frames only, and its network is why.
            (Signs { own: 200_000, was_skipped: true, ..free }, Limiter::Network),
        ] {
            assert_eq!(signs.limiter(), want, "{signs:?}");
        }
    }

    #[test]
    fn lines_are_plain() {
        let limits = StreamLimits {
            limiter: Limiter::Network,
            bit_rate: 1_200_000,
            ceiling: 2_000_000,
            queue_ms: Some(35),
            ..StreamLimits::default()
        };
        assert_eq!(limits.line(), "limited by the network: 1.2 Mbit/s of 2.0, queue 35 ms");
        let worse = StreamLimits { bit_rate: 120_000, halved: true, shared: true, ..limits };
        assert_eq!(
            worse.line(),
            "limited by the network: 0.12 Mbit/s of 2.0, queue 35 ms, another transfer fills it, picture halved"
        );
        let slow = StreamLimits { limiter: Limiter::Encoder, encode_ms: Some(48), max_fps: 20, ..limits };
        assert_eq!(slow.line(), "limited by the encoder: a frame takes 48 ms");
        let crowded = StreamLimits { encode_ms: Some(3), ..slow };
        assert_eq!(crowded.line(), "limited by the agent's machine, which is busy: 20 fps");
        assert!(StreamLimits::default().line().contains("asks for no more"));
        for (number, limiter) in Limiter::ALL.into_iter().enumerate() {
            assert_eq!(limiter as usize, number);
            assert!(!limiter.word().is_empty());
        }
    }
}
