//! What the path carries, by what arrived, when, and what did not.

use super::loss::Loss;
use super::rival::{Rival, Verdict};
use super::trains::Trains;
use super::windows::WindowMin;
use super::{FLOOR, Fate, MS, PACKET_BYTES, Report, START};
use std::collections::VecDeque;

/// The least delay and the least round trip are remembered this long; after it, a longer path is the path.
const MEMORY_US: u64 = 10_000 * MS;
/// What arrives is measured over this long, ...
const ACKED_US: u64 = 300 * MS;
/// ... and the best of it proves a rate this long.
const PROOF_US: u64 = 1_000 * MS;
/// A queue counts when even the quickest packet of this long saw it, ...
const STANDING_US: u64 = 100 * MS;
/// ... of at least so many packets, in at most this long.
const STANDING_PACKETS: usize = 4;
const STANDING_MOST_US: u64 = 250 * MS;
/// A standing queue above this, ...
const QUEUE_US: f64 = 20_000.0;
/// ... and so many packet times at the rate that arrives (a sender's own packets wait for each other), ...
const QUEUE_PACKETS: f64 = 2.5;
/// ... and so many times what the path itself varies from frame to frame, ...
const QUEUE_JITTERS: f64 = 1.5;
/// ... but never more than this, means that more is sent than the path carries.
const QUEUE_MOST_US: f64 = 110_000.0;
/// Arrivals that are looked at: beyond 30 Mbit/s less than [`ACKED_US`] of them.
const ARRIVALS: usize = 1_024;
/// Packets this far apart at departure are of two frames.
const FRAME_APART_US: u64 = 8 * MS;
/// Frames that the path's variation is averaged over, and the most that one of them counts.
const JITTER_FRAMES: f64 = 32.0;
const JITTER_MOST_US: f64 = 60_000.0;
/// A single queue this far above it needs no second look.
const SUDDEN_US: f64 = 60_000.0;
/// Decreases are at least this far apart: the last one must show first.
const HOLD_US: u64 = 100 * MS;
const HOLD_MOST_US: u64 = 400 * MS;
/// Share of what arrives that is sent after a decrease, ...
const DECREASE: f64 = 0.88;
/// ... less by the queue's share of this, so that a longer queue drains in as much time, ...
const DRAIN_US: f64 = 350_000.0;
/// ... but not less than this.
const DECREASE_MOST: f64 = 0.4;
/// Growth stops at this many times what arrived lately, plus [`PROBE`].
const UNPROVEN: f64 = 2.2;
const PROBE: f64 = 200_000.0;
/// Growth a second: where nothing is known, by how long the path has been clean; ...
const GROWTH: [(u64, f64); 3] = [(400 * MS, 2.0), (700 * MS, 8.0), (u64::MAX, 20.0)];
/// ... where packets arrive much faster than the rate asks; ...
const GROWTH_FREE: f64 = 30.0;
/// ... and near what the path carries: a little of itself and a constant, which makes many senders' shares equal
/// (Chiu and Jain, 1989).
const GROWTH_NEAR: [(u64, f64); 3] = [(2_000 * MS, 1.06), (4_000 * MS, 1.25), (u64::MAX, 1.6)];
const GROWTH_STEP: f64 = 60_000.0;
/// Packets that arrive faster than the rate by this factor say that the path is free.
const FREE: f64 = 1.6;
/// Up to this share of their rate they say that there is room, for growth by this factor a second.
const ROOM: f64 = 0.75;
const GROWTH_ROOM: f64 = 3.0;
/// What the path carried at the last decrease is a warning for this long, within these shares of it.
const WARNING_US: u64 = 6_000 * MS;
const WARNED: (f64, f64) = (0.8, 1.4);
/// Beyond this variation of the path the spacing of packets means nothing.
const JITTERY_US: f64 = 12_000.0;
/// Without anything sent for this long an estimate is old: it starts again from what most links carry.
const STALE_US: u64 = 15_000 * MS;
/// Loss-based rate beside another sender: CUBIC's decrease and its curve back (RFC 9438 sections 4.2 and 4.6), with a
/// fixed time to the old rate instead of one that hangs on the window.
const RIVAL_DECREASE: f64 = 0.7;
const RIVAL_BACK_US: f64 = 5_000_000.0;
/// Where loss leaves less than this, the link is crowded by many like us rather than filled by one download.
const RIVAL_LEAST: f64 = 150_000.0;
/// Loss above the path's own that the other sender's full queue makes.
const RIVAL_LOSS: f64 = 0.01;

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at_us: u64,
    queue_us: u64,
    bytes: u32,
}

