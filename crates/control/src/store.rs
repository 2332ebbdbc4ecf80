//! What a control plane remembers: its id, the active list, attempts, alerts, history, configuration; in one SQLite file.
//!
//! What is live is answered from memory and written behind by one thread, so that no caller waits for a disk. A file that
//! cannot be used is put aside, never deleted. A disk that is full, read-only or broken ends nothing: the store goes on in
//! memory, says since when and why, and writes everything as soon as there is room again.

mod error;
mod open;
mod pending;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StoreError;
pub(crate) use open::new_id;
pub use settings::{ConfigName, HistoryConfig, RecoveryConfig, Settings, UnknownConfig, UseConfig};

use crate::history::{Bucket, METRICS, Query, TIERS, Tier, metric, points};
use crate::hub::unix_ms;
use crate::trends;
use error::Fault;
use loco_model::InstanceId;
use loco_model::api::{Alert, History, Trend};
use loco_model::recovery::Attempt;
use loco_model::report::HealthReport;
use pending::Pending;
use rusqlite::{Connection, params};
use serde_json::Value;
use shared::Shared;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use writer::{Pace, Writer};

/// Longest that [`Store::flush`] waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How it stands with the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Since when nothing can be written, in milliseconds since 1970 UTC; `None` while it can.
    pub failing_since_ms: Option<u64>,
    /// Why nothing can be written.
    pub reason: Option<String>,
    /// Things that wait to be written.
    pub queued: usize,
    /// Buckets of samples that were dropped since the start, because too many waited.
    pub dropped_samples: u64,
}

/// The store. Cheap to clone; what waits is written when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _lock: Option<open::Lock>,
}

// === impl Store ===

