//! docs/faults.md is true: every line of its tables names a test that there is, and every test of faults has a line.
#![allow(clippy::panic, reason = "a test: a panic is its message")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const COLUMNS: usize = 5;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The tests that a program lists by `alone!(name)` or `beside!(name)`, each with the program's name before it.
fn listed(program: &str, source: &str) -> BTreeSet<String> {
    let rests = ["alone!(", "beside!("].into_iter().flat_map(|mark| source.split(mark).skip(1));
    let names = rests.filter_map(|rest| rest.split_once(')'));
    names.map(|(name, _)| format!("{program} {name}")).collect()
}

/// Whether there is such a test outside these programs: "guest::liveness name" is a test of a file in `crates/guest/tests`,
/// or else in `crates/guest/src`.
fn is_elsewhere(test: &str) -> bool {
    let Some((place, name)) = test.split_once(' ') else { return false };
    let Some((room, file)) = place.split_once("::") else { return false };
    let file = file.replace("::", "/");
    let paths = ["tests", "src"].map(|folder| root().join(format!("../crates/{room}/{folder}/{file}.rs")));
    let Some(source) = paths.iter().find_map(|path| fs::read_to_string(path).ok()) else { return false };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let is_test = matches!(pair[0], "#[test]" | "#[tokio::test]");
        is_test && [format!("fn {name}() {{"), format!("async fn {name}() {{")].iter().any(|head| head == pair[1])
    })
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of every line of a table, its head and its rule left out.
fn lines(document: &str) -> Vec<Vec<String>> {
    let rows = document
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--") && !line.starts_with("| fault |"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn tests_of_other_rooms_are_told_from_what_is_none() {
    assert!(is_elsewhere("agent::stuck a_stuck_agent_answers_503_and_200_when_it_goes_on"));
    assert!(!is_elsewhere("agent::stuck health"), "a helper");
    assert!(!is_elsewhere("agent::stuck there_is_no_such_test"));
    assert!(!is_elsewhere("agent::no_such_file there_is_no_such_test"));
    assert!(!is_elsewhere("recovery there_is_no_such_test"));
}

#[test]
fn every_fault_has_its_test_and_every_test_its_fault() {
    let document = source("../docs/faults.md");
    let lines = lines(&document);
    assert!(lines.len() > 20, "the tables were not found");
    let mut tests = listed("recovery", &source("tests/recovery/main.rs"));
    tests.extend(listed("contract", &source("tests/contract/main.rs")));
    let mut named = BTreeSet::new();
    for line in &lines {
        assert_eq!(line.len(), COLUMNS, "{line:?}");
        assert!(line.iter().all(|cell| !cell.is_empty()), "an empty cell: {line:?}");
        let classes = ["none", "network", "qemu", "client", "mixed", "as it is"];
        assert!(classes.contains(&line[2].as_str()), "{:?} is no class: {line:?}", line[2]);
        let test = line[4].trim_matches('`').to_owned();
        assert!(tests.contains(&test) || is_elsewhere(&test), "{test:?} is no test: {tests:?}");
        assert!(named.insert(test), "named twice: {line:?}");
    }
    let without: Vec<_> = tests.difference(&named).collect();
    assert!(without.is_empty(), "tests without a line in docs/faults.md: {without:?}");
}