/// The estimate of one path.
#[derive(Debug)]
pub(super) struct Estimator {
    ceiling: f64,
    target: f64,
    delays: WindowMin,
    round_trips: WindowMin,
    round_trip_us: u64,
    arrivals: VecDeque<Arrival>,
    acked: f64,
    /// Best rates that arrived, in two halves of [`PROOF_US`].
    proof: [f64; 2],
    proof_since_us: u64,
    standing_us: u64,
    /// Mean change of the delay from one frame's first packet to the next one's: what the path itself varies.
    jitter_us: f64,
    /// The newest frame's first packet: when it left, and the queue that it saw.
    first_of_frame: Option<(u64, u64)>,
    loss: Loss,
    trains: Trains,
    rival: Rival,
    /// The rate before the last decrease beside another sender.
    rival_before: f64,
    /// Last decrease: when, and what arrived then.
    decreased: Option<(u64, f64)>,
    /// Since when nothing is wrong.
    stepped_us: Option<u64>,
    /// How many of the packets of a batch lay how far apart: the other end's reporting interval.
    spread_us: WindowMin,
}

// === impl Estimator ===

impl Estimator {
    pub(super) fn new(ceiling: u32) -> Self {
        let ceiling = f64::from(ceiling.max(FLOOR));
        Self {
            ceiling,
            target: f64::from(START).min(ceiling),
            delays: WindowMin::new(MEMORY_US),
            round_trips: WindowMin::new(MEMORY_US),
            round_trip_us: 0,
            arrivals: VecDeque::new(),
            acked: 0.0,
            proof: [0.0; 2],
            proof_since_us: 0,
            standing_us: 0,
            jitter_us: 0.0,
            first_of_frame: None,
            loss: Loss::default(),
            trains: Trains::default(),
            rival: Rival::default(),
            rival_before: 0.0,
            decreased: None,
            stepped_us: None,
            spread_us: WindowMin::new(2_000 * MS),
        }
    }

    pub(super) fn set_ceiling(&mut self, ceiling: u32) {
        self.ceiling = f64::from(ceiling.max(FLOOR));
        self.target = self.target.min(self.ceiling);
    }

    /// Bits a second that may be sent.
    pub(super) fn target(&self, now_us: u64) -> f64 {
        if self.rival.is_testing(now_us) { (self.target * 0.5).max(f64::from(FLOOR)) } else { self.target }
    }

    pub(super) const fn ceiling(&self) -> f64 {
        self.ceiling
    }

    pub(super) const fn acked(&self) -> f64 {
        self.acked
    }

    pub(super) const fn standing_us(&self) -> u64 {
        self.standing_us
    }

    pub(super) const fn round_trip_us(&self) -> u64 {
        self.round_trip_us
    }

    /// Least round trip of the last seconds; `None` before the first report.
    pub(super) fn least_round_trip_us(&self) -> Option<u64> {
        self.round_trips.least().map(|us| us.max(0) as u64)
    }

    /// How much later than needed a packet is reported because of the other end's interval.
    pub(super) fn report_interval_us(&self) -> u64 {
        // The window keeps minima; spreads are kept negated.
        self.spread_us.least().map_or(0, i64::unsigned_abs)
    }

    /// How much the path itself varies from frame to frame.
    pub(super) const fn jitter_us(&self) -> u64 {
        self.jitter_us as u64
    }

    pub(super) const fn rival(&self) -> bool {
        self.rival.is_present()
    }

    pub(super) fn loss(&self) -> Option<f64> {
        self.loss.share()
    }

    /// Nothing was sent for a while and now something is.
    pub(super) fn resumed(&mut self, idle_us: u64) {
        self.stepped_us = None;
        self.trains.clear();
        if idle_us >= STALE_US {
            self.target = self.target.clamp(f64::from(START) / 2.0, f64::from(START)).min(self.ceiling);
            (self.decreased, self.rival) = (None, Rival::default());
        }
    }

