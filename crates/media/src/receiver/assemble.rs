//! RTP packets to whole H.264 frames (RFC 6184).
//!
//! An intact stream is never delayed: a frame leaves with its last packet. A gap waits for its repair until the
//! deadline, or until a whole key frame behind it makes it unimportant; then everything up to the next key frame is
//! dropped, and one is needed. Each frame's fate is told.

use crate::transport::{InboundRtp, Repair};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A gap waits this long for its repair, and a frame without one for its next packet.
pub(super) const DEADLINE: Duration = Duration::from_millis(400);
/// Packets kept at most: seconds of any rate that we send.
const MAX_PACKETS: usize = 4096;
/// A jump in the sequence larger than this is a new stream, not a loss.
const MAX_JUMP: u64 = 3_000;

// NAL unit types (RFC 6184 section 5.2, H.264 table 7-1).
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

struct Stored {
    payload: Bytes,
    timestamp: u32,
    marker: bool,
    arrival: Instant,
    repair: Option<Repair>,
}

/// How a frame became whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All its packets came.
    Intact,
    /// Some were rebuilt from parity, none was sent again.
    Rebuilt,
    /// Some were sent again.
    Resent,
}

/// A whole frame in the byte-stream format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assembled {
    pub(super) bytes: Vec<u8>,
    pub(super) timestamp: u32,
    pub(super) first_packet: Instant,
    pub(super) complete: Instant,
    pub(super) fate: Fate,
    /// What the repair cost: from the last packet that needed none, or from what showed the loss.
    pub(super) waited: Duration,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Different packets that arrived.
    pub(super) received: u64,
    /// Packets that should have come by now: from the first to the newest number.
    pub(super) expected: u64,
    /// Frames given up.
    pub(super) dropped: u64,
    /// Frames passed over because a whole key frame came behind a gap, or because one is needed.
    pub(super) skipped: u64,
    /// Frames that were sent: their last packet arrived, or they were given up.
    pub(super) seen: u64,
}

/// What the frame in front waits for.
#[derive(Clone, Copy)]
struct Wait {
    /// A packet in front of others; else the rest of a frame, which may take long on a slow path.
    for_gap: bool,
    /// Since when the gap is seen, or when the last packet came.
    since: Instant,
}

/// Puts frames together.
pub(super) struct Assembler {
    packets: BTreeMap<u64, Stored>,
    /// First packet of the next frame.
    next: Option<u64>,
    newest: Option<u64>,
    /// When a packet last came that may be of use.
    last_arrival: Option<Instant>,
    /// `None`: nothing is there that waits.
    wait: Option<Wait>,
    needs_key: bool,
    counts: Counts,
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            next: None,
            newest: None,
            last_arrival: None,
            wait: None,
            needs_key: true,
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether nothing can be shown before a key frame comes.
    pub(super) const fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// The decoder lost its state: everything up to the next key frame is useless.
    pub(super) fn restart(&mut self) {
        self.needs_key = true;
        self.wait = None;
    }

