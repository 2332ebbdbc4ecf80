//! The viewers as the encoder sees them: whose path is followed, who waits, who gets key frames only.

use super::control::Frame;
use crate::limits::{Limiter, Signs, StreamLimits};
use crate::rate::plan::{Decision, followed};
use crate::transport::{RateLink, VideoCodec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames that may wait for a session's task; more means that it does not keep up.
const FRAMES_AHEAD: usize = 8;
/// While one viewer's path is full and another's is not, the other waits no longer than this.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(100);
/// A viewer that is too slow to be followed gets a key frame this often at most: each costs the others too.
const SLOW_KEYS: Duration = Duration::from_secs(2);
/// What happened within this counts as happening.
const LATELY: Duration = Duration::from_secs(1);

/// One session as the encoder sees it.
struct Viewer {
    number: u64,
    codec: VideoCodec,
    frames: mpsc::Sender<Arc<Frame>>,
    rate: Arc<RateLink>,
    /// Nothing but a key frame is of use to it.
    needs_key: bool,
    /// It did not get what the others see, and no key frame is asked of the encoder yet. Should the picture stand still
    /// now, no other frame would bring it up to date.
    is_owed: bool,
    /// Its path is too slow to be followed.
    is_slow: bool,
    /// When it last got a key frame.
    keyed: Option<Instant>,
    /// When a frame last waited for its path.
    held: Option<Instant>,
    /// When its task last did not take a frame.
    behind: Option<Instant>,
}

/// What the encoder does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Bits made in the last second.
    pub(super) sent: u32,
    /// Frames made in the last second.
    pub(super) fps: f32,
    /// Share of time that the encoder was at work.
    pub(super) busy: f64,
    /// How long a frame takes to encode.
    pub(super) encode: Duration,
    /// Time since the picture changed.
    pub(super) still: Duration,
    /// Frames a second at most, as is set or as the machine has room for.
    pub(super) most_fps: u32,
    /// The latter is less.
    pub(super) is_crowded: bool,
}

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Viewers {
    all: Vec<Viewer>,
    next: u64,
    /// Since when one waits for another.
    waiting: Option<Instant>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Viewers that did not get it.
    pub(super) skipped: u64,
    /// One of them cannot go on without a key frame.
    pub(super) key_wanted: bool,
}

// === impl Viewers ===

