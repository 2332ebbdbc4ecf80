//! What the encoder's thread waits for, and what it serves.

use super::pace::{Due, Pace, Reason};
use crate::error::MediaError;
use crate::stats::{Histogram, Rate};
use crate::transport::VideoCodec;
use crate::video::DamageListener;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Frames that may wait for a session's task; more means that it does not keep up.
const FRAMES_AHEAD: usize = 8;

/// An encoded frame on its way to the sessions.
pub(super) struct Frame {
    pub(super) payloads: Vec<Bytes>,
    /// RTP timestamp: the capture time.
    pub(super) timestamp: u32,
    pub(super) is_key: bool,
    pub(super) encoded_at: Instant,
}

/// One session as the encoder sees it.
struct Viewer {
    number: u64,
    codec: VideoCodec,
    frames: mpsc::Sender<Arc<Frame>>,
    /// Nothing but a key frame is of use to it.
    needs_key: bool,
}

/// What the thread is to do.
pub(super) enum Job {
    /// Make a frame.
    Encode { reason: Reason, key: bool, codecs: Codecs, bit_rate: u32, max_fps: u32 },
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
    viewers: Vec<Viewer>,
    next_viewer: u64,
    bit_rate: u32,
    max_fps: u32,
    suspended: bool,
    stopping: bool,
    /// Whether the thread holds encoders that it should let go of.
    resting: bool,
}

/// Shared by the canvas (damage), the sessions (viewers, key frames), the application (settings) and the thread.
pub(super) struct Control {
    state: Mutex<State>,
    wake: Condvar,
    pub(super) counters: Mutex<Counters>,
}

impl Control {
    pub(super) fn new(bit_rate: u32, max_fps: u32) -> Self {
        Self {
            state: Mutex::new(State {
                pace: Pace::new(max_fps),
                viewers: Vec::new(),
                next_viewer: 0,
                bit_rate,
                max_fps,
                suspended: false,
                stopping: false,
                resting: true,
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
    pub(super) fn add_viewer(&self, codec: VideoCodec) -> (u64, mpsc::Receiver<Arc<Frame>>) {
        let (frames, frames_in) = mpsc::channel(FRAMES_AHEAD);
        self.change(|state| {
            state.next_viewer += 1;
            let number = state.next_viewer;
            state.viewers.push(Viewer { number, codec, frames, needs_key: true });
            state.pace.want_key();
            (number, frames_in)
        })
    }

    pub(super) fn remove_viewer(&self, number: u64) {
        self.change(|state| state.viewers.retain(|viewer| viewer.number != number));
    }

    pub(super) fn viewers(&self) -> usize {
        self.state.lock().viewers.len()
    }

    /// A viewer cannot go on without a key frame.
    pub(super) fn key_wanted(&self) {
        self.counters.lock().key_requests += 1;
        self.change(|state| state.pace.want_key());
    }

    pub(super) fn set_bit_rate(&self, bit_rate: u32) {
        self.state.lock().bit_rate = bit_rate;
    }

    pub(super) fn set_frame_rate(&self, max_fps: u32) {
        self.change(|state| {
            state.max_fps = max_fps;
            state.pace.set_frame_rate(max_fps);
        });
    }

    pub(super) fn rates(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.bit_rate, state.max_fps)
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
            match state.pace.due(now) {
                Due::Now { reason, key } => {
                    state.pace.taken(reason, key, now);
                    state.resting = false;
                    let any = |codec| state.viewers.iter().any(|viewer| viewer.codec == codec);
                    let codecs = Codecs { h264: any(VideoCodec::H264), vp8: any(VideoCodec::Vp8) };
                    return Job::Encode { reason, key, codecs, bit_rate: state.bit_rate, max_fps: state.max_fps };
                }
                Due::At(at) => {
                    self.wake.wait_until(&mut state, at);
                }
                Due::Never => self.wake.wait(&mut state),
            }
        }
    }

    /// Tells the pace what the last frame was like.
    pub(super) fn encoded(&self, is_coarse: bool) {
        self.state.lock().pace.encoded(is_coarse, Instant::now());
    }

    /// Hands a frame to every viewer of its codec; one whose queue is full goes on with the next key frame.
    pub(super) fn deliver(&self, codec: VideoCodec, frame: &Arc<Frame>) {
        let mut state = self.state.lock();
        let mut skipped = 0;
        let mut key_wanted = false;
        for viewer in state.viewers.iter_mut().filter(|viewer| viewer.codec == codec) {
            if viewer.needs_key && !frame.is_key {
                key_wanted = true;
                skipped += 1;
                continue;
            }
            match viewer.frames.try_send(Arc::clone(frame)) {
                Ok(()) => viewer.needs_key = false,
                Err(_) => {
                    viewer.needs_key = true;
                    skipped += 1;
                }
            }
        }
        if key_wanted {
            state.pace.want_key();
        }
        drop(state);
        if skipped > 0 {
            self.counters.lock().skipped += skipped;
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
