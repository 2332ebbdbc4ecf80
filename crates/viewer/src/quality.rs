//! How good a picture arrives, in one word with its reason; and what of it is this end's own fault. Pure.
//!
//! A picture that stands still is excellent: nothing is missing from it. Counters become rates here, over the last few
//! looks, since what was lost an hour ago is no reason to complain.

use loco_media::{Limiter, ReceiverStats, SessionState, StreamLimits};
use loco_model::usage::QualityLevel;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Looks that are kept: so many seconds count.
const KEPT: usize = 10;
/// A level is shown once so many looks agree.
const AGREEING: u32 = 2;
/// Looks after a session's begin that say nothing yet: rates are of whole seconds, and the first picture is late.
const SETTLING: u32 = 3;
/// Fewer packets than these say nothing about loss.
const LEAST_PACKETS: u64 = 50;
/// Attempts in a row, each of them accepted by the agent, after which the fault is taken to be here.
const VAIN_SESSIONS: u64 = 3;
/// Frames that the decoder refused within the looks that are kept, after which it is taken to be broken.
const REFUSED_FRAMES: u64 = 3;

/// A level and why it is not better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quality {
    /// In one word.
    pub level: QualityLevel,
    /// Why, in one line.
    pub reason: String,
    /// The reason's shortest form, such as "9 fps"; `None` where there is nothing to complain about.
    pub short: Option<String>,
}

/// What is known of a stream that is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signs {
    /// Frames sent in a second.
    pub sent: Option<f32>,
    /// Of these, shown; decoded where the tile is not on the screen.
    pub shown: Option<f32>,
    /// Share of packets lost lately; `None` while too few came to tell.
    pub loss: Option<f32>,
    /// Freezes lately.
    pub freezes: u64,
    /// Those in all, in milliseconds.
    pub frozen_ms: u64,
    /// Round trip in milliseconds.
    pub round_trip_ms: Option<f32>,
    /// Age of the newest picture while others are being sent; `None` while none is due.
    pub late_ms: Option<u64>,
    /// What limits the picture, as its sender says.
    pub limits: Option<StreamLimits>,
}

/// The level's word, as people read it.
#[must_use]
pub const fn word(level: QualityLevel) -> &'static str {
    match level {
        QualityLevel::Excellent => "excellent",
        QualityLevel::Good => "good",
        QualityLevel::Fair => "fair",
        QualityLevel::Poor => "poor",
        QualityLevel::Lost => "lost",
    }
}

/// Nothing comes, for this reason.
fn lost(reason: String) -> Quality {
    Quality { level: QualityLevel::Lost, reason, short: None }
}

/// How good a connected stream is: the worst of its signs counts.
#[must_use]
pub fn assess(signs: &Signs) -> Quality {
    let complaints =
        [late(signs), frozen(signs), missing(signs), lossy(signs), limited(signs), slow(signs)].into_iter().flatten();
    // Of several that are equally bad the first in this order is told.
    let worst = complaints.reduce(|worst, next| if next.level < worst.level { next } else { worst });
    worst.unwrap_or_else(|| Quality {
        level: QualityLevel::Excellent,
        reason: "nothing lost, nothing late".to_owned(),
        short: None,
    })
}

/// The level of a value by its three limits (good, fair, poor above), the limits themselves being still better.
fn graded(value: f32, [good, fair, poor]: [f32; 3]) -> Option<QualityLevel> {
    if value > poor {
        Some(QualityLevel::Poor)
    } else if value > fair {
        Some(QualityLevel::Fair)
    } else {
        (value > good).then_some(QualityLevel::Good)
    }
}

fn complaint(level: QualityLevel, reason: String, short: String) -> Quality {
    Quality { level, reason, short: Some(short) }
}

fn late(signs: &Signs) -> Option<Quality> {
    let age = signs.late_ms?;
    let seconds = age as f32 / 1000.0;
    let level = if age > 6_000 { QualityLevel::Lost } else { graded(seconds, [1.0, 1.5, 2.5])? };
    Some(complaint(level, format!("no new picture for {seconds:.0} s, though some are sent"), "frozen".to_owned()))
}