    /// One report of the other end, its packets in the order of departure. `held`: whether frames waited for the
    /// network since the last report.
    pub(super) fn report(&mut self, now_us: u64, packets: &[Report], held: bool) {
        let (mut latest, mut sudden_us) = (None, u64::MAX);
        let mut first_at = None;
        for packet in packets {
            match packet.fate {
                Fate::Arrived(at_us) => {
                    let delay = at_us as i64 - packet.departed_us as i64;
                    let queue_us = (delay - self.delays.add(now_us, delay)).max(0) as u64;
                    sudden_us = sudden_us.min(queue_us);
                    self.vary(packet.departed_us, queue_us);
                    self.arrivals.push_back(Arrival { at_us, queue_us, bytes: packet.bytes });
                    self.trains.add(packet.departed_us, at_us, packet.bytes);
                    self.loss.count(false);
                    first_at.get_or_insert(at_us);
                    latest = Some((packet.departed_us, at_us));
                }
                Fate::Lost => self.loss.count(true),
                Fate::Unknown => {}
            }
        }
        let Some((departed_us, at_us)) = latest else { return };
        self.loss.turn(now_us);
        self.round_trip_us = now_us.saturating_sub(departed_us);
        self.round_trips.add(now_us, self.round_trip_us as i64);
        let spread_us = at_us.saturating_sub(first_at.unwrap_or(at_us));
        self.spread_us.add(now_us, -(spread_us as i64));
        self.measure(now_us);
        if sudden_us == u64::MAX {
            sudden_us = 0;
        }
        self.step(now_us, sudden_us as f64, held);
    }

    fn vary(&mut self, departed_us: u64, queue_us: u64) {
        let (last_us, last_queue_us) = self.first_of_frame.unwrap_or((departed_us, queue_us));
        if departed_us.saturating_sub(last_us) >= FRAME_APART_US {
            let change = queue_us.abs_diff(last_queue_us) as f64;
            self.jitter_us += (change.min(JITTER_MOST_US) - self.jitter_us) / JITTER_FRAMES;
        }
        if departed_us.saturating_sub(last_us) >= FRAME_APART_US || self.first_of_frame.is_none() {
            self.first_of_frame = Some((departed_us, queue_us));
        }
    }

    /// What arrives, and the queue that even the quickest saw.
    fn measure(&mut self, now_us: u64) {
        let end_us = self.arrivals.iter().rev().take(8).map(|arrival| arrival.at_us).max().unwrap_or(0);
        while self.arrivals.len() > ARRIVALS
            // Later than the newest ones: the other end's clock jumped back.
            || self.arrivals.front().is_some_and(|arrival| arrival.at_us.abs_diff(end_us) > ACKED_US)
        {
            self.arrivals.pop_front();
        }
        let first_us = self.arrivals.front().map_or(end_us, |arrival| arrival.at_us);
        let bytes: u64 = self.arrivals.iter().map(|arrival| u64::from(arrival.bytes)).sum();
        self.acked = bytes as f64 * 8e6 / end_us.saturating_sub(first_us).max(100 * MS) as f64;
        if now_us.saturating_sub(self.proof_since_us) >= PROOF_US / 2 {
            (self.proof, self.proof_since_us) = ([self.acked, self.proof[0]], now_us);
        } else {
            self.proof[0] = self.proof[0].max(self.acked);
        }
        let standing = self
            .arrivals
            .iter()
            .rev()
            .enumerate()
            .take_while(|(i, arrival)| {
                let age_us = end_us.saturating_sub(arrival.at_us);
                age_us <= STANDING_US || (*i < STANDING_PACKETS && age_us <= STANDING_MOST_US)
            })
            .map(|(_, arrival)| arrival.queue_us)
            .min();
        self.standing_us = standing.unwrap_or(0);
    }

    /// Standing queue above which too much is sent.
    fn limit_us(&self) -> f64 {
        let packet_us = PACKET_BYTES * 8e6 / self.acked.max(100_000.0);
        (QUEUE_US + QUEUE_PACKETS * packet_us + QUEUE_JITTERS * self.jitter_us).min(QUEUE_MOST_US)
    }

    fn step(&mut self, now_us: u64, sudden_us: f64, held: bool) {
        let elapsed_us = now_us.saturating_sub(self.stepped_us.replace(now_us).unwrap_or(now_us)).min(200 * MS);
        let seconds = elapsed_us as f64 / 1e6;
        let (standing, limit) = (self.standing_us as f64, self.limit_us());
        let (is_long, is_empty) = (standing > limit, standing < limit / 2.0);
        let hold_us = self.round_trip_us.clamp(HOLD_US, HOLD_MOST_US);
        let mut since_us = self.decreased.map_or(u64::MAX, |(at, _)| now_us.saturating_sub(at));
        let floor = f64::from(FLOOR);
        match self.rival.look(now_us, self.standing_us, (is_long, is_empty), self.target, self.round_trip_us) {
            Verdict::Appeared(before) => {
                self.rival_before = before;
                self.target = self.target.max(before * RIVAL_DECREASE).min(self.ceiling);
                (self.decreased, since_us) = (Some((now_us, self.acked)), 0);
            }
            Verdict::Gone => self.decreased = Some((now_us, self.acked)),
            Verdict::Same => {}
        }
        if self.rival.is_present() {
            self.delays.hold(elapsed_us);
            self.step_beside_rival(now_us, since_us);
            return;
        }
        let sudden = sudden_us > limit + SUDDEN_US;
        let lossy = self.loss.is_excessive();
        if is_long || sudden || lossy {
            if since_us < hold_us {
                return;
            }
            // Not much was sent: what arrives says nothing about what could.
            let idle = !held && self.acked < self.target * 0.5;
            let queue_us = if sudden { sudden_us.max(standing) } else { standing };
            let lower = if is_long || sudden {
                self.acked * (DECREASE - (queue_us - limit).max(0.0) / DRAIN_US).clamp(DECREASE_MOST, DECREASE)
            } else {
                self.target * (1.0 - self.loss.share().unwrap_or(0.0)).max(DECREASE_MOST)
            };
            let lower = if idle { lower.max(self.target * 0.7) } else { lower };
            self.target = lower.min(self.target * 0.97).max(floor);
            self.decreased = Some((now_us, self.acked));
            self.loss.restart(now_us);
            self.trains.clear();
        } else if is_empty && since_us > hold_us * 2 {
            self.grow(now_us, seconds, since_us);
        }
    }