    /// When [`Assembler::pop`] must be called again even if no packet comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wait.map(|wait| wait.since + DEADLINE)
    }

    /// Takes a packet.
    pub(super) fn push(&mut self, packet: InboundRtp, arrival: Instant) {
        let number = match self.newest {
            None => u64::from(packet.sequence) + (1 << 16),
            Some(newest) => {
                let step = packet.sequence.wrapping_sub(newest as u16) as i16;
                newest.saturating_add_signed(i64::from(step))
            }
        };
        match self.newest {
            Some(newest) if number > newest => {
                if number - newest > MAX_JUMP {
                    self.packets.clear();
                    self.restart();
                    self.next = None;
                    self.counts.expected += 1;
                } else {
                    self.counts.expected += number - newest;
                }
                self.newest = Some(number);
            }
            Some(_) => {}
            None => {
                self.newest = Some(number);
                self.counts.expected += 1;
            }
        }
        if self.next.is_some_and(|next| number < next) || self.packets.contains_key(&number) {
            return;
        }
        self.last_arrival = Some(arrival);
        self.counts.received += 1;
        self.counts.seen += u64::from(packet.marker);
        if self.packets.len() >= MAX_PACKETS {
            self.packets.clear();
            self.restart();
        }
        let InboundRtp { payload, timestamp, marker, repair, .. } = packet;
        let stored = Stored { payload, timestamp, marker, arrival, repair };
        self.packets.insert(number, stored);
    }

    /// The next frame that is whole; `None` when there is none now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Assembled> {
        loop {
            if self.needs_key && !self.find_key(now) {
                return None;
            }
            let next = self.next?;
            let missing = match self.end_of_frame(next) {
                Err(missing) => missing,
                Ok(end) => {
                    let frame = self.take(next, end);
                    (self.next, self.wait) = (Some(end), None);
                    if frame.is_some() {
                        return frame;
                    }
                    // Whole, but not readable: as good as lost.
                    self.counts.dropped += 1;
                    self.restart();
                    continue;
                }
            };
            let Some((&last, _)) = self.packets.last_key_value() else {
                self.wait = None;
                return None;
            };
            let since = self.waits_since(missing < last, now);
            if self.skip_to_key(next) {
                continue;
            }
            if now < since + DEADLINE {
                return None;
            }
            self.give_up(next);
        }
    }

    /// Since when the frame in front waits, with or without a gap in front of what came.
    fn waits_since(&mut self, for_gap: bool, now: Instant) -> Instant {
        let wait = match self.wait {
            Some(wait) if wait.for_gap && for_gap => wait,
            _ if for_gap => Wait { for_gap, since: now },
            _ => Wait { for_gap, since: self.last_arrival.unwrap_or(now) },
        };
        self.wait = Some(wait);
        wait.since
    }

    /// Nobody waits any more for the frame that begins at `next`.
    fn give_up(&mut self, next: u64) {
        self.restart();
        self.counts.dropped += 1;
        let front = self.packets.first_key_value();
        let is_start = front.is_some_and(|(number, stored)| *number > next && starts_key_frame(&stored.payload));
        // Its last packet is among those that never came, or it was counted with it.
        self.counts.seen += u64::from(is_start || !self.front_has_end());
        if !is_start {
            // What is left of the frame in front may not be taken for a new start.
            let timestamp = self.packets.first_key_value().map(|(_, stored)| stored.timestamp);
            self.packets.retain(|_, stored| Some(stored.timestamp) != timestamp);
        }
    }

    /// Goes to the first key frame that is there, dropping what is before it. What may be the rest of a key frame whose
    /// beginning is still to be repaired stays until the deadline.
    fn find_key(&mut self, now: Instant) -> bool {
        let Some(start) = self.packets.iter().find(|(_, p)| starts_key_frame(&p.payload)).map(|(n, _)| *n) else {
            while let Some((_, oldest)) = self.packets.first_key_value()
                && oldest.arrival + DEADLINE <= now
            {
                self.counts.skipped += u64::from(oldest.marker);
                self.packets.pop_first();
            }
            return false;
        };
        self.start_at(start);
        true
    }

    /// Goes on with a key frame behind the gap, if a whole one is there: nothing before it is worth waiting for.
    fn skip_to_key(&mut self, next: u64) -> bool {
        let starts = |(number, stored): (&u64, &Stored)| {
            (*number > next && starts_key_frame(&stored.payload)).then_some(*number)
        };
        let whole = self.packets.iter().filter_map(starts).find(|start| self.end_of_frame(*start).is_ok());
        // A key frame's later slices begin one too; only its first packet comes after another frame's last.
        let Some(start) = whole else { return false };
        let timestamp = self.packets.get(&start).map(|stored| stored.timestamp);
        let is_first = self.packets.range(..start).next_back().is_none_or(|(_, p)| Some(p.timestamp) != timestamp);
        if is_first {
            self.start_at(start);
        }
        is_first
    }

    fn start_at(&mut self, start: u64) {
        let key = self.packets.split_off(&start);
        let before = std::mem::replace(&mut self.packets, key);
        let mut last = None;
        for stored in before.values().filter(|stored| last.replace(stored.timestamp) != Some(stored.timestamp)) {
            self.counts.skipped += 1;
            // Its last packet was counted when it came; without it, the frame is counted now.
            let ended = before.values().any(|other| other.timestamp == stored.timestamp && other.marker);
            self.counts.seen += u64::from(!ended);
        }
        (self.next, self.needs_key, self.wait) = (Some(start), false, None);
    }

    /// One past the last packet of the frame that begins at `next`, if all of it is there; else the first packet that is
    /// not.
    fn end_of_frame(&self, next: u64) -> Result<u64, u64> {
        let mut number = next;
        for (found, stored) in self.packets.range(next..) {
            if *found != number {
                break;
            }
            number += 1;
            if stored.marker {
                return Ok(number);
            }
        }
        Err(number)
    }

    /// Whether the last packet of the frame in front is there.
    fn front_has_end(&self) -> bool {
        let front = self.packets.first_key_value().map(|(_, stored)| stored.timestamp);
        self.packets.values().take_while(|stored| Some(stored.timestamp) == front).any(|stored| stored.marker)
    }

    fn take(&mut self, next: u64, end: u64) -> Option<Assembled> {
        let rest = self.packets.split_off(&end);
        let frame = std::mem::replace(&mut self.packets, rest);
        let first = frame.get(&next)?;
        let complete = frame.values().map(|stored| stored.arrival).max()?;
        let fate = match frame.values().filter_map(|stored| stored.repair).max_by_key(|r| *r == Repair::Resent) {
            None => Fate::Intact,
            Some(Repair::Rebuilt) => Fate::Rebuilt,
            Some(Repair::Resent) => Fate::Resent,
        };
        let unrepaired = frame.values().filter(|stored| stored.repair.is_none()).map(|stored| stored.arrival).max();
        let shown = unrepaired.or_else(|| self.packets.values().map(|stored| stored.arrival).min());
        let waited = match (fate, shown) {
            (Fate::Intact, _) | (_, None) => Duration::ZERO,
            (_, Some(shown)) => complete.saturating_duration_since(shown),
        };
        let mut assembled = Assembled {
            bytes: Vec::with_capacity(frame.values().map(|stored| stored.payload.len() + 4).sum()),
            timestamp: first.timestamp,
            first_packet: frame.values().map(|stored| stored.arrival).min()?,
            complete,
            fate,
            waited,
        };
        for stored in frame.values() {
            depacketize(&stored.payload, &mut assembled.bytes)?;
        }
        Some(assembled)
    }
}

