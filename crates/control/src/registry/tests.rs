//! The whole way on agents that answer over real HTTP: seen, classified, repaired, judged, remembered, told.
#![allow(clippy::panic, reason = "a test: a panic is its message")]

mod shared;
mod told;

use super::*;
use crate::fake::{Fake, client};
use crate::provider::Hand;
use crate::store::ConfigName;
use crate::usage::deliver;
use async_trait::async_trait;
use futures::StreamExt as _;
use loco_model::recovery::Outcome;
use loco_model::usage::{ClaimAction, InputClaim, SetActive, Use, ViewerReport};
use loco_model::{FailureClass, Remedy};
use serde_json::json;
use std::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest that anything here may take, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A control plane without its own HTTP.
struct Plane {
    hub: Hub,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    hand: Arc<Restarts>,
    folder: tempfile::TempDir,
}

/// Notes which agents it is asked to restart.
#[derive(Default)]
struct Restarts {
    can: bool,
    asked: Mutex<Vec<InstanceId>>,
}

#[async_trait]
impl Hand for Restarts {
    fn can_restart(&self) -> bool {
        self.can
    }

    async fn restart(&self, id: InstanceId) -> Result<(), String> {
        self.asked.lock().expect("whole").push(id);
        Ok(())
    }
}

fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).expect("index")
}

impl Plane {
    async fn start(store: Store, haste: u32, can_restart: bool, agents: &[&Fake]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (client, _) = client(folder.path());
        let hand = Arc::new(Restarts { can: can_restart, ..Restarts::default() });
        let (hub, commands) = Hub::new(client, hand.clone(), store.clone(), Breakers::new(), true);
        let (mut registry, words) = Registry::new(hub.clone());
        registry.haste = haste;
        let (changes, told) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(registry.run(words, told, commands)),
            tokio::spawn(deliver(hub.clone(), store, stop.clone())),
        ];
        let plane = Self { hub, changes, stop, tasks, hand, folder };
        for (index, fake) in agents.iter().enumerate() {
            plane.found(index, Some(fake.url.clone()), Phase::Up).await;
        }
        plane.changes.send(Change::Listed).await.expect("it runs");
        plane
    }

    async fn found(&self, index: usize, agent: Option<String>, phase: Phase) {
        let found = Found { agent, phase, supervised: true, ..Found::new(id(index)) };
        self.changes.send(Change::Found(found)).await.expect("it runs");
    }

    /// Waits until an instance is as it should be, and gives it.
    async fn until(&self, index: usize, what: &str, done: impl Fn(&Instance) -> bool) -> Instance {
        let mut instances = self.hub.instances();
        let is_done = instances.wait_for(|all| all.all.get(&id(index)).is_some_and(&done));
        let found = tokio::time::timeout(PATIENCE, is_done).await.map(|found| found.is_ok());
        let now = self.hub.instances().borrow().all.get(&id(index)).cloned();
        assert_eq!(found, Ok(true), "{what}: {now:#?} {:#?}", self.hub.health(id(index)));
        now.expect("it is there")
    }

    /// What became of the attempts, newest last.
    fn outcomes(&self) -> Vec<(Remedy, Outcome)> {
        let mut attempts = self.hub.recovery_status().attempts;
        attempts.reverse();
        attempts.iter().map(|attempt| (attempt.action, attempt.outcome)).collect()
    }

    async fn until_outcomes(&self, want: &[(Remedy, Outcome)]) {
        let mut events = Box::pin(self.hub.events().since(None));
        let wait = async {
            while self.outcomes() != want {
                events.next().await.expect("events");
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        assert!(done.is_ok(), "{:#?}", self.hub.recovery_status().attempts);
    }

    async fn end(self) {
        let Self { hub, changes, stop, tasks, .. } = self;
        stop.cancel();
        drop((hub, changes));
        for task in tasks {
            task.await.expect("it ends");
        }
    }
}

fn freeze(fake: &Fake) {
    fake.change(|health| health.frozen = Some(true));
}

#[tokio::test]
async fn a_frozen_guest_is_seen_repaired_judged_and_remembered() {
    let fake = Fake::start(0, |action, health| {
        if action == Remedy::RestartQemu {
            health.frozen = Some(false);
            health.guest_started_at_ms = Some(2);
        }
    })
    .await;
    let plane = Plane::start(Store::in_memory(), 2, false, &[&fake]).await;
    let live = plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(3)).await;
    assert!(live.ready && live.failure == FailureClass::None && live.recovery.is_none());
    let mut events = Box::pin(plane.hub.events().since(Some(plane.hub.events().newest())));
    freeze(&fake);
    let mut told = Vec::new();
    while !matches!(told.last(), Some((_, Outcome::Repaired))) {
        let next = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("an event");
        match next.1 {
            Event::Instance { instance } => told.push((instance.state, Outcome::Running)),
            Event::Attempt { attempt } => told.push((InstanceState::Recovering, attempt.outcome)),
            _ => {}
        }
    }
    assert!(told.iter().any(|(state, _)| *state == InstanceState::Recovering), "{told:?}");
    assert!(
        told.iter().all(|(state, _)| *state != InstanceState::Failed),
        "repaired before it is called failed: {told:?}"
    );
    let after = plane.until(0, "well", |i| i.recovery.is_none() && i.attempts_left == Some(2)).await;
    assert_eq!((after.state, after.failure), (InstanceState::Live, FailureClass::None));
    let attempts = plane.hub.recovery_status().attempts;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].outcome, attempts[0].class), (Outcome::Repaired, FailureClass::Qemu));
    assert_eq!(attempts[0].evidence.as_deref(), Some("evidence"));
    assert_eq!(fake.attempts()[0].id, attempts[0].id, "the agent's ledger has the same");
    let control = plane.hub.store().control_id();
    assert_eq!(attempts[0].initiator, Initiator::Policy { control });
    plane.end().await;
}

