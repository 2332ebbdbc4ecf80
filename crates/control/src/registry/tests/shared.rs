//! Several control planes at the same agents, one after the other or at once.

use super::*;

impl Plane {
    /// Waits until what is known of all attempts is as it should be.
    async fn until_attempts(&self, what: &str, done: impl Fn(&[Attempt]) -> bool) {
        let mut events = Box::pin(self.hub.events().since(None));
        let wait = async {
            while !done(&self.hub.recovery_status().attempts) {
                events.next().await.expect("events");
            }
        };
        let is_done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(is_done, "{what}: {:#?}", self.hub.recovery_status().attempts);
    }
}

#[tokio::test]
async fn who_comes_second_shows_that_another_repairs_it_and_no_failure() {
    let fake = Fake::start(0, |_, health| {
        health.frozen = Some(false);
        health.guest_started_at_ms = Some(2);
    })
    .await;
    fake.let_end(false);
    let planes = [
        Plane::start(Store::in_memory(), 1, false, &[&fake]).await,
        Plane::start(Store::in_memory(), 1, false, &[&fake]).await,
    ];
    for plane in &planes {
        plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(3)).await;
    }
    let mut told = planes.each_ref().map(|plane| Box::pin(plane.hub.events().since(Some(plane.hub.events().newest()))));
    freeze(&fake);
    for plane in &planes {
        plane.until(0, "being repaired", |i| i.state == InstanceState::Recovering).await;
    }
    while fake.attempts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let made = fake.attempts();
    assert_eq!(made.len(), 1, "{made:#?}");
    let control = |plane: &Plane| Initiator::Policy { control: plane.hub.store().control_id() };
    let second = usize::from(made[0].initiator == control(&planes[0]));
    let seen = planes[second]
        .until(0, "by another", |i| i.recovery.as_ref().is_some_and(|attempt| attempt.id == made[0].id))
        .await;
    assert_eq!(seen.state, InstanceState::Recovering, "{seen:?}");
    assert!(seen.reason.is_some_and(|reason| reason.starts_with("somebody else repairs it")));
    fake.let_end(true);
    for plane in &planes {
        plane
            .until(0, "well", |i| i.state == InstanceState::Live && i.attempts_left == Some(2) && i.recovery.is_none())
            .await;
        plane
            .until_attempts("judged alike", |known| {
                known.iter().any(|attempt| attempt.id == made[0].id && attempt.outcome == Outcome::Repaired)
            })
            .await;
    }
    assert_eq!(fake.attempts().len(), 1);
    for (told, plane) in told.iter_mut().zip(&planes) {
        let newest = plane.hub.events().newest();
        loop {
            let (number, event) = told.next().await.expect("an event");
            match event {
                Event::Instance { instance } => assert_ne!(instance.state, InstanceState::Failed, "{instance:?}"),
                Event::Attempt { attempt } => assert_ne!(attempt.outcome, Outcome::Failed, "{attempt:?}"),
                _ => {}
            }
            if number == newest {
                break;
            }
        }
    }
    for plane in planes {
        plane.end().await;
    }
}

#[tokio::test]
async fn what_is_told_late_is_no_news_of_an_instance_that_is_well() {
    let fake = Fake::start(0, |_, _| {}).await;
    let plane = Plane::start(Store::in_memory(), 1, false, &[&fake]).await;
    plane.until(0, "live", |i| i.state == InstanceState::Live && i.attempts_left == Some(3)).await;
    let others = Attempt { initiator: Initiator::Policy { control: "other".into() }, ..fake.own_attempt("x") };
    fake.add(others.clone());
    fake.change(|health| health.guest_restarts = 1);
    plane.until_outcomes(&[(Remedy::RestartQemu, Outcome::Repaired)]).await;
    let mut events = Box::pin(plane.hub.events().since(Some(plane.hub.events().newest())));
    // By now whoever made it has found that it did not help.
    let breaker = plane.hub.breakers().of("test");
    let judged = Attempt { outcome: Outcome::InVain, ..others };
    crate::executor::judge_at(plane.hub.client(), &fake.url, &breaker, &judged).await;
    fake.change(|health| health.guest_restarts = 2);
    let mut was_told = false;
    loop {
        let next = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("an event");
        match next.1 {
            Event::Attempt { attempt } => was_told |= attempt.outcome == Outcome::InVain,
            Event::Instance { instance } if was_told => break assert_eq!(instance.state, InstanceState::Live),
            _ => {}
        }
    }
    plane.end().await;
}

