//! Packets that wait to be played.

use crate::ring::Packet;

/// Places for packets that wait: 640 ms of ours, more than a reader keeps.
const PLACES: u64 = 128;
/// A packet this far behind is no straggler: the sender began anew.
const FORGET: u64 = 1000;
/// Packets by sequence number.
pub(super) struct Waiting {
    places: Box<[Option<Packet>]>,
    pub(super) epoch: u32,
    /// Sequence number, extended to 64 bits, of the packet to play next.
    pub(super) next: u64,
    /// Highest one seen; `None` before the first of a session.
    newest: Option<u64>,
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn new() -> Self {
        Self { places: vec![None; PLACES as usize].into_boxed_slice(), epoch: 0, next: 0, newest: None }
    }

    pub(super) fn begin_session(&mut self, epoch: u32) {
        self.places.fill(None);
        self.epoch = epoch;
        self.newest = None;
    }

    /// Packets from the next to the newest, missing ones too.
    pub(super) fn len(&self) -> u64 {
        self.newest.map_or(0, |newest| (newest + 1).saturating_sub(self.next))
    }

    /// Takes a packet in; false when its place was played already or is taken.
    pub(super) fn put(&mut self, packet: Packet) -> bool {
        let number = match self.newest {
            None => {
                let number = u64::from(packet.sequence) + (1 << 16);
                self.next = number;
                number
            }
            Some(newest) => newest.wrapping_add_signed(i64::from(packet.sequence.wrapping_sub(newest as u16) as i16)),
        };
        if number + FORGET < self.next {
            self.begin_session(self.epoch);
            return self.put(packet);
        }
        if number < self.next {
            return false;
        }
        self.newest = Some(self.newest.map_or(number, |newest| newest.max(number)));
        if number >= self.next + PLACES {
            self.advance_to(number + 1 - PLACES);
        }
        let place = &mut self.places[(number % PLACES) as usize];
        let free = place.is_none();
        *place = Some(packet);
        free
    }

    /// What they sound together; missing ones as long as `missing`.
    pub(super) fn frames(&self, missing: usize) -> usize {
        let frames = |place: &Option<Packet>| place.as_ref().map_or(missing, |packet| packet.frames.into());
        self.numbers().map(|number| frames(&self.places[(number % PLACES) as usize])).sum()
    }

    pub(super) fn advance_to(&mut self, next: u64) {
        for number in self.next..next.min(self.next + PLACES) {
            self.places[(number % PLACES) as usize] = None;
        }
        self.next = next;
    }

    pub(super) fn keep_newest(&mut self, count: u64) {
        if let Some(newest) = self.newest {
            let next = (newest + 1).saturating_sub(count);
            if next > self.next {
                self.advance_to(next);
            }
        }
    }

    /// The packet to play next, if it is there.
    pub(super) fn take(&mut self) -> Option<Packet> {
        if self.len() == 0 {
            return None;
        }
        let packet = self.places[(self.next % PLACES) as usize].take()?;
        self.next += 1;
        Some(packet)
    }

    /// As [`Self::take`], unless a stretch ends with it.
    pub(super) fn take_sound(&mut self) -> Option<Packet> {
        let is_sound = self.places[(self.next % PLACES) as usize].as_ref().is_some_and(|packet| !packet.is_end());
        if is_sound { self.take() } else { None }
    }

    pub(super) fn numbers(&self) -> std::ops::Range<u64> {
        self.next..self.next + self.len()
    }

    /// The first packet that is there.
    pub(super) fn first(&self) -> Option<&Packet> {
        self.numbers().find_map(|number| self.places[(number % PLACES) as usize].as_ref())
    }

    /// Gives up what is missing before the first packet that is there, and ends that have nothing before them.
    pub(super) fn skip_to_first(&mut self) -> Option<&Packet> {
        while self.len() > 0 && self.places[(self.next % PLACES) as usize].as_ref().is_none_or(Packet::is_end) {
            self.places[(self.next % PLACES) as usize] = None;
            self.next += 1;
        }
        self.first()
    }

    pub(super) fn holds_end(&self) -> bool {
        self.numbers().any(|number| self.places[(number % PLACES) as usize].as_ref().is_some_and(Packet::is_end))
    }
}