impl Viewers {
    pub(super) fn add(&mut self, codec: VideoCodec, rate: Arc<RateLink>) -> (u64, mpsc::Receiver<Arc<Frame>>) {
        let (frames, frames_in) = mpsc::channel(FRAMES_AHEAD);
        self.next += 1;
        self.all.push(Viewer {
            number: self.next,
            codec,
            frames,
            rate,
            needs_key: true,
            is_owed: false,
            is_slow: false,
            keyed: None,
            held: None,
            behind: None,
        });
        (self.next, frames_in)
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.all.retain(|viewer| viewer.number != number);
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Viewer `number` cannot go on without a key frame; whether it is to have one now.
    pub(super) fn asks_for_key(&mut self, number: Option<u64>, now: Instant) -> bool {
        match self.all.iter_mut().find(|viewer| Some(viewer.number) == number) {
            Some(viewer) => {
                viewer.needs_key = true;
                viewer.is_owed = viewer.is_slow && !viewer.may_have_key(now);
                !viewer.is_owed
            }
            None => true,
        }
    }

    /// When a key frame for those who are owed one is worth its cost; `None` where nobody is, or where it would only wait
    /// behind other frames.
    pub(super) fn key_due(&self, now: Instant) -> Option<Instant> {
        self.all.iter().filter(|viewer| viewer.is_owed && viewer.has_caught_up()).map(|viewer| viewer.key_at(now)).min()
    }

    /// A key frame is asked of the encoder.
    pub(super) fn settle_keys(&mut self, now: Instant) {
        for viewer in self.all.iter_mut().filter(|viewer| viewer.is_owed && viewer.has_caught_up()) {
            viewer.is_owed = viewer.key_at(now) > now;
        }
    }

    /// Whether viewer `number` is owed a key frame.
    pub(super) fn is_owed(&self, number: u64) -> bool {
        self.all.iter().any(|viewer| viewer.number == number && viewer.is_owed)
    }

    pub(super) fn any(&self, codec: VideoCodec) -> bool {
        self.all.iter().any(|viewer| viewer.codec == codec)
    }

    pub(super) fn set_ceiling(&self, ceiling: u32) {
        self.all.iter().for_each(|viewer| viewer.rate.set_ceiling(ceiling));
    }

    /// Bits a second that the encoder may make; `None` without viewers. Settles who is too slow to be followed.
    pub(super) fn followed(&mut self, now: Instant) -> Option<u32> {
        if let [viewer] = self.all.as_mut_slice() {
            viewer.is_slow = false;
            return Some(viewer.rate.state(now).target);
        }
        let rate = followed(self.all.iter().map(|viewer| viewer.rate.state(now).target))?;
        for viewer in &mut self.all {
            viewer.is_slow = viewer.rate.state(now).target < rate;
        }
        Some(rate)
    }

    /// Whether the paths have room for a frame, `Err` with the time when it is made all the same; `last`: when the last
    /// one was made.
    pub(super) fn room(&mut self, now: Instant, last: Option<Instant>) -> Result<(), Instant> {
        let (mut open, mut closed) = (0, None::<Instant>);
        for viewer in self.all.iter_mut().filter(|viewer| !viewer.is_slow) {
            match viewer.rate.gate(now, last) {
                Ok(()) => open += 1,
                Err(at) => {
                    viewer.held = Some(now);
                    closed = Some(closed.map_or(at, |least| least.min(at)));
                }
            }
        }
        let Some(at) = closed else {
            self.waiting = None;
            return Ok(());
        };
        if open == 0 {
            return Err(at);
        }
        let until = *self.waiting.get_or_insert(now) + WAIT_FOR_OTHERS;
        if now < until {
            return Err(at.min(until));
        }
        // The others go on; who has no room now goes on with a key frame.
        for viewer in self.all.iter_mut().filter(|viewer| !viewer.is_slow && viewer.held == Some(now)) {
            viewer.needs_key = true;
        }
        self.waiting = None;
        Ok(())
    }

    /// Hands a frame to every viewer of its codec that can use it.
    pub(super) fn deliver(&mut self, codec: VideoCodec, frame: &Arc<Frame>, now: Instant) -> Delivered {
        let mut delivered = Delivered::default();
        for viewer in self.all.iter_mut().filter(|viewer| viewer.codec == codec) {
            if !frame.is_key && (viewer.needs_key || viewer.is_slow) {
                viewer.needs_key = true;
                let is_due = viewer.may_have_key(now);
                // Who has the same picture less sharp keeps that: a key frame would be sharpened in its turn, and so on.
                viewer.is_owed = !is_due && (viewer.is_owed || !frame.is_sharper);
                delivered.skipped += 1;
                delivered.key_wanted |= is_due;
                continue;
            }
            if viewer.is_slow && viewer.rate.gate(now, viewer.keyed).is_err() {
                // Also one that was followed until now: the frames to come build on this one.
                (viewer.needs_key, viewer.is_owed) = (true, true);
                delivered.skipped += 1;
                continue;
            }
            if viewer.frames.try_send(Arc::clone(frame)).is_ok() {
                (viewer.needs_key, viewer.is_owed) = (false, false);
                if frame.is_key {
                    viewer.keyed = Some(now);
                }
            } else {
                (viewer.needs_key, viewer.is_owed) = (true, true);
                viewer.behind = Some(now);
                delivered.skipped += 1;
            }
        }
        delivered
    }

    /// Tells every viewer what limits its picture, and returns what limits the one that is followed.
    pub(super) fn tell(&self, now: Instant, decision: Decision, ceiling: u32, work: Work) -> Option<StreamLimits> {
        let lately = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < LATELY);
        let mut followed: Option<StreamLimits> = None;
        for viewer in &self.all {
            let state = viewer.rate.state(now);
            let signs = Signs {
                still_us: work.still.as_micros() as u64,
                encoder_busy: work.busy,
                is_crowded: work.is_crowded,
                was_held: lately(viewer.held),
                was_skipped: lately(viewer.behind),
                own: state.target,
                followed: decision.bit_rate,
                ceiling,
                sent: work.sent,
                fps: (work.fps, work.most_fps),
            };
            let limits = StreamLimits {
                limiter: signs.limiter(),
                bit_rate: state.target.min(decision.bit_rate),
                ceiling,
                sent: work.sent,
                queue_ms: state.queue_us.map(|us| (us / 1_000).min(u64::from(u16::MAX - 1)) as u16),
                max_fps: decision.max_fps.min(u32::from(u16::MAX)) as u16,
                encode_ms: Some(work.encode.as_millis().min(u128::from(u16::MAX - 1)) as u16),
                halved: decision.halved,
                shared: state.rival,
            };
            viewer.rate.tell(limits);
            if followed.is_none_or(|other| limits.bit_rate <= other.bit_rate && limits.limiter != Limiter::Still) {
                followed = Some(limits);
            }
        }
        followed
    }
}

