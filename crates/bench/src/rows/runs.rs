//! Several runs of one measurement, in one row.

use crate::stats::{Summary, median};
use serde_json::{Map, Value, json};

/// The median of a number over the runs that have it.
pub(super) fn middle(runs: &[Map<String, Value>], name: &str) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|run| run.get(name)?.as_f64()).collect();
    // One run without it is a run that failed it.
    (values.len() == runs.len()).then(|| median(&values)).flatten()
}

/// Of one run its numbers; of several each number's summary, and all runs.
pub(super) fn over_runs(runs: &[Map<String, Value>]) -> Map<String, Value> {
    let Some((first, [_, ..])) = runs.split_first() else { return runs.first().cloned().unwrap_or_default() };
    let mut all: Map<String, Value> = first
        .keys()
        .map(|name| {
            let values: Vec<f64> = runs.iter().filter_map(|run| run.get(name)?.as_f64()).collect();
            (name.clone(), json!(Summary::of(&values).map(|summary| summary.rounded(2))))
        })
        .collect();
    all.insert("runs".to_owned(), json!(runs));
    all
}

#[cfg(test)]
mod tests {
    use super::super::object;
    use super::*;

    #[test]
    fn medians_over_runs_need_every_run() {
        let run = |value: Value| object([("fps", value)]);
        let runs = [run(json!(20.0)), run(json!(24.0)), run(json!(22.0))];
        assert_eq!(middle(&runs, "fps"), Some(22.0));
        assert_eq!(over_runs(&runs)["fps"]["n"], 3);
        assert_eq!(over_runs(&runs[..1])["fps"], 20.0);
        assert_eq!(middle(&[run(json!(20.0)), run(Value::Null)], "fps"), None, "a run without it failed it");
    }
}
