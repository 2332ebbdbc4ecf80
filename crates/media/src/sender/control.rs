//! What the encoder's thread waits for, and what it serves.

use super::crowd::Crowd;
use super::pace::{Due, Pace, Reason};
use super::viewers::{Viewers, Work};
use crate::error::MediaError;
use crate::limits::StreamLimits;
use crate::rate::plan::{Decision, Plan, Settings, ceiling_of, key_spacing_us};
use crate::stats::{Histogram, Rate};
use crate::transport::{RateLink, VideoCodec};
use crate::video::DamageListener;
use bytes::Bytes;
use loco_model::Size;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A picture of this size is planned for before the first is there.
const USUAL_SIZE: Size = Size::new(640, 480);
/// Frames that the encoder's share of time is averaged over.
const BUSY_FRAMES: f64 = 16.0;

/// An encoded frame on its way to the sessions.
pub(super) struct Frame {
    pub(super) payloads: Vec<Bytes>,
    /// RTP timestamp: the capture time.
    pub(super) timestamp: u32,
    pub(super) is_key: bool,
    /// It shows what the one before shows, only sharper.
    pub(super) is_sharper: bool,
    pub(super) encoded_at: Instant,
}

/// What the thread is to do.
pub(super) enum Job {
    /// Make a frame; `anew`: with new encoders.
    Encode { reason: Reason, key: bool, codecs: Codecs, decision: Decision, anew: bool },
    /// Nobody watches any more: let go of encoders.
    Rest,
    /// End.
    Stop,
}

/// For whom to encode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codecs {
    pub(super) h264: bool,
    pub(super) vp8: bool,
}

/// Counters of the encoder.
#[derive(Clone, Default)]
pub(super) struct Counters {
    pub(super) frames: u64,
    pub(super) keys: u64,
    pub(super) refinements: u64,
    pub(super) bytes: u64,
    pub(super) key_requests: u64,
    pub(super) skipped: u64,
    pub(super) packets_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) fps: Rate,
    pub(super) wait: Histogram,
    pub(super) encode: Histogram,
    pub(super) send: Histogram,
    pub(super) fault: Option<MediaError>,
}

struct State {
    pace: Pace,
    viewers: Viewers,
    plan: Plan,
    decision: Decision,
    /// Bits a second at most, where they are set.
    bit_rate: Option<u32>,
    /// And never more than this, whatever else says so.
    cap: Option<u32>,
    /// Bits a second at most now.
    ceiling: u32,
    max_fps: u32,
    /// Frames a second that the machine has room for, where those are fewer.
    crowded_fps: Option<u32>,
    size: Size,
    suspended: bool,
    stopping: bool,
    /// Whether the thread holds encoders that it should let go of.
    resting: bool,
    /// How often encoders were to be made anew, and how often they were.
    renewals: (u64, u64),
    /// Since when it has been at the job that it took last; `None` while it waits.
    busy_since: Option<Instant>,
    frame: Option<Instant>,
    changed: Option<Instant>,
    started: Option<Instant>,
    bits: Rate,
    frames: Rate,
    busy: f64,
    limits: Option<StreamLimits>,
}

impl State {
    fn settings(&self) -> Settings {
        let max_fps = self.crowded_fps.map_or(self.max_fps, |fps| fps.min(self.max_fps));
        Settings { ceiling: self.ceiling, max_fps, size: self.size }
    }

    /// Sets the ceiling by what is set and by the picture.
    fn settle_ceiling(&mut self) {
        let ceiling = self.bit_rate.unwrap_or_else(|| ceiling_of(self.size));
        let ceiling = self.cap.map_or(ceiling, |cap| cap.min(ceiling));
        if ceiling != self.ceiling {
            self.ceiling = ceiling;
            self.viewers.set_ceiling(ceiling);
        }
    }
}

/// What became of a job.
pub(super) struct Made {
    pub(super) reason: Reason,
    pub(super) bytes: usize,
    pub(super) is_key: bool,
    /// It took more bytes than a sharp still picture would.
    pub(super) is_coarse: bool,
    /// The guest's picture.
    pub(super) size: Size,
    pub(super) started: Instant,
}

/// Shared by the canvas (damage), the sessions (viewers, key frames), the application (settings) and the thread.
pub(super) struct Control {
    state: Mutex<State>,
    wake: Condvar,
    pub(super) counters: Mutex<Counters>,
}

