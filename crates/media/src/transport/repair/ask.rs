//! Which packets are missing, and when to ask for them again: no clock, no socket.
//!
//! A missing packet is asked for at once, but for a moment in which it may just be late (3 ms, or three later packets).
//! It is asked for twice, 8 ms apart, since the asking or its answer may be lost too, and again in pairs after a round
//! trip, ever more rarely, until it is 400 ms old: then nobody waits for it any more.
//! While the sender closes frames with parity, the first asking waits for the parity of the frame.
//!
//! Nothing newer shows that a frame's last packet is missing before the next frame comes. But a frame that is begun ends
//! within moments: if it does not, the packet behind its newest one is asked for. A sender that has not sent it yet knows
//! no such packet, and does nothing.

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
/// A frame that is begun, or its parity, goes on within this, or within so many times what two of its packets were apart
/// lately.
const GOES_ON_WITHIN: Duration = Duration::from_millis(6);
const GOES_ON_SPACINGS: u32 = 3;
/// The share of what packets were apart that each following pair leaves of it.
const SPACING_FADES: f64 = 15.0 / 16.0;
/// We were late ourselves by this much: what came meanwhile waits to be read.
const HELD_UP: Duration = Duration::from_millis(2);
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
    /// Nothing newer came: it may not be sent yet.
    suspected: bool,
}

/// The newest packet of a frame that has not ended.
#[derive(Clone, Copy, Debug)]
struct Begun {
    timestamp: u32,
    at: Instant,
    /// When the next one is suspected to be lost.
    due: Option<Instant>,
}

/// One stream's missing packets.
#[derive(Debug)]
pub(super) struct Asker {
    newest: Option<u64>,
    /// Ascending.
    missing: VecDeque<Missing>,
    round_trip: Option<Duration>,
    /// As it was told last.
    path: Option<Duration>,
    parity_seen: Option<Instant>,
    begun: Option<Begun>,
    /// What two packets of one frame were apart at most, of late.
    spacing: Duration,
    allowance: Allowance,
    asked: Vec<u16>,
}

impl Asker {
    pub(super) const fn new() -> Self {
        Self {
            newest: None,
            missing: VecDeque::new(),
            round_trip: None,
            path: None,
            parity_seen: None,
            begun: None,
            spacing: Duration::ZERO,
            allowance: Allowance::new(ASKINGS_AT_ONCE),
            asked: Vec::new(),
        }
    }

