use super::*;
use loco_model::api::Severity;
use loco_model::recovery::{Initiator, Outcome};
use loco_model::{FailureClass, Remedy};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

const MINUTE: u64 = 60_000;
/// A moment at which buckets of all widths begin.
const BEGIN: u64 = 1_700_000_100_000 - 1_700_000_100_000 % (15 * MINUTE);

fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).expect("index")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path()).expect("open")
}

fn attempt(name: &str, outcome: Outcome) -> Attempt {
    Attempt {
        outcome,
        ..Attempt::begun(name.to_owned(), id(1), BEGIN, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent)
    }
}

fn alert(name: &str) -> Alert {
    Alert {
        id: name.to_owned(),
        at_ms: BEGIN,
        ended_at_ms: None,
        severity: Severity::Warning,
        instance_id: None,
        title: "Something".to_owned(),
        detail: None,
    }
}

fn report(at_ms: u64, cpu: f64) -> HealthReport {
    let mut report = HealthReport { timestamp_ms: at_ms, ..HealthReport::default() };
    report.deep_health.performance.qemu_cpu = Some(cpu);
    report
}

fn means(store: &Store, from_ms: u64, to_ms: u64, step_ms: u64) -> Vec<(u64, f64, u32)> {
    let history = store.history(id(0), "qemu_cpu", from_ms, to_ms, step_ms).expect("history");
    history.points.iter().map(|point| (point.at_ms - BEGIN, point.mean, point.samples)).collect()
}

fn ids(attempts: &[Attempt]) -> Vec<&str> {
    attempts.iter().map(|attempt| attempt.id.as_str()).collect()
}