impl Store {
    /// Opens the file in a folder, which is made where it is missing. A file that cannot be used is put aside; a disk that
    /// says no is tried again later.
    ///
    /// # Errors
    /// When the folder cannot be made or entered, or another control plane uses it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_at_pace(dir, Pace::default())
    }

    fn open_at_pace(dir: &Path, pace: Pace) -> Result<Self, StoreError> {
        let lock = open::take(dir)?;
        let path = dir.join(open::FILE);
        let shared = Arc::new(Shared::new(Some(path.clone())));
        let mut opened = open::open(&path);
        if let Err(Fault::Broken(reason)) = &opened {
            tracing::error!("{} is broken and is put aside: {reason}", path.display());
            opened = match open::put_aside(&path) {
                Ok(aside) => {
                    shared.put_aside(aside);
                    open::open(&path)
                }
                Err(error) => Err(Fault::Failing(format!("{}: {error}", path.display()))),
            };
        }
        let begun = opened.and_then(|db| {
            shared.begin(&db).map_err(error::classify)?;
            Ok(db)
        });
        match begun {
            Ok(db) => *shared.db.lock() = Some(db),
            Err(fault) => {
                shared.peek(&path);
                shared.failed(Pending::default(), fault.reason(), pace);
            }
        }
        Self::start(shared, Some(path), pace, Some(lock))
    }

    /// A store that is forgotten when it is dropped.
    #[must_use]
    pub fn in_memory() -> Self {
        let shared = Arc::new(Shared::new(None));
        let pace = Pace::default();
        let begun = open::open_in_memory().and_then(|db| {
            shared.begin(&db).map_err(error::classify)?;
            Ok(db)
        });
        // What is live needs no database.
        match begun {
            Ok(db) => *shared.db.lock() = Some(db),
            Err(fault) => shared.failed(Pending::default(), fault.reason(), pace),
        }
        Self::start(shared.clone(), None, pace, None).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Self { handle: Arc::new(Handle { shared, thread: None, _lock: None }) }
        })
    }

    fn start(
        shared: Arc<Shared>,
        path: Option<PathBuf>,
        pace: Pace,
        lock: Option<open::Lock>,
    ) -> Result<Self, StoreError> {
        let writer = Writer::new(shared.clone(), path, pace);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run());
        let thread = Some(thread.map_err(StoreError::Thread)?);
        Ok(Self { handle: Arc::new(Handle { shared, thread, _lock: lock }) })
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Where a file was put that could not be used; `None` when there was none.
    #[must_use]
    pub fn moved_aside(&self) -> Option<PathBuf> {
        self.shared().aside.lock().clone()
    }

    /// How it stands.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        let queued = self.shared().waiting.lock().pending.len();
        let dropped_samples = self.shared().dropped.load(Ordering::Relaxed);
        StoreHealth { queued, dropped_samples, ..self.shared().health.borrow().clone() }
    }

    /// Told whenever writing begins to fail, or to work again. Its counts are those of that moment.
    #[must_use]
    pub fn health_changes(&self) -> watch::Receiver<StoreHealth> {
        self.shared().health.subscribe()
    }

    /// Waits until everything is written, or cannot be; says whether it is. Blocks for 10 s at most.
    pub fn flush(&self) -> bool {
        let shared = self.shared();
        let until = Instant::now() + FLUSH_TIMEOUT;
        let mut waiting = shared.waiting.lock();
        waiting.hurry = true;
        shared.bell.notify_all();
        while waiting.hurry || waiting.writing {
            if shared.done.wait_until(&mut waiting, until).timed_out() {
                return false;
            }
        }
        waiting.pending.is_empty() && waiting.retry_at.is_none()
    }

    /// This control plane's random id: the same as long as its file is.
    #[must_use]
    pub fn control_id(&self) -> String {
        self.shared().live.lock().control_id.clone()
    }

    /// The shared list of instances in use.
    #[must_use]
    pub fn active(&self) -> Vec<InstanceId> {
        self.shared().live.lock().active.clone()
    }

    /// Keeps the shared list.
    pub fn set_active(&self, ids: &[InstanceId]) {
        let mut live = self.shared().live.lock();
        ids.clone_into(&mut live.active);
        self.shared().put(|pending| pending.active = Some(ids.to_vec()));
    }

    /// Keeps an attempt, or what became of it.
    pub fn put_attempt(&self, attempt: &Attempt) {
        self.shared().live.lock().attempts.put(attempt.clone());
        self.shared().put(|pending| pending.attempts.put(attempt.clone()));
    }

    /// Attempts, newest first; the newest 1,000 are known.
    #[must_use]
    pub fn attempts(&self, limit: usize) -> Vec<Attempt> {
        self.shared().live.lock().attempts.newest(limit)
    }

    /// Keeps an alert, or what became of it.
    pub fn put_alert(&self, alert: &Alert) {
        self.shared().live.lock().alerts.put(alert.clone());
        self.shared().put(|pending| pending.alerts.put(alert.clone()));
    }

    /// Alerts, newest first; the newest 1,000 are known.
    #[must_use]
    pub fn alerts(&self, limit: usize) -> Vec<Alert> {
        self.shared().live.lock().alerts.newest(limit)
    }

    /// Adds a report to an instance's history. `at_ms`: when it came, in milliseconds since 1970 UTC.
    pub fn put_report(&self, id: InstanceId, at_ms: u64, report: &HealthReport) {
        let shared = self.shared();
        if !shared.records.load(Ordering::Relaxed) {
            return;
        }
        let bucket = Bucket::of(shared.rates.lock().values(id, report.timestamp_ms, &report.deep_health));
        if bucket.is_empty() {
            return;
        }
        let mut waiting = shared.waiting.lock();
        let dropped = waiting.pending.add(TIERS[0].begin(at_ms), id, &bucket);
        shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        if waiting.gathered_at.is_none() {
            waiting.gathered_at = Some(Instant::now());
            shared.bell.notify_all();
        }
    }

    /// A metric of an instance between two moments, in points of `step_ms` (0: as fine as can be; widened to whole buckets
    /// of what is kept). At most 2,000 points.
    ///
    /// # Errors
    /// When there is no such metric, the times make no sense or too many points, or the file cannot be read.
    pub fn history(
        &self,
        id: InstanceId,
        metric_name: &str,
        from_ms: u64,
        to_ms: u64,
        step_ms: u64,
    ) -> Result<History, StoreError> {
        let Some(metric) = metric(metric_name) else {
            let name = metric_name.chars().take(64).collect();
            let allowed = METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>().join(", ");
            return Err(StoreError::UnknownMetric { name, allowed });
        };
        let query = Query::try_new(from_ms, to_ms, step_ms).map_err(StoreError::Range)?;
        self.shared().read(|db| {
            let mut oldest = [None; TIERS.len()];
            for (tier, oldest) in TIERS.iter().zip(&mut oldest) {
                *oldest = oldest_of(db, tier, id)?;
            }
            let of = |tier: &Tier| TIERS.iter().zip(oldest).find(|(known, _)| *known == tier).and_then(|(_, at)| at);
            let tier = query.tier(of);
            let step_ms = query.step(tier);
            let buckets = read_buckets(db, tier, id, from_ms, to_ms)?;
            let points = points(&buckets, metric.id, step_ms);
            let (metric, unit) = (metric.name.to_owned(), metric.unit.to_owned());
            Ok(History { instance_id: id, metric, unit, step_ms, points })
        })
    }

    /// Where an instance's metrics go, by their last six hours; those that say nothing are left out. A file that cannot be
    /// read has none.
    #[must_use]
    pub fn trends(&self, id: InstanceId, now_ms: u64) -> Vec<Trend> {
        let minute = TIERS[1];
        let from_ms = now_ms.saturating_sub(trends::BACK_MS);
        let buckets = self.shared().read(|db| read_buckets(db, minute, id, from_ms, now_ms.saturating_add(1)));
        let buckets = buckets.unwrap_or_else(|error| {
            tracing::warn!("trends of {id}: {error}");
            Vec::new()
        });
        METRICS
            .iter()
            .filter_map(|metric| {
                let points = points(&buckets, metric.id, minute.width_ms);
                trends::trend(metric, &points, now_ms)
            })
            .collect()
    }

    /// A configuration as it may be shown: defaults filled in, secrets masked.
    #[must_use]
    pub fn config(&self, name: ConfigName) -> Value {
        name.shown(self.shared().live.lock().config.get(&name))
    }

    /// Takes a new configuration; a masked secret stands for the one that is stored.
    ///
    /// # Errors
    /// When a key is unknown or a value is not allowed: nothing is changed then.
    pub fn set_config(&self, name: ConfigName, value: Value) -> Result<(), StoreError> {
        let shared = self.shared();
        let mut live = shared.live.lock();
        let taken = name.taken(value, live.config.get(&name)).map_err(|reason| StoreError::Config { name, reason })?;
        live.config.insert(name, taken.clone());
        // Of two that are set at once, the one that holds is also the one that is written.
        shared.put(|pending| {
            pending.config.insert(name, taken);
        });
        drop(live);
        shared.configure();
        Ok(())
    }

    /// A configuration's content, secrets included.
    #[must_use]
    pub fn settings<T: Settings>(&self) -> T {
        settings::typed(self.shared().live.lock().config.get(&T::NAME))
    }

    /// Told whenever a configuration was set.
    #[must_use]
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.shared().configured.subscribe()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.shared().path).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.bell.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread broke");
        }
    }
}

