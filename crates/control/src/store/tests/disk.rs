//! Disks that say no. A full one is a real one where a small file system can be mounted (root); elsewhere the file may
//! not grow, which SQLite reports in the same words. The kernel's limit on a file's size gives I/O errors without root.

use super::*;
use std::process::Command;
use std::time::Duration;

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn pace() -> Pace {
    Pace { retry: Duration::from_millis(50), ..Pace::default() }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_failing(store: &Store) -> bool {
    store.health().failing_since_ms.is_some()
}

/// A file system of its own, if this process may mount one.
struct Mount(TempDir);

impl Mount {
    fn tmpfs(size: &str) -> Option<Self> {
        let dir = folder();
        let option = format!("size={size},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(dir.path()).output().ok()?;
        mounted.status.success().then_some(Self(dir))
    }

    fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().is_ok_and(|status| status.success())
    }

    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.path().join("ballast")).expect("ballast");
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).expect("ballast");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Goes on in memory while the disk is full, and writes everything when there is room.
fn lives_through(store: &Store, make_room: impl FnOnce()) {
    wait("the failure", || {
        store.put_report(id(0), BEGIN, &report(1, 0.5));
        store.put_attempt(&attempt("while full", Outcome::Running));
        store.flush();
        is_failing(store)
    });
    let reason = store.health().reason.expect("a reason");
    assert!(reason.contains("full") || reason.contains("disk I/O"), "{reason}");
    store.set_active(&[id(4)]);
    store.put_attempt(&attempt("while full", Outcome::Failed));
    store.set_config(ConfigName::Use, json!({"maxFps": 3})).expect("allowed");
    assert_eq!(store.active(), [id(4)]);
    assert_eq!(store.attempts(1)[0].outcome, Outcome::Failed);
    assert!(store.health().queued > 0 && store.moved_aside().is_none());
    make_room();
    wait("the recovery", || store.flush() && !is_failing(store));
    assert_eq!(store.health(), StoreHealth::default());
}

fn is_all_there(dir: &Path) {
    let store = Store::open(dir).expect("open");
    assert_eq!((store.active(), store.moved_aside()), (vec![id(4)], None));
    assert_eq!(ids(&store.attempts(2)), ["while full", "before"]);
    assert_eq!(store.settings::<UseConfig>().max_fps, 3);
    let samples = store.history(id(0), "qemu_cpu", BEGIN, BEGIN + MINUTE, 0).expect("history");
    assert!(samples.points.first().is_some_and(|point| point.samples > 0));
}

#[test]
fn a_full_file_system_is_lived_through() {
    let Some(disk) = Mount::tmpfs("512k") else {
        eprintln!("no file system can be mounted here: the bounded file stands for it");
        return;
    };
    let store = Store::open_at_pace(disk.0.path(), pace()).expect("open");
    store.put_attempt(&attempt("before", Outcome::Repaired));
    assert!(store.flush());
    disk.fill();
    lives_through(&store, || disk.make_room());
    drop(store);
    is_all_there(disk.0.path());
}

#[test]
fn a_file_system_that_becomes_read_only_is_lived_through() {
    let Some(disk) = Mount::tmpfs("2m") else { return };
    let control_id = {
        let store = Store::open_at_pace(disk.0.path(), pace()).expect("open");
        store.put_attempt(&attempt("before", Outcome::Repaired));
        store.control_id()
    };
    if !disk.remount("ro") {
        return;
    }
    let store = Store::open_at_pace(disk.0.path(), pace()).expect("opened all the same");
    assert!(is_failing(&store));
    // What lies there is known though nothing can be written.
    assert_eq!((store.control_id(), ids(&store.attempts(9))), (control_id.clone(), vec!["before"]));
    let points = || store.history(id(0), "qemu_cpu", BEGIN, BEGIN + MINUTE, 0).expect("history").points.len();
    assert_eq!(points(), 0);
    store.set_active(&[id(2)]);
    assert!(disk.remount("rw"));
    wait("the recovery", || store.flush() && !is_failing(&store));
    store.put_report(id(0), BEGIN, &report(1, 0.5));
    assert!(store.flush());
    assert_eq!(points(), 1, "what is read is the file as it is now");
    drop(store);
    let store = Store::open(disk.0.path()).expect("open");
    assert_eq!((store.active(), store.control_id()), (vec![id(2)], control_id));
    assert_eq!(ids(&store.attempts(9)), ["before"]);
}

#[test]
fn a_file_that_may_not_grow_is_lived_through() {
    let dir = folder();
    // Tried again only when it is asked to.
    let pace = Pace { retry: Duration::from_secs(3_600), ..Pace::default() };
    let store = Store::open_at_pace(dir.path(), pace).expect("open");
    store.put_attempt(&attempt("before", Outcome::Repaired));
    assert!(store.flush());
    // The limit is this connection's: the one that is opened for the next try has none, as if there were room again.
    {
        let db = store.shared().db.lock();
        let db = db.as_ref().expect("a connection");
        let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
        db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("bounded");
    }
    for index in 0..200 {
        store.put_alert(&Alert { detail: Some("x".repeat(1_000)), ..alert(&format!("alert {index}")) });
    }
    wait("the failure", || is_failing(&store));
    let reason = store.health().reason.expect("a reason");
    assert_eq!(reason, "the disk is full");
    assert!(store.flush() && !is_failing(&store), "{:?}", store.health());
    drop(store);
    let store = Store::open(dir.path()).expect("open");
    assert_eq!((store.alerts(usize::MAX).len(), ids(&store.attempts(1))), (200, vec!["before"]));
}

#[test]
fn a_file_that_breaks_while_it_is_used_is_put_aside_and_rewritten() {
    let dir = folder();
    let store = Store::open_at_pace(dir.path(), pace()).expect("open");
    store.put_attempt(&attempt("before", Outcome::Repaired));
    assert!(store.flush());
    {
        let db = store.shared().db.lock();
        let db = db.as_ref().expect("a connection");
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
        db.query_row("PRAGMA cache_size = 0", [], |_| Ok(())).ok();
        db.execute_batch("PRAGMA shrink_memory").expect("forget pages");
    }
    let path = dir.path().join(open::FILE);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[4_096..].fill(0xA5);
    std::fs::write(&path, bytes).expect("write");
    wait("the new file", || {
        store.put_attempt(&attempt("after", Outcome::Repaired));
        store.flush();
        store.moved_aside().is_some()
    });
    wait("the recovery", || store.flush() && !is_failing(&store));
    drop(store);
    let store = Store::open(dir.path()).expect("open");
    assert_eq!(ids(&store.attempts(9)), ["after", "before"]);
}
