//! One stream: a guest's picture, an encoder's model, the real controller and gate, a receiver that reports and repairs.

use super::Rng;
use super::link::{Parcel, Who};
use crate::rate::plan::{Plan, Settings, key_spacing_us};
use crate::rate::{Fate, Flow, Gate, Report};
use loco_model::Size;
use std::collections::{BTreeMap, BTreeSet};

const PAYLOAD: u32 = 1_180;
const HEADER: u32 = 28;
/// The least that the encoder makes of a busy picture, whatever its rate.
const LEAST_FRAME: f64 = 900.0;
/// A key frame's share of a second at the rate.
const RESEND_SHARE: f64 = 0.5;
/// The least that a key frame of the whole picture takes.
const LEAST_KEY: f64 = 6_000.0;
const KEY_SECONDS: f64 = 0.12;

/// What the guest shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content {
    /// Fills whatever rate there is.
    Busy,
    /// A small thing moves: so many bytes a frame.
    Small(f64),
    /// Nothing moves.
    Still,
}

#[derive(Clone, Copy)]
struct Packet {
    frame: u64,
    bytes: u32,
}

struct FrameState {
    missing: u32,
    is_key: bool,
}

pub(super) struct Stream {
    pub(super) index: usize,
    pub(super) flow: Flow,
    plan: Plan,
    pub(super) ceiling: u32,
    /// From this time (ms) on.
    pub(super) content: Vec<(u64, Content)>,
    pub(super) starts_us: u64,
    // sender
    number: u16,
    history: BTreeMap<u64, (u16, u64, u32)>,
    next_id: u64,
    reported_to: u64,
    packets: BTreeMap<u64, Packet>,
    next_rtp: u64,
    next_frame: u64,
    pending: bool,
    frame_us: Option<u64>,
    next_slot_us: u64,
    smoothed: f64,
    key_wanted: bool,
    next_key_us: u64,
    resends: (u64, f64),
    // receiver
    arrived: Vec<(u64, u64)>,
    pub(super) report_due: Option<u64>,
    last_report_us: u64,
    expected: u64,
    wanted: BTreeMap<u64, (u64, u32)>,
    got: BTreeSet<u64>,
    frames: BTreeMap<u64, FrameState>,
    shown: u64,
    stuck_since: Option<u64>,
    clock_us: u64,
    // figures
    pub(super) pictures_us: Vec<u64>,
    pub(super) encoded: u64,
    pub(super) received: Vec<(u64, u32)>,
    pub(super) targets: Vec<(u64, u32, u64)>,
    pub(super) keys: u64,
}

/// What the receiver says, on its way back.
pub(super) struct Feedback {
    /// Transmission ids up to and including this one are covered, ...
    from: u64,
    arrived: Vec<(u64, u64)>,
}

impl Stream {
    pub(super) fn new(index: usize, ceiling: u32, content: &[(u64, Content)], starts_ms: u64) -> Self {
        Self {
            index,
            flow: Flow::new(ceiling),
            plan: Plan::default(),
            ceiling,
            content: content.to_vec(),
            starts_us: starts_ms * 1_000,
            number: 65_000,
            history: BTreeMap::new(),
            next_id: 0,
            reported_to: 0,
            packets: BTreeMap::new(),
            next_rtp: 0,
            next_frame: 0,
            pending: false,
            frame_us: None,
            next_slot_us: 0,
            smoothed: 0.0,
            key_wanted: true,
            next_key_us: 0,
            resends: (0, 48_000.0),
            arrived: Vec::new(),
            report_due: None,
            last_report_us: 0,
            expected: 0,
            wanted: BTreeMap::new(),
            got: BTreeSet::new(),
            frames: BTreeMap::new(),
            shown: 0,
            stuck_since: None,
            clock_us: 77_000_000 * index as u64,
            pictures_us: Vec::new(),
            encoded: 0,
            received: Vec::new(),
            targets: Vec::new(),
            keys: 0,
        }
    }

    fn content(&self, now_us: u64) -> Content {
        let step = self.content.iter().rev().find(|(from_ms, _)| from_ms * 1_000 <= now_us);
        step.map_or(Content::Still, |(_, content)| *content)
    }