impl Control {
    /// `bit_rate`: bits a second at most; `None`: by the picture's size.
    pub(super) fn new(bit_rate: Option<u32>, max_fps: u32) -> Self {
        let ceiling = bit_rate.unwrap_or_else(|| ceiling_of(USUAL_SIZE));
        Self {
            state: Mutex::new(State {
                pace: Pace::new(max_fps),
                viewers: Viewers::default(),
                plan: Plan::default(),
                decision: Decision { bit_rate: ceiling, max_fps, halved: false },
                bit_rate,
                cap: None,
                ceiling,
                max_fps,
                crowded_fps: None,
                size: USUAL_SIZE,
                suspended: false,
                stopping: false,
                resting: true,
                renewals: (0, 0),
                busy_since: None,
                frame: None,
                changed: None,
                started: None,
                bits: Rate::default(),
                frames: Rate::default(),
                busy: 0.0,
                limits: None,
            }),
            wake: Condvar::new(),
            counters: Mutex::default(),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock());
        self.wake.notify_one();
        result
    }

    /// Adds a viewer, who gets a key frame first. Returns its number and its frames.
    pub(super) fn add_viewer(
        self: &Arc<Self>,
        codec: VideoCodec,
        rate: &Arc<RateLink>,
    ) -> (u64, mpsc::Receiver<Arc<Frame>>) {
        let control: Weak<Self> = Arc::downgrade(self);
        rate.on_room(move || {
            if let Some(control) = control.upgrade() {
                // Through the lock: the thread either has not looked at the gate yet, or waits already.
                drop(control.state.lock());
                control.wake.notify_one();
            }
        });
        self.change(|state| {
            rate.set_ceiling(state.ceiling);
            state.pace.want_key();
            state.viewers.add(codec, Arc::clone(rate))
        })
    }

    pub(super) fn remove_viewer(&self, number: u64) {
        self.change(|state| state.viewers.remove(number));
    }

    pub(super) fn viewers(&self) -> usize {
        self.state.lock().viewers.len()
    }

    /// Viewer `number` asks for a key frame.
    pub(super) fn key_wanted(&self, number: Option<u64>) {
        self.counters.lock().key_requests += 1;
        let now = Instant::now();
        self.change(|state| {
            if state.viewers.asks_for_key(number, now) {
                state.pace.want_key();
            }
        });
    }

    /// Viewer `number` took the last frame that waited for it.
    pub(super) fn caught_up(&self, number: u64) {
        let state = self.state.lock();
        if state.viewers.is_owed(number) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Bits a second at most; `None`: by the picture's size.
    pub(super) fn set_bit_rate(&self, bit_rate: Option<u32>) {
        let mut state = self.state.lock();
        state.bit_rate = bit_rate;
        state.settle_ceiling();
    }

    /// Bits a second that are never exceeded, whatever else is set; `None`: no such bound.
    pub(super) fn set_cap(&self, cap: Option<u32>) {
        let mut state = self.state.lock();
        state.cap = cap;
        state.settle_ceiling();
    }

    /// Makes the encoders anew; every viewer goes on with a key frame.
    pub(super) fn renew(&self) {
        self.change(|state| {
            state.renewals.0 += 1;
            state.pace.want_key();
        });
    }

    /// How long the thread has been at its job; `None` while it waits for one.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.state.lock().busy_since.map(|since| since.elapsed())
    }

    pub(super) fn set_frame_rate(&self, max_fps: u32) {
        self.change(|state| {
            state.max_fps = max_fps;
            state.pace.set_frame_rate(max_fps);
        });
    }

    /// What the encoder was told last, what is set, and what limits the stream.
    pub(super) fn rates(&self) -> (Decision, u32, Option<StreamLimits>) {
        let state = self.state.lock();
        (state.decision, state.ceiling, state.limits)
    }

    pub(super) fn set_suspended(&self, suspended: bool) {
        self.change(|state| {
            if state.suspended && !suspended {
                // What changed meanwhile is shown now; without a change this frame costs next to nothing.
                state.pace.damaged(Instant::now());
            }
            state.suspended = suspended;
        });
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.state.lock().suspended
    }

    pub(super) fn input_hint(&self) {
        let now = Instant::now();
        self.change(|state| state.pace.hinted(now));
    }

    pub(super) fn stop(&self) {
        self.change(|state| {
            state.stopping = true;
            state.viewers.clear();
        });
    }

