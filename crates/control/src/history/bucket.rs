//! Samples of one instance within one time, summed up per metric.

use loco_model::api::HistoryPoint;
use std::collections::BTreeMap;

/// Bytes of one metric in a bucket: number, samples, least, mean, greatest.
const ENTRY_BYTES: usize = 1 + 4 + 3 * 4;

/// Least, mean and greatest of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) max: f64,
    pub(crate) samples: u32,
}

/// What was seen of one instance within one time, by the metric's number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bucket {
    values: BTreeMap<u8, Summary>,
}

// === impl Summary ===

impl Summary {
    fn one(value: f64) -> Self {
        Self { min: value, mean: value, max: value, samples: 1 }
    }

    pub(crate) fn merge(self, other: Self) -> Self {
        let samples = self.samples.saturating_add(other.samples);
        let weigh = |summary: Self| summary.mean * f64::from(summary.samples);
        let mean = (weigh(self) + weigh(other)) / f64::from(samples.max(1));
        Self { min: self.min.min(other.min), mean, max: self.max.max(other.max), samples }
    }

    pub(crate) fn point(self, at_ms: u64) -> HistoryPoint {
        HistoryPoint { at_ms, min: self.min, mean: self.mean, max: self.max, samples: self.samples }
    }
}

// === impl Bucket ===

impl Bucket {
    /// One sample of each metric; those that are no number are left out.
    pub(crate) fn of(values: impl IntoIterator<Item = (u8, f64)>) -> Self {
        let finite = values.into_iter().filter(|(_, value)| value.is_finite());
        Self { values: finite.map(|(metric, value)| (metric, Summary::one(value))).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(crate) fn get(&self, metric: u8) -> Option<Summary> {
        self.values.get(&metric).copied()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (metric, summary) in &other.values {
            self.values.entry(*metric).and_modify(|known| *known = known.merge(*summary)).or_insert(*summary);
        }
    }

    /// As the file keeps it: 17 bytes a metric, little endian. Single precision is finer than any of these measurements.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.values.len() * ENTRY_BYTES);
        for (metric, summary) in &self.values {
            bytes.push(*metric);
            bytes.extend_from_slice(&summary.samples.to_le_bytes());
            for value in [summary.min, summary.mean, summary.max] {
                bytes.extend_from_slice(&(value as f32).to_le_bytes());
            }
        }
        bytes
    }

    /// From the file; `None` when it is nothing that [`Self::encode`] makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        let mut values = BTreeMap::new();
        for [metric, rest @ ..] in entries {
            let (words, _) = rest.as_chunks::<4>();
            let [samples, numbers @ ..] = words else { return None };
            let [min, mean, max] = *<&[[u8; 4]; 3]>::try_from(numbers).ok()?;
            let [min, mean, max] = [min, mean, max].map(|word| f64::from(f32::from_le_bytes(word)));
            let samples = u32::from_le_bytes(*samples);
            if samples == 0 || !(min.is_finite() && mean.is_finite() && max.is_finite()) {
                return None;
            }
            values.insert(*metric, Summary { min, mean, max, samples });
        }
        Some(Self { values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_sum_up() {
        let mut bucket = Bucket::of([(1, 2.0), (2, f64::NAN)]);
        bucket.merge(&Bucket::of([(1, 4.0), (3, -1.0)]));
        bucket.merge(&Bucket::of([(1, 9.0)]));
        assert_eq!(bucket.get(1), Some(Summary { min: 2.0, mean: 5.0, max: 9.0, samples: 3 }));
        assert_eq!((bucket.get(2), bucket.get(3)), (None, Some(Summary::one(-1.0))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::btree_map(any::<u8>(), -1e30_f32..1e30, 0..40)) {
            let bucket = Bucket::of(values.into_iter().map(|(metric, value)| (metric, f64::from(value))));
            let bytes = bucket.encode();
            prop_assert_eq!(Bucket::decode(&bytes), Some(bucket));
            if let Some((_, cut)) = bytes.split_last() {
                prop_assert_eq!(Bucket::decode(cut), None);
            }
        }

        #[test]
        fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(bucket) = Bucket::decode(&bytes) {
                prop_assert!(bucket.values.values().all(|summary| summary.samples > 0 && summary.mean.is_finite()));
            }
        }
    }
}