#[tokio::test]
async fn in_vain_leads_on_until_nothing_is_left_and_a_person_may_override() {
    let fake = Fake::start(0, |_, _| {}).await;
    fake.add(fake.own_attempt("before"));
    let plane = Plane::start(Store::in_memory(), 50, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(2)).await;
    fake.change(|health| {
        health.frozen = Some(true);
        health.network.tap_up = Some(false);
    });
    let spent = plane.until(0, "used up", |i| i.reason.as_deref().is_some_and(|r| r.contains("used up"))).await;
    assert_eq!((spent.state, spent.failure), (InstanceState::Failed, FailureClass::Mixed));
    assert_eq!(spent.attempts_left, Some(0));
    use Outcome::{InVain, Repaired};
    let first = [(Remedy::RestartQemu, Repaired), (Remedy::ResetNetwork, InVain), (Remedy::RestartStream, InVain)];
    plane.until_outcomes(&first).await;
    assert_eq!(fake.attempts().len(), 3);
    let health = plane.hub.health(id(0)).expect("known");
    assert!(health.recovery_needed && health.recommendation.is_some() && health.faults.len() == 2);
    let person = || Initiator::Person { name: "ada".into() };
    let refused = plane.hub.recover(id(0), RecoverOrder::default(), person()).await.expect_err("the limit");
    assert!(matches!(refused, HubError::Limit { retry_after_ms: Some(_), .. }), "{refused:?}");
    let order = RecoverOrder { action: None, is_override: true };
    let begun = plane.hub.recover(id(0), order, person()).await.expect("overridden");
    assert_eq!((begun.action, begun.outcome), (Remedy::RestartQemu, Outcome::Running));
    let end = [&first[..], &[(Remedy::RestartQemu, InVain)]].concat();
    plane.until_outcomes(&end).await;
    let last = fake.attempts().pop().expect("done");
    assert!(last.is_override && last.initiator == person() && last.id == begun.id);
    assert!(matches!(
        plane.hub.recover(id(7), RecoverOrder::default(), person()).await,
        Err(HubError::UnknownInstance(_))
    ));
    plane.end().await;
}

