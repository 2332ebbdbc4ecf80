//! What a measured row says, for machines and for people.

use crate::stats::round;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// One row of the table of targets, measured. Printed as one JSON line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number in the table of targets.
    pub row: u8,
    /// What was measured.
    pub what: String,
    /// Unit of every number without one in its name.
    pub unit: String,
    /// Our numbers.
    pub ours: Map<String, Value>,
    /// The peer that did best in the same run, and any others within it; null where there is none.
    pub peer: Option<Peer>,
    /// How many times better than that peer: above 1 we win. Null without a peer.
    pub ratio: Option<f64>,
    /// Whether every condition of the row holds.
    pub reach: bool,
    /// The conditions, each with what was measured.
    pub conditions: Vec<Condition>,
    /// How it was measured, for whoever wants to doubt it.
    pub how: String,
    /// On what.
    pub machine: Machine,
}

/// Another program that did the same, on the same guests in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// Its numbers.
    #[serde(flatten)]
    pub values: Map<String, Value>,
    /// The other peers of the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Peer>,
}

/// One thing that a row demands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// In words, with the limit.
    pub what: String,
    /// What was measured; null when it could not be, which does not hold.
    pub value: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

impl Condition {
    /// `value` must not be above `limit`.
    #[must_use]
    pub fn at_most(what: &str, value: Option<f64>, limit: f64) -> Self {
        let holds = value.is_some_and(|value| value <= limit);
        Self { what: format!("{what} <= {limit}"), value: value.map(short), holds }
    }

    /// `value` must not be below `limit`.
    #[must_use]
    pub fn at_least(what: &str, value: Option<f64>, limit: f64) -> Self {
        let holds = value.is_some_and(|value| value >= limit);
        Self { what: format!("{what} >= {limit}"), value: value.map(short), holds }
    }
}

/// How many times better `ours` is than `theirs`, where less is better. Nothing when either is unknown or `ours` is not
/// above zero.
#[must_use]
pub fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let (ours, theirs) = (ours?, theirs?);
    (ours > 0.0).then(|| short(theirs / ours))
}

/// Four digits after the point: enough for every unit here.
fn short(value: f64) -> f64 {
    round(value, 4)
}

/// What the row was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor's name; null where the system does not tell.
    pub cpu: Option<String>,
    /// Processors that this process may use.
    pub cores: usize,
    /// Operating system's kernel.
    pub kernel: Option<String>,
    /// Build profile of the measured executable, as far as its bench can tell: `release` or `dev`.
    pub profile: String,
    /// Processes that wanted to run in the last minute, on average (load), when the row was done; a quiet machine shows
    /// only what the row itself needs. Null where the system does not tell.
    pub load: Option<f64>,
    /// First line that the agents' QEMU says of its version; null when it is not installed.
    pub qemu: Option<String>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let model = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            cpu: model,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            qemu: first_line_of(&crate::bed::qemu(), &["--version"]),
        }
    }
}

impl Machine {
    /// In one line, without what changes from minute to minute.
    fn words(&self) -> String {
        let unknown = || "unknown".to_owned();
        format!(
            "{} x {}, Linux {}, {}; build profile `{}`",
            self.cores,
            self.cpu.clone().unwrap_or_else(unknown),
            self.kernel.clone().unwrap_or_else(unknown),
            self.qemu.clone().unwrap_or_else(|| "no QEMU".to_owned()),
            self.profile,
        )
    }
}

/// First line that a program prints; nothing when it cannot be run.
#[must_use]
pub fn first_line_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(arguments).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

impl Row {
    /// A row whose reach is that of all its conditions; without any it is not reached.
    #[must_use]
    pub fn new(row: u8, what: &str, unit: &str, how: &str, conditions: Vec<Condition>) -> Self {
        Self {
            row,
            what: what.to_owned(),
            unit: unit.to_owned(),
            ours: Map::new(),
            peer: None,
            ratio: None,
            reach: !conditions.is_empty() && conditions.iter().all(|condition| condition.holds),
            conditions,
            how: how.to_owned(),
            machine: Machine::this(),
        }
    }
}

/// The rows as a Markdown section: a table, and below it each row's conditions and method.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    if let Some(first) = rows.first() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Measured on {}.\n", first.machine.words());
    }
    text.push_str("| row | what | ours | peer | times better | reached |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let peer = row.peer.as_ref().map_or_else(|| "-".to_owned(), peer_cell);
        let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "| {} | {} ({}) | {} | {peer} | {ratio} | {} |",
            row.row,
            row.what,
            row.unit,
            cell(&row.ours),
            if row.reach { "yes" } else { "**no**" },
        );
    }
    for row in rows {
        let _ = writeln!(text, "\n### Row {}: {}\n\n{}\n", row.row, row.what, row.how);
        if rows.first().is_some_and(|first| first.machine.words() != row.machine.words()) {
            let _ = writeln!(text, "Measured on {}.\n", row.machine.words());
        }
        if let Some(load) = row.machine.load {
            let _ = writeln!(text, "Load of the machine when it was done: {load}.\n");
        }
        for condition in &row.conditions {
            let value = condition.value.map_or_else(|| "not measured".to_owned(), |value| value.to_string());
            let mark = if condition.holds { "holds" } else { "**does not hold**" };
            let _ = writeln!(text, "- {}: {value}, {mark}", condition.what);
        }
    }
    text
}

