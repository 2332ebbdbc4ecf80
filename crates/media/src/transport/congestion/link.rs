//! One session's rate, shared by its connection and the encoder.

use super::super::repair::RepairLink;
use crate::limits::StreamLimits;
use crate::rate::{Flow, Gate, Report, State};
use crate::stats::PathRate;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Parity has room while the path carries at least this much, in bits a second. It takes a tenth of large frames, but
/// doubles small ones: on a short link it would take what the picture needs.
const PARITY_ABOVE: u32 = 600_000;

type Listener = Box<dyn Fn() + Send + Sync>;

/// One session's rate: the connection tells what leaves and what arrived, the encoder asks what may be made.
pub(crate) struct RateLink {
    began: Instant,
    flow: Mutex<Flow>,
    repair: Arc<RepairLink>,
    /// The encoder waits for room.
    waits: AtomicBool,
    room: OnceLock<Listener>,
    limits: Mutex<Option<StreamLimits>>,
}

impl std::fmt::Debug for RateLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLink").field("flow", &*self.flow.lock()).finish_non_exhaustive()
    }
}

// === impl RateLink ===

impl RateLink {
    /// Of a session of at most `ceiling` bits a second.
    pub(crate) fn new(ceiling: u32, repair: Arc<RepairLink>) -> Self {
        Self {
            began: Instant::now(),
            flow: Mutex::new(Flow::new(ceiling)),
            repair,
            waits: AtomicBool::new(false),
            room: OnceLock::new(),
            limits: Mutex::new(None),
        }
    }

    /// Microseconds since the session began.
    pub(super) fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    /// Calls `listener` when the encoder waits and a report may have made room. The first one stays.
    pub(crate) fn on_room(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.room.set(Box::new(listener));
    }

    /// Bits a second at most, from now on.
    pub(crate) fn set_ceiling(&self, ceiling: u32) {
        self.flow.lock().set_ceiling(ceiling);
    }

    /// Whether a frame may be made now, `Err` with the time when it may be at the latest; `last`: when the last one was.
    pub(crate) fn gate(&self, now: Instant, last: Option<Instant>) -> Result<(), Instant> {
        // Held to the end: a report that makes room comes either before the look or after the note that someone waits.
        let mut flow = self.flow.lock();
        match flow.gate(self.us(now), last.map(|at| self.us(at))) {
            Gate::Open => Ok(()),
            Gate::ClosedUntil(at_us) => {
                self.waits.store(true, Relaxed);
                Err(self.began + Duration::from_micros(at_us))
            }
        }
    }

    /// How the path is now.
    pub(crate) fn state(&self, now: Instant) -> State {
        self.flow.lock().state(self.us(now))
    }

    /// The same for people and programs outside.
    pub(crate) fn stats(&self) -> PathRate {
        let state = self.state(Instant::now());
        let ms = |us: u64| us as f32 / 1_000.0;
        PathRate {
            target: state.target,
            received: state.received,
            queue_ms: state.queue_us.map(ms),
            round_trip_ms: state.round_trip_us.map(ms),
            in_flight: state.in_flight,
            loss: state.loss,
            limits: *self.limits.lock(),
        }
    }

    /// What limits the picture, for the viewer to be told with the next packets.
    pub(crate) fn tell(&self, limits: StreamLimits) {
        *self.limits.lock() = Some(limits);
    }

    /// What the viewer is to be told.
    pub(super) fn limits(&self) -> Option<StreamLimits> {
        *self.limits.lock()
    }

    pub(super) fn sent(&self, now: Instant, number: u16, bytes: u32) {
        self.flow.lock().sent(self.us(now), number, bytes);
    }

    pub(super) fn reported(&self, now: Instant, packets: &[Report]) {
        let (target, is_long_with_room) = {
            let mut flow = self.flow.lock();
            let now_us = self.us(now);
            flow.reported(now_us, packets);
            (flow.target(now_us), flow.is_long_with_room(now_us))
        };
        self.repair.set_rate(target);
        self.repair.allow_parity(target >= PARITY_ABOVE);
        self.repair.set_long_with_room(is_long_with_room);
        if self.waits.swap(false, Relaxed)
            && let Some(room) = self.room.get()
        {
            room();
        }
    }

    /// A receiver report: this share was lost since the last one.
    pub(super) fn receiver_report(&self, lost: f64) {
        self.flow.lock().receiver_report(lost);
    }

    pub(super) fn saw_loss(&self, now: Instant) {
        self.repair.saw_loss(now);
    }

    pub(super) fn target(&self) -> f64 {
        f64::from(self.flow.lock().target(self.us(Instant::now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Fate;

    const CEILING: u32 = 800_000;

    /// Whether frames have parity after 20 s of a path that loses nothing, carries `share` of what is sent at the ceiling's
    /// rate, and takes `round_trip_ms`.
    fn has_parity(round_trip_ms: u64, share: f64) -> bool {
        let repair = Arc::new(RepairLink::new(CEILING));
        let link = RateLink::new(CEILING, Arc::clone(&repair));
        let at = |us: u64| link.began + Duration::from_micros(us);
        let mut wants = false;
        for number in 0..2_000u16 {
            let (departed_us, bytes) = (u64::from(number) * 10_000, CEILING / 8 / 100);
            link.sent(at(departed_us), number, bytes);
            let on_its_way_us = departed_us as f64 / share - departed_us as f64 + round_trip_ms as f64 * 500.0;
            let fate = Fate::Arrived(departed_us + on_its_way_us as u64);
            let now = at(departed_us + on_its_way_us as u64 + round_trip_ms * 500);
            link.reported(now, &[Report { number, departed_us, bytes, fate }]);
            wants = repair.wants_parity(now);
        }
        wants
    }

    #[test]
    fn a_path_without_loss_has_parity_at_first_where_it_is_long_and_has_room() {
        assert!(has_parity(100, 1.0));
        assert!(!has_parity(20, 1.0), "a resend comes in time");
        assert!(!has_parity(100, 0.8), "there is no room for more");
    }
}
