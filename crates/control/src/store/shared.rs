//! What the store's callers and its writer have in common.

use super::error::{self, StoreError};
use super::open::{self, new_id};
use super::pending::{self, Entry, Live, Newest, Pending};
use super::settings::{self, ConfigName, HistoryConfig};
use super::writer::Pace;
use super::{StoreHealth, unix_ms};
use crate::history::Rates;
use loco_model::InstanceId;
use loco_model::recovery::{Attempt, Outcome};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OptionalExtension as _};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::watch;

pub(super) struct Shared {
    /// `None`: in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) live: Mutex<Live>,
    /// The file's state is in `live`.
    pub(super) loaded: AtomicBool,
    pub(super) records: AtomicBool,
    pub(super) waiting: Mutex<Waiting>,
    /// Rung for the writer.
    pub(super) bell: Condvar,
    /// Rung by the writer.
    pub(super) done: Condvar,
    pub(super) db: Mutex<Option<Connection>>,
    pub(super) reader: Mutex<Option<Connection>>,
    pub(super) rates: Mutex<Rates>,
    pub(super) aside: Mutex<Option<PathBuf>>,
    pub(super) dropped: AtomicU64,
    pub(super) health: watch::Sender<StoreHealth>,
    pub(super) configured: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) pending: Pending,
    /// When the samples that wait are to be written.
    pub(super) gathered_at: Option<Instant>,
    /// When a disk that said no is to be asked again.
    pub(super) retry_at: Option<Instant>,
    pub(super) hurry: bool,
    pub(super) writing: bool,
    pub(super) closed: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            live: Mutex::new(Live { control_id: new_id(), ..Live::default() }),
            loaded: AtomicBool::new(false),
            records: AtomicBool::new(true),
            waiting: Mutex::default(),
            bell: Condvar::new(),
            done: Condvar::new(),
            db: Mutex::new(None),
            reader: Mutex::new(None),
            rates: Mutex::default(),
            aside: Mutex::new(None),
            dropped: AtomicU64::new(0),
            health: watch::Sender::new(StoreHealth::default()),
            configured: watch::Sender::new(0),
        }
    }

    pub(super) fn put(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.waiting.lock().pending);
        self.bell.notify_all();
    }

    /// Waits until something is to be written (or tried again) and takes it; also says whether the store is closed.
    pub(super) fn take(&self, pace: Pace) -> (Pending, bool) {
        let mut waiting = self.waiting.lock();
        loop {
            let now = Instant::now();
            let due = match waiting.retry_at {
                _ if waiting.closed || waiting.hurry => Some(now),
                Some(at) => Some(at),
                None if waiting.pending.is_urgent() => Some(now),
                None => waiting.gathered_at.map(|since| since + pace.gather),
            };
            match due {
                Some(at) if at <= now => break,
                Some(at) => drop(self.bell.wait_until(&mut waiting, at)),
                None => self.bell.wait(&mut waiting),
            }
        }
        waiting.gathered_at = None;
        waiting.hurry = false;
        waiting.writing = true;
        (std::mem::take(&mut waiting.pending), waiting.closed)
    }

    /// The writer has done what it took.
    pub(super) fn written(&self) {
        self.waiting.lock().writing = false;
        self.done.notify_all();
    }

    /// Everything is written.
    pub(super) fn well(&self) {
        self.waiting.lock().retry_at = None;
        let changed = self.health.send_if_modified(|health| {
            let changed = health.failing_since_ms.is_some();
            *health = StoreHealth::default();
            changed
        });
        if changed {
            tracing::info!("the store can be written again");
        }
    }

    pub(super) fn failed(&self, pending: Pending, reason: &str, pace: Pace) {
        let mut waiting = self.waiting.lock();
        let dropped = waiting.pending.put_back(pending);
        waiting.retry_at = Some(Instant::now() + pace.retry);
        drop(waiting);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        let began = self.health.send_if_modified(|health| {
            let began = health.failing_since_ms.is_none();
            let since = health.failing_since_ms.unwrap_or_else(unix_ms);
            let new = health.reason.as_deref() != Some(reason);
            *health = StoreHealth {
                failing_since_ms: Some(since),
                reason: Some(reason.to_owned()),
                ..StoreHealth::default()
            };
            began || new
        });
        if began {
            tracing::error!("the store cannot be written, and goes on in memory: {reason}");
        }
    }

    pub(super) fn put_aside(&self, aside: PathBuf) {
        *self.aside.lock() = Some(aside);
    }

    /// Takes over what a file knows, and gives it what it does not know.
    pub(super) fn begin(&self, db: &Connection) -> rusqlite::Result<()> {
        if !self.loaded.swap(true, Ordering::Relaxed) {
            if let Err(error) = self.load(db) {
                self.loaded.store(false, Ordering::Relaxed);
                return Err(error);
            }
            let id = self.live.lock().control_id.clone();
            db.execute("INSERT OR IGNORE INTO meta VALUES ('control_id', ?1)", [id])?;
            self.configure();
        }
        Ok(())
    }

    /// For a file that was opened anew: everything that is live is put there again.
    pub(super) fn adopt(&self, db: &Connection) -> rusqlite::Result<Pending> {
        self.begin(db)?;
        let live = self.live.lock();
        db.execute("INSERT OR REPLACE INTO meta VALUES ('control_id', ?1)", [&live.control_id])?;
        Ok(Pending {
            active: Some(live.active.clone()),
            config: live.config.clone(),
            attempts: live.attempts.clone(),
            alerts: live.alerts.clone(),
            ..Pending::default()
        })
    }

    /// Reads the file's state; what is known here already is newer.
    pub(super) fn load(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut live = self.live.lock();
        let known: Option<String> =
            db.query_row("SELECT value FROM meta WHERE name = 'control_id'", [], |row| row.get(0)).optional()?;
        if let Some(known) = known {
            live.control_id = known;
        }
        if live.active.is_empty() {
            let mut rows = db.prepare("SELECT instance FROM active ORDER BY place")?;
            let indices = rows.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
            live.active = indices.into_iter().filter_map(instance).collect();
        }
        let mut rows = db.prepare("SELECT name, value FROM config")?;
        let stored = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for entry in stored {
            let (name, text) = entry?;
            let read = name.parse::<ConfigName>().map_err(|error| error.to_string()).and_then(|name| {
                let value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                name.check(&value).map(|()| (name, value))
            });
            match read {
                Ok((name, value)) => drop(live.config.entry(name).or_insert(value)),
                Err(error) => tracing::warn!("configuration {name:?} is the default, not what was stored: {error}"),
            }
        }
        let attempts = load_entries(db, "attempts", attempt_of_today)?;
        live.attempts.put_older(attempts);
        let alerts = load_entries(db, "alerts", std::convert::identity)?;
        live.alerts.put_older(alerts);
        Ok(())
    }

    /// For a disk that cannot be written: what can be read is known all the same.
    pub(super) fn peek(&self, path: &Path) {
        if !path.exists() || self.loaded.load(Ordering::Relaxed) {
            return;
        }
        let peeked = open::open_unwritable(path).and_then(|db| {
            self.load(&db).map_err(error::classify)?;
            self.configure();
            Ok(db)
        });
        match peeked {
            Ok(db) => *self.reader.lock() = Some(db),
            Err(fault) => tracing::warn!("{} cannot be read either: {}", path.display(), fault.reason()),
        }
    }

    pub(super) fn configure(&self) {
        let live = self.live.lock();
        let record = settings::typed::<HistoryConfig>(live.config.get(&ConfigName::History)).record;
        self.records.store(record, Ordering::Relaxed);
        drop(live);
        self.configured.send_modify(|count| *count += 1);
    }

    /// Reads with the reader's connection, or with the only one there is.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let failed = |error: rusqlite::Error| StoreError::Read(error.to_string());
        let Some(path) = &self.path else {
            let db = self.db.lock();
            return db
                .as_ref()
                .map_or_else(|| Err(StoreError::Read("it is closed".to_owned())), |db| read(db).map_err(failed));
        };
        let mut reader = self.reader.lock();
        let opened = match reader.take() {
            Some(db) => db,
            None => open::open_reader(path).map_err(|fault| StoreError::Read(fault.reason().to_owned()))?,
        };
        // One that failed is opened anew the next time.
        let value = read(&opened).map_err(failed)?;
        *reader = Some(opened);
        Ok(value)
    }
}