fn oldest_of(db: &Connection, tier: &Tier, id: InstanceId) -> rusqlite::Result<Option<u64>> {
    db.query_row(
        "SELECT min(at) FROM samples WHERE tier = ?1 AND instance = ?2",
        params![tier.id, id.index() as i64],
        |row| row.get::<_, Option<i64>>(0),
    )
    .map(|at| at.and_then(|at| u64::try_from(at).ok()))
}

/// A tier's buckets that begin between two moments, in order.
fn read_buckets(
    db: &Connection,
    tier: Tier,
    id: InstanceId,
    from_ms: u64,
    to_ms: u64,
) -> rusqlite::Result<Vec<(u64, Bucket)>> {
    let mut rows = db.prepare(
        "SELECT at, data FROM samples WHERE tier = ?1 AND instance = ?2 AND at >= ?3 AND at < ?4 ORDER BY at",
    )?;
    // The bucket that `from_ms` lies in belongs to it.
    let from = i64::try_from(tier.begin(from_ms)).unwrap_or(i64::MAX);
    let to = i64::try_from(to_ms).unwrap_or(i64::MAX);
    let found = rows.query_map(params![tier.id, id.index() as i64, from, to], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let mut buckets = Vec::new();
    for row in found {
        let (at, data) = row?;
        if let (Ok(at), Some(bucket)) = (u64::try_from(at), Bucket::decode(&data)) {
            buckets.push((at, bucket));
        }
    }
    Ok(buckets)
}
