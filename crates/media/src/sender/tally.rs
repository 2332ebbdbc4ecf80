//! What one session has done, readable while it goes on.

use crate::stats::{Path, PathRate};
use crate::transport::{Peer, RateLink, RepairLink, Traffic, VideoCodec};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// One viewer's session at a moment.
#[derive(Clone, Debug, PartialEq)]
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
    /// Packets sent again on its request.
    pub resent: u64,
    /// Payload bytes of all datagrams and TCP frames sent to it.
    pub bytes_sent: u64,
    /// How it is reached; `None` before it is.
    pub path: Option<Path>,
    /// Round trip of that path, by ICE's own checks.
    pub round_trip: Option<Duration>,
    /// What that path carries, by the viewer's own reports of what arrived.
    pub rate: PathRate,
}

/// A session's counters.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    codec: VideoCodec,
    connected: AtomicBool,
    frames: AtomicU64,
    key_requests: AtomicU64,
    traffic: Arc<Traffic>,
    repair: Option<Arc<RepairLink>>,
    rate: Option<Arc<RateLink>>,
    seen: Mutex<(Option<Path>, Option<Duration>)>,
    was_read: Notify,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(codec: VideoCodec, peer: &Peer) -> Self {
        Self {
            began: Instant::now(),
            codec,
            connected: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            key_requests: AtomicU64::new(0),
            traffic: Arc::clone(peer.traffic()),
            repair: peer.repair().cloned(),
            rate: peer.rate().cloned(),
            seen: Mutex::default(),
            was_read: Notify::new(),
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

    /// Returns when someone has read it: path and round trip are worth a look, for the next time.
    pub(super) async fn was_read(&self) {
        self.was_read.notified().await;
    }

    /// How the viewer is reached now.
    pub(super) fn seen(&self, path: Option<Path>, round_trip: Option<Duration>) {
        *self.seen.lock() = (path, round_trip);
    }

    pub(super) fn read(&self, id: &str) -> SessionStats {
        self.was_read.notify_one();
        let (path, round_trip) = self.seen.lock().clone();
        SessionStats {
            id: id.to_owned(),
            connected: self.connected.load(Relaxed),
            age: self.began.elapsed(),
            codec: self.codec.name(),
            frames_sent: self.frames.load(Relaxed),
            key_frame_requests: self.key_requests.load(Relaxed),
            resent: self.repair.as_ref().map_or(0, |repair| repair.counts().resent),
            bytes_sent: self.traffic.bytes_sent(),
            path,
            round_trip,
            rate: self.rate.as_ref().map(|rate| rate.stats()).unwrap_or_default(),
        }
    }
}
