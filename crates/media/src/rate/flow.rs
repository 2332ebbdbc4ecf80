//! One session's sending: what is on its way, what the path carries, and whether there is room for a frame.

use super::classic::Classic;
use super::estimator::Estimator;
use super::{MS, Report};
use std::collections::VecDeque;

/// What may be on its way beyond what the least round trip needs, as time at the rate.
const SLACK_US: u64 = 15 * MS;
/// The other end's reporting interval that is part of that.
const INTERVAL_US: u64 = 10 * MS;
/// What the path itself varies from frame to frame counts so many times.
const JITTERS: u64 = 2;
/// This may always be on its way, in bytes: a frame of a still picture passes any gate.
const ALWAYS: u64 = 4_000;
/// However full the path is, a frame is made this often.
const FRAME_US: u64 = 300 * MS;
/// Packets whose fate is waited for.
const WAITING: usize = 8_192;
/// Packets are lost when nothing was heard for this long.
const FORGOTTEN_US: u64 = 4_000 * MS;
/// Nothing sent for this long: the next packet begins anew.
const IDLE_US: u64 = 1_000 * MS;
/// A session without a single report by then has an other end that does not report.
const UNREPORTED_US: u64 = 3_000 * MS;

/// A round trip that lets a resend come too late not to be seen: longer than two frames.
const LONG_US: u64 = 60 * MS;
/// The share of the ceiling that is as good as all of it.
const FULL: f64 = 0.9;

/// Whether a frame may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Now.
    Open,
    /// When a report makes room, or at this time.
    ClosedUntil(u64),
}

/// A flow at a moment, for statistics and for the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// Bits a second that may be sent.
    pub(crate) target: u32,
    /// Bits a second that the other end received lately; `None` before the first report.
    pub(crate) received: Option<u32>,
    /// Queue on the way; `None` before the first report.
    pub(crate) queue_us: Option<u64>,
    /// Time from sending to the report of it; `None` before the first report.
    pub(crate) round_trip_us: Option<u64>,
    /// Bytes sent and not reported yet.
    pub(crate) in_flight: u64,
    /// Share of packets lost lately.
    pub(crate) loss: Option<f32>,
    /// Whether somebody else keeps the queue full.
    pub(crate) rival: bool,
}

/// One session's sending.
#[derive(Debug)]
pub(crate) struct Flow {
    estimator: Estimator,
    waiting: VecDeque<(u16, u32)>,
    in_flight: u64,
    first_sent_us: Option<u64>,
    sent_us: Option<u64>,
    reported_us: Option<u64>,
    /// For an other end that sends receiver reports only.
    classic: Option<Classic>,
    /// Whether a frame had to wait since the last report.
    held: bool,
}

// === impl Flow ===

impl Flow {
    /// A flow of at most `ceiling` bits a second.
    pub(crate) fn new(ceiling: u32) -> Self {
        Self {
            estimator: Estimator::new(ceiling),
            waiting: VecDeque::new(),
            in_flight: 0,
            first_sent_us: None,
            sent_us: None,
            reported_us: None,
            classic: None,
            held: false,
        }
    }

    /// Bits a second at most, from now on.
    pub(crate) fn set_ceiling(&mut self, ceiling: u32) {
        self.estimator.set_ceiling(ceiling);
    }

    /// A packet leaves.
    pub(crate) fn sent(&mut self, now_us: u64, number: u16, bytes: u32) {
        if let Some(idle_us) = self.sent_us.map(|at| now_us.saturating_sub(at)).filter(|idle| *idle >= IDLE_US) {
            self.estimator.resumed(idle_us);
        }
        self.first_sent_us.get_or_insert(now_us);
        self.sent_us = Some(now_us);
        if self.waiting.len() == WAITING {
            self.settle_first();
        }
        self.waiting.push_back((number, bytes));
        self.in_flight += u64::from(bytes);
    }

    fn settle_first(&mut self) {
        if let Some((_, bytes)) = self.waiting.pop_front() {
            self.in_flight -= u64::from(bytes);
        }
    }

