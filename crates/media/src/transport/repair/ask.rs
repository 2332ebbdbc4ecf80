//! Which packets are missing, and when to ask for them again: no clock, no socket.
//!
//! A missing packet is asked for at once, but for a moment in which it may just be late (3 ms, or three later packets).
//! It is asked for twice, 8 ms apart, since the asking or its answer may be lost too, and again in pairs after a round
//! trip, ever more rarely, until it is 400 ms old: then nobody waits for it any more.
//! While the sender closes frames with parity, the first asking waits for the parity of the frame.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A packet that is this late may only have been overtaken.
const OVERTAKEN: Duration = Duration::from_millis(3);
/// A packet that this many overtook is missing.
const LATER_PACKETS: u64 = 3;
/// The second of a pair of askings.
const AGAIN: Duration = Duration::from_millis(8);
/// Between two pairs of askings at least.
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// Parity that has not come by then is lost too: a large frame takes 20 ms at 8 Mbit/s.
const PARITY_WITHIN: Duration = Duration::from_millis(25);
/// Parity is expected for so long after some came.
const PARITY_MEMORY: Duration = Duration::from_secs(2);
/// A packet that is missing for longer is of no use: the frames have gone on.
const USEFUL_FOR: Duration = Duration::from_millis(400);
/// Askings for one packet at most.
const MOST_ASKINGS: u8 = 12;
/// Missing packets that are kept at most; of more, the oldest are given up.
const MOST_MISSING: usize = 512;
/// A jump in the sequence larger than this is a new stream, not a loss.
const MAX_JUMP: u64 = 1_000;
/// Packets asked for in a second, and at once.
const ASKINGS_PER_SECOND: f64 = 800.0;
const ASKINGS_AT_ONCE: f64 = 256.0;
/// The round trip before one is known.
const USUAL_ROUND_TRIP: Duration = Duration::from_millis(50);
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(300);

/// An allowance that grows with time, up to a most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: f64,
    at: Option<Instant>,
}

impl Allowance {
    pub(super) const fn new(most: f64) -> Self {
        Self { left: most, at: None }
    }

    /// Takes `amount`, if that much is there.
    pub(super) fn take(&mut self, amount: f64, per_second: f64, most: f64, now: Instant) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.left = (self.left + since.as_secs_f64() * per_second).min(most);
        self.at = Some(now);
        let may = self.left >= amount;
        if may {
            self.left -= amount;
        }
        may
    }
}

/// What an arriving packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It goes on, or begins, the stream.
    Newer,
    /// It was missing and not asked for.
    Overtaken,
    /// It was missing and asked for.
    Asked,
    /// It was there already, or is not waited for any more.
    Useless,
}

#[derive(Debug)]
struct Missing {
    number: u64,
    noticed: Instant,
    due: Instant,
    first_asked: Option<Instant>,
    askings: u8,
    /// Timestamp of the packet that showed the gap, while parity may still repair it.
    awaits_parity: Option<u32>,
}

/// One stream's missing packets.
#[derive(Debug)]
pub(super) struct Asker {
    newest: Option<u64>,
    /// Ascending.
    missing: VecDeque<Missing>,
    round_trip: Option<Duration>,
    parity_seen: Option<Instant>,
    allowance: Allowance,
    asked: Vec<u16>,
}

impl Asker {
    pub(super) const fn new() -> Self {
        Self {
            newest: None,
            missing: VecDeque::new(),
            round_trip: None,
            parity_seen: None,
            allowance: Allowance::new(ASKINGS_AT_ONCE),
            asked: Vec::new(),
        }
    }

    /// A packet arrived.
    pub(super) fn packet(&mut self, sequence: u16, timestamp: u32, now: Instant) -> Arrival {
        let Some(newest) = self.newest else {
            // Room below, so that an older one still has a number.
            self.newest = Some(u64::from(sequence) + (1 << 16));
            return Arrival::Newer;
        };
        let step = sequence.wrapping_sub(newest as u16) as i16;
        let number = newest.saturating_add_signed(i64::from(step));
        if number <= newest {
            return self.fill(number, now);
        }
        if number - newest > MAX_JUMP {
            self.missing.clear();
        } else {
            let parity = self.parity_seen.is_some_and(|at| now.saturating_duration_since(at) < PARITY_MEMORY);
            let due = now + if parity { PARITY_WITHIN } else { OVERTAKEN };
            for number in newest + 1..number {
                self.missing.push_back(Missing {
                    number,
                    noticed: now,
                    due,
                    first_asked: None,
                    askings: 0,
                    awaits_parity: parity.then_some(timestamp),
                });
            }
            let excess = self.missing.len().saturating_sub(MOST_MISSING);
            self.missing.drain(..excess);
        }
        self.newest = Some(number);
        for missing in self.missing.iter_mut().filter(|missing| missing.askings == 0) {
            match missing.awaits_parity {
                // The frame is over and its parity did not come.
                Some(shown_by) if shown_by != timestamp => {
                    missing.awaits_parity = None;
                    missing.due = missing.due.min(now + OVERTAKEN);
                }
                None if number >= missing.number + LATER_PACKETS => missing.due = missing.due.min(now),
                _ => {}
            }
        }
        Arrival::Newer
    }

