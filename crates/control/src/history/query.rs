//! Reading history: from which tier, and with which step.

use super::{Bucket, TIERS, Tier};
use loco_model::api::HistoryPoint;
use std::collections::BTreeMap;

/// Points of one answer at most.
pub(crate) const MAX_POINTS: u64 = 2_000;
/// Farthest moment that is asked for, in milliseconds since 1970: what the file's integers hold.
const MAX_MS: u64 = i64::MAX as u64;

/// What is asked for, once it is known to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// 0: as fine as the answer may be.
    pub(crate) step_ms: u64,
}

// === impl Query ===

impl Query {
    /// Checks what was asked for.
    pub(crate) fn try_new(from_ms: u64, to_ms: u64, step_ms: u64) -> Result<Self, String> {
        if from_ms >= to_ms || to_ms > MAX_MS {
            return Err(format!(
                "from_ms ({from_ms}) must be before to_ms ({to_ms}), both milliseconds since 1970 UTC"
            ));
        }
        let least = (to_ms - from_ms).div_ceil(MAX_POINTS);
        if step_ms != 0 && step_ms < least {
            return Err(format!(
                "a step of {step_ms} ms makes more than {MAX_POINTS} points of this time: give {least} or more, or 0"
            ));
        }
        Ok(Self { from_ms, to_ms, step_ms })
    }

    /// The tier to read: of those that are fine enough, the coarsest, which reaches back the farthest; a coarser one where
    /// that does not reach back as far as is asked and the coarser one does. `oldest` says how far each tier reaches back.
    pub(crate) fn tier(&self, oldest: impl Fn(&Tier) -> Option<u64>) -> Tier {
        let step = if self.step_ms == 0 { (self.to_ms - self.from_ms).div_ceil(MAX_POINTS) } else { self.step_ms };
        let fine = TIERS.iter().rposition(|tier| tier.width_ms <= step).unwrap_or(0);
        let reach = |tier: &Tier| oldest(tier).unwrap_or(u64::MAX).max(self.from_ms);
        let mut best = TIERS[fine];
        for tier in &TIERS[fine + 1..] {
            // A coarser bucket begins earlier by up to its width though it knows no more.
            if reach(tier).saturating_add(tier.width_ms) < reach(&best) {
                best = *tier;
            }
        }
        best
    }

    /// Width of a point when that tier is read: a multiple of its buckets' width.
    pub(crate) fn step(&self, tier: Tier) -> u64 {
        let least = self.step_ms.max((self.to_ms - self.from_ms).div_ceil(MAX_POINTS)).max(1);
        least.div_ceil(tier.width_ms) * tier.width_ms
    }
}

/// One metric's points from a tier's buckets, each `step_ms` wide. Times without a sample have none.
pub(crate) fn points(buckets: &[(u64, Bucket)], metric: u8, step_ms: u64) -> Vec<HistoryPoint> {
    let mut sums = BTreeMap::new();
    for (at_ms, bucket) in buckets {
        if let Some(summary) = bucket.get(metric) {
            let begin = at_ms - at_ms % step_ms;
            sums.entry(begin)
                .and_modify(|sum: &mut super::bucket::Summary| *sum = sum.merge(summary))
                .or_insert(summary);
        }
    }
    sums.into_iter().map(|(at_ms, sum)| sum.point(at_ms)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn senseless_times_are_refused() {
        assert!(Query::try_new(5, 5, 0).is_err() && Query::try_new(6, 5, 0).is_err());
        assert!(Query::try_new(0, u64::MAX, 0).is_err());
        let error = Query::try_new(0, 10 * HOUR, 15_000).expect_err("2,400 points");
        assert!(error.contains("18000 or more"), "{error}");
        assert!(Query::try_new(0, 10 * HOUR, 18_000).is_ok());
    }

    #[test]
    fn the_tier_fits_the_step_and_reaches_back() {
        let now = 1_000 * HOUR;
        let reaching = |tier: &Tier| Some(now - tier.width_ms * tier.kept as u64);
        let tier =
            |hours: u64, step| Query::try_new(now - hours * HOUR, now, step).expect("sense").tier(reaching).width_ms;
        assert_eq!((tier(1, 0), tier(1, 15_000), tier(1, 1_000.max(HOUR / 2_000))), (15_000, 15_000, 15_000));
        assert_eq!(tier(1, 60_000), 60_000, "no finer than asked");
        assert_eq!(tier(10, 20_000), 60_000, "15 s reaches back 2 h only");
        assert_eq!(tier(240, 0), 900_000);
        let none = Query::try_new(now - HOUR, now, 0).expect("sense").tier(|_| None);
        assert_eq!(none, TIERS[0]);
        // An instance that is there since ten minutes: all tiers know the same.
        let young = Query::try_new(now - 10 * HOUR, now, 20_000).expect("sense");
        assert_eq!(young.tier(|tier| Some(tier.begin(now - HOUR / 6))).width_ms, 15_000);
    }

    #[test]
    fn steps_are_multiples_and_never_too_many() {
        let query = Query::try_new(0, 24 * HOUR, 50_000).expect("sense");
        assert_eq!((query.step(TIERS[0]), query.step(TIERS[1])), (60_000, 60_000));
        let query = Query::try_new(0, 14 * 24 * HOUR, 0).expect("sense");
        assert!(14 * 24 * HOUR / query.step(TIERS[0]) <= MAX_POINTS);
    }

    #[test]
    fn buckets_become_points() {
        let bucket = |value: f64| Bucket::of([(7, value)]);
        let got = points(&[(0, bucket(1.0)), (15_000, bucket(3.0)), (60_000, bucket(8.0))], 7, 30_000);
        let want = |at_ms, min, mean, max, samples| HistoryPoint { at_ms, min, mean, max, samples };
        assert_eq!(got, [want(0, 1.0, 2.0, 3.0, 2), want(60_000, 8.0, 8.0, 8.0, 1)]);
        assert!(points(&[(0, bucket(1.0))], 8, 15_000).is_empty());
    }
}