    /// A packet arrived; `ends`: it is its frame's last.
    pub(super) fn packet(&mut self, sequence: u16, timestamp: u32, ends: bool, now: Instant) -> Arrival {
        let Some(newest) = self.newest else {
            // Room below, so that an older one still has a number.
            self.newest = Some(u64::from(sequence) + (1 << 16));
            self.goes_on(timestamp, ends, now);
            return Arrival::Newer;
        };
        let step = sequence.wrapping_sub(newest as u16) as i16;
        let number = newest.saturating_add_signed(i64::from(step));
        if number <= newest {
            return self.fill(number, now);
        }
        let mut arrival = Arrival::Newer;
        if number - newest > MAX_JUMP {
            self.missing.clear();
        } else {
            let suspect = self.missing.pop_back_if(|missing| missing.suspected);
            let parity = self.parity_seen.is_some_and(|at| now.saturating_duration_since(at) < PARITY_MEMORY);
            let due = now + if parity { PARITY_WITHIN } else { OVERTAKEN };
            let awaits_parity = parity.then_some(timestamp);
            let fresh = |number| Missing {
                number,
                noticed: now,
                due,
                first_asked: None,
                askings: 0,
                awaits_parity,
                suspected: false,
            };
            match suspect {
                Some(suspect) if suspect.number == number => {
                    // Sooner than an answer can come, it was only late.
                    let took = suspect.first_asked.map(|at| now.saturating_duration_since(at));
                    if took.is_some_and(|took| took * 2 >= self.path.or(self.round_trip).unwrap_or_default()) {
                        self.learn(&suspect, now);
                        arrival = Arrival::Asked;
                    }
                }
                // It was asked for already: what comes of that is waited for.
                Some(suspect) => {
                    let due = suspect.due.min(now + self.usual_wait());
                    self.missing.push_back(Missing { suspected: false, due, ..suspect });
                }
                None if number > newest + 1 => self.missing.push_back(fresh(newest + 1)),
                None => {}
            }
            self.missing.extend((newest + 2..number).map(fresh));
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
        if arrival == Arrival::Asked {
            // It says nothing of what packets are apart.
            self.begun = None;
        }
        self.goes_on(timestamp, ends, now);
        arrival
    }

    /// The newest packet is of that frame: what should follow it soon?
    fn goes_on(&mut self, timestamp: u32, ends: bool, now: Instant) {
        if let Some(begun) = self.begun.filter(|begun| begun.timestamp == timestamp) {
            let apart = now.saturating_duration_since(begun.at);
            self.spacing = apart.max(self.spacing.mul_f64(SPACING_FADES));
        }
        let within = GOES_ON_WITHIN.max(self.spacing * GOES_ON_SPACINGS);
        if ends {
            self.begun = None;
            for missing in self.missing.iter_mut().filter(|missing| missing.awaits_parity == Some(timestamp)) {
                missing.due = missing.due.min(now + within);
            }
        } else {
            self.begun = Some(Begun { timestamp, at: now, due: Some(now + within) });
        }
    }

    /// An answer takes this long.
    fn usual_wait(&self) -> Duration {
        self.round_trip.unwrap_or(USUAL_ROUND_TRIP).min(LONGEST_ROUND_TRIP).mul_f64(1.2)
    }

    /// The packet behind the newest one may be lost.
    fn suspect(&mut self, now: Instant) {
        let Some(begun) = &mut self.begun else { return };
        let Some(due) = begun.due.filter(|due| *due <= now) else { return };
        if now > due + HELD_UP {
            begun.due = Some(now + HELD_UP);
            return;
        }
        begun.due = None;
        let Some(newest) = self.newest else { return };
        self.missing.push_back(Missing {
            number: newest + 1,
            noticed: now,
            due: now,
            first_asked: None,
            askings: 0,
            awaits_parity: None,
            suspected: true,
        });
    }

    fn fill(&mut self, number: u64, now: Instant) -> Arrival {
        let Ok(at) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            return Arrival::Useless;
        };
        let Some(missing) = self.missing.remove(at) else { return Arrival::Useless };
        if missing.first_asked.is_none() {
            return Arrival::Overtaken;
        }
        self.learn(&missing, now);
        Arrival::Asked
    }

    /// It came, after it was asked for.
    fn learn(&mut self, missing: &Missing, now: Instant) {
        if let Some(first) = missing.first_asked.filter(|_| missing.askings <= 2) {
            // Smoothed as TCP does it (RFC 6298).
            let sample = now.saturating_duration_since(first);
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
    }

    /// A packet was repaired by other means; whether it was missing. Nothing may have shown that yet: where the last
    /// packet of a frame is lost, it is newer than all that arrived.
    pub(super) fn repaired(&mut self, sequence: u16, timestamp: u32, ends: bool, now: Instant) -> bool {
        let Some(newest) = self.newest else { return false };
        let step = sequence.wrapping_sub(newest as u16) as i16;
        if step > 0 {
            return matches!(self.packet(sequence, timestamp, ends, now), Arrival::Newer | Arrival::Asked);
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
        if let Some(begun) = &mut self.begun {
            // It closes the frame, whose last packet is not there.
            begun.due = begun.due.map(|due| due.min(now));
        }
    }

    /// When [`due`](Self::due) has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let tail = self.begun.and_then(|begun| begun.due);
        self.missing.iter().map(|missing| missing.due).chain(tail).min()
    }

    /// The packets to ask for now. `path` is the path's round trip where it is known.
    pub(super) fn due(&mut self, path: Option<Duration>, now: Instant) -> &[u16] {
        self.asked.clear();
        self.path = path;
        self.suspect(now);
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
            } else if missing.suspected {
                // What is not sent yet comes by itself; what is lost is shown by the next frame.
                USEFUL_FOR
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
#[path = "ask_tests.rs"]
mod tests;