    fn fill(&mut self, number: u64, now: Instant) -> Arrival {
        let Ok(at) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            return Arrival::Useless;
        };
        let Some(missing) = self.missing.remove(at) else { return Arrival::Useless };
        let Some(first) = missing.first_asked else { return Arrival::Overtaken };
        if missing.askings <= 2 {
            // Smoothed as TCP does it (RFC 6298).
            let sample = now.saturating_duration_since(first);
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        Arrival::Asked
    }

    /// A packet was repaired by other means; whether it was missing. Nothing may have shown that yet: where the last
    /// packet of a frame is lost, it is newer than all that arrived.
    pub(super) fn repaired(&mut self, sequence: u16, timestamp: u32, now: Instant) -> bool {
        let Some(newest) = self.newest else { return false };
        let step = sequence.wrapping_sub(newest as u16) as i16;
        if step > 0 {
            return self.packet(sequence, timestamp, now) == Arrival::Newer;
        }
        let number = newest.saturating_add_signed(i64::from(step));
        let found = self.missing.binary_search_by_key(&number, |missing| missing.number);
        found.is_ok_and(|at| self.missing.remove(at).is_some())
    }

    /// A parity packet arrived, after what it could repair was [`repaired`](Self::repaired): the rest is asked for.
    pub(super) fn parity(&mut self, now: Instant) {
        self.parity_seen = Some(now);
        for missing in self.missing.iter_mut().filter(|missing| missing.awaits_parity.is_some()) {
            missing.awaits_parity = None;
            missing.due = missing.due.min(now);
        }
    }

    /// When [`due`](Self::due) has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// The packets to ask for now. `path` is the path's round trip where it is known.
    pub(super) fn due(&mut self, path: Option<Duration>, now: Instant) -> &[u16] {
        self.asked.clear();
        let round_trip = self.round_trip.max(path).unwrap_or(USUAL_ROUND_TRIP).min(LONGEST_ROUND_TRIP);
        let (asked, allowance) = (&mut self.asked, &mut self.allowance);
        self.missing.retain_mut(|missing| {
            let over = missing.noticed + USEFUL_FOR;
            if missing.due > now {
                return true;
            }
            if now >= over {
                return false;
            }
            if missing.askings < MOST_ASKINGS && !allowance.take(1.0, ASKINGS_PER_SECOND, ASKINGS_AT_ONCE, now) {
                missing.due = now + LEAST_WAIT;
                return true;
            }
            if missing.askings < MOST_ASKINGS {
                asked.push(missing.number as u16);
                missing.askings += 1;
                missing.awaits_parity = None;
                missing.first_asked.get_or_insert(now);
            }
            let wait = if missing.askings % 2 == 1 {
                AGAIN
            } else {
                let pairs = i32::from(missing.askings / 2);
                (round_trip.mul_f64(1.2).max(LEAST_WAIT)).mul_f64(1.3f64.powi(pairs - 1))
            };
            missing.due = if missing.askings < MOST_ASKINGS { (now + wait).min(over) } else { over };
            true
        });
        &self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Bed {
        asker: Asker,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            Self { asker: Asker::new(), now: Instant::now() }
        }

        fn packet(&mut self, sequence: u16, timestamp: u32) -> Arrival {
            self.asker.packet(sequence, timestamp, self.now)
        }

        fn repaired(&mut self, sequence: u16) {
            assert!(self.asker.repaired(sequence, 0, self.now));
        }

        /// Lets time pass, and returns when what was asked for.
        fn pass(&mut self, ms: u32) -> Vec<(u128, Vec<u16>)> {
            let (start, end) = (self.now, self.now + MS * ms);
            let mut all = Vec::new();
            while let Some(due) = self.asker.next().filter(|due| *due <= end) {
                self.now = due;
                let asked = self.asker.due(Some(MS * 20), due).to_vec();
                if !asked.is_empty() {
                    all.push(((due - start).as_millis(), asked));
                }
            }
            self.now = end;
            all
        }
    }

