//! Opening the file: its schema, what is put aside, who may have it open.

use super::error::{Fault, StoreError, classify};
use rand::Rng as _;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file.
pub(super) const FILE: &str = "control.db";
/// Name of the file that tells a second control plane that this one runs.
const LOCK: &str = "control.lock";
/// "LOCO", in the file's head: a database without it is another program's.
const APPLICATION_ID: i64 = 0x4C4F_434F;
/// Files that were put aside and are kept.
const MAX_ASIDE: usize = 3;
/// A file up to this size is looked through when it is opened, in bytes. A larger one would delay the start; what is wrong
/// with it shows when it is read.
const MAX_CHECKED_BYTES: u64 = 64 * 1024 * 1024;
/// Most that is left of the write-ahead log after a checkpoint, in bytes.
const MAX_LOG_BYTES: i64 = 4 * 1024 * 1024;

/// Each step from one version of the schema to the next; the file's `user_version` says how many were taken.
const MIGRATIONS: &[&str] = &[
    // 1: what a control plane remembers. `seq` is the order in which rows came: clocks can be set, it cannot.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
     CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
     CREATE TABLE active (place INTEGER PRIMARY KEY, instance INTEGER NOT NULL);
     CREATE TABLE attempts (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, json TEXT NOT NULL);
     CREATE TABLE alerts (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, json TEXT NOT NULL);
     CREATE TABLE samples (seq INTEGER PRIMARY KEY, tier INTEGER NOT NULL, instance INTEGER NOT NULL,
         at INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (tier, instance, at));",
];

/// Keeps other control planes away from the folder while it lives.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` where no file can be made: on a disk that cannot be written, nothing can be spoilt.
    _file: Option<File>,
}

/// Makes the folder, private, and takes it.
pub(super) fn take(dir: &Path) -> Result<Lock, StoreError> {
    let failed = |source| StoreError::Folder { path: dir.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if is_disk(&error) => return Ok(Lock { _file: None }),
        Err(error) => return Err(failed(error)),
    }
    let path = dir.join(LOCK);
    let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if is_disk(&error) => return Ok(Lock { _file: None }),
        Err(error) => return Err(failed(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: Some(file) }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: dir.to_owned() }),
        Err(error) => {
            tracing::warn!("{} cannot be locked: {error}", path.display());
            Ok(Lock { _file: Some(file) })
        }
    }
}

/// Whether it is the disk's fault, and may pass.
fn is_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | ReadOnlyFilesystem | QuotaExceeded)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Opens the file for writing, and brings its schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, Fault> {
    // Made here, since SQLite would make it readable to others; its side files take over this one's mode.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Fault::Failing(format!("{}: {error}", path.display())));
        }
        _ => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(classify)?;
    prepare(&mut db, std::fs::metadata(path).map_or(0, |file| file.len()))?;
    Ok(db)
}

/// A database that ends with its connection.
pub(super) fn open_in_memory() -> Result<Connection, Fault> {
    let mut db = Connection::open_in_memory().map_err(classify)?;
    prepare(&mut db, 0)?;
    Ok(db)
}

/// A second connection, for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(classify)?;
    db.busy_timeout(Duration::from_secs(2)).map_err(classify)?;
    Ok(db)
}

/// For a file on a disk that cannot be written: reads what it says as it lies there, without its log.
pub(super) fn open_unwritable(path: &Path) -> Result<Connection, Fault> {
    let text: String = path.to_str().unwrap_or_default().chars().flat_map(escaped).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(format!("file:{text}?immutable=1"), flags).map_err(classify)?;
    check_owner(&db)?;
    Ok(db)
}

/// A character as it stands in a `file:` URI.
fn escaped(c: char) -> Vec<char> {
    match c {
        '?' | '#' | '%' => format!("%{:02X}", u32::from(c)).chars().collect(),
        _ => vec![c],
    }
}

fn prepare(db: &mut Connection, bytes: u64) -> Result<(), Fault> {
    db.busy_timeout(Duration::from_secs(2)).map_err(classify)?;
    let version = check_owner(db)?;
    if bytes <= MAX_CHECKED_BYTES {
        let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(classify)?;
        if found != "ok" {
            return Err(Fault::Broken(found));
        }
    }
    // Where the file system cannot (no shared memory), SQLite stays with its other journal, which is as safe.
    let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(classify)?;
    db.pragma_update(None, "synchronous", "NORMAL").map_err(classify)?;
    db.query_row(&format!("PRAGMA journal_size_limit = {MAX_LOG_BYTES}"), [], |_| Ok(())).map_err(classify)?;
    let steps = MIGRATIONS.iter().enumerate().skip(version);
    let change = db.transaction().map_err(classify)?;
    for (done, step) in steps {
        change.execute_batch(step).map_err(classify)?;
        change.pragma_update(None, "user_version", done as i64 + 1).map_err(classify)?;
    }
    if version == 0 {
        change.pragma_update(None, "application_id", APPLICATION_ID).map_err(classify)?;
    }
    // Written every time, so that a disk that takes nothing is known at once.
    let opened = super::unix_ms().to_string();
    change.execute("INSERT OR REPLACE INTO meta VALUES ('opened_at_ms', ?1)", [opened]).map_err(classify)?;
    change.commit().map_err(classify)
}

/// The schema's version, if the database is ours and this program knows it; 0 for an empty one.
fn check_owner(db: &Connection) -> Result<usize, Fault> {
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(classify);
    let (owner, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(classify)?;
    if owner == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if owner != APPLICATION_ID {
        return Err(Fault::Broken("it is another program's database".to_owned()));
    }
    usize::try_from(version)
        .ok()
        .filter(|version| (1..=MIGRATIONS.len()).contains(version))
        .ok_or_else(|| Fault::Broken(format!("its schema has version {version}, which this program does not know")))
}

/// 128 random bits in hexadecimal digits.
pub(crate) fn new_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// Renames a file that cannot be used, with its side files, to `control.db.corrupt-<unix ms>`; the oldest of several are
/// deleted.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut at = super::unix_ms();
    let name = |at: u64| path.with_file_name(format!("{FILE}.corrupt-{at}"));
    while name(at).exists() {
        at += 1;
    }
    let aside = name(at);
    std::fs::rename(path, &aside)?;
    for side in ["-wal", "-shm"] {
        let (from, to) = (with_suffix(path, side), with_suffix(&aside, side));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    prune_aside(path);
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn prune_aside(path: &Path) {
    let prefix = format!("{FILE}.corrupt-");
    let entries = path.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let mut aside: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let at = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((at, entry.path()))
        })
        .collect();
    aside.sort();
    aside.truncate(aside.len().saturating_sub(MAX_ASIDE));
    for (_, old) in aside {
        for file in [old.clone(), with_suffix(&old, "-wal"), with_suffix(&old, "-shm")] {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{} cannot be deleted: {error}", file.display());
                }
                _ => {}
            }
        }
    }
}
