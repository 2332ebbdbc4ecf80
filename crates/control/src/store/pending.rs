//! What is to be written, and what is known without asking the disk.

use super::settings::ConfigName;
use crate::history::Bucket;
use loco_model::InstanceId;
use loco_model::api::Alert;
use loco_model::recovery::Attempt;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// Attempts and alerts that are kept in memory, each.
pub(super) const MAX_LIVE: usize = 1_000;
/// Buckets of samples that wait for a disk at most: nine instances' for nine hours, or 1,000 instances' for five minutes.
pub(super) const MAX_BUCKETS: usize = 20_000;

/// Something with an id that is told again when it changes.
pub(super) trait Entry: Clone {
    fn id(&self) -> &str;
}

impl Entry for Attempt {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Entry for Alert {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The newest entries, in the order in which they were first told.
#[derive(Clone, Debug)]
pub(super) struct Newest<T> {
    entries: VecDeque<T>,
}

// === impl Newest ===

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<T: Entry> Newest<T> {
    /// Adds an entry, or puts it in the place of the one with its id.
    pub(super) fn put(&mut self, entry: T) {
        // What changes is nearly always among the last ones.
        if let Some(known) = self.entries.iter_mut().rev().find(|known| known.id() == entry.id()) {
            *known = entry;
            return;
        }
        if self.entries.len() == MAX_LIVE {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Adds an older state: what is known already stays.
    pub(super) fn put_older(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        for entry in newer.entries {
            self.put(entry);
        }
    }

    /// Newest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<T> {
        self.entries.iter().rev().take(limit).cloned().collect()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What is answered from memory, also while the disk says no.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub(super) control_id: String,
    pub(super) active: Vec<InstanceId>,
    pub(super) config: BTreeMap<ConfigName, Value>,
    pub(super) attempts: Newest<Attempt>,
    pub(super) alerts: Newest<Alert>,
}

/// What is to be written. Bounded: later words about the same thing take an earlier one's place.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) active: Option<Vec<InstanceId>>,
    pub(super) config: BTreeMap<ConfigName, Value>,
    pub(super) attempts: Newest<Attempt>,
    pub(super) alerts: Newest<Alert>,
    /// By begin and instance, so that the oldest is first.
    pub(super) samples: BTreeMap<(u64, InstanceId), Bucket>,
}

// === impl Pending ===

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.samples.is_empty()
    }

    /// Whether something must not be lost.
    pub(super) fn is_urgent(&self) -> bool {
        self.active.is_some() || !self.config.is_empty() || !self.attempts.is_empty() || !self.alerts.is_empty()
    }

    /// How many things wait.
    pub(super) fn len(&self) -> usize {
        usize::from(self.active.is_some())
            + self.config.len()
            + self.attempts.len()
            + self.alerts.len()
            + self.samples.len()
    }

    /// Adds samples; returns how many buckets were dropped for lack of room.
    pub(super) fn add(&mut self, at_ms: u64, id: InstanceId, bucket: &Bucket) -> u64 {
        self.samples.entry((at_ms, id)).or_default().merge(bucket);
        self.trim()
    }

    fn trim(&mut self) -> u64 {
        let mut dropped = 0;
        while self.samples.len() > MAX_BUCKETS {
            self.samples.pop_first();
            dropped += 1;
        }
        dropped
    }

    /// Takes back what could not be written; what came since then is newer. Returns how many buckets were dropped.
    pub(super) fn put_back(&mut self, older: Self) -> u64 {
        if self.active.is_none() {
            self.active = older.active;
        }
        for (name, value) in older.config {
            self.config.entry(name).or_insert(value);
        }
        self.attempts.put_older(older.attempts);
        self.alerts.put_older(older.alerts);
        for (key, bucket) in older.samples {
            self.samples.entry(key).or_default().merge(&bucket);
        }
        self.trim()
    }
}
