//! One direction of a link, in virtual time.

use crate::chance::Chance;
use crate::impairment::Impairment;
use crate::series::{Sample, Series};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Interval of [`Link::series`].
const SAMPLE: Duration = Duration::from_millis(100);
/// What is left of a packet is sent when it is less than this many bits: a rest of rounding.
const NOTHING_BITS: f64 = 1e-3;

/// What became of a packet that entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will arrive.
    Passes,
    /// It takes its share of the bottleneck and is lost behind it.
    Lost,
    /// The queue is full: it did not enter.
    Full,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that left, copies counted.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets that the full queue did not take.
    pub overflowed: u64,
    /// Packets that were held back so that others overtake them.
    pub reordered: u64,
    /// Copies.
    pub duplicated: u64,
    /// Bytes that wait at the bottleneck now.
    pub queue_bytes: usize,
    /// Most bytes that ever waited.
    pub most_queue_bytes: usize,
    /// Longest wait at the bottleneck.
    pub longest_queue_delay: Duration,
}

struct Waiting<T> {
    /// `None`: lost behind the bottleneck.
    item: Option<T>,
    bytes: usize,
    entered: Duration,
}

struct Flying<T> {
    at: Duration,
    /// Those of the same moment keep their order.
    order: u64,
    bytes: usize,
    item: T,
}

impl<T> PartialEq for Flying<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Flying<T> {}