    /// The guest's display refreshes.
    pub(super) fn tick(&mut self, now_us: u64) {
        self.pending |= self.content(now_us) != Content::Still || self.key_wanted;
        self.targets.push((now_us, self.flow.target(now_us), self.flow.state(now_us).queue_us.unwrap_or(0)));
    }

    /// Encodes if something is pending and may be; what leaves, or when to try again.
    pub(super) fn try_frame(&mut self, now_us: u64, rng: &mut Rng) -> Result<Vec<Parcel>, Option<u64>> {
        if !self.pending || now_us < self.starts_us {
            return Err(None);
        }
        if now_us < self.next_slot_us {
            return Err(Some(self.next_slot_us));
        }
        if let Gate::ClosedUntil(at_us) = self.flow.gate(now_us, self.frame_us) {
            return Err(Some(at_us));
        }
        let settings = Settings { ceiling: self.ceiling, max_fps: 60, size: Size::new(640, 480) };
        let decision = self.plan.decide(Some(self.flow.target(now_us)), settings);
        self.pending = false;
        self.frame_us = Some(now_us);
        self.next_slot_us = now_us + 900_000 / u64::from(decision.max_fps);
        let rate = f64::from(decision.bit_rate);
        // x264: a lower rate holds from the next frame on, a higher one takes some frames.
        self.smoothed = if rate < self.smoothed { rate } else { self.smoothed + (rate - self.smoothed) * 0.35 };
        let per_frame = self.smoothed / 8.0 / f64::from(decision.max_fps.min(30));
        let least = LEAST_FRAME / if decision.halved { 4.0 } else { 1.0 };
        let is_key = self.key_wanted && now_us >= self.next_key_us;
        self.key_wanted &= !is_key;
        let bytes = match self.content(now_us) {
            _ if is_key => {
                self.keys += 1;
                let bytes =
                    (self.smoothed / 8.0 * KEY_SECONDS).max(LEAST_KEY / if decision.halved { 3.0 } else { 1.0 });
                self.next_key_us = now_us + key_spacing_us(bytes as usize, decision.bit_rate);
                bytes
            }
            Content::Busy => (per_frame * (0.7 + 0.6 * rng.unit())).max(least),
            Content::Small(bytes) => bytes.min(per_frame.max(least)),
            Content::Still => 300.0,
        };
        Ok(self.packetize(now_us, bytes as u32, is_key))
    }

    fn packetize(&mut self, now_us: u64, bytes: u32, is_key: bool) -> Vec<Parcel> {
        let frame = self.next_frame;
        self.next_frame += 1;
        self.encoded += 1;
        let count = bytes.div_ceil(PAYLOAD).max(1);
        self.frames.insert(frame, FrameState { missing: count, is_key });
        (0..count)
            .map(|i| {
                let part = if i + 1 == count { bytes - (count - 1) * PAYLOAD } else { PAYLOAD };
                let rtp = self.next_rtp;
                self.next_rtp += 1;
                self.packets.insert(rtp, Packet { frame, bytes: part + HEADER });
                self.transmit(now_us, rtp)
            })
            .collect()
    }

    fn transmit(&mut self, now_us: u64, rtp: u64) -> Parcel {
        let bytes = self.packets[&rtp].bytes;
        let (id, number) = (self.next_id, self.number);
        self.next_id += 1;
        self.number = self.number.wrapping_add(1);
        self.history.insert(id, (number, now_us, bytes));
        self.flow.sent(now_us, number, bytes);
        // The transmission's id travels in place of the 16-bit number, which the receiver would unwrap.
        Parcel { who: Who::Media(self.index, id << 32 | rtp), bytes }
    }

    /// A resend was asked for.
    pub(super) fn resend(&mut self, now_us: u64, rtp: u64) -> Option<Parcel> {
        // Repair bounds itself to a share of the rate, with something to begin with.
        let (since_us, budget) = self.resends;
        let earned = (now_us - since_us) as f64 * f64::from(self.flow.target(now_us)) * RESEND_SHARE / 8e6;
        let bytes = f64::from(self.packets.get(&rtp)?.bytes);
        let budget = (budget + earned).min(48_000.0) - bytes;
        self.resends = (now_us, budget.max(budget + bytes * f64::from(u8::from(budget < 0.0))));
        (budget >= 0.0).then(|| self.transmit(now_us, rtp))
    }

