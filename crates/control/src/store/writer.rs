//! The one thread that writes. It takes everything that waits, writes it in one transaction, and waits again. What the
//! disk does not take is put back and tried again until it does.

use super::error::{Fault, classify};
use super::open;
use super::pending::{Entry, Pending};
use super::shared::Shared;
use super::unix_ms;
use crate::history::{Bucket, TIERS, Tier};
use loco_model::InstanceId;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts and alerts that the file keeps, each.
const MAX_KEPT: usize = 10_000;

/// How long the thread waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Samples are gathered for so long before they are written.
    pub(super) gather: Duration,
    /// A disk that said no is asked again after this.
    pub(super) retry: Duration,
    /// How often what is too old is deleted.
    pub(super) prune: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { gather: Duration::from_secs(1), retry: Duration::from_secs(5), prune: Duration::from_secs(15 * 60) }
    }
}

/// A bucket that is being filled: its begin and what it holds, as the file will.
type Filling = BTreeMap<(i64, InstanceId), (u64, Bucket)>;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// `None`: in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) pace: Pace,
    filling: Filling,
    /// Instances and tiers that got a new bucket since the last pruning.
    grown: BTreeSet<(i64, InstanceId)>,
    pruned: Instant,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, path: Option<PathBuf>, pace: Pace) -> Self {
        let pruned = Instant::now();
        Self { shared, path, pace, filling: Filling::new(), grown: BTreeSet::new(), pruned }
    }

    /// Runs until the store is closed, and writes what waits then.
    pub(super) fn run(mut self) {
        loop {
            let (pending, closed) = self.shared.take(self.pace);
            if !pending.is_empty() || (!closed && self.shared.db.lock().is_none()) {
                self.write(pending);
            }
            self.shared.written();
            if closed {
                // The file is left without a log, as a whole.
                if let Some(db) = self.shared.db.lock().take() {
                    let checkpoint = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    if let Err(error) = checkpoint {
                        tracing::debug!("the store's log stays: {error}");
                    }
                }
                return;
            }
        }
    }

    fn write(&mut self, pending: Pending) {
        let mut fault = self.try_write(&pending).err();
        if let (Some(Fault::Broken(reason)), Some(path)) = (&fault, self.path.clone()) {
            tracing::error!("{} is broken and is put aside: {reason}", path.display());
            fault = self.begin_anew(&path).and_then(|()| self.try_write(&pending)).err();
        }
        match fault {
            None => self.shared.well(),
            Some(fault) => {
                // What was merged into these is not in the file: they are read again.
                self.filling.clear();
                // An answer that only reopening changes: a file that was deleted, a disk that was mounted again.
                if self.path.is_some() {
                    *self.shared.db.lock() = None;
                }
                self.shared.failed(pending, fault.reason(), self.pace);
            }
        }
    }

    fn begin_anew(&mut self, path: &std::path::Path) -> Result<(), Fault> {
        self.filling.clear();
        *self.shared.db.lock() = None;
        *self.shared.reader.lock() = None;
        let aside = open::put_aside(path).map_err(|error| Fault::Failing(format!("{}: {error}", path.display())))?;
        self.shared.put_aside(aside);
        Ok(())
    }

    fn try_write(&mut self, pending: &Pending) -> Result<(), Fault> {
        let mut guard = self.shared.db.lock();
        let (db, is_new) = match (guard.take(), &self.path) {
            (Some(db), _) => (guard.insert(db), false),
            (None, Some(path)) => (guard.insert(open::open(path)?), true),
            (None, None) => return Err(Fault::Failing("it is closed".to_owned())),
        };
        let change = db.transaction().map_err(classify)?;
        if is_new {
            let all = self.shared.adopt(&change).map_err(classify)?;
            put_state(&change, &all).map_err(classify)?;
        }
        put_state(&change, pending).map_err(classify)?;
        let dirty = fill(&change, pending, &mut self.filling).map_err(classify)?;
        put_samples(&change, &self.filling, &dirty).map_err(classify)?;
        self.grown.extend(&dirty);
        let prunes = self.pruned.elapsed() >= self.pace.prune;
        if prunes {
            prune(&change, &self.grown).map_err(classify)?;
        }
        change.commit().map_err(classify)?;
        if is_new {
            // The reader's may be a file that was deleted, or one that could not change when it was opened.
            *self.shared.reader.lock() = None;
        }
        if prunes {
            self.pruned = Instant::now();
            self.grown.clear();
            let now = unix_ms();
            // Those that nobody fills any more.
            self.filling.retain(|(tier, _), (begin, _)| {
                let width = TIERS.iter().find(|known| known.id == *tier).map_or(0, |tier| tier.width_ms);
                begin.abs_diff(now) < 4 * width
            });
        }
        Ok(())
    }
}