    /// The other end reported these packets, in the order of departure.
    pub(crate) fn reported(&mut self, now_us: u64, packets: &[Report]) {
        let Some(last) = packets.last() else { return };
        // Reports come up to the newest that arrived: whatever left before it is not on its way any more.
        while self.waiting.front().is_some_and(|(number, _)| last.number.wrapping_sub(*number) < 1 << 15) {
            self.settle_first();
        }
        self.reported_us = Some(now_us);
        self.estimator.report(now_us, packets, std::mem::take(&mut self.held));
    }

    /// The other end says in a receiver report that this share of the packets since its last one was lost. It counts
    /// only where nothing better is reported.
    pub(crate) fn receiver_report(&mut self, lost: f64) {
        if self.reported_us.is_none() {
            let ceiling = self.estimator.ceiling();
            self.classic.get_or_insert_with(|| Classic::new(ceiling)).report(lost, ceiling);
        }
    }

    /// The rate by receiver reports, where these are all that there is.
    fn classic(&self) -> Option<&Classic> {
        self.classic.as_ref().filter(|_| self.reported_us.is_none())
    }

    /// Whether the other end reports at all; until that is known, it is taken to.
    pub(crate) fn is_reported(&self, now_us: u64) -> bool {
        self.reported_us.is_some() || self.first_sent_us.is_none_or(|at| now_us.saturating_sub(at) < UNREPORTED_US)
    }

    /// Bits a second that may be sent.
    pub(crate) fn target(&self, now_us: u64) -> u32 {
        if let Some(classic) = self.classic() {
            return classic.target().min(self.estimator.ceiling()) as u32;
        }
        if self.is_reported(now_us) { self.estimator.target(now_us) as u32 } else { self.estimator.ceiling() as u32 }
    }

    /// Whether the path is long, so that what is lost is missed before it can come again, and carries all that may be sent.
    pub(crate) fn is_long_with_room(&self, now_us: u64) -> bool {
        self.is_reported(now_us)
            && self.estimator.round_trip_us() >= LONG_US
            && f64::from(self.target(now_us)) >= FULL * self.estimator.ceiling()
    }

    /// Whether a frame may be made `now`; `frame_us`: when the last one was.
    pub(crate) fn gate(&mut self, now_us: u64, frame_us: Option<u64>) -> Gate {
        if !self.is_reported(now_us) || self.classic().is_some() {
            return Gate::Open;
        }
        if self.sent_us.is_some_and(|at| now_us.saturating_sub(at) >= FORGOTTEN_US) {
            self.waiting.clear();
            self.in_flight = 0;
        }
        if self.in_flight <= self.allowed(now_us) {
            return Gate::Open;
        }
        self.held = true;
        match frame_us {
            Some(at) if now_us < at + FRAME_US => Gate::ClosedUntil(at + FRAME_US),
            _ => Gate::Open,
        }
    }

    /// Bytes that may be on their way.
    fn allowed(&self, now_us: u64) -> u64 {
        let estimator = &self.estimator;
        // Before the first report the way may be long; a gate of some round trips bounds the first frames all the same.
        let needed_us = match estimator.least_round_trip_us() {
            None => 200 * MS,
            // Beside another sender's queue the way is as long as that.
            Some(least_us) if estimator.rival() => least_us.max(estimator.round_trip_us()),
            Some(least_us) => least_us,
        };
        let interval_us = estimator.report_interval_us().saturating_sub(INTERVAL_US);
        let time_us = needed_us + SLACK_US + interval_us + estimator.jitter_us() * JITTERS;
        ((estimator.target(now_us) * time_us as f64 / 8e6) as u64).max(ALWAYS)
    }

    /// How it is now.
    pub(crate) fn state(&self, now_us: u64) -> State {
        let estimator = &self.estimator;
        let known = self.reported_us.is_some();
        State {
            target: self.target(now_us),
            received: known.then(|| estimator.acked() as u32),
            queue_us: known.then(|| estimator.standing_us()),
            round_trip_us: known.then(|| estimator.round_trip_us()),
            in_flight: self.in_flight,
            loss: self
                .classic()
                .map_or_else(|| estimator.loss(), |classic| Some(classic.loss()))
                .map(|share| share as f32),
            rival: estimator.rival(),
        }
    }
}
