//! What is said about a set of measurements.

use serde::{Deserialize, Serialize};

/// A set of measurements in a few numbers. Percentiles are nearest-rank: each is a value that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there were.
    pub n: usize,
    /// The smallest.
    pub min: f64,
    /// Half are not larger.
    pub p50: f64,
    /// 95 % are not larger.
    pub p95: f64,
    /// 99 % are not larger; with fewer than 100 values this is the largest.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample; 0 for a single value.
    pub sd: f64,
}

impl Summary {
    /// Summary of `values`, or nothing when there are none. Values that are not finite are left out.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let at = |percent| percentile(&sorted, percent).unwrap_or(max);
        Some(Self { n, min, p50: at(50.0), p95: at(95.0), p99: at(99.0), max, mean, sd })
    }

    /// The same with every value rounded to `digits` after the point, for people.
    #[must_use]
    pub fn rounded(self, digits: i32) -> Self {
        let r = |value| round(value, digits);
        Self {
            n: self.n,
            min: r(self.min),
            p50: r(self.p50),
            p95: r(self.p95),
            p99: r(self.p99),
            max: r(self.max),
            mean: r(self.mean),
            sd: r(self.sd),
        }
    }
}

/// Nearest-rank percentile of sorted values: the smallest one that at least `percent` % of them do not exceed.
/// Nothing for an empty set.
#[must_use]
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent.clamp(0.0, 100.0) / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Median of values in any order.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    Summary::of(values).map(|summary| summary.p50)
}

/// `value` with `digits` digits after the point.
#[must_use]
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        for (percent, expected) in [(0.0, 1.0), (1.0, 1.0), (50.0, 50.0), (95.0, 95.0), (99.0, 99.0), (100.0, 100.0)] {
            assert_eq!(percentile(&values, percent), Some(expected), "{percent} %");
        }
        assert_eq!(percentile(&[3.0], 99.0), Some(3.0));
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 50.0), Some(2.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn summaries() {
        let summary = Summary::of(&[4.0, 2.0, 9.0, f64::NAN]).unwrap();
        assert_eq!((summary.n, summary.min, summary.p50, summary.max, summary.mean), (3, 2.0, 4.0, 9.0, 5.0));
        assert_eq!(summary.sd, 13_f64.sqrt());
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[7.0]).unwrap().sd, 0.0);
        assert_eq!(Summary::of(&[1.23456]).unwrap().rounded(2).p50, 1.23);
    }
}