    fn grow(&mut self, now_us: u64, seconds: f64, since_us: u64) {
        let proven = self.proof[0].max(self.proof[1]);
        let most = (proven * UNPROVEN + PROBE).min(self.ceiling);
        if self.target >= most {
            return;
        }
        let free = self.trains.rate();
        let warned = self.decreased.is_some_and(|(at, rate)| {
            now_us.saturating_sub(at) < WARNING_US && (rate * WARNED.0..rate * WARNED.1).contains(&self.target)
        });
        let (_, factor) = GROWTH_NEAR.iter().find(|(until, _)| since_us <= *until).unwrap_or(&GROWTH_NEAR[2]);
        let near = |target: f64| target * factor.powf(seconds) + GROWTH_STEP * seconds;
        // Where the path itself varies by more than a frame takes, the spacing of packets says nothing.
        let free = free.filter(|_| self.jitter_us < JITTERY_US);
        let grown = match free {
            Some(rate) if rate > self.target * FREE => self.target * GROWTH_FREE.powf(seconds),
            Some(rate) if rate * ROOM > self.target => self.target * GROWTH_ROOM.powf(seconds),
            Some(_) => near(self.target),
            None if warned => near(self.target),
            None => {
                let (_, factor) = GROWTH.iter().find(|(until, _)| since_us <= *until).unwrap_or(&GROWTH[2]);
                self.target * factor.powf(seconds)
            }
        };
        self.target = grown.min(most);
    }

    /// As TCP does it: less after loss, then back along a cubic.
    fn step_beside_rival(&mut self, now_us: u64, since_us: u64) {
        let round_trip_us = self.round_trip_us.max(HOLD_US);
        if since_us <= round_trip_us {
            // What is reported lost now was sent before the decrease.
            self.loss.restart(now_us);
        } else if self.loss.exceeds(RIVAL_LOSS) && self.rival.is_full(self.standing_us) {
            self.rival.overflowed(now_us, self.round_trip_us);
            self.rival_before = self.target;
            self.target = (self.target * RIVAL_DECREASE).max(f64::from(FLOOR));
            self.decreased = Some((now_us, self.acked));
            if self.target < RIVAL_LEAST {
                self.rival.give_up(now_us);
            }
            return;
        }
        if self.rival.is_testing(now_us) {
            return;
        }
        let time = since_us as f64 / RIVAL_BACK_US - 1.0;
        let curve = self.rival_before * (1.0 + (1.0 - RIVAL_DECREASE) * time.powi(3));
        let proven = self.proof[0].max(self.proof[1]);
        let most = (proven * UNPROVEN + PROBE).min(self.ceiling);
        self.target = self.target.max(curve.min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_does_not_make_it_keep_everything() {
        let mut estimator = Estimator::new(2_000_000);
        let hour_us = 3_600_000 * MS;
        for i in 0..20_000u64 {
            let (at_us, jump_us) = (hour_us + i * 10 * MS, if i < 100 { hour_us } else { 0 });
            let fate = Fate::Arrived(at_us - hour_us + jump_us + 5 * MS);
            let report = Report { number: i as u16, departed_us: at_us, bytes: 1_200, fate };
            estimator.report(at_us + 10 * MS, &[report], false);
        }
        let (kept, acked) = (estimator.arrivals.len(), estimator.acked());
        assert!(kept <= 32 && (900_000.0..1_100_000.0).contains(&acked), "{kept} are kept, {acked} bit/s");
    }
}
