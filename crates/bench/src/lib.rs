//! Benchmarks on real guests, beside their peers, by pixels of the presented target; and the demo's self-check.
//!
//! Everything here looks at the product from outside: it starts the real `loco` processes, speaks their HTTP API and
//! the viewer's automation channel, decodes barcodes from the pixels that were presented, and reads the kernel's
//! accounts of CPU time. No number comes from the inside of the product where an outside one can be had.

pub mod automation;
mod bed;
mod check;
pub mod chromium;
pub mod clock;
pub mod cpu;
mod plot;
pub mod report;
pub mod sound_server;
pub mod stats;
pub mod tiles;
pub mod udp;
pub mod vnc;
pub mod x11;

pub use check::{CheckArgs, CheckReport, TileReport, check};

use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `loco bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Rows of the table of targets to measure, separated by commas; all that this command knows when left out.
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    pub rows: Vec<u8>,
    /// Print one JSON line per row instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Folder for the JSON lines, the Markdown table and the plots; a new one under the temporary folder when left out.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The `loco` executable to measure; the running one when left out.
    #[arg(long, value_name = "FILE")]
    pub loco: Option<PathBuf>,
    /// Write the results between the markers of this Markdown file, and its plots beside it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    pub write_docs: Option<PathBuf>,
}

/// `loco bench`: measures, prints, and answers with failure only when a row could not be measured.
///
/// # Errors
/// When the product or a needed tool cannot be started at all.
#[expect(clippy::unused_async, clippy::needless_pass_by_value, reason = "the rows are not there yet")]
pub async fn run(args: BenchArgs) -> Result<ExitCode> {
    anyhow::bail!("no row is measured yet (asked for {:?})", args.rows)
}
