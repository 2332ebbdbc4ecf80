//! What a link carried, over time.

use std::collections::VecDeque;
use std::time::Duration;

/// Most samples kept, the newest: one hour of tenths of a second.
const MOST: usize = 36_000;

/// One interval of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it began, on the link's clock.
    pub at: Duration,
    /// How long it is.
    pub length: Duration,
    /// The bottleneck's rate at its end, in bits a second; `None`: unlimited.
    pub rate: Option<u64>,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that left the bottleneck, those lost behind it left out.
    pub bytes_out: u64,
    /// Packets lost or dropped.
    pub lost: u64,
    /// Most bytes that waited at the bottleneck.
    pub queue_bytes: usize,
    /// Longest wait at the bottleneck of a packet that left it.
    pub queue_delay: Duration,
}

// === impl Sample ===

impl Sample {
    /// Bits a second that left the bottleneck.
    #[must_use]
    pub fn bits_out_per_second(&self) -> f64 {
        self.bytes_out as f64 * 8.0 / self.length.as_secs_f64()
    }
}

/// Closed intervals, and the open one. Intervals in which nothing happened are there too.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    length: Duration,
    closed: VecDeque<Sample>,
    open: Sample,
}

// === impl Series ===

impl Series {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, closed: VecDeque::new(), open: Sample { length, ..Sample::default() } }
    }

    /// The interval that `now` is in. `queue_bytes` and `rate` are those before what is recorded.
    pub(crate) fn at(&mut self, now: Duration, queue_bytes: usize, rate: Option<u64>) -> &mut Sample {
        if now >= self.open.at + self.length * MOST as u32 {
            // Nobody looked for an hour: a gap instead of an hour of nothing.
            self.closed.clear();
            let intervals = now.as_nanos() / self.length.as_nanos().max(1);
            let at = self.length.saturating_mul(u32::try_from(intervals).unwrap_or(u32::MAX));
            self.open = Sample { at, length: self.length, queue_bytes, rate, ..Sample::default() };
        }
        while now >= self.open.at + self.length {
            let begins = self.open.at + self.length;
            if self.closed.len() == MOST {
                self.closed.pop_front();
            }
            self.closed.push_back(self.open);
            self.open = Sample { at: begins, length: self.length, queue_bytes, rate, ..Sample::default() };
        }
        self.open.rate = rate;
        self.open.queue_bytes = self.open.queue_bytes.max(queue_bytes);
        &mut self.open
    }

    pub(crate) fn closed(&self) -> Vec<Sample> {
        self.closed.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_long_gap_nothing_old_is_told_as_new() {
        let mut series = Series::new(Duration::from_millis(100));
        series.at(Duration::from_millis(10), 0, None).bytes_in = 7;
        let later = Duration::from_secs(4_000);
        series.at(later, 0, None).bytes_in += 5;
        series.at(later + Duration::from_millis(100), 0, None);
        let [only] = series.closed()[..] else { panic!("a gap instead of an hour of nothing") };
        assert_eq!((only.at, only.bytes_in), (later, 5));
    }
}