    /// Waits until there is something to do. Without viewers, and while suspended, damage wakes nobody.
    pub(super) fn next_job(&self) -> Job {
        let mut state = self.state.lock();
        state.busy_since = None;
        loop {
            if state.stopping {
                return Job::Stop;
            }
            if state.viewers.is_empty() || state.suspended {
                state.pace.rest();
                if state.viewers.is_empty() && !state.resting {
                    state.resting = true;
                    return Job::Rest;
                }
                self.wake.wait(&mut state);
                continue;
            }
            let now = Instant::now();
            let mut owed_at = state.viewers.key_due(now);
            if owed_at.is_some_and(|at| at <= now) {
                state.viewers.settle_keys(now);
                state.pace.want_key();
                owed_at = state.viewers.key_due(now);
            }
            match state.pace.due(now) {
                Due::Now { reason, key } => {
                    let followed = state.viewers.followed(now);
                    let last = state.frame;
                    if let Err(at) = state.viewers.room(now, last) {
                        self.wake.wait_until(&mut state, at);
                        continue;
                    }
                    let settings = state.settings();
                    state.decision = state.plan.decide(followed, settings);
                    let decision = state.decision;
                    state.pace.limit(decision.max_fps);
                    state.pace.taken(reason, key, now);
                    state.frame = Some(now);
                    state.resting = false;
                    state.busy_since = Some(now);
                    let anew = state.renewals.0 != state.renewals.1;
                    state.renewals.1 = state.renewals.0;
                    let codecs =
                        Codecs { h264: state.viewers.any(VideoCodec::H264), vp8: state.viewers.any(VideoCodec::Vp8) };
                    return Job::Encode { reason, key, codecs, decision, anew };
                }
                Due::At(at) => {
                    self.wake.wait_until(&mut state, owed_at.map_or(at, |owed_at| owed_at.min(at)));
                }
                Due::Never => match owed_at {
                    Some(at) => {
                        self.wake.wait_until(&mut state, at);
                    }
                    None => self.wake.wait(&mut state),
                },
            }
        }
    }

    /// Takes note of a frame that was made, and of the machine it was made on.
    pub(super) fn made(&self, made: &Made, crowd: &mut Crowd) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.crowded_fps = crowd.look(now, state.max_fps);
        state.pace.encoded(made.is_coarse, now);
        if made.is_key {
            let spacing = key_spacing_us(made.bytes, state.decision.bit_rate);
            state.pace.space_keys(Duration::from_micros(spacing));
        }
        if state.size != made.size {
            state.size = made.size;
            state.settle_ceiling();
        }
        if matches!(made.reason, Reason::Damage(_)) {
            state.changed = Some(now);
        }
        state.bits.add(made.bytes as u64 * 8, now);
        state.frames.add(1, now);
        let took = now.saturating_duration_since(made.started);
        let apart =
            state.started.replace(made.started).map_or(Duration::MAX, |at| made.started.saturating_duration_since(at));
        let busy = took.as_secs_f64() / apart.max(took).as_secs_f64().max(1e-6);
        state.busy += (busy - state.busy) / BUSY_FRAMES;
        let work = Work {
            sent: state.bits.per_second(now).unwrap_or(0.0) as u32,
            fps: state.frames.per_second(now).unwrap_or(0.0),
            busy: state.busy,
            encode: took,
            still: state.changed.map_or(Duration::MAX, |at| now.saturating_duration_since(at)),
            most_fps: state.settings().max_fps,
            is_crowded: state.crowded_fps.is_some(),
        };
        state.limits = state.viewers.tell(now, state.decision, state.ceiling, work);
    }

    /// Hands a frame to every viewer of its codec; one whose queue is full goes on with the next key frame.
    pub(super) fn deliver(&self, codec: VideoCodec, frame: &Arc<Frame>) {
        let mut state = self.state.lock();
        let delivered = state.viewers.deliver(codec, frame, Instant::now());
        if delivered.key_wanted {
            state.pace.want_key();
        }
        drop(state);
        if delivered.skipped > 0 {
            self.counters.lock().skipped += delivered.skipped;
        }
    }
}

impl DamageListener for Control {
    fn damaged(&self, at: Instant) {
        let mut state = self.state.lock();
        if !state.viewers.is_empty() && !state.suspended {
            state.pace.damaged(at);
            drop(state);
            self.wake.notify_one();
        }
    }
}
