//! Row 6: how long one waits for the wall.

use super::{Lab, object};
use crate::bed::{Bed, Mode};
use crate::report::{Condition, Row};
use crate::stats::Summary;
use anyhow::Result;
use serde_json::json;
use std::time::Instant;

const HOW: &str = "Everything built and in the page cache. The clock starts before `loco demo -n 9` is started and stops when all nine tiles \
    have presented an advancing barcode of their own number, read back from the presented target.";
const TRIALS: usize = 5;

/// Row 6.
pub(super) async fn nine_tiles(lab: &Lab) -> Result<Row> {
    let mut seconds = Vec::new();
    // The first one warms the page cache and does not count.
    for trial in 0..=TRIALS {
        let begun = Instant::now();
        let mut bed = Bed::start(&lab.loco, 9, Mode::Town).await?;
        let opened = bed.open_viewer(false).await;
        let took = begun.elapsed().as_secs_f64();
        bed.stop().await?;
        opened?;
        if trial > 0 {
            seconds.push(took);
        }
    }
    let summary = Summary::of(&seconds).map(|summary| summary.rounded(2));
    let conditions = vec![Condition::at_most("slowest start, s,", summary.map(|summary| summary.max), 3.0)];
    let mut row = Row::new(6, "start -> nine live tiles, warm", "s", HOW, conditions);
    row.ours = object([("start_s", json!(summary))]);
    Ok(row)
}
