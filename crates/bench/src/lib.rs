//! Benchmarks on real guests, beside their peers, by pixels of the presented target; and the demo's self-check.
//!
//! Everything here looks at the product from outside: it starts the real `loco` processes, speaks their HTTP API and
//! the viewer's automation channel, decodes barcodes from the pixels that were presented, and reads the kernel's
//! accounts of CPU time. No number comes from the inside of the product where an outside one can be had.

pub mod automation;
mod bed;
mod browsing;
mod check;
pub mod chromium;
pub mod clock;
pub mod control;
pub mod cpu;
mod docs;
pub mod follow;
pub mod guest_log;
mod latency;
pub mod line;
mod load;
mod plot;
pub mod report;
mod rows;
pub mod simulated;
pub mod sound_server;
pub mod stats;
pub mod tiles;
pub mod udp;
mod viewing;
pub mod vnc;
pub mod x11;

pub use check::{CheckArgs, CheckReport, TileReport, check};

use anyhow::{Context, Result};
use rows::Lab;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `loco bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Rows of the table of targets to measure, separated by commas; all that this command knows when left out.
    #[arg(long, value_delimiter = ',', value_name = "ROWS", value_parser = parse_row)]
    pub rows: Vec<u8>,
    /// Print one JSON line per row instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Folder for the JSON lines, the Markdown table and the plots; a new one under the temporary folder when left out.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keys pressed per measurement of latency, at least 20
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u16).range(20..=10_000))]
    pub trials: u16,
    /// Length of a measurement of CPU, of the loss of row 10 (300 for its target), of each part of a link of row 11
    /// [default: 20, and 8 for row 11]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(2..=3600))]
    pub seconds: Option<u16>,
    /// How often rows 5, 7 and 12 and each link of rows 10 and 11 are measured; more than one show the variance
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
    /// How long row 7 watches still guests, in seconds; its target speaks of an hour, 3600
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub still_seconds: u32,
    /// The `loco` executable to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub loco: Option<PathBuf>,
    /// Write the results between the markers of this Markdown file, and the plots beside it
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    pub write_docs: Option<PathBuf>,
}

/// `loco bench`: measures, prints, and keeps everything in a folder. Fails when a row could not be measured; a row whose
/// target is not reached is a result.
///
/// # Errors
/// When the document has no place for the results, or they cannot be written.
pub async fn run(args: BenchArgs) -> Result<ExitCode> {
    let rows: Vec<u8> = if args.rows.is_empty() { rows::ALL.to_vec() } else { args.rows.clone() };
    if let Some(document) = &args.write_docs {
        docs::check(document)?;
    }
    let out = match &args.out {
        Some(out) => out.clone(),
        None => std::env::temp_dir().join(format!("loco-bench-{}", std::process::id())),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let loco = args.loco.clone().map_or_else(std::env::current_exe, Ok).context("cannot find the own executable")?;
    let lab = Lab {
        loco,
        trials: args.trials.into(),
        window: args.seconds.map_or(rows::DEFAULT_WINDOW, |seconds| Duration::from_secs(seconds.into())),
        phase: args.seconds.map_or(rows::DEFAULT_PHASE, |seconds| Duration::from_secs(seconds.into())),
        still: Duration::from_secs(args.still_seconds.into()),
        runs: args.runs.into(),
        out: out.clone(),
    };
    let mut measured = Vec::new();
    let mut failed = false;
    for row in rows {
        tracing::info!(row, "measuring");
        match lab.measure(row).await {
            Ok(row) => {
                if args.json {
                    print(&serde_json::to_string(&row)?);
                }
                measured.push(row);
                // At once: rows take hours, and a later one may take everything down with it.
                rows::write(&out.join("rows.jsonl"), &docs::lines(&measured)?)?;
            }
            Err(error) => {
                failed = true;
                tracing::error!("{error:#}");
            }
        }
    }
    let markdown = report::markdown(&measured);
    if !args.json {
        print(&markdown);
    }
    rows::write(&out.join("rows.jsonl"), &docs::lines(&measured)?)?;
    rows::write(&out.join("rows.md"), &markdown)?;
    if let Some(document) = &args.write_docs {
        docs::write_results(document, &measured, &out)?;
    }
    tracing::info!(out = %out.display(), "kept the results");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints a line. A reader that went away costs no result: all are in the folder too.
fn print(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!("the results cannot be printed: {error}");
    }
}

fn parse_row(text: &str) -> Result<u8, String> {
    let row = text.parse().ok().filter(|row| rows::ALL.contains(row));
    row.ok_or_else(|| format!("row {text:?} is not measured by this command: it knows {:?}", rows::ALL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_there_are_named() {
        assert_eq!(parse_row("16"), Ok(16));
        for bad in ["", "13", "-1", "a", "300"] {
            assert!(parse_row(bad).is_err_and(|why| why.contains(&format!("{bad:?}")) && why.contains("16")), "{bad}");
        }
    }
}
