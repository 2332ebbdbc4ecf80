//! RTP packets to whole H.264 frames (RFC 6184).
//!
//! An intact stream is never delayed: a frame leaves with its last packet. A gap waits for its repair until the
//! deadline; then everything up to the next key frame is dropped and a key frame is asked for.

use crate::transport::InboundRtp;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A gap waits this long for its repair.
pub(super) const DEADLINE: Duration = Duration::from_millis(400);
/// Packets kept at most: seconds of any rate that we send.
const MAX_PACKETS: usize = 4096;
/// A jump in the sequence larger than this is a new stream, not a loss.
const MAX_JUMP: u64 = 3_000;

// NAL unit types (RFC 6184 section 5.2, H.264 table 7-1).
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

struct Stored {
    payload: Bytes,
    timestamp: u32,
    marker: bool,
    arrival: Instant,
}

/// A whole frame in the byte-stream format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assembled {
    pub(super) bytes: Vec<u8>,
    pub(super) timestamp: u32,
    pub(super) first_packet: Instant,
    pub(super) complete: Instant,
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
    /// Frames that were sent: their last packet arrived, or they were given up.
    pub(super) seen: u64,
}

/// Puts frames together.
pub(super) struct Assembler {
    packets: BTreeMap<u64, Stored>,
    /// First packet of the next frame.
    next: Option<u64>,
    newest: Option<u64>,
    /// When the frame in front began to wait.
    waiting_since: Option<Instant>,
    needs_key: bool,
    /// Whether a key frame is to be asked for.
    key_due: bool,
    counts: Counts,
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            next: None,
            newest: None,
            waiting_since: None,
            needs_key: true,
            key_due: false,
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a key frame is to be asked for now; asked once per need.
    pub(super) fn take_key_request(&mut self) -> bool {
        std::mem::take(&mut self.key_due)
    }

    /// Whether nothing can be shown before a key frame comes.
    pub(super) const fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// The decoder lost its state: everything up to the next key frame is useless.
    pub(super) fn restart(&mut self) {
        self.needs_key = true;
        self.key_due = true;
        self.waiting_since = None;
    }

    /// When [`Assembler::pop`] must be called again even if no packet comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + DEADLINE)
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
        self.counts.received += 1;
        self.counts.seen += u64::from(packet.marker);
        if self.packets.len() >= MAX_PACKETS {
            self.packets.clear();
            self.restart();
        }
        let stored = Stored { payload: packet.payload, timestamp: packet.timestamp, marker: packet.marker, arrival };
        self.packets.insert(number, stored);
    }

    /// The next frame that is whole; `None` when there is none now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Assembled> {
        loop {
            if self.needs_key && !self.find_key() {
                return None;
            }
            let next = self.next?;
            if let Some(end) = self.end_of_frame(next) {
                let frame = self.take(next, end);
                (self.next, self.waiting_since) = (Some(end), None);
                if frame.is_some() {
                    return frame;
                }
                // Whole, but not readable: as good as lost.
                self.counts.dropped += 1;
                self.restart();
                continue;
            }
            if self.packets.is_empty() {
                self.waiting_since = None;
                return None;
            }
            if now < *self.waiting_since.get_or_insert(now) + DEADLINE {
                return None;
            }
            self.counts.dropped += 1;
            // Its last packet is among those that never came, or it was counted with it.
            self.counts.seen += u64::from(!self.front_has_end());
            self.restart();
            // What is left of the frame in front may not be taken for a new start.
            let timestamp = self.packets.first_key_value().map(|(_, stored)| stored.timestamp);
            self.packets.retain(|_, stored| Some(stored.timestamp) != timestamp);
        }
    }

    /// Goes to the first key frame that is there, dropping what is before it.
    fn find_key(&mut self) -> bool {
        let Some(start) = self.packets.iter().find(|(_, p)| starts_key_frame(&p.payload)).map(|(n, _)| *n) else {
            if !self.packets.is_empty() {
                self.key_due = true;
            }
            self.packets.clear();
            return false;
        };
        self.packets = self.packets.split_off(&start);
        (self.next, self.needs_key, self.waiting_since) = (Some(start), false, None);
        true
    }

    /// One past the last packet of the frame that begins at `next`, if all of it is there.
    fn end_of_frame(&self, next: u64) -> Option<u64> {
        let mut number = next;
        for (found, stored) in self.packets.range(next..) {
            if *found != number {
                return None;
            }
            number += 1;
            if stored.marker {
                return Some(number);
            }
        }
        None
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
        let mut assembled = Assembled {
            bytes: Vec::with_capacity(frame.values().map(|stored| stored.payload.len() + 4).sum()),
            timestamp: first.timestamp,
            first_packet: frame.values().map(|stored| stored.arrival).min()?,
            complete: frame.values().map(|stored| stored.arrival).max()?,
        };
        for stored in frame.values() {
            depacketize(&stored.payload, &mut assembled.bytes)?;
        }
        Some(assembled)
    }
}