fn frozen(signs: &Signs) -> Option<Quality> {
    if signs.freezes == 0 {
        return None;
    }
    let level = match (signs.freezes, signs.frozen_ms) {
        (_, 2_000..) | (6.., _) => QualityLevel::Poor,
        (_, 500..) | (3.., _) => QualityLevel::Fair,
        _ => QualityLevel::Good,
    };
    let noun = if signs.freezes == 1 { "freeze" } else { "freezes" };
    let line = format!("{} {noun} of {} ms in the last seconds", signs.freezes, signs.frozen_ms);
    Some(complaint(level, line, format!("{} {noun}", signs.freezes)))
}

fn missing(signs: &Signs) -> Option<Quality> {
    let (sent, shown) = (signs.sent?, signs.shown?);
    // Single frames a second are counted too coarsely to be compared.
    if sent < 5.0 || sent - shown < 2.0 {
        return None;
    }
    let level = graded(1.0 - shown / sent, [0.08, 0.25, 0.5])?;
    Some(complaint(level, format!("{shown:.0} of {sent:.0} fps are shown"), format!("{shown:.0} fps")))
}

fn lossy(signs: &Signs) -> Option<Quality> {
    let percent = signs.loss? * 100.0;
    let level = graded(percent, [0.5, 3.0, 10.0])?;
    Some(complaint(level, format!("{percent:.1} % of packets lost"), format!("{percent:.0} % lost")))
}

fn slow(signs: &Signs) -> Option<Quality> {
    let round_trip = signs.round_trip_ms?;
    let level = graded(round_trip, [60.0, 150.0, 400.0])?;
    Some(complaint(level, format!("round trip {round_trip:.0} ms"), format!("{round_trip:.0} ms")))
}

/// What the sender holds back. A cap that is set is no fault: the picture is as it was sent.
fn limited(signs: &Signs) -> Option<Quality> {
    let limits = signs.limits?;
    let share = if limits.ceiling == 0 { 1.0 } else { limits.bit_rate as f32 / limits.ceiling as f32 };
    let fps = signs.sent.unwrap_or(f32::INFINITY);
    let level = match limits.limiter {
        Limiter::Still | Limiter::Setting => return None,
        Limiter::Network if share < 0.1 || fps < 10.0 => QualityLevel::Poor,
        Limiter::Network if share < 0.4 || fps < 20.0 || limits.halved => QualityLevel::Fair,
        Limiter::Encoder if fps < 10.0 => QualityLevel::Fair,
        Limiter::Network | Limiter::Encoder | Limiter::Viewer => QualityLevel::Good,
    };
    let short = match (signs.sent, limits.limiter) {
        (Some(fps), _) if fps < 20.0 => format!("{fps:.0} fps"),
        (_, Limiter::Encoder) => "encoder".to_owned(),
        _ => format!("{:.1} Mbit/s", limits.bit_rate as f32 / 1e6),
    };
    Some(complaint(level, limits.line(), short))
}

/// What there is to see of an instance at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Now.
    pub now: Instant,
    /// Its session's state; `None` where there is none.
    pub session: Option<&'a SessionState>,
    /// A picture was ever seen.
    pub has_picture: bool,
    /// The session's counters.
    pub stats: &'a ReceiverStats,
    /// Frames drawn in a second; `None` while its tile is not on the screen.
    pub shown: Option<f32>,
}

/// Counters at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    at: Instant,
    packets: u64,
    lost: u64,
    freezes: u64,
    frozen_ms: u64,
    refused: u64,
}

/// Follows one instance's quality over time.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    looks: VecDeque<Look>,
    quality: Option<Quality>,
    /// A level that waits for more looks to agree, and how many do.
    next: Option<(QualityLevel, u32)>,
    /// Sessions that were connected, and looks since the last one was.
    session: (u64, u32),
    /// Sessions that the agent accepted, until the last one that was connected.
    accepted: u64,
    fault: Option<String>,
}

impl Gauge {
    /// The level now; `None` before the first picture.
    #[must_use]
    pub fn quality(&self) -> Option<&Quality> {
        self.quality.as_ref()
    }