/// Whether a packet begins a key frame: the encoders put parameter sets before every IDR picture, which is of no use to a
/// decoder that has not got them.
fn starts_key_frame(payload: &[u8]) -> bool {
    let is_key = |kind: u8| kind & 31 == NAL_SPS;
    match payload {
        [first, ..] if is_key(*first) => true,
        [first, _, _, inner, ..] if first & 31 == NAL_STAP_A => is_key(*inner),
        [first, fu, ..] if first & 31 == NAL_FU_A => fu & 0x80 != 0 && is_key(*fu),
        _ => false,
    }
}

/// Appends a payload's NAL units with start codes; `None` when it is none that we take.
fn depacketize(payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (&first, rest) = payload.split_first()?;
    match first & 31 {
        1..=23 => {
            out.extend(START_CODE);
            out.extend(payload);
        }
        NAL_STAP_A => {
            let mut rest = rest;
            while !rest.is_empty() {
                let (length, after) = rest.split_first_chunk::<2>()?;
                let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                out.extend(START_CODE);
                out.extend(unit);
                rest = after;
            }
        }
        NAL_FU_A => {
            let (&fu, data) = rest.split_first()?;
            if fu & 0x80 != 0 {
                out.extend(START_CODE);
                out.push(first & 0xe0 | fu & 31);
            }
            out.extend(data);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
