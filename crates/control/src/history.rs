//! What is remembered of every instance's measurements: which metrics there are, how they are summed up, how they are
//! read again.

mod bucket;
mod metrics;
mod query;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

pub(crate) use bucket::Bucket;
pub use metrics::{METRICS, Metric};
pub(crate) use metrics::{Rates, metric};
pub(crate) use query::{MAX_POINTS, Query, points};

/// A tier of history: how wide its buckets are, and how many of an instance's are kept. They are counted, not dated, so
/// that a clock that is set wrong for a while deletes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    /// Its number in the file.
    pub(crate) id: i64,
    /// Width of a bucket in milliseconds.
    pub(crate) width_ms: u64,
    /// Buckets of an instance that are kept at least.
    pub(crate) kept: usize,
}

/// 15 s for 2 h, 1 min for 24 h, 15 min for 14 days.
pub(crate) const TIERS: [Tier; 3] = [
    Tier { id: 0, width_ms: 15_000, kept: 2 * 60 * 4 },
    Tier { id: 1, width_ms: 60_000, kept: 24 * 60 },
    Tier { id: 2, width_ms: 15 * 60_000, kept: 14 * 24 * 4 },
];

impl Tier {
    /// Begin of the bucket that a moment is in.
    pub(crate) fn begin(&self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.width_ms
    }
}

/// The name of a metric, as a schema.
pub(crate) struct MetricName;

impl PartialSchema for MetricName {
    fn schema() -> RefOr<Schema> {
        let names = METRICS.iter().map(|metric| metric.name);
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).enum_values(Some(names)).into()
    }
}

impl ToSchema for MetricName {}