fn files(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).expect("folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Fills a store with one of everything.
fn fill(store: &Store) {
    store.set_active(&[id(3), id(1)]);
    store.put_attempt(&attempt("first", Outcome::Running));
    store.put_attempt(&attempt("second", Outcome::Running));
    store.put_attempt(&attempt("first", Outcome::Repaired));
    store.put_alert(&alert("a"));
    store.put_report(id(0), BEGIN, &report(1, 0.5));
    store.set_config(ConfigName::Use, json!({"maxFps": 7})).expect("allowed");
}

fn check(store: &Store) {
    assert_eq!(store.active(), [id(3), id(1)]);
    assert_eq!(ids(&store.attempts(9)), ["second", "first"]);
    assert_eq!(store.attempts(9)[1].outcome, Outcome::Repaired);
    assert_eq!(store.attempts(1).len(), 1);
    assert_eq!(store.alerts(9), [alert("a")]);
    assert_eq!(store.settings::<UseConfig>().max_fps, 7);
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = folder();
    let store = open(&dir);
    let control_id = store.control_id();
    fill(&store);
    assert!(store.flush());
    check(&store);
    drop(store);
    let store = open(&dir);
    check(&store);
    assert_eq!((store.control_id(), store.moved_aside()), (control_id, None));
    assert_eq!(means(&store, BEGIN, BEGIN + MINUTE, 0), [(0, 0.5, 1)]);
    assert_eq!(store.health(), StoreHealth::default());
    for name in files(&dir) {
        let mode = std::fs::metadata(dir.path().join(&name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is private");
    }
}

#[test]
fn an_attempt_that_was_left_to_others_is_known_as_such_however_it_was_stored() {
    let dir = folder();
    let store = open(&dir);
    let detail = |text: &str| Some(text.to_owned());
    for stored in [
        attempt("now", Outcome::Yielded),
        // As it was stored before that was an outcome.
        Attempt { detail: detail("somebody else repairs it: wait"), ..attempt("before", Outcome::Failed) },
        Attempt { detail: detail("no disk"), ..attempt("failed", Outcome::Failed) },
    ] {
        store.put_attempt(&stored);
    }
    assert!(store.flush());
    drop(store);
    let outcomes: Vec<Outcome> = open(&dir).attempts(9).iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Yielded, Outcome::Yielded]);
}

#[test]
fn a_store_in_memory_is_the_same_while_it_lives() {
    let store = Store::in_memory();
    fill(&store);
    assert!(store.flush());
    check(&store);
    assert_eq!(means(&store, BEGIN, BEGIN + MINUTE, 0), [(0, 0.5, 1)]);
    assert_eq!(store.control_id().len(), 32);
    assert_ne!(store.control_id(), Store::in_memory().control_id());
}

#[test]
fn what_was_written_before_a_kill_is_there() {
    let dir = folder();
    let store = open(&dir);
    fill(&store);
    assert!(store.flush());
    // As kill -9 leaves it: the log is not in the file yet.
    let copy = folder();
    for name in files(&dir) {
        std::fs::copy(dir.path().join(&name), copy.path().join(&name)).expect("copy");
    }
    assert!(files(&copy).iter().any(|name| name.ends_with("-wal")), "{:?}", files(&copy));
    check(&open(&copy));
}

#[test]
fn one_folder_is_one_control_planes() {
    let dir = folder();
    let store = open(&dir);
    let error = Store::open(dir.path()).expect_err("in use").to_string();
    assert!(error.contains("in use by another control plane"), "{error}");
    drop(store);
    open(&dir);
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("write");
    assert!(matches!(Store::open(&file.join("state")), Err(StoreError::Folder { .. })));
}

#[test]
fn files_that_cannot_be_used_are_put_aside() {
    let foreign = |path: &Path| {
        let db = Connection::open(path).expect("open");
        db.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("write");
    };
    let newer = |path: &Path| {
        let db = Connection::open(path).expect("open");
        db.execute_batch("PRAGMA user_version = 9000; CREATE TABLE later (x)").expect("write");
        db.pragma_update(None, "application_id", 0x4C4F_434F_i64).expect("write");
    };
    let damaged = |path: &Path| {
        let dir = folder();
        let store = open(&dir);
        for index in 0..200 {
            store.put_attempt(&attempt(&format!("attempt {index}"), Outcome::Failed));
        }
        drop(store);
        let mut bytes = std::fs::read(dir.path().join(open::FILE)).expect("read");
        let end = bytes.len();
        bytes[8_192..end].fill(0xA5);
        std::fs::write(path, bytes).expect("write");
    };
    let rubbish = |path: &Path| std::fs::write(path, b"this is no database, whatever its name says").expect("write");
    type Make<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, Make<'_>); 4] =
        [("foreign", &foreign), ("newer", &newer), ("damaged", &damaged), ("rubbish", &rubbish)];
    for (what, make) in makers {
        let dir = folder();
        let path = dir.path().join(open::FILE);
        make(&path);
        let before = std::fs::read(&path).expect("read");
        let store = open(&dir);
        let aside = store.moved_aside().expect(what);
        let name = aside.file_name().expect("name").to_string_lossy().into_owned();
        assert!(name.starts_with("control.db.corrupt-"), "{name}");
        assert_eq!(std::fs::read(&aside).expect("kept"), before, "{what}");
        assert!(store.attempts(9).is_empty() && store.health().failing_since_ms.is_none());
        fill(&store);
        assert!(store.flush());
        drop(store);
        let store = open(&dir);
        check(&store);
        assert_eq!(store.moved_aside(), None, "{what}: the new one is well");
    }
}

#[test]
fn few_files_are_kept_aside() {
    let dir = folder();
    for _ in 0..6 {
        std::fs::write(dir.path().join(open::FILE), b"rubbish").expect("write");
        drop(open(&dir));
    }
    let aside = files(&dir).iter().filter(|name| name.contains("corrupt")).count();
    assert_eq!(aside, 3, "{:?}", files(&dir));
}

#[test]
fn samples_are_summed_up_and_survive_a_restart_in_the_middle() {
    let dir = folder();
    let mut store = open(&dir);
    for minute in 0..40 {
        for quarter in 0..4 {
            let at = BEGIN + minute * MINUTE + quarter * 15_000;
            store.put_report(id(0), at + 3, &report(at, minute as f64 + quarter as f64 / 10.0));
            // Two reports within 15 s are one bucket.
            store.put_report(id(0), at + 9, &report(at + 1, minute as f64 + quarter as f64 / 10.0));
        }
        if minute == 17 {
            drop(store);
            store = open(&dir);
        }
    }
    assert!(store.flush());
    let to = BEGIN + 40 * MINUTE;
    let fine = means(&store, BEGIN, to, 15_000);
    assert_eq!((fine.len(), fine[0].2, fine[1].0), (160, 2, 15_000));
    let minutes = means(&store, BEGIN, to, MINUTE);
    assert_eq!((minutes.len(), minutes[17].0, minutes[17].2), (40, 17 * MINUTE, 8));
    assert!((minutes[17].1 - 17.15).abs() < 1e-5, "{:?}", minutes[17]);
    let quarters = means(&store, BEGIN, to, 15 * MINUTE);
    assert_eq!(quarters.iter().map(|point| point.2).collect::<Vec<_>>(), [120, 120, 80]);
    assert!((quarters[1].1 - 22.15).abs() < 1e-5, "{:?}", quarters[1]);
    let unknown = store.history(id(0), "frame_rate", BEGIN, to, 0).expect("history");
    assert_eq!((unknown.unit.as_str(), unknown.points.len()), ("fps", 0));
    assert!(store.history(id(7), "qemu_cpu", BEGIN, to, 0).expect("history").points.is_empty());
}

#[test]
fn history_has_bounds() {
    let store = Store::in_memory();
    let error = store.history(id(0), "speed", 0, 1, 0).expect_err("unknown").to_string();
    assert!(error.contains("\"speed\"") && error.contains("frame_rate"), "{error}");
    assert!(matches!(store.history(id(0), "rtt", 5, 1, 0), Err(StoreError::Range(_))));
    store.set_config(ConfigName::History, json!({"record": false})).expect("allowed");
    store.put_report(id(0), BEGIN, &report(1, 1.0));
    assert!(store.flush() && means(&store, BEGIN, BEGIN + MINUTE, 0).is_empty());
}

#[test]
fn old_samples_go_and_a_wrong_clock_deletes_nothing() {
    let dir = folder();
    let pace = Pace { prune: Duration::ZERO, ..Pace::default() };
    let store = Store::open_at_pace(dir.path(), pace).expect("open");
    let raw = TIERS[0];
    let put = |store: &Store, begin: u64, count: u64| {
        for index in 0..count {
            let at = begin + index * raw.width_ms;
            store.put_report(id(0), at, &report(at, 1.0));
        }
        assert!(store.flush());
    };
    put(&store, BEGIN, 100);
    // The clock is set forward by a year, and back again.
    put(&store, BEGIN + 365 * 24 * 60 * MINUTE, 4);
    put(&store, BEGIN + 100 * raw.width_ms, 100);
    let count = |store: &Store| means(store, BEGIN, BEGIN + 24 * 60 * MINUTE, MINUTE / 4 * 3).len();
    let all: u32 = means(&store, BEGIN, BEGIN + 60 * MINUTE, 15_000).iter().map(|point| point.2).sum();
    assert_eq!((all, count(&store) > 0), (200, true));
    put(&store, BEGIN + 200 * raw.width_ms, raw.kept as u64);
    let rows: i64 = store
        .shared()
        .read(|db| db.query_row("SELECT count(*) FROM samples WHERE tier = 0", [], |row| row.get(0)))
        .expect("read");
    assert_eq!(rows, raw.kept as i64);
    // The finest does not reach back as far any more: the next one does.
    let minutes = means(&store, BEGIN, BEGIN + 4 * 60 * MINUTE, 15_000);
    assert_eq!((minutes[0].0, minutes[0].2), (0, 4));
}

#[test]
fn trends_are_drawn_through_minutes() {
    let store = Store::in_memory();
    let now = BEGIN + 180 * MINUTE;
    for minute in 0..180 {
        let at = BEGIN + minute * MINUTE;
        let mut report = report(at, 0.25);
        report.deep_health.performance.memory_usage = Some(60.0 + minute as f64 / 6.0);
        store.put_report(id(0), at, &report);
    }
    assert!(store.flush());
    let trends = store.trends(id(0), now);
    let of = |name: &str| trends.iter().find(|trend| trend.metric == name).expect("a trend");
    assert_eq!(of("memory_usage").text, "memory reaches its limit in 1 h");
    assert_eq!(of("qemu_cpu").text, "QEMU's CPU is steady");
    assert!(store.trends(id(1), now).is_empty());
}

#[test]
fn configurations_are_checked_and_told() {
    let store = Store::in_memory();
    let changes = store.config_changes();
    let error = store.set_config(ConfigName::Recovery, json!({"automatc": true})).expect_err("unknown").to_string();
    assert!(error.starts_with("configuration recovery: ") && error.contains("automatic"), "{error}");
    assert!(!changes.has_changed().expect("open"));
    store.set_config(ConfigName::Recovery, json!({"automatic": false})).expect("allowed");
    assert!(changes.has_changed().expect("open"));
    assert!(!store.settings::<RecoveryConfig>().automatic);
    assert_eq!(store.config(ConfigName::Recovery), json!({"automatic": false}));
}

mod disk;
