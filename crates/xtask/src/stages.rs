//! Stages of a long command and the minutes that each took.

use anyhow::Result;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// What was run so far.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<(&'static str, Duration, Outcome)>,
}

impl Stages {
    /// Runs one stage.
    ///
    /// # Errors
    /// What `work` returns.
    pub(crate) fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let result = work();
        let outcome = if result.is_ok() { Outcome::Passed } else { Outcome::Failed };
        self.done.push((name, started.elapsed(), outcome));
        result
    }

    /// Notes that a stage was not run, and why.
    pub(crate) fn skip(&mut self, name: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        eprintln!("\n== {name}: skipped: {reason}");
        self.done.push((name, Duration::ZERO, Outcome::Skipped(reason)));
    }

    /// The table: one line per stage, and the sum.
    pub(crate) fn table(&self) -> String {
        let minutes = |time: Duration| time.as_secs_f64() / 60.0;
        let mut text = format!("{:<24}{:>8}\n", "stage", "minutes");
        for (name, time, outcome) in &self.done {
            let remark = match outcome {
                Outcome::Passed => String::new(),
                Outcome::Failed => "  FAILED".to_owned(),
                Outcome::Skipped(reason) => format!("  skipped: {reason}"),
            };
            // Writing to a String can't fail.
            let _ = writeln!(text, "{name:<24}{:>8.1}{remark}", minutes(*time));
        }
        let sum: Duration = self.done.iter().map(|(_, time, _)| *time).sum();
        let _ = write!(text, "{:<24}{:>8.1}", "all", minutes(sum));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_all_stages_also_after_a_failure() {
        let mut stages = Stages::default();
        stages.run("format", || Ok(())).unwrap();
        stages.skip("licences", "cargo-deny is not installed");
        let error = stages.run("lints", || anyhow::bail!("unused")).unwrap_err();
        assert_eq!(error.to_string(), "unused");
        let table = stages.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1].trim_end(), "format                       0.0");
        assert!(lines[2].ends_with("skipped: cargo-deny is not installed"));
        assert!(lines[3].ends_with("FAILED"));
        assert!(lines[4].starts_with("all "));
    }
}