    #[test]
    fn an_intact_stream_asks_nothing_and_has_no_timer() {
        let mut bed = Bed::new();
        for i in 0..1_000u16 {
            assert_eq!(bed.packet(65_000u16.wrapping_add(i), u32::from(i)), Arrival::Newer);
            assert_eq!(bed.asker.next(), None);
        }
        assert_eq!(bed.packet(463, 0), Arrival::Useless, "a duplicate");
    }

    #[test]
    fn a_gap_is_asked_for_at_once_in_pairs_and_not_for_ever() {
        let mut bed = Bed::new();
        bed.packet(65_535, 1);
        bed.packet(1, 1);
        let asked = bed.pass(1_000);
        assert!(asked.iter().all(|(_, asked)| asked == &[0]));
        let at: Vec<u128> = asked.iter().map(|(at, _)| *at).collect();
        assert_eq!(at[..4], [3, 11, 35, 43], "in pairs, a round trip apart");
        assert!(at.len() <= usize::from(MOST_ASKINGS) && at.iter().all(|at| *at < 400), "{at:?}");
        assert_eq!(bed.asker.next(), None, "a still stream has no timer");
        assert_eq!(bed.packet(0, 1), Arrival::Useless, "too late");
    }

    #[test]
    fn a_repaired_packet_is_not_asked_for_again() {
        let mut bed = Bed::new();
        bed.packet(1, 1);
        bed.packet(4, 1);
        assert_eq!(bed.pass(5), [(3, vec![2, 3])]);
        assert_eq!(bed.packet(2, 1), Arrival::Asked);
        assert_eq!(bed.pass(10), [(6, vec![3])]);
        bed.repaired(3);
        assert_eq!(bed.asker.next(), None);
    }

    #[test]
    fn an_overtaken_packet_is_not_asked_for() {
        let mut bed = Bed::new();
        bed.packet(1, 1);
        bed.packet(3, 1);
        bed.now += MS * 2;
        assert_eq!(bed.packet(2, 1), Arrival::Overtaken);
        assert!(bed.pass(500).is_empty());
        // Three later ones are enough to know.
        bed.packet(5, 1);
        bed.packet(6, 1);
        bed.packet(7, 1);
        assert_eq!(bed.pass(0), [(0, vec![4])]);
    }

    #[test]
    fn parity_is_waited_for() {
        let mut bed = Bed::new();
        bed.packet(1, 1);
        bed.asker.parity(bed.now);
        // Repaired in time: nothing is asked.
        bed.packet(3, 2);
        bed.packet(6, 2);
        bed.pass(10);
        for sequence in [2, 4, 5] {
            bed.repaired(sequence);
        }
        bed.asker.parity(bed.now);
        assert!(bed.pass(100).is_empty());
        // Parity came and did not help.
        bed.packet(8, 3);
        assert!(bed.pass(5).is_empty());
        bed.asker.parity(bed.now);
        assert_eq!(bed.pass(0), [(0, vec![7])]);
        bed.repaired(7);
        // Parity was lost: the next frame shows it, or time.
        bed.packet(10, 4);
        bed.now += MS * 5;
        bed.packet(11, 5);
        assert_eq!(bed.pass(3), [(3, vec![9])]);
        bed.repaired(9);
        bed.packet(13, 6);
        assert_eq!(bed.pass(25), [(25, vec![12])]);
        bed.repaired(12);
        // No parity any more: at once.
        bed.now += PARITY_MEMORY;
        bed.packet(15, 7);
        assert_eq!(bed.pass(3), [(3, vec![14])]);
    }

    #[test]
    fn a_flood_of_gaps_is_bounded() {
        let mut bed = Bed::new();
        let (mut asked, mut sequence) = (0, 0u16);
        for _ in 0..1_000 {
            sequence = sequence.wrapping_add(50);
            bed.packet(sequence, 1);
            asked += bed.pass(1).iter().map(|(_, asked)| asked.len()).sum::<usize>();
            assert!(bed.asker.missing.len() <= MOST_MISSING);
        }
        assert!(asked as f64 <= ASKINGS_AT_ONCE + ASKINGS_PER_SECOND, "{asked} askings in a second");
        bed.packet(sequence.wrapping_add(5_000), 1);
        assert_eq!(bed.asker.next(), None, "a new stream owes nothing");
    }

    #[test]
    fn a_short_round_trip_is_learned() {
        let mut bed = Bed::new();
        bed.asker.packet(0, 1, bed.now);
        for i in 1..50u16 {
            bed.packet(i * 2, 1);
            bed.pass(5);
            assert_eq!(bed.packet(i * 2 - 1, 1), Arrival::Asked);
        }
        assert!(bed.asker.round_trip.is_some_and(|time| time <= MS * 3), "{:?}", bed.asker.round_trip);
    }
}
