//! Is the house built as ARCHITECTURE.md draws it? Dependencies between rooms, and a tree that speaks of itself alone.
#![allow(clippy::expect_used, reason = "a test: a panic is its message")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// Who may import whom: a crate of this workspace, and those of this workspace that it may depend on directly.
/// Development dependencies count too: a test that needs a forbidden neighbour belongs into `tests/`.
const ARROWS: &[(&str, &[&str])] = &[
    ("loco-model", &[]),
    ("loco-process", &[]),
    ("loco-demo-guest", &[]),
    ("loco-impair", &[]),
    ("xtask", &[]),
    ("loco-http", &["loco-model"]),
    ("loco-guest", &["loco-model", "loco-process"]),
    ("loco-sound", &["loco-model"]),
    ("loco-media", &["loco-model", "loco-http", "loco-sound"]),
    ("loco-agent", &["loco-model", "loco-process", "loco-http", "loco-guest", "loco-media"]),
    ("loco-control", &["loco-model", "loco-process", "loco-http"]),
    ("loco-viewer", &["loco-model", "loco-process", "loco-http", "loco-sound", "loco-media"]),
    // From outside: it starts the real processes and looks at pixels, HTTP and /proc.
    ("loco-bench", &["loco-model", "loco-process", "loco-http", "loco-demo-guest", "loco-impair"]),
    (
        "loco",
        &[
            "loco-model",
            "loco-process",
            "loco-http",
            "loco-guest",
            "loco-media",
            "loco-agent",
            "loco-control",
            "loco-viewer",
            "loco-bench",
        ],
    ),
    (
        "loco-tests",
        &[
            "loco-model",
            "loco-process",
            "loco-http",
            "loco-demo-guest",
            "loco-impair",
            "loco-media",
            "loco-viewer",
            "loco-bench",
        ],
    ),
];

/// What model must not reach, however indirectly: no input, no output, no async, no clock.
const NOT_IN_MODEL: &[&str] = &["tokio", "rustix", "libc", "reqwest", "axum", "tracing", "rand"];

/// A crate: names of those that it directly depends on, and whether it links a C library (`links` in its manifest).
#[derive(Default)]
struct Package {
    /// For its library or program, and for its build script.
    built: BTreeSet<String>,
    /// For its tests.
    tested: BTreeSet<String>,
    links: Option<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The resolved graph: what is really built on Linux, optional and other systems' dependencies left out.
fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        // Several versions of one crate count as one.
        packages.entry(text(&package["name"])).or_default().links = package["links"].as_str().map(str::to_owned);
    }
    for node in list(&metadata["resolve"]["nodes"]) {
        let package = packages.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            let name = names[&text(&dependency["pkg"])].clone();
            for kind in list(&dependency["dep_kinds"]) {
                let set = if kind["kind"] == "dev" { &mut package.tested } else { &mut package.built };
                set.insert(name.clone());
            }
        }
    }
    packages
}

/// All that `name` is built of, directly or not.
fn reached(packages: &BTreeMap<String, Package>, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        for dependency in packages.get(&next).iter().flat_map(|package| &package.built) {
            if found.insert(dependency.clone()) {
                open.push(dependency.clone());
            }
        }
    }
    found
}

#[test]
fn arrows_run_downwards_only() {
    let packages = packages();
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, package) in &packages {
        // Tests may run the demo guest and the bad network, which stand alone.
        let tested = package.tested.iter().filter(|name| !["loco-demo-guest", "loco-impair"].contains(&name.as_str()));
        let all = package.built.iter().chain(tested);
        let ours: BTreeSet<&str> = all.map(String::as_str).filter(|name| rooms.contains(name)).collect();
        if let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| room == name) {
            let forbidden: Vec<_> = ours.iter().filter(|dependency| !allowed.contains(dependency)).collect();
            assert!(forbidden.is_empty(), "{name} must not depend on {forbidden:?}: see ARCHITECTURE.md");
        }
    }
    let missing: Vec<_> = rooms.iter().filter(|room| !packages.contains_key(**room)).collect();
    assert!(missing.is_empty(), "no such crate: {missing:?}");
    let unknown: Vec<_> = packages
        .keys()
        .filter(|name| (name.starts_with("loco") || *name == "xtask") && !rooms.contains(name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "a new room: say in this test and in ARCHITECTURE.md whom it may import: {unknown:?}");
}

