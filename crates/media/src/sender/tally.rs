//! What one session has done, readable while it goes on.

use crate::transport::VideoCodec;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One viewer's session at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// Its id, as in its WHEP resource.
    pub id: String,
    /// Whether it is connected; if not, it is still being made.
    pub connected: bool,
    /// Time since its offer.
    pub age: Duration,
    /// Its video codec, as in the SDP (`H264`).
    pub codec: &'static str,
    /// Frames sent.
    pub frames_sent: u64,
    /// Key frames that it asked for.
    pub key_frame_requests: u64,
}

/// A session's counters.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    codec: VideoCodec,
    connected: AtomicBool,
    frames: AtomicU64,
    key_requests: AtomicU64,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(codec: VideoCodec) -> Self {
        Self {
            began: Instant::now(),
            codec,
            connected: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            key_requests: AtomicU64::new(0),
        }
    }

    pub(super) fn connected(&self) {
        self.connected.store(true, Relaxed);
    }

    pub(super) fn frame(&self) {
        self.frames.fetch_add(1, Relaxed);
    }

    pub(super) fn key_requested(&self) {
        self.key_requests.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self, id: &str) -> SessionStats {
        SessionStats {
            id: id.to_owned(),
            connected: self.connected.load(Relaxed),
            age: self.began.elapsed(),
            codec: self.codec.name(),
            frames_sent: self.frames.load(Relaxed),
            key_frame_requests: self.key_requests.load(Relaxed),
        }
    }
}
