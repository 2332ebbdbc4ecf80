//! What follows from what is set, listed and remembered.

use super::*;
use loco_model::api::DiscoveryInfo;

#[tokio::test]
async fn an_agent_without_an_owner_is_ended_by_nobodys_order() {
    let fake = Fake::start(0, |_, _| {}).await;
    let plane = Plane::start(Store::in_memory(), 1, false, &[]).await;
    let found = Found { agent: Some(fake.url.clone()), phase: Phase::Up, ..Found::new(id(0)) };
    plane.changes.send(Change::Found(found)).await.expect("it runs");
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    let order = RecoverOrder { action: Some(Remedy::RestartAgent), ..RecoverOrder::default() };
    let refused = plane.hub.recover(id(0), order, Initiator::Person { name: "ada".into() }).await;
    assert!(
        matches!(&refused, Err(HubError::Conflict(why)) if why.contains("nobody would start it again")),
        "{refused:?}"
    );
    assert!(fake.attempts().is_empty());
    plane.end().await;
}

#[tokio::test]
async fn limits_that_are_set_are_judged_by_at_once() {
    let fake = Fake::start(0, |_, _| {}).await;
    fake.change(|health| health.performance.qemu_cpu = Some(0.75));
    let store = Store::in_memory();
    let plane = Plane::start(store.clone(), 1, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    store.set_config(ConfigName::Limits, json!({"qemuCores": 0.5})).expect("allowed");
    let over = plane.until(0, "over the limit", |i| i.state == InstanceState::Degraded).await;
    assert!(over.reason.is_some_and(|reason| reason.contains("0.75 cores")));
    store.set_config(ConfigName::Limits, json!({})).expect("allowed");
    plane.until(0, "live again", |i| i.state == InstanceState::Live).await;
    plane.end().await;
}

#[tokio::test]
async fn what_lasts_is_told_to_newcomers_and_what_is_no_news_to_nobody() {
    let store = Store::in_memory();
    let alert = |id: &str, title: &str, ended_at_ms| loco_model::api::Alert {
        id: id.into(),
        at_ms: 1,
        ended_at_ms,
        severity: loco_model::api::Severity::Warning,
        instance_id: None,
        title: title.into(),
        detail: None,
    };
    let lasting = alert("a", "Check failed: frames", None);
    for known in [&lasting, &alert("b", "Check failed: sound", Some(2)), &alert("c", "Recovery in vain", None)] {
        store.put_alert(known);
    }
    let plane = Plane::start(store, 1, false, &[]).await;
    let info = |at, stale| DiscoveryInfo { updated_at_ms: Some(at), stale_since_ms: stale, ..DiscoveryInfo::default() };
    let mut events = Box::pin(plane.hub.events().since(None));
    for info in [info(1, None), info(2, None), info(3, Some(3)), info(4, Some(3))] {
        plane.changes.send(Change::Discovery(Box::new(info))).await.expect("it runs");
    }
    plane.found(0, None, Phase::Starting).await;
    let (mut alerts, mut told) = (Vec::new(), Vec::new());
    loop {
        match events.next().await.expect("events").1 {
            Event::Alert { alert } => alerts.push(alert),
            Event::Discovery { info } => told.push(info.updated_at_ms),
            Event::Instance { .. } => break,
            _ => {}
        }
    }
    assert_eq!(alerts, [lasting]);
    assert_eq!(told, [Some(1), Some(3)]);
    assert_eq!(plane.hub.discovery().updated_at_ms, Some(4));
    plane.end().await;
}