#[tokio::test]
async fn what_became_of_an_own_attempt_meanwhile_is_learnt() {
    let fake = Fake::start(0, |_, _| {}).await;
    let store = Store::in_memory();
    let own = Attempt { initiator: Initiator::Policy { control: store.control_id() }, ..fake.own_attempt("x") };
    // Its control plane ended before it could judge it.
    store.put_attempt(&Attempt { outcome: Outcome::Running, ended_at_ms: None, ..own.clone() });
    fake.add(own);
    let plane = Plane::start(store, 1, false, &[&fake]).await;
    plane.until_outcomes(&[(Remedy::RestartQemu, Outcome::Repaired)]).await;
    plane.end().await;
}

#[tokio::test]
async fn two_control_planes_and_a_restarted_one_make_three_together() {
    let fake = Fake::start(0, |_, _| {}).await;
    fake.change(|health| {
        health.frozen = Some(true);
        health.network.tap_up = Some(false);
    });
    let (store, other) = (Store::in_memory(), Store::in_memory());
    let is_spent = |i: &Instance| i.attempts_left == Some(0) && i.recovery.is_none();
    let planes =
        [Plane::start(store.clone(), 40, false, &[&fake]).await, Plane::start(other, 40, false, &[&fake]).await];
    for plane in &planes {
        plane.until(0, "used up", is_spent).await;
    }
    let made = fake.attempts();
    assert_eq!(made.len(), 3, "{made:#?}");
    // Both know of all three, whoever made them.
    for plane in &planes {
        let known: BTreeSet<String> = plane.hub.recovery_status().attempts.into_iter().map(|a| a.id).collect();
        assert!(made.iter().all(|attempt| known.contains(&attempt.id)), "{known:?}");
    }
    // And all think the same of each, whoever made it: what is in vain for one is not repaired for the other.
    for plane in &planes {
        plane
            .until_attempts("judged alike", |known| {
                made.iter().all(|made| known.iter().any(|one| one.id == made.id && one.outcome == Outcome::InVain))
            })
            .await;
    }
    assert!(fake.attempts().iter().all(|attempt| attempt.outcome == Outcome::InVain), "{:#?}", fake.attempts());
    for plane in planes {
        plane.end().await;
    }
    let again = Plane::start(store, 40, false, &[&fake]).await;
    again.until(0, "used up", is_spent).await;
    assert!(again.outcomes().len() >= 3, "remembered: {:?}", again.outcomes());
    let refused = again.hub.recover(id(0), RecoverOrder::default(), Initiator::Person { name: "a".into() }).await;
    assert!(matches!(refused, Err(HubError::Limit { .. })), "{refused:?}");
    assert_eq!(fake.attempts().len(), 3);
    again.end().await;
}

#[tokio::test]
async fn what_became_of_others_attempts_meanwhile_is_learnt() {
    let fake = Fake::start(0, |_, _| {}).await;
    let done = fake.own_attempt("x");
    let store = Store::in_memory();
    store.put_attempt(&Attempt { outcome: Outcome::Running, ended_at_ms: None, ..done.clone() });
    fake.add(done);
    let plane = Plane::start(store, 1, false, &[&fake]).await;
    plane.until_outcomes(&[(Remedy::RestartQemu, Outcome::Repaired)]).await;
    plane.end().await;
}

#[tokio::test]
async fn an_agent_is_told_who_speaks_unless_it_knows_no_senders() {
    let (new, old) = (Fake::start(0, |_, _| {}).await, Fake::start_old(1).await);
    let plane = Plane::start(Store::in_memory(), 1, false, &[&new, &old]).await;
    for index in 0..2 {
        plane.until(index, "live", |i| i.state == InstanceState::Live).await;
    }
    let (mut to_new, mut to_old) = (new.uses(), old.uses());
    let focus = |on: usize| ViewerReport { name: "ada".into(), focus: Some(id(on)), follows: false, sessions: vec![] };
    let control = plane.hub.store().control_id();
    for on in [0, 1, 0] {
        plane.hub.usage().report("a", focus(on)).expect("taken");
        told(&mut to_new, "by whom", |told| told.in_use == (on == 0) && told.sender.as_ref() == Some(&control)).await;
        told(&mut to_old, "all the same", |told| told.in_use == (on == 1) && told.sender.is_none()).await;
    }
    assert_eq!(old.refused_uses(), 1, "asked once, and remembered");
    plane.end().await;
}
