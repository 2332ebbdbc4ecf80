//! Loss, and how much of it is the path's own.

use super::MS;

/// Loss is counted over this long.
const BUCKET_US: u64 = 500 * MS;
/// Buckets: what the path loses whatever is sent is the least share of this many.
const BUCKETS: usize = 16;
/// Packets that a bucket needs to say anything.
const ENOUGH: u32 = 20;
/// Loss above the path's own by this much is our doing. Random loss of 2 % stays far below it at any count.
const EXCESS: f64 = 0.06;
/// Fewer runs of lost packets than this are no pattern: a full queue drops again and again, a radio fades once.
const PATTERN: u32 = 3;

/// Counts what is lost.
#[derive(Debug, Default)]
pub(super) struct Loss {
    since_us: u64,
    sent: u32,
    lost: u32,
    /// Runs of lost packets.
    runs: u32,
    in_run: bool,
    /// Shares of the last full buckets.
    shares: [Option<f64>; BUCKETS],
    next: usize,
}

// === impl Loss ===

impl Loss {
    /// One packet's fate is known.
    pub(super) fn count(&mut self, lost: bool) {
        self.sent += 1;
        self.lost += u32::from(lost);
        self.runs += u32::from(lost && !self.in_run);
        self.in_run = lost;
    }

    /// Time passes.
    pub(super) fn turn(&mut self, now_us: u64) {
        if now_us.saturating_sub(self.since_us) >= BUCKET_US && self.sent >= ENOUGH {
            self.restart(now_us);
        }
    }

    /// Share lost in the newest bucket with enough packets.
    pub(super) fn share(&self) -> Option<f64> {
        if self.sent >= ENOUGH {
            return Some(f64::from(self.lost) / f64::from(self.sent));
        }
        self.shares[(self.next + BUCKETS - 1) % BUCKETS]
    }

    /// What the path loses whatever is sent.
    pub(super) fn inherent(&self) -> f64 {
        let least = self.shares.iter().flatten().copied().reduce(f64::min);
        least.unwrap_or(0.0)
    }

    /// Whether more is lost than the path loses anyway.
    pub(super) fn is_excessive(&self) -> bool {
        let share = f64::from(self.lost) / f64::from(self.sent.max(ENOUGH));
        self.runs >= PATTERN && share > self.inherent() + EXCESS
    }

    /// Whether the newest packets were lost by `excess` more than the path loses anyway.
    pub(super) fn exceeds(&self, excess: f64) -> bool {
        f64::from(self.lost) > f64::from(self.sent.max(ENOUGH)) * (self.inherent() + excess)
    }

    /// The rate was lowered: what was counted belongs to the old one.
    pub(super) fn restart(&mut self, now_us: u64) {
        if self.sent >= ENOUGH {
            self.shares[self.next] = Some(f64::from(self.lost) / f64::from(self.sent));
            self.next = (self.next + 1) % BUCKETS;
        }
        (self.since_us, self.sent, self.lost, self.runs) = (now_us, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of which every `nth` is lost, one each 5 ms.
    fn run(loss: &mut Loss, from_us: u64, packets: u64, nth: u64) -> bool {
        let mut excessive = false;
        for i in 0..packets {
            loss.count(i % nth == nth - 1);
            loss.turn(from_us + i * 5 * MS);
            excessive |= loss.is_excessive();
        }
        excessive
    }

    #[test]
    fn a_path_that_always_loses_is_not_blamed_on_us() {
        let mut loss = Loss::default();
        assert!(!run(&mut loss, 0, 2_000, 50), "2 % is no sign of anything");
        assert!(run(&mut loss, 10_000_000, 200, 5), "a sudden 20 % is");
        run(&mut loss, 11_000_000, 4_000, 5);
        assert!(!run(&mut loss, 31_000_000, 400, 5), "a steady 20 % is the path's own");
        assert!((loss.inherent() - 0.2).abs() < 0.05);
    }
}
