//! The rows of the table of targets, each measured on its own.

mod api;
mod cost;
mod growth;
mod health;
mod latency;
mod network;
mod recovery;
mod runs;
mod sound;
mod start;
mod thousand;

use crate::plot::Series;
use crate::report::Row;
use crate::stats::round;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The rows that can be measured, in the order in which they are.
pub(crate) const ALL: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16];
/// Length of a measurement where nothing else is said.
pub(crate) const DEFAULT_WINDOW: Duration = Duration::from_secs(20);
/// Length of each part of a link of row 11 where nothing else is said.
pub(crate) const DEFAULT_PHASE: Duration = Duration::from_secs(8);

/// Where and how thoroughly things are measured.
pub(crate) struct Lab {
    /// The executable under measurement.
    pub(crate) loco: PathBuf,
    /// Keys per moving latency measurement; still ones take a tenth of it.
    pub(crate) trials: usize,
    /// Length of a CPU measurement.
    pub(crate) window: Duration,
    /// Length of each part of a link of row 11.
    pub(crate) phase: Duration,
    /// How long row 7 watches still guests.
    pub(crate) still: Duration,
    /// How often rows 5, 7, 10, 11 and 12 are measured.
    pub(crate) runs: usize,
    /// Where plots and raw values go.
    pub(crate) out: PathBuf,
}

impl Lab {
    /// Measures one row.
    pub(crate) async fn measure(&self, row: u8) -> Result<Row> {
        match row {
            1 => latency::one_guest(self).await,
            2 => latency::nine_guests(self).await,
            3 => cost::nine_moving(self).await,
            4 => cost::nine_still(self).await,
            5 => cost::encoding(self).await,
            6 => start::nine_tiles(self).await,
            7 => recovery::killed_frozen_still(self).await,
            8 => health::overhead(self).await,
            9 => api::latency_and_changes(self).await,
            10 => network::bad_link(self).await,
            11 => network::shapes(self).await,
            12 => sound::latency_skew_underruns(self).await,
            15 => thousand::agents(self).await,
            16 => growth::instances_and_pixels(self).await,
            other => bail!("row {other} is not measured by this command: it knows {ALL:?}"),
        }
        .with_context(|| format!("row {row}"))
    }

    /// A tenth of the trials, since each takes over four seconds.
    fn still_trials(&self) -> usize {
        (self.trials / 10).max(5)
    }

    /// Draws a plot into the results' folder. A plot that cannot be drawn loses no row.
    fn plot(&self, name: &str, title: &str, labels: (&str, &str), series: &[Series]) {
        if let Err(error) = crate::plot::lines(&self.out.join(name), title, labels, series) {
            tracing::warn!("{error:#}");
        }
    }

    /// Keeps raw values beside the results.
    fn keep(&self, name: &str, values: &Value) -> Result<()> {
        write(&self.out.join(name), &serde_json::to_string_pretty(values)?)
    }
}

/// Writes a text file.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A JSON object from pairs.
fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Cores to four digits; null when unknown.
fn cores(value: impl Into<Option<f64>>) -> Value {
    value.into().map_or(Value::Null, |value| json!(round(value, 4)))
}
