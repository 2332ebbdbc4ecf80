use super::*;
use crate::fake::{client, live};
use loco_model::InstanceId;
use loco_model::usage::QualityLevel;

fn says(state: &str, quality: Option<QualityLevel>, fault: Option<&str>) -> Vec<(String, SessionReport)> {
    let bare = SessionReport::new(InstanceId::try_new(0).expect("index"), state);
    let session = SessionReport { quality, fault: fault.map(str::to_owned), ..bare };
    vec![("ada".into(), session)]
}

/// An entry whose agent was heard at once, and the moment.
fn heard() -> (Entry, Instant) {
    let folder = tempfile::tempdir().expect("folder");
    let now = Instant::now();
    let mut found = Found::new(InstanceId::try_new(0).expect("index"));
    found.phase = Phase::Up;
    let mut entry = Entry::new(&found, client(folder.path()).0, now);
    entry.found.phase = Phase::Up;
    entry.begin(now, 1);
    hear(&mut entry, now);
    (entry, now)
}

fn hear(entry: &mut Entry, now: Instant) {
    entry.heard(now, HealthReport { deep_health: live(), ..HealthReport::default() });
}

#[test]
fn that_a_session_is_lost_is_news_of_the_viewer_once_the_agent_was_heard_after_it() {
    let (mut entry, begun) = heard();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let lost = || says("reconnecting", None, None);
    assert!(entry.believed(at(20), lost()).is_empty(), "perhaps its agent is gone");
    assert!(entry.believed(at(34), lost()).is_empty(), "which shows when it is silent for too long");
    hear(&mut entry, at(35));
    assert_eq!(entry.believed(at(35), lost()), lost());
    assert_eq!(entry.believed(at(36), says("connected", None, None)).len(), 1);
    assert!(entry.believed(at(37), lost()).is_empty(), "another one");
    // A decoder does not fail for want of an agent.
    assert_eq!(entry.believed(at(38), says("connected", None, Some("no decoder"))).len(), 1);
}

#[test]
fn what_was_said_of_the_agent_before_is_not_held_against_the_next() {
    let (mut entry, begun) = heard();
    let at = |millis| begun + Duration::from_millis(millis);
    let lost = || says("connected", Some(QualityLevel::Lost), None);
    assert!(entry.believed(at(1_000), lost()).is_empty());
    entry.begin(at(2_000), 2);
    hear(&mut entry, at(3_000));
    assert!(entry.believed(at(3_000), lost()).is_empty(), "it is about the address before");
    let retold = at(2_000 + VIEWER_LEASE_MS);
    assert_eq!(entry.deadline(at(3_000), &Limits::default()), Some(retold), "it is thought about again");
    assert_eq!(entry.believed(retold, lost()), lost(), "it was told anew, or its viewer were gone");
}

#[test]
fn an_agent_that_nobody_would_start_again_is_not_to_be_ended() {
    let (mut entry, now) = heard();
    let mut frozen = live();
    frozen.frozen = Some(true);
    entry.heard(now, HealthReport { deep_health: frozen, ..HealthReport::default() });
    assert_eq!(entry.verdict(now, &[], &Limits::default()).remedies(), [Remedy::RestartQemu]);
    entry.found.supervised = true;
    assert_eq!(entry.verdict(now, &[], &Limits::default()).remedies(), [Remedy::RestartQemu, Remedy::RestartAgent]);
}

#[test]
fn an_agent_that_was_started_again_is_remembered() {
    let (mut entry, _) = heard();
    let found = |phase| Found { phase, agent_starts: Some(2), ..Found::new(InstanceId::try_new(0).expect("index")) };
    let restarting = || found(Phase::Restarting { reason: "agent was killed by signal 9: restarting".into() });
    assert_eq!(entry.is_found(restarting(), 10), None);
    assert_eq!(entry.is_found(restarting(), 11), None, "the next start of the same");
    let alert = entry.is_found(found(Phase::Up), 12).expect("remembered");
    assert_eq!((alert.at_ms, alert.ended_at_ms, alert.instance_id), (10, Some(12), Some(entry.found.id)));
    assert_eq!(alert.detail.as_deref(), Some("agent was killed by signal 9; its owner started it again"));
    assert_eq!(entry.is_found(found(Phase::Up), 13), None, "once");
}