#[tokio::test]
async fn what_another_did_is_told_and_left_to_settle() {
    let fake = Fake::start(0, |_, _| {}).await;
    let plane = Plane::start(Store::in_memory(), 1, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(3)).await;
    // QEMU exited, its agent started it again: seen by the count of restarts.
    // It writes that down later than it tells of it.
    fake.change(|health| health.guest_restarts = 1);
    while plane.hub.health(id(0)).and_then(|health| health.deep_health).is_none_or(|deep| deep.guest_restarts == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    fake.add(fake.own_attempt("qemu-exited"));
    plane.until(0, "counted", |i| i.attempts_left == Some(2)).await;
    plane.until_outcomes(&[(Remedy::RestartQemu, Outcome::Repaired)]).await;
    assert_eq!(fake.attempts().len(), 1, "nothing was ordered");
    plane.end().await;
}

#[tokio::test]
async fn an_agent_that_is_silent_is_restarted_by_its_provider_and_counted() {
    let fake = Fake::start(0, |_, _| {}).await;
    let store = Store::in_memory();
    let plane = Plane::start(store.clone(), 40, true, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    fake.end();
    let lost = plane.until(0, "being restarted", |i| i.recovery.is_some()).await;
    assert_eq!((lost.state, lost.failure), (InstanceState::Recovering, FailureClass::Network));
    plane.until_outcomes(&[(Remedy::RestartAgent, Outcome::InVain)]).await;
    assert_eq!(*plane.hand.asked.lock().expect("whole"), [id(0)]);
    plane.until(0, "counted", |i| i.attempts_left == Some(2)).await;
    plane.end().await;
    // Its successor knows it, though no agent's ledger does.
    let next = Plane::start(store, 1, true, &[]).await;
    next.found(0, None, Phase::Restarting { reason: "agent exited".into() }).await;
    let found = next.until(0, "remembered", |i| i.attempts_left == Some(2)).await;
    assert_eq!((found.state, found.failure), (InstanceState::Recovering, FailureClass::Qemu));
    next.end().await;
}

#[tokio::test]
async fn an_order_that_outlives_its_instance_is_nobodys() {
    let fake = Fake::start(0, |_, health| health.frozen = Some(false)).await;
    let store = Store::in_memory();
    let plane = Plane::start(store.clone(), 2, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(3)).await;
    // Given twice, with half a second in between.
    fake.lose_answers(1);
    freeze(&fake);
    plane.until(0, "being repaired", |i| i.recovery.is_some()).await;
    store.set_config(ConfigName::Recovery, json!({"automatic": false})).expect("allowed");
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(what);
    };
    until("the order", &|| !fake.attempts().is_empty()).await;
    plane.changes.send(Change::Gone(id(0))).await.expect("it runs");
    plane.found(0, Some(fake.url.clone()), Phase::Up).await;
    plane.until(0, "well again", |i| i.state == InstanceState::Live).await;
    // Another start has the ledger read: by then the order's answer has come, too.
    fake.add(fake.own_attempt("later"));
    fake.change(|health| health.guest_restarts += 1);
    until("the ledger", &|| store.attempts(9).iter().any(|attempt| attempt.id == "later")).await;
    let now = plane.until(0, "there", |_| true).await;
    assert_eq!(now.recovery, None);
    assert!(plane.outcomes().iter().all(|(_, outcome)| *outcome != Outcome::Running), "{:?}", plane.outcomes());
    plane.end().await;
}

#[tokio::test]
async fn another_agent_is_not_blamed_for_the_one_before() {
    let fake = Fake::start(0, |_, _| {}).await;
    let plane = Plane::start(Store::in_memory(), 1, false, &[]).await;
    plane.found(0, Some("http://127.0.0.1:9".into()), Phase::Up).await;
    plane.until(0, "there", |_| true).await;
    let name = crate::api::breaker_name(id(0));
    for _ in 0..4 {
        plane.hub.breakers().of(&name).permit().expect("closed").tell(false);
    }
    assert!(plane.hub.breakers().of(&name).permit().is_err());
    plane.found(0, Some(fake.url.clone()), Phase::Up).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    assert!(plane.hub.breakers().of(&name).permit().is_ok());
    plane.end().await;
}

#[tokio::test]
async fn an_agent_whose_token_cannot_be_read_is_shown_no_other() {
    let fake = Fake::start(0, |_, _| {}).await;
    let plane = Plane::start(Store::in_memory(), 1, false, &[]).await;
    let path = plane.folder.path().join("its-own");
    let found =
        Found { agent: Some(fake.url.clone()), phase: Phase::Up, token_file: Some(path.clone()), ..Found::new(id(0)) };
    plane.changes.send(Change::Found(found.clone())).await.expect("it runs");
    let failed = plane.until(0, "failed", |i| i.state == InstanceState::Failed).await;
    assert!(failed.endpoints.is_none() && failed.reason.is_some_and(|reason| reason.contains("its-own")));
    loco_http::Token::create_file(&path).expect("token");
    plane.changes.send(Change::Found(found)).await.expect("it runs");
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    plane.end().await;
}

#[tokio::test]
async fn switched_off_it_only_recommends() {
    let fake = Fake::start(0, |_, health| health.frozen = Some(false)).await;
    let store = Store::in_memory();
    store.set_config(ConfigName::Recovery, json!({"automatic": false})).expect("allowed");
    let plane = Plane::start(store.clone(), 2, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left.is_some()).await;
    assert!(!plane.hub.recovery_status().automatic);
    let person = Initiator::Person { name: "ada".into() };
    let well = plane.hub.recover(id(0), RecoverOrder::default(), person.clone()).await;
    assert!(matches!(well, Err(HubError::Conflict(_))), "{well:?}");
    freeze(&fake);
    plane.until(0, "failed", |i| i.state == InstanceState::Failed).await;
    assert!(fake.attempts().is_empty());
    plane.hub.recover(id(0), RecoverOrder::default(), person).await.expect("begun");
    plane.until(0, "well", |i| i.state == InstanceState::Live && i.recovery.is_none()).await;
    freeze(&fake);
    plane.until(0, "failed", |i| i.state == InstanceState::Failed).await;
    store.set_config(ConfigName::Recovery, json!({"automatic": true})).expect("allowed");
    use Outcome::Repaired;
    plane.until_outcomes(&[(Remedy::RestartQemu, Repaired), (Remedy::RestartQemu, Repaired)]).await;
    plane.end().await;
}

async fn told(uses: &mut tokio::sync::watch::Receiver<Vec<Use>>, what: &str, want: impl Fn(&Use) -> bool) {
    let last = uses.wait_for(|uses| uses.last().is_some_and(&want));
    let found = tokio::time::timeout(PATIENCE, last).await.is_ok();
    assert!(found, "{what}: {:?}", uses.borrow());
}

#[tokio::test]
async fn only_what_nobody_uses_is_capped_and_only_while_something_is_used() {
    let (one, two) = (Fake::start(0, |_, _| {}).await, Fake::start(1, |_, _| {}).await);
    let plane = Plane::start(Store::in_memory(), 1, false, &[&one, &two]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live).await;
    plane.until(1, "live", |i| i.state == InstanceState::Live).await;
    let usage = plane.hub.usage();
    let (mut first, mut second) = (one.uses(), two.uses());
    assert!(first.borrow().is_empty() && second.borrow().is_empty(), "nobody is told anything while nothing is used");
    let focus = |on: Option<usize>| ViewerReport {
        name: "ada".into(),
        focus: on.map(id),
        follows: false,
        sessions: Vec::new(),
    };
    let free = |told: &Use| told.max_fps.is_none() && told.max_bit_rate.is_none();
    usage.report("a", focus(Some(0))).expect("taken");
    told(&mut first, "in use", |told| told.in_use && free(told)).await;
    told(&mut second, "capped", |told| !told.in_use && told.max_fps == Some(10) && told.max_bit_rate == Some(500_000))
        .await;
    let seen = plane.until(0, "shown", |i| i.in_use).await;
    assert_eq!(seen.focused_by, ["ada"]);
    // Another one uses the other: neither is capped.
    usage.report("b", focus(Some(1))).expect("taken");
    told(&mut second, "in use", |told| told.in_use && free(told)).await;
    // Both on one; the holder's name reaches the agent.
    usage.report("b", focus(Some(0))).expect("taken");
    told(&mut second, "capped again", |told| told.max_fps == Some(10)).await;
    usage.claim(id(0), InputClaim { viewer: "b".into(), action: ClaimAction::Take }).expect("taken");
    told(&mut first, "held", |told| told.input_holder.as_deref() == Some("b")).await;
    // The list counts as use.
    usage.set_active(SetActive::Ids { ids: vec![id(1), id(1)] }).expect("taken");
    told(&mut second, "active", |told| told.in_use && free(told)).await;
    assert_eq!(plane.hub.store().active(), [id(1)]);
    assert!(matches!(usage.set_active(SetActive::Id { id: Some(id(5)) }), Err(HubError::UnknownInstance(_))));
    usage.set_active(SetActive::Id { id: None }).expect("cleared");
    told(&mut second, "capped", |told| told.max_fps == Some(10)).await;
    // Who looks at what is not there takes nothing from anyone.
    assert!(usage.gone("a") && usage.gone("b"));
    usage.report("c", focus(Some(8))).expect("taken");
    told(&mut second, "free", |told| !told.in_use && free(told)).await;
    usage.report("a", focus(Some(0))).expect("taken");
    usage.report("b", focus(Some(0))).expect("taken");
    usage.claim(id(0), InputClaim { viewer: "b".into(), action: ClaimAction::Take }).expect("taken");
    told(&mut second, "capped", |told| told.max_fps == Some(10)).await;
    told(&mut first, "held", |told| told.input_holder.as_deref() == Some("b")).await;
    // All go: nothing is capped, and nobody holds anything.
    assert!(usage.gone("a") && usage.gone("b") && !usage.gone("b"));
    told(&mut second, "free", |told| free(told)).await;
    told(&mut first, "free", |told| free(told) && told.input_holder.is_none()).await;
    plane.until(0, "shown", |i| !i.in_use && i.input_holder.is_none()).await;
    // Switched off, nothing is capped at all.
    plane.hub.store().set_config(ConfigName::Use, json!({"limit": false})).expect("allowed");
    usage.report("a", focus(Some(0))).expect("taken");
    told(&mut first, "in use", |told| told.in_use).await;
    told(&mut second, "not capped", free).await;
    plane.end().await;
}