impl Viewer {
    /// Whether a key frame for its sake is worth what it costs the others: its path must have room for it.
    fn may_have_key(&self, now: Instant) -> bool {
        self.key_at(now) <= now
    }

    /// When it is, as far as is known.
    fn key_at(&self, now: Instant) -> Instant {
        match self.keyed.map(|at| at + SLOW_KEYS).filter(|at| self.is_slow && *at > now) {
            Some(at) => at,
            None => self.rate.gate(now, Some(now)).err().unwrap_or(now),
        }
    }

    /// Whether its task has taken all that it was handed.
    fn has_caught_up(&self) -> bool {
        self.frames.capacity() == FRAMES_AHEAD && !self.frames.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::RepairLink;

    fn frame(is_key: bool) -> Arc<Frame> {
        Arc::new(Frame { payloads: Vec::new(), timestamp: 0, is_key, is_sharper: false, encoded_at: Instant::now() })
    }

    fn sharper() -> Arc<Frame> {
        let (timestamp, encoded_at) = (0, Instant::now());
        Arc::new(Frame { payloads: Vec::new(), timestamp, is_key: false, is_sharper: true, encoded_at })
    }

    fn add(viewers: &mut Viewers, ceiling: u32) -> (u64, mpsc::Receiver<Arc<Frame>>) {
        viewers.add(VideoCodec::H264, Arc::new(RateLink::new(ceiling, Arc::new(RepairLink::new(1)))))
    }

    #[test]
    fn a_slow_viewer_is_shown_what_stands_still() {
        let (mut viewers, start) = (Viewers::default(), Instant::now());
        let (_, mut quick) = add(&mut viewers, 2_000_000);
        let (slow_number, mut slow) = add(&mut viewers, 100_000);
        viewers.followed(start);
        viewers.deliver(VideoCodec::H264, &frame(true), start);
        assert!(slow.try_recv().is_ok() && quick.try_recv().is_ok() && viewers.key_due(start).is_none());
        // The last change before the picture stands still: only the quick one gets it.
        let last = start + Duration::from_millis(300);
        let delivered = viewers.deliver(VideoCodec::H264, &frame(false), last);
        assert!(quick.try_recv().is_ok() && slow.try_recv().is_err() && !delivered.key_wanted);
        viewers.deliver(VideoCodec::H264, &sharper(), last + Duration::from_millis(150));
        assert!(viewers.is_owed(slow_number));
        let due = start + SLOW_KEYS;
        assert_eq!(viewers.key_due(last), Some(due), "no frame has to come for that");
        viewers.settle_keys(last);
        assert_eq!(viewers.key_due(due), Some(due), "it is not settled before its time");
        viewers.settle_keys(due);
        assert_eq!(viewers.key_due(due), None, "asked for once");
        viewers.deliver(VideoCodec::H264, &frame(true), due);
        assert!(slow.try_recv().is_ok_and(|frame| frame.is_key) && !viewers.is_owed(slow_number));
        // That frame is sharpened for the quick one. Were this owed too, there would be a key frame every two seconds.
        let delivered = viewers.deliver(VideoCodec::H264, &sharper(), due + Duration::from_millis(150));
        assert!(!delivered.key_wanted && !viewers.is_owed(slow_number), "it rests");
    }

    #[test]
    fn who_was_behind_is_shown_what_stands_still_once_it_has_caught_up() {
        let (mut viewers, now) = (Viewers::default(), Instant::now());
        let (number, mut frames) = add(&mut viewers, 2_000_000);
        viewers.deliver(VideoCodec::H264, &frame(true), now);
        for _ in 0..FRAMES_AHEAD {
            viewers.deliver(VideoCodec::H264, &frame(false), now);
        }
        assert!(viewers.is_owed(number));
        assert_eq!(viewers.key_due(now), None, "a key frame would only wait behind the others");
        while frames.try_recv().is_ok() {}
        assert_eq!(viewers.key_due(now), Some(now));
        drop(frames);
        assert_eq!(viewers.key_due(now), None, "who is gone needs none");
    }
}