/// Whether a packet begins a key frame: parameter sets or an IDR slice come first.
fn starts_key_frame(payload: &[u8]) -> bool {
    let is_key = |kind: u8| matches!(kind & 31, NAL_IDR | NAL_SPS);
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
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> InboundRtp {
        let payload = Bytes::copy_from_slice(payload);
        InboundRtp { sequence, timestamp, marker, bytes: 12 + payload.len(), repair: None, payload }
    }

    const KEY: [u8; 3] = [0x65, 1, 2];
    const DELTA: [u8; 3] = [0x41, 3, 4];

    struct Bed {
        assembler: Assembler,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            Self { assembler: Assembler::new(), now: Instant::now() }
        }

        fn push(&mut self, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) {
            self.assembler.push(packet(sequence, timestamp, marker, payload), self.now);
        }

        fn timestamps(&mut self) -> Vec<u32> {
            std::iter::from_fn(|| self.assembler.pop(self.now)).map(|frame| frame.timestamp).collect()
        }
    }

    #[test]
    fn an_intact_stream_passes_at_once_across_the_wrap() {
        let mut bed = Bed::new();
        bed.push(65_534, 0, true, &KEY);
        assert_eq!(bed.timestamps(), [0]);
        for i in 1..5u16 {
            bed.push(65_534u16.wrapping_add(i), u32::from(i), true, &DELTA);
            assert_eq!(bed.timestamps(), [u32::from(i)]);
        }
        assert_eq!(bed.assembler.counts(), Counts { received: 5, expected: 5, dropped: 0, seen: 5 });
        assert_eq!(bed.assembler.deadline(), None);
        assert!(!bed.assembler.take_key_request());
    }

    #[test]
    fn units_are_put_together() {
        let mut bed = Bed::new();
        bed.push(1, 7, false, &[0x78, 0, 2, 0x67, 9, 0, 1, 0x68]); // SPS and PPS
        bed.push(2, 7, false, &[0x7c, 0x85, 1]); // IDR in three parts
        bed.push(4, 7, true, &[0x7c, 0x45, 3]);
        assert!(bed.timestamps().is_empty());
        bed.push(3, 7, false, &[0x7c, 0x05, 2]);
        let frame = bed.assembler.pop(bed.now).expect("whole");
        assert_eq!(frame.bytes, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 1, 2, 3]);
    }

    #[test]
    fn a_gap_waits_for_its_repair() {
        let mut bed = Bed::new();
        bed.push(1, 1, true, &KEY);
        bed.push(3, 3, true, &DELTA);
        assert_eq!(bed.timestamps(), [1]);
        let deadline = bed.assembler.deadline().expect("it waits");
        bed.now = deadline - Duration::from_millis(1);
        assert!(bed.timestamps().is_empty());
        bed.push(2, 2, true, &DELTA);
        assert_eq!(bed.timestamps(), [2, 3]);
        assert!(!bed.assembler.take_key_request());
        bed.push(2, 2, true, &DELTA); // once more
        assert!(bed.timestamps().is_empty());
        assert_eq!(bed.assembler.counts().received, 3);
    }

    #[test]
    fn after_the_deadline_only_a_key_frame_helps() {
        let mut bed = Bed::new();
        bed.push(1, 1, true, &KEY);
        bed.push(3, 3, true, &DELTA);
        assert_eq!(bed.timestamps(), [1]);
        bed.now = bed.assembler.deadline().expect("it waits");
        assert!(bed.timestamps().is_empty());
        assert!(bed.assembler.take_key_request() && !bed.assembler.take_key_request());
        bed.push(4, 4, true, &DELTA);
        assert!(bed.timestamps().is_empty());
        bed.push(5, 5, true, &KEY);
        bed.push(6, 6, true, &DELTA);
        assert_eq!(bed.timestamps(), [5, 6]);
        assert_eq!(bed.assembler.counts().dropped, 1);
    }

    #[test]
    fn a_frame_without_its_end_is_given_up_too() {
        let mut bed = Bed::new();
        bed.push(1, 1, true, &KEY);
        bed.push(2, 2, false, &DELTA);
        assert_eq!(bed.timestamps(), [1]);
        bed.now = bed.assembler.deadline().expect("the last packet may be lost for good");
        assert!(bed.timestamps().is_empty());
        assert!(bed.assembler.take_key_request() && bed.assembler.needs_key());
    }

    #[test]
    fn junk_does_no_harm() {
        let mut bed = Bed::new();
        for (i, payload) in
            [&[][..], &[0x78], &[0x78, 0], &[0x78, 255, 255, 0x67], &[0x7c], &[0x7c, 0x85], &[30, 0], &[0]]
                .into_iter()
                .enumerate()
        {
            bed.push(i as u16 * 2, i as u32, true, payload);
            bed.now += DEADLINE;
            bed.timestamps();
        }
        for sequence in 0..10_000u16 {
            bed.push(sequence.wrapping_mul(7_919), u32::from(sequence), sequence % 3 == 0, &KEY);
            bed.timestamps();
        }
        assert!(bed.assembler.packets.len() <= MAX_PACKETS);
    }
}