fn peer_cell(peer: &Peer) -> String {
    let own = format!("{}: {}", peer.name, cell(&peer.values));
    let others = peer.others.iter().map(peer_cell);
    std::iter::once(own).chain(others).collect::<Vec<_>>().join("<br>")
}

/// `a 1, b 2`: plain numbers and words, and of a summary its median, 95th percentile and count.
fn cell(values: &Map<String, Value>) -> String {
    let parts = values.iter().filter_map(|(name, value)| match value {
        Value::Number(_) | Value::Bool(_) => Some(format!("{name} {value}")),
        Value::Object(map) => match (map.get("p50"), map.get("p95"), map.get("n")) {
            (Some(p50), Some(p95), Some(n)) => Some(format!("{name} {p50} (p95 {p95}, n {n})")),
            _ => None,
        },
        Value::Null | Value::String(_) | Value::Array(_) => None,
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Opens the generated part of a document.
pub const BEGIN: &str = "<!-- generated by `loco bench --write-docs`: begin -->";
/// Closes it.
pub const END: &str = "<!-- generated by `loco bench --write-docs`: end -->";

/// `document` with everything between [`BEGIN`] and [`END`] replaced; nothing when it lacks them in that order.
#[must_use]
pub fn replace_generated(document: &str, generated: &str) -> Option<String> {
    let (head, rest) = document.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", generated.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;
    use serde_json::json;

    fn row() -> Row {
        let conditions =
            vec![Condition::at_most("median", Some(8.0), 10.0), Condition::at_least("ratio", Some(2.5), 2.0)];
        let mut row = Row::new(1, "key to pixel", "ms", "by pixels", conditions);
        row.ours.insert("moving".to_owned(), json!(Summary::of(&[8.0, 9.0])));
        let other = Peer { name: "Chromium".to_owned(), values: Map::new(), others: Vec::new() };
        let values = json!({"p50": 20.0}).as_object().cloned().unwrap();
        row.peer = Some(Peer { name: "TigerVNC".to_owned(), values, others: vec![other] });
        row.ratio = ratio(Some(8.0), Some(20.0));
        row
    }

    #[test]
    fn json_has_the_fields_that_tools_read() {
        let value = serde_json::to_value(row()).unwrap();
        for field in ["row", "what", "unit", "ours", "peer", "ratio", "reach", "how", "machine"] {
            assert!(value.get(field).is_some(), "{field} is missing in {value}");
        }
        assert_eq!(value["peer"]["name"], "TigerVNC");
        assert_eq!(value["peer"]["p50"], 20.0);
        assert_eq!(value["peer"]["others"][0]["name"], "Chromium");
        assert_eq!(value["ratio"], 2.5);
        assert_eq!(value["reach"], true);
        let without = Row { peer: None, ratio: None, ..row() };
        assert!(serde_json::to_value(without).unwrap()["peer"].is_null(), "no peer is null, not absent");
    }

    #[test]
    fn reach_needs_every_condition() {
        let holds = |conditions| Row::new(1, "", "ms", "", conditions).reach;
        assert!(holds(vec![Condition::at_most("a", Some(10.0), 10.0)]));
        assert!(!holds(vec![Condition::at_most("a", Some(10.1), 10.0)]));
        assert!(!holds(vec![Condition::at_most("a", Some(1.0), 10.0), Condition::at_least("b", Some(1.9), 2.0)]));
        assert!(!holds(vec![Condition::at_most("a", None, 10.0)]), "what was not measured is not reached");
        assert!(!holds(vec![]), "nothing demanded, nothing reached");
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(Some(5.0), Some(20.0)), Some(4.0));
        assert_eq!(ratio(None, Some(20.0)), None);
        assert_eq!(ratio(Some(0.0), Some(20.0)), None);
    }

    #[test]
    fn markdown_shows_each_number_and_the_failures() {
        let mut failed = row();
        failed.reach = false;
        let text = markdown(&[failed]);
        assert!(text.contains("moving 8.0 (p95 9.0, n 2)"), "{text}");
        assert!(text.contains("TigerVNC: p50 20.0<br>Chromium"), "{text}");
        assert!(text.contains("| 2.50 | **no** |"), "{text}");
        assert!(text.contains("- median <= 10: 8, holds"), "{text}");
    }

    #[test]
    fn only_the_generated_part_is_replaced() {
        let document = format!("# Title\n{BEGIN}\nold\n{END}\nend\n");
        let new = replace_generated(&document, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\n\nnew\n\n{END}\nend\n"));
        assert_eq!(replace_generated(&new, "new").unwrap(), new, "twice is the same as once");
        assert_eq!(replace_generated("# Title", "new"), None);
    }
}
