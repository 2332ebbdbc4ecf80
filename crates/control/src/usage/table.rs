//! Viewers, what they have focused, and whose input an instance takes. Pure: the time is told.

use super::InstanceUse;
use crate::hub::HubError;
use loco_model::InstanceId;
use loco_model::usage::{ClaimAction, InputClaim, InputHolder, SessionReport, VIEWER_LEASE_MS, Viewer, ViewerReport};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a viewer may say nothing.
const LEASE: Duration = Duration::from_millis(VIEWER_LEASE_MS);
/// Most viewers at once.
const MAX_VIEWERS: usize = 256;
/// Longest id of a viewer, in bytes.
const MAX_ID_BYTES: usize = 64;

/// All viewers and holders.
#[derive(Debug, Default)]
pub(super) struct Table {
    viewers: BTreeMap<String, Entry>,
    holders: BTreeMap<InstanceId, String>,
}

#[derive(Debug)]
struct Entry {
    heard: Duration,
    viewer: Viewer,
}

// === impl Table ===

impl Table {
    /// Says whether anything changed that others should know: numbers alone do not count.
    pub(super) fn report(
        &mut self,
        now: Duration,
        wall_ms: u64,
        id: &str,
        report: ViewerReport,
    ) -> Result<bool, HubError> {
        check(id)?;
        report.check().map_err(HubError::Invalid)?;
        if !self.viewers.contains_key(id) && self.viewers.len() >= MAX_VIEWERS {
            return Err(HubError::Conflict(format!("{MAX_VIEWERS} viewers are there already")));
        }
        let changed = self.viewers.get(id).is_none_or(|entry| is_news(&entry.viewer.report, &report));
        let viewer = Viewer { id: id.to_owned(), heard_at_ms: wall_ms, report };
        self.viewers.insert(id.to_owned(), Entry { heard: now, viewer });
        Ok(changed)
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.holders.retain(|_, holder| holder != id);
        self.viewers.remove(id).is_some()
    }

    /// Says whether anyone's lease ended.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let ended: Vec<String> =
            self.viewers.iter().filter(|(_, entry)| entry.heard + LEASE <= now).map(|(id, _)| id.clone()).collect();
        ended.iter().for_each(|id| {
            self.remove(id);
        });
        !ended.is_empty()
    }

    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.viewers.values().map(|entry| entry.heard + LEASE).min()
    }

    pub(super) fn viewers(&self) -> Vec<Viewer> {
        self.viewers.values().map(|entry| entry.viewer.clone()).collect()
    }

    /// Whether the holder is another one now, and who it is.
    pub(super) fn claim(
        &mut self,
        instance: InstanceId,
        claim: &InputClaim,
    ) -> Result<(bool, Option<InputHolder>), HubError> {
        if !self.viewers.contains_key(&claim.viewer) {
            return Err(HubError::UnknownViewer(claim.viewer.chars().take(MAX_ID_BYTES).collect()));
        }
        let before = self.holder(instance);
        let is_own = before.as_ref().is_some_and(|holder| holder.viewer == claim.viewer);
        match (claim.action, before) {
            (ClaimAction::Ask, Some(holder)) if !is_own => return Err(HubError::Held(holder)),
            (ClaimAction::Ask | ClaimAction::Take, _) => {
                self.holders.insert(instance, claim.viewer.clone());
            }
            (ClaimAction::Release, _) if is_own => {
                self.holders.remove(&instance);
            }
            (ClaimAction::Release, holder) => return Ok((false, holder)),
        }
        let changed = !(is_own && claim.action != ClaimAction::Release);
        Ok((changed, self.holder(instance)))
    }

    pub(super) fn holder(&self, instance: InstanceId) -> Option<InputHolder> {
        let entry = self.viewers.get(self.holders.get(&instance)?)?;
        Some(InputHolder { viewer: entry.viewer.id.clone(), name: entry.viewer.report.name.clone() })
    }

    pub(super) fn uses(&self, active: &[InstanceId]) -> BTreeMap<InstanceId, InstanceUse> {
        let mut uses: BTreeMap<InstanceId, InstanceUse> = BTreeMap::new();
        for id in active {
            uses.entry(*id).or_default().in_use = true;
        }
        for entry in self.viewers.values() {
            if let Some(id) = entry.viewer.report.focus {
                let used = uses.entry(id).or_default();
                used.in_use = true;
                used.focused_by.push(entry.viewer.report.name.clone());
            }
        }
        for id in self.holders.keys() {
            uses.entry(*id).or_default().holder = self.holder(*id);
        }
        uses
    }

    pub(super) fn sessions(&self, instance: InstanceId) -> Vec<(String, SessionReport)> {
        let of = |entry: &Entry| {
            let report = &entry.viewer.report;
            let session = report.sessions.iter().find(|session| session.instance_id == instance)?;
            Some((report.name.clone(), session.clone()))
        };
        self.viewers.values().filter_map(of).collect()
    }
}

fn check(id: &str) -> Result<(), HubError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_plain) {
        return Ok(());
    }
    Err(HubError::Invalid(format!("a viewer's id has 1 to {MAX_ID_BYTES} letters, digits, - and _")))
}

