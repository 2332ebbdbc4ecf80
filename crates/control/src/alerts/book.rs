//! Which alerts last. Pure: one condition is one alert, however often it is told.

use crate::store::new_id;
use loco_model::InstanceId;
use loco_model::api::{Alert, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) severity: Severity,
    pub(super) instance: Option<InstanceId>,
    /// The same for every alert of this kind: with the instance, what tells alerts apart.
    pub(super) title: String,
    pub(super) detail: Option<String>,
}

/// The alerts that last, by what tells them apart.
#[derive(Debug, Default)]
pub(super) struct Book {
    open: BTreeMap<(String, Option<InstanceId>), Alert>,
    /// Alerts without an end that were told already: title and detail.
    told: BTreeSet<(String, Option<String>)>,
}

// === impl Book ===

impl Book {
    /// Goes on with the alerts of an earlier run that have not ended: what is not wrong any more ends them.
    pub(super) fn adopt(alerts: Vec<Alert>) -> Self {
        let mut book = Self::default();
        for alert in alerts {
            // Newest first: of several that were left open, the newest is the one that lasts.
            if alert.ended_at_ms.is_none() && !super::rules::has_no_end(&alert.title) {
                book.open.entry((alert.title.clone(), alert.instance_id)).or_insert(alert);
            }
        }
        book
    }

    /// Something is wrong: an alert, if it was not known.
    pub(super) fn begin(&mut self, condition: Condition, now_ms: u64) -> Option<Alert> {
        let key = (condition.title.clone(), condition.instance);
        if let Some(known) = self.open.get_mut(&key) {
            // How bad it is may be told anew; why it was is left as it began.
            if known.severity >= condition.severity {
                return None;
            }
            known.severity = condition.severity;
            known.detail = condition.detail;
            return Some(known.clone());
        }
        let alert = alert(condition, now_ms);
        self.open.insert(key, alert.clone());
        Some(alert)
    }

    /// It is not wrong (any more): the alert with its end, if there was one.
    pub(super) fn end(&mut self, title: &str, instance: Option<InstanceId>, now_ms: u64) -> Option<Alert> {
        let mut alert = self.open.remove(&(title.to_owned(), instance))?;
        alert.ended_at_ms = Some(now_ms.max(alert.at_ms));
        Some(alert)
    }

    /// Something happened that has no end: an alert, if it was not told by this run.
    pub(super) fn once(&mut self, condition: Condition, now_ms: u64) -> Option<Alert> {
        let told = (condition.title.clone(), condition.detail.clone());
        self.told.insert(told).then(|| alert(condition, now_ms))
    }

    /// The alerts that last.
    pub(super) fn open(&self) -> impl Iterator<Item = &Alert> {
        self.open.values()
    }

    /// The instances that alerts last about.
    pub(super) fn instances(&self) -> BTreeSet<InstanceId> {
        self.open.keys().filter_map(|(_, instance)| *instance).collect()
    }

    /// Titles of the alerts that last about an instance.
    pub(super) fn titles_of(&self, instance: InstanceId) -> Vec<String> {
        self.open.keys().filter(|(_, about)| *about == Some(instance)).map(|(title, _)| title.clone()).collect()
    }

    /// Open alerts whose title begins so, and whose rest is looked for, with the instance that they are about.
    pub(super) fn titles(
        &self,
        prefix: &str,
        wanted: impl Fn(&str, Option<InstanceId>) -> bool,
    ) -> Vec<(String, Option<InstanceId>)> {
        let is_wanted = |title: &str, about| title.strip_prefix(prefix).is_some_and(|rest| wanted(rest, about));
        self.open.keys().filter(|(title, about)| is_wanted(title, *about)).cloned().collect()
    }
}

fn alert(condition: Condition, now_ms: u64) -> Alert {
    Alert {
        id: new_id(),
        at_ms: now_ms,
        ended_at_ms: None,
        severity: condition.severity,
        instance_id: condition.instance,
        title: condition.title,
        detail: condition.detail,
    }
}