impl<T> PartialOrd for Flying<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flying<T> {
    /// The earliest is the greatest: a `BinaryHeap` gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// One direction of a bottleneck: queue, rate, then delay, jitter, loss, reordering and duplication.
///
/// Times are on a clock of the driver's choice that begins at zero and never goes back.
pub struct Link<T> {
    impairment: Impairment,
    chance: Chance,
    is_in_burst: bool,
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: usize,
    /// Of the first one that waits.
    bits_left: f64,
    /// The bottleneck has been followed up to here.
    followed: Duration,
    flying: BinaryHeap<Flying<T>>,
    /// Of those in order.
    last_arrival: Duration,
    entered: u64,
    counters: Counters,
    series: Series,
}

// === impl Link ===

impl<T: Clone> Link<T> {
    /// A link whose chance begins with `seed`.
    #[must_use]
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            chance: Chance::new(seed),
            is_in_burst: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            bits_left: 0.0,
            followed: Duration::ZERO,
            flying: BinaryHeap::new(),
            last_arrival: Duration::ZERO,
            entered: 0,
            counters: Counters::default(),
            series: Series::new(SAMPLE),
        }
    }

    /// What it does now.
    #[must_use]
    pub fn impairment(&self) -> &Impairment {
        &self.impairment
    }

    /// Changes what it does from `now` on: also to those that wait, but no more to those on their way behind the
    /// bottleneck.
    pub fn set(&mut self, now: Duration, impairment: Impairment) {
        self.follow(now);
        self.impairment = impairment;
        if self.impairment.bursts.is_none() {
            self.is_in_burst = false;
        }
        // What waits may go at once now.
        self.follow(now);
    }

    /// A packet of `bytes`, headers counted, enters at `now`.
    pub fn push(&mut self, now: Duration, bytes: usize, item: T) -> Verdict {
        self.follow(now);
        self.counters.packets_in += 1;
        self.counters.bytes_in += bytes as u64;
        let is_lost = self.draws_loss();
        if self.impairment.rate.is_some()
            && self.impairment.queue_bytes.is_some_and(|most| self.waiting_bytes + bytes > most)
        {
            self.counters.overflowed += 1;
            let sample = self.sample(now);
            sample.bytes_in += bytes as u64;
            sample.lost += 1;
            return Verdict::Full;
        }
        if self.waiting.is_empty() {
            self.bits_left = bytes as f64 * 8.0;
        }
        self.waiting.push_back(Waiting { item: (!is_lost).then_some(item), bytes, entered: now });
        self.waiting_bytes += bytes;
        self.counters.most_queue_bytes = self.counters.most_queue_bytes.max(self.waiting_bytes);
        let sample = self.sample(now);
        sample.bytes_in += bytes as u64;
        sample.lost += u64::from(is_lost);
        self.counters.lost += u64::from(is_lost);
        self.follow(now);
        if is_lost { Verdict::Lost } else { Verdict::Passes }
    }

    /// The next packet that has arrived by `now`, in the order of arrival.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        self.follow(now);
        if self.flying.peek()?.at > now {
            return None;
        }
        let arrived = self.flying.pop()?;
        self.counters.packets_out += 1;
        self.counters.bytes_out += arrived.bytes as u64;
        Some(arrived.item)
    }

    /// When to ask [`Self::pop`] again at the latest; `None`: not before the next packet enters or something is changed.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        let departure = match (self.waiting.front(), self.impairment.rate) {
            (Some(_), Some(rate)) if rate > 0 => Some(self.followed + time_to_send(self.bits_left, rate)),
            _ => None,
        };
        let arrival = self.flying.peek().map(|flying| flying.at);
        departure.into_iter().chain(arrival).min()
    }

    /// What happened until `now`.
    #[must_use]
    pub fn counters(&mut self, now: Duration) -> Counters {
        self.follow(now);
        Counters { queue_bytes: self.waiting_bytes, ..self.counters }
    }

    /// What happened in every tenth of a second until `now`, at most an hour back.
    #[must_use]
    pub fn series(&mut self, now: Duration) -> Vec<Sample> {
        self.follow(now);
        self.sample(now);
        self.series.closed()
    }

    fn sample(&mut self, now: Duration) -> &mut Sample {
        self.series.at(now, self.waiting_bytes, self.impairment.rate)
    }

    fn draws_loss(&mut self) -> bool {
        if let Some(bursts) = self.impairment.bursts {
            let turns = if self.is_in_burst { bursts.end } else { bursts.begin };
            self.is_in_burst ^= self.chance.hits(turns);
            if self.is_in_burst && self.chance.hits(bursts.loss) {
                return true;
            }
        }
        self.chance.hits(self.impairment.loss)
    }

    /// Lets the bottleneck work until `now`.
    fn follow(&mut self, now: Duration) {
        while let Some(first) = self.waiting.front() {
            let begins = self.followed.max(first.entered);
            let done = match self.impairment.rate {
                None => Some(begins),
                Some(0) => None,
                Some(rate) => {
                    let done = begins + time_to_send(self.bits_left, rate);
                    if done > now {
                        self.bits_left -= now.saturating_sub(begins).as_secs_f64() * rate as f64;
                    }
                    Some(done).filter(|done| *done <= now)
                }
            };
            let Some(done) = done else { break };
            self.followed = done;
            self.depart(done);
        }
        self.followed = self.followed.max(now);
    }

    /// The first one that waits leaves the bottleneck.
    fn depart(&mut self, now: Duration) {
        let Some(first) = self.waiting.pop_front() else { return };
        let (waited, is_lost) = (now.saturating_sub(first.entered), first.item.is_none());
        // Before it is taken off: the interval shall know that it waited.
        let sample = self.sample(now);
        sample.queue_delay = sample.queue_delay.max(waited);
        sample.bytes_out += if is_lost { 0 } else { first.bytes as u64 };
        self.waiting_bytes -= first.bytes;
        self.bits_left = self.waiting.front().map_or(0.0, |next| next.bytes as f64 * 8.0);
        self.counters.longest_queue_delay = self.counters.longest_queue_delay.max(waited);
        let Some(item) = first.item else { return };
        if self.chance.hits(self.impairment.duplication) {
            self.counters.duplicated += 1;
            self.fly(now, first.bytes, item.clone());
        }
        self.fly(now, first.bytes, item);
    }

    fn fly(&mut self, now: Duration, bytes: usize, item: T) {
        let mut at = now + self.impairment.delay;
        if !self.impairment.jitter.is_zero() {
            at += self.impairment.jitter.mul_f64(self.chance.share());
        }
        let held = self.impairment.reordering.filter(|reordering| self.chance.hits(reordering.share));
        if let Some(reordering) = held {
            self.counters.reordered += 1;
            at += reordering.by;
        } else {
            if !self.impairment.jitter.is_zero() {
                at = at.max(self.last_arrival);
            }
            self.last_arrival = self.last_arrival.max(at);
        }
        self.entered += 1;
        self.flying.push(Flying { at, order: self.entered, bytes, item });
    }
}

/// Rounded up to whole nanoseconds, so that at that moment nothing is left.
fn time_to_send(bits: f64, rate: u64) -> Duration {
    if bits < NOTHING_BITS {
        return Duration::ZERO;
    }
    let nanoseconds = (bits * 1e9 / rate as f64).ceil();
    // Saturates: centuries are as good as never.
    Duration::from_nanos(nanoseconds as u64)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