#[test]
fn rooms_that_must_not_know_each_other_do_not_meet_indirectly_either() {
    let packages = packages();
    for (one, other) in [
        ("loco-guest", "loco-media"),
        ("loco-agent", "loco-viewer"),
        ("loco-agent", "loco-control"),
        ("loco-viewer", "loco-control"),
        ("loco-viewer", "loco-guest"),
        ("loco-bench", "loco-media"),
    ] {
        assert!(!reached(&packages, one).contains(other), "{one} reaches {other}");
        assert!(!reached(&packages, other).contains(one), "{other} reaches {one}");
    }
}

#[test]
fn the_model_only_computes() {
    let reached = reached(&packages(), "loco-model");
    let found: Vec<_> = NOT_IN_MODEL.iter().filter(|name| reached.contains(**name)).collect();
    assert!(found.is_empty(), "loco-model reaches {found:?}");
}

#[test]
fn the_demo_guest_stands_alone() {
    let packages = packages();
    assert!(packages["loco-demo-guest"].built.is_empty(), "a bare-metal program has nothing below it");
}

#[test]
fn xtask_builds_where_only_rust_and_gcc_are() {
    let packages = packages();
    let native: Vec<_> = reached(&packages, "xtask")
        .into_iter()
        .filter(|name| packages.get(name).is_some_and(|p| p.links.is_some()))
        .collect();
    assert!(native.is_empty(), "xtask must not need a C library, but reaches {native:?}");
}

#[test]
fn only_transport_speaks_webrtc() {
    let mut offenders = Vec::new();
    for (path, text) in rust_sources() {
        let in_transport = path.starts_with("crates/media/src/transport") || path == "tests/tests/house.rs";
        let uses = text.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && (line.contains("webrtc::") || line.contains(" rtc::"))
        });
        if uses && !in_transport {
            offenders.push(path);
        }
    }
    assert!(offenders.is_empty(), "webrtc's types stay inside crates/media/src/transport: {offenders:?}");
}

#[test]
fn files_stay_small() {
    let long: Vec<_> =
        rust_sources().into_iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, n)| *n > 500).collect();
    assert!(long.is_empty(), "files over 500 lines: {long:?}");
}

/// A file that names a folder of the machine it was written on works nowhere else.
#[test]
fn no_file_knows_where_it_was_written() {
    // Put together here so that this file does not contain them.
    let homes = ["/work", "/home/", "/root/", "/Users/"]
        .map(|home| format!("{home}{}", if home == "/work" { "/" } else { "" }));
    // Paths inside of other machines: the clean room's, a container's.
    let allowed = ["crates/xtask/src/clean_room.rs", "tests/tests/house.rs"];
    let mut offenders = Vec::new();
    for path in committed_files() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if homes.iter().any(|home| names_folder(line, home)) && !allowed.contains(&path.as_str()) {
                offenders.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(offenders.is_empty(), "paths of a workplace:\n{}", offenders.join("\n"));
}

/// Whether `line` has `folder` at the start of a path, and not inside of a longer one such as `networks/work/`.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}*)".contains(c)))
}

#[test]
fn folders_are_told_from_parts_of_longer_paths() {
    assert!(names_folder("see /home/ada/loco", "/home/") && names_folder("\"/home/x\"", "/home/"));
    assert!(!names_folder("https://a.org/home/x", "/home/") && !names_folder("~/home/x", "/home/"));
}

fn committed_files() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn rust_sources() -> Vec<(String, String)> {
    let sources = committed_files().into_iter().filter(|path| path.ends_with(".rs"));
    sources.filter_map(|path| Some((path.clone(), std::fs::read_to_string(root().join(path)).ok()?))).collect()
}