    /// What is wrong at this end, in one line.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Looks, once a second. Returns whether what a tile says of it changed.
    pub fn look(&mut self, sight: Sight<'_>) -> bool {
        self.count(&sight);
        self.fault = self.own_fault(&sight);
        let found = self.find(&sight);
        let before = self.quality.as_ref().map(|quality| (quality.level, quality.short.clone()));
        match (found, &self.quality) {
            (None, _) => (self.quality, self.next) = (None, None),
            (Some(found), Some(now)) if found.level != now.level && found.level != QualityLevel::Lost => {
                let agreeing = match self.next {
                    Some((level, times)) if level == found.level => times + 1,
                    _ => 1,
                };
                if agreeing >= AGREEING || now.level == QualityLevel::Lost {
                    (self.quality, self.next) = (Some(found), None);
                } else {
                    self.next = Some((found.level, agreeing));
                }
            }
            (Some(found), _) => (self.quality, self.next) = (Some(found), None),
        }
        before != self.quality.as_ref().map(|quality| (quality.level, quality.short.clone()))
    }

    fn count(&mut self, sight: &Sight<'_>) {
        let stats = sight.stats;
        let look = Look {
            at: sight.now,
            packets: stats.packets_received,
            lost: stats.packets_lost,
            freezes: stats.freezes,
            frozen_ms: stats.frozen_ms,
            refused: stats.frames_refused,
        };
        // A session begins, or another receiver began at zero.
        let is_less = self.looks.back().is_some_and(|last| last.packets > look.packets || last.freezes > look.freezes);
        self.session = if self.session.0 == stats.sessions {
            (stats.sessions, self.session.1.saturating_add(1))
        } else {
            (stats.sessions, 0)
        };
        if is_less || self.session.1 < SETTLING {
            self.looks.clear();
        }
        if self.looks.len() > KEPT {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
        if matches!(sight.session, Some(SessionState::Connected) | None) {
            self.accepted = stats.sessions_accepted;
        }
    }

    fn own_fault(&self, sight: &Sight<'_>) -> Option<String> {
        let stats = sight.stats;
        match sight.session? {
            SessionState::Failed { reason } => Some(reason.clone()),
            SessionState::Retrying { reason, .. }
                if stats.sessions_accepted.saturating_sub(self.accepted) >= VAIN_SESSIONS =>
            {
                Some(format!("the agent accepts the session, and it fails again and again: {reason}"))
            }
            SessionState::Connected => {
                let refused = self.looks.front().map_or(0, |first| stats.frames_refused.saturating_sub(first.refused));
                (refused >= REFUSED_FRAMES).then(|| format!("the decoder refused {refused} frames in {KEPT} s"))
            }
            SessionState::Retrying { .. } | SessionState::Connecting => None,
        }
    }

    fn find(&self, sight: &Sight<'_>) -> Option<Quality> {
        // What the control plane says of the instance is left out: it hears of this, and would hear itself.
        if !sight.has_picture {
            return None;
        }
        match sight.session {
            Some(SessionState::Connected) if self.session.1 < SETTLING => Some(assess(&Signs::default())),
            Some(SessionState::Connected) => Some(assess(&self.signs(sight))),
            Some(SessionState::Retrying { reason, .. } | SessionState::Failed { reason }) => Some(lost(reason.clone())),
            Some(SessionState::Connecting) | None => Some(lost("connecting".to_owned())),
        }
    }

    fn signs(&self, sight: &Sight<'_>) -> Signs {
        let stats = sight.stats;
        let (packets, lost, freezes, frozen_ms) = match (self.looks.front(), self.looks.back()) {
            (Some(first), Some(last)) => (
                last.packets.saturating_sub(first.packets),
                last.lost.saturating_sub(first.lost),
                last.freezes.saturating_sub(first.freezes),
                last.frozen_ms.saturating_sub(first.frozen_ms),
            ),
            _ => (0, 0, 0, 0),
        };
        let all = packets + lost;
        let is_sent = stats.fps_sent.is_some_and(|fps| fps >= 1.0);
        let is_decoded = stats.fps_decoded.is_some_and(|fps| fps > 0.0);
        Signs {
            sent: stats.fps_sent,
            shown: sight.shown.or(stats.fps_decoded),
            loss: (all >= LEAST_PACKETS).then(|| lost as f32 / all as f32),
            freezes,
            frozen_ms,
            round_trip_ms: stats.round_trip_ms,
            late_ms: stats.last_frame_age_ms.filter(|_| is_sent && !is_decoded),
            limits: stats.limits,
        }
    }
}

/// How often one looks.
pub const LOOK: Duration = Duration::from_secs(1);