    pub(super) fn want_key(&mut self) {
        self.key_wanted = true;
        self.pending = true;
    }

    /// A packet arrives; which RTP numbers to ask for.
    pub(super) fn arrive(&mut self, now_us: u64, tag: u64) -> Vec<u64> {
        let (id, rtp) = (tag >> 32, tag & 0xffff_ffff);
        self.arrived.push((id, now_us + self.clock_us));
        if self.report_due.is_none() {
            self.report_due = Some(now_us.max(self.last_report_us + 10_000));
        }
        let bytes = self.packets[&rtp].bytes;
        self.received.push((now_us, bytes));
        self.wanted.remove(&rtp);
        if self.got.insert(rtp) {
            let frame = self.packets[&rtp].frame;
            if let Some(state) = self.frames.get_mut(&frame) {
                state.missing -= 1;
            }
        }
        let mut ask = Vec::new();
        for missing in self.expected..rtp {
            self.wanted.insert(missing, (now_us, 0));
            ask.push(missing);
        }
        self.expected = self.expected.max(rtp + 1);
        self.show(now_us);
        ask
    }

    /// Missing packets that are still wanted after a while.
    pub(super) fn ask_again(&mut self, now_us: u64, after_us: u64) -> Vec<u64> {
        let mut ask = Vec::new();
        self.wanted.retain(|rtp, (at, tries)| {
            if now_us >= *at + after_us {
                (*at, *tries) = (now_us, *tries + 1);
                ask.push(*rtp);
            }
            *tries < 6
        });
        ask
    }

    fn show(&mut self, now_us: u64) {
        while let Some(state) = self.frames.get(&self.shown) {
            if state.missing == 0 {
                self.frames.remove(&self.shown);
                self.shown += 1;
                self.stuck_since = None;
                self.pictures_us.push(now_us);
                continue;
            }
            // A newer whole key frame makes the older ones needless.
            let key = self.frames.iter().find(|(_, state)| state.is_key && state.missing == 0).map(|(frame, _)| *frame);
            let Some(key) = key else { break };
            self.frames.retain(|frame, _| *frame >= key);
            self.shown = key;
        }
        let waiting = self.frames.contains_key(&self.shown) && self.frames.values().any(|state| state.missing == 0);
        if waiting {
            self.stuck_since.get_or_insert(now_us);
        } else {
            self.stuck_since = None;
        }
    }

    /// Whether a gap has waited too long.
    pub(super) fn needs_key(&mut self, now_us: u64) -> bool {
        let due = self.stuck_since.is_some_and(|since| now_us > since + 400_000);
        if due {
            self.stuck_since = Some(now_us);
        }
        due
    }

    pub(super) fn feedback(&mut self, now_us: u64) -> Feedback {
        self.report_due = None;
        self.last_report_us = now_us;
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_unstable();
        Feedback { from: arrived.first().map_or(0, |(id, _)| *id), arrived }
    }

    /// Feedback arrives at the sender.
    pub(super) fn heard(&mut self, now_us: u64, feedback: &Feedback, gap_known_from: u64) {
        let Some((highest, _)) = feedback.arrived.last().copied() else { return };
        if highest < self.reported_to {
            return;
        }
        let mut reports = Vec::new();
        for id in self.reported_to..=highest {
            let Some((number, departed_us, bytes)) = self.history.remove(&id) else { continue };
            let fate = match feedback.arrived.binary_search_by_key(&id, |(arrived, _)| *arrived) {
                Ok(i) => Fate::Arrived(feedback.arrived[i].1),
                Err(_) if id < gap_known_from => Fate::Unknown,
                Err(_) => Fate::Lost,
            };
            reports.push(Report { number, departed_us, bytes, fate });
        }
        self.reported_to = highest + 1;
        self.flow.reported(now_us, &reports);
    }
}

impl Feedback {
    /// First transmission that this report speaks of, given where the receiver's last one ended.
    pub(super) fn known_from(&self, last_end: u64) -> u64 {
        self.from.min(last_end)
    }

    pub(super) fn end(&self) -> u64 {
        self.arrived.last().map_or(0, |(id, _)| id + 1)
    }
}