fn put_state(change: &Transaction<'_>, pending: &Pending) -> rusqlite::Result<()> {
    if let Some(active) = &pending.active {
        change.execute("DELETE FROM active", [])?;
        for (place, id) in active.iter().enumerate() {
            change.execute("INSERT INTO active VALUES (?1, ?2)", params![place as i64, id.index() as i64])?;
        }
    }
    for (name, value) in &pending.config {
        change.execute("INSERT OR REPLACE INTO config VALUES (?1, ?2)", params![name.as_str(), value.to_string()])?;
    }
    put_entries(change, "attempts", pending.attempts.iter())?;
    put_entries(change, "alerts", pending.alerts.iter())
}

fn put_entries<'a, T: Entry + Serialize + 'a>(
    change: &Transaction<'_>,
    table: &str,
    entries: impl Iterator<Item = &'a T>,
) -> rusqlite::Result<()> {
    let sql =
        format!("INSERT INTO {table} (id, json) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET json = excluded.json");
    for entry in entries {
        // These are strings and numbers: they always serialise.
        let json = serde_json::to_string(entry).unwrap_or_default();
        change.execute(&sql, params![entry.id(), json])?;
    }
    Ok(())
}

/// Adds what waits to the buckets of all tiers; returns which of those are to be written.
fn fill(
    change: &Transaction<'_>,
    pending: &Pending,
    filling: &mut Filling,
) -> rusqlite::Result<BTreeSet<(i64, InstanceId)>> {
    let mut dirty = BTreeSet::new();
    for ((at_ms, id), sample) in &pending.samples {
        for tier in &TIERS {
            let (key, begin) = ((tier.id, *id), tier.begin(*at_ms));
            match filling.get_mut(&key) {
                Some((known, bucket)) if *known == begin => bucket.merge(sample),
                other => {
                    // The one before is complete: written now, since its place is needed.
                    if let (Some((known, bucket)), true) = (&other, dirty.contains(&key)) {
                        put_bucket(change, tier.id, *id, *known, bucket)?;
                    }
                    let mut bucket = read_bucket(change, *tier, *id, begin)?.unwrap_or_default();
                    bucket.merge(sample);
                    filling.insert(key, (begin, bucket));
                }
            }
            dirty.insert(key);
        }
    }
    Ok(dirty)
}

fn put_samples(
    change: &Transaction<'_>,
    filling: &Filling,
    dirty: &BTreeSet<(i64, InstanceId)>,
) -> rusqlite::Result<()> {
    for key in dirty {
        if let Some((begin, bucket)) = filling.get(key) {
            put_bucket(change, key.0, key.1, *begin, bucket)?;
        }
    }
    Ok(())
}

fn put_bucket(
    change: &Transaction<'_>,
    tier: i64,
    id: InstanceId,
    begin: u64,
    bucket: &Bucket,
) -> rusqlite::Result<usize> {
    change.execute(
        "INSERT INTO samples (tier, instance, at, data) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tier, instance, at) DO UPDATE SET data = excluded.data",
        params![tier, id.index() as i64, begin as i64, bucket.encode()],
    )
}

fn read_bucket(change: &Connection, tier: Tier, id: InstanceId, begin: u64) -> rusqlite::Result<Option<Bucket>> {
    let data: Option<Vec<u8>> = change
        .query_row(
            "SELECT data FROM samples WHERE tier = ?1 AND instance = ?2 AND at = ?3",
            params![tier.id, id.index() as i64, begin as i64],
            |row| row.get(0),
        )
        .optional()?;
    Ok(data.and_then(|data| Bucket::decode(&data)))
}

/// Deletes what is beyond the bounds, the first that came first.
fn prune(change: &Transaction<'_>, grown: &BTreeSet<(i64, InstanceId)>) -> rusqlite::Result<()> {
    for table in ["attempts", "alerts"] {
        let sql = format!(
            "DELETE FROM {table} WHERE seq <= (SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1 OFFSET {MAX_KEPT})"
        );
        change.execute(&sql, [])?;
    }
    for (tier, id) in grown {
        let Some(kept) = TIERS.iter().find(|known| known.id == *tier).map(|tier| tier.kept) else { continue };
        change.execute(
            "DELETE FROM samples WHERE tier = ?1 AND instance = ?2 AND seq <= (SELECT seq FROM samples
             WHERE tier = ?1 AND instance = ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3)",
            params![tier, id.index() as i64, kept as i64],
        )?;
    }
    Ok(())
}