fn instance(index: i64) -> Option<InstanceId> {
    usize::try_from(index).ok().and_then(|index| InstanceId::try_new(index).ok())
}

/// An attempt as it was stored before being left to somebody else was an outcome of its own: it had failed, and its detail
/// said why.
fn attempt_of_today(mut attempt: Attempt) -> Attempt {
    let was_left = attempt.detail.as_deref().is_some_and(|detail| detail.starts_with("somebody else repairs it"));
    if attempt.outcome == Outcome::Failed && was_left {
        attempt.outcome = Outcome::Yielded;
    }
    attempt
}

fn load_entries<T: Entry + DeserializeOwned>(
    db: &Connection,
    table: &str,
    of_today: impl Fn(T) -> T,
) -> rusqlite::Result<Newest<T>> {
    let limit = pending::MAX_LIVE;
    let sql = format!("SELECT json FROM (SELECT seq, json FROM {table} ORDER BY seq DESC LIMIT {limit}) ORDER BY seq");
    let mut rows = db.prepare(&sql)?;
    let mut entries = Newest::default();
    for text in rows.query_map([], |row| row.get::<_, String>(0))? {
        match serde_json::from_str(&text?) {
            Ok(entry) => entries.put(of_today(entry)),
            Err(error) => tracing::warn!("one of the stored {table} cannot be read: {error}"),
        }
    }
    Ok(entries)
}