/// Whether others should know: not when only numbers moved.
fn is_news(old: &ViewerReport, new: &ViewerReport) -> bool {
    let words =
        |session: &SessionReport| (session.instance_id, session.state.clone(), session.quality, session.fault.clone());
    (&old.name, old.focus, old.follows) != (&new.name, new.focus, new.follows)
        || !old.sessions.iter().map(words).eq(new.sessions.iter().map(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::usage::{MAX_LINE, MAX_SESSIONS, QualityLevel};

    fn id(index: usize) -> InstanceId {
        InstanceId::try_new(index).expect("index")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn focused(name: &str, focus: Option<usize>) -> ViewerReport {
        ViewerReport { name: name.into(), focus: focus.map(id), follows: false, sessions: Vec::new() }
    }

    fn session(index: usize, fps: f64, fault: Option<&str>) -> SessionReport {
        SessionReport {
            quality: Some(QualityLevel::Good),
            fault: fault.map(str::to_owned),
            fps_decoded: Some(fps),
            ..SessionReport::new(id(index), "connected")
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.report(at(0), 1, "a", focused("ada", Some(0))).expect("a");
        table.report(at(0), 1, "b", focused("bob", Some(1))).expect("b");
        table
    }

    fn claim(viewer: &str, action: ClaimAction) -> InputClaim {
        InputClaim { viewer: viewer.into(), action }
    }

    #[test]
    fn a_viewer_lives_as_long_as_it_speaks() {
        let mut table = table();
        assert!(!table.report(at(9), 2, "a", focused("ada", Some(0))).expect("a"), "nothing new");
        assert!(!table.expire(at(9)));
        assert_eq!(table.next_expiry(), Some(at(10)));
        assert!(table.expire(at(10)));
        assert_eq!(table.viewers().iter().map(|viewer| viewer.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(!table.expire(at(18)) && table.expire(at(19)));
        assert!(table.viewers().is_empty() && table.next_expiry().is_none());
        assert!(table.report(at(30), 3, "a", focused("ada", Some(0))).expect("a"), "it came back");
    }

    #[test]
    fn numbers_alone_are_no_news() {
        let mut table = Table::default();
        let told = |fps, fault| ViewerReport { sessions: vec![session(0, fps, fault)], ..focused("ada", None) };
        let mut news = |report| table.report(at(0), 0, "a", report).expect("a");
        assert!(news(told(30.0, None)));
        assert!(!news(told(29.0, None)));
        assert!(news(told(29.0, Some("decoder"))));
        assert!(news(ViewerReport { focus: Some(id(3)), ..told(29.0, Some("decoder")) }));
    }

    #[test]
    fn in_use_is_the_list_and_every_focus() {
        let table = table();
        let uses = table.uses(&[id(1), id(5)]);
        let used: Vec<_> = uses.iter().filter(|(_, used)| used.in_use).map(|(id, _)| id.index()).collect();
        assert_eq!(used, [0, 1, 5]);
        assert_eq!(uses[&id(1)].focused_by, ["bob"]);
        assert!(uses[&id(5)].focused_by.is_empty());
    }

    #[test]
    fn one_holds_the_input_until_it_is_taken_over_or_ends() {
        use ClaimAction::{Ask, Release, Take};
        let mut table = table();
        let mut says = |viewer: &str, action| {
            let (changed, holder) = table.claim(id(0), &claim(viewer, action))?;
            Ok::<_, HubError>((changed, holder.map(|holder| holder.name)))
        };
        assert_eq!(says("a", Release), Ok((false, None)));
        assert_eq!(says("a", Ask), Ok((true, Some("ada".into()))));
        assert_eq!(says("a", Ask), Ok((false, Some("ada".into()))));
        assert!(matches!(says("b", Ask), Err(HubError::Held(holder)) if holder.viewer == "a"));
        assert_eq!(says("b", Release), Ok((false, Some("ada".into()))), "not its own");
        assert_eq!(says("b", Take), Ok((true, Some("bob".into()))));
        assert_eq!(says("b", Release), Ok((true, None)));
        assert!(matches!(says("c", Take), Err(HubError::UnknownViewer(_))));
        assert_eq!(says("b", Take), Ok((true, Some("bob".into()))));
        assert_eq!(table.uses(&[])[&id(0)].holder.as_ref().map(|holder| holder.name.as_str()), Some("bob"));
        assert!(table.remove("b") && table.holder(id(0)).is_none(), "it goes with its viewer");
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut table = Table::default();
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for bad in ["", "a b", "a/b", "ä", long.as_str()] {
            assert!(table.report(at(0), 0, bad, focused("x", None)).is_err(), "{bad:?}");
        }
        let many = ViewerReport { sessions: vec![session(0, 1.0, None); MAX_SESSIONS + 1], ..focused("x", None) };
        let told =
            ViewerReport { sessions: vec![session(0, 1.0, Some(&"x".repeat(MAX_LINE + 1)))], ..focused("x", None) };
        for report in [many, told, focused(" ", None), focused(&"x".repeat(MAX_LINE + 1), None)] {
            assert!(table.report(at(0), 0, "a", report).is_err());
        }
        for number in 0..MAX_VIEWERS {
            table.report(at(0), 0, &number.to_string(), focused("x", None)).expect("room");
        }
        assert!(table.report(at(0), 0, "one-more", focused("x", None)).is_err());
        table.report(at(0), 0, "7", focused("x", None)).expect("known ones may speak");
    }
}
