use super::*;
use ClaimAction::{Ask, Release, Take};

fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).unwrap()
}

fn person(name: &str) -> InputHolder {
    InputHolder { viewer: name.to_lowercase(), name: name.to_owned() }
}

fn press() -> Option<KeysEvent> {
    Some(KeysEvent::Key { key: "KeyA".parse().unwrap(), pressed: true })
}

fn lift() -> Option<KeysEvent> {
    Some(KeysEvent::Key { key: "KeyA".parse().unwrap(), pressed: false })
}

struct Bench {
    hold: Hold,
    now: Duration,
}

impl Bench {
    fn new(others: bool) -> Self {
        let mut hold = Hold::new(person("Me"));
        hold.set_speaks(true, &mut Vec::new());
        hold.set_others(others);
        Self { hold, now: Duration::from_secs(100) }
    }

    fn wants(&mut self, event: Option<KeysEvent>) -> (Verdict, Vec<Deed>) {
        let mut out = Vec::new();
        let verdict = self.hold.wants(id(2), event, self.now, &mut out);
        (verdict, out)
    }

    fn answered(&mut self, action: ClaimAction, result: &Result<(), Denial>) -> Vec<Deed> {
        let mut out = Vec::new();
        self.hold.answered(id(2), action, result, self.now, &mut out);
        out
    }

    fn heard(&mut self, holder: Option<InputHolder>) -> Vec<Deed> {
        let mut out = Vec::new();
        self.hold.heard(id(2), holder, &mut out);
        out
    }

    fn pass(&mut self, seconds: u64) -> Vec<Deed> {
        let mut out = Vec::new();
        self.now += Duration::from_secs(seconds);
        self.hold.pass(self.now, &mut out);
        out
    }
}

#[test]
fn alone_the_first_key_does_not_wait() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![Deed::Claim(id(2), Ask)]));
    assert_eq!(bench.wants(lift()), (Verdict::Send, vec![]), "asked once");
    assert_eq!(bench.answered(Ask, &Ok(())), []);
    assert!(bench.hold.is_mine(id(2)));
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]));
}

#[test]
fn with_others_keys_wait_for_the_answer_in_order() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.wants(press()), (Verdict::Keep, vec![Deed::Claim(id(2), Ask)]));
    assert_eq!(bench.wants(None), (Verdict::Keep, vec![]), "motion does not wait");
    assert_eq!(bench.wants(lift()), (Verdict::Keep, vec![]));
    let sent = [press(), lift()].into_iter().flatten().map(|event| Deed::Send(id(2), event));
    assert_eq!(bench.answered(Ask, &Ok(())), sent.collect::<Vec<_>>());
}

#[test]
fn another_holder_is_told_once_and_nothing_is_sent() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.heard(Some(person("Ada"))), []);
    assert_eq!(bench.wants(press()), (Verdict::Keep, vec![Deed::Refused(id(2))]));
    assert_eq!(bench.wants(press()), (Verdict::Keep, vec![]));
    let mut out = Vec::new();
    bench.hold.take(id(2), bench.now, &mut out);
    assert_eq!(out, [Deed::Claim(id(2), Take)]);
    assert_eq!(bench.answered(Take, &Ok(())), []);
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]));
    assert_eq!(bench.heard(Some(person("Ada"))), [Deed::Taken(id(2))]);
    assert_eq!(bench.wants(press()), (Verdict::Keep, vec![]), "the take-over told it");
}

#[test]
fn a_refusal_drops_what_waited() {
    let mut bench = Bench::new(true);
    bench.wants(press());
    assert_eq!(bench.answered(Ask, &Err(Denial::Held("Ada".into()))), [Deed::Refused(id(2))]);
    assert_eq!(bench.heard(Some(person("Ada"))), [], "no second word about it");
    bench.heard(None);
    bench.pass(6);
    assert_eq!(bench.wants(press()).1, [Deed::Claim(id(2), Ask)], "it is free again");
}

#[test]
fn who_may_only_look_is_told_once_and_at_every_click() {
    let why = "this takes the role play, and you have view";
    let (forbidden, told) = (Err(Denial::Forbidden(why.into())), [Deed::Forbidden(why.into())]);
    let mut bench = Bench::new(true);
    bench.wants(press());
    let sent = Deed::Send(id(2), press().unwrap());
    assert_eq!(bench.answered(Ask, &forbidden), [sent, told[0].clone()]);
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]), "not asked for with every key");
    bench.pass(6);
    bench.hold.set_others(false);
    assert_eq!(bench.wants(press()).1, [Deed::Claim(id(2), Ask)]);
    assert_eq!(bench.answered(Ask, &forbidden), [], "it was told");
    for _ in 0..2 {
        assert_eq!(bench.answered(Take, &forbidden), told);
    }
    for _ in 0..2 {
        bench.hold.insist(id(2));
        assert_eq!(bench.wants(press()).1, [Deed::Claim(id(2), Ask)], "at once");
        assert_eq!(bench.answered(Ask, &forbidden), told);
    }
    // With another token it may play, and with the one after that it may not.
    bench.answered(Take, &Ok(()));
    bench.heard(None);
    assert_eq!(bench.answered(Ask, &forbidden), told);
}

#[test]
fn a_control_plane_that_is_silent_old_or_gone_does_not_matter() {
    let mut bench = Bench::new(true);
    bench.wants(press());
    assert_eq!(bench.pass(1), [Deed::Send(id(2), press().unwrap())], "silent");
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]));
    let mut bench = Bench::new(true);
    bench.wants(press());
    assert_eq!(bench.answered(Ask, &Err(Denial::Unknown)), [Deed::Send(id(2), press().unwrap())], "old");
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]));
    let mut bench = Bench::new(true);
    bench.heard(Some(person("Ada")));
    bench.hold.set_speaks(false, &mut Vec::new());
    assert_eq!(bench.wants(press()), (Verdict::Send, vec![]), "gone");
}

#[test]
fn none_of_many_keys_is_lost_or_overtaken_while_the_answer_is_awaited() {
    let mut bench = Bench::new(true);
    let mut sent = Vec::new();
    for n in 0..=MOST_WAITING {
        let event = if n % 2 == 0 { press() } else { lift() };
        let (verdict, deeds) = bench.wants(event);
        sent.extend(
            deeds.into_iter().filter_map(|deed| if let Deed::Send(_, event) = deed { Some(event) } else { None }),
        );
        assert_eq!(verdict == Verdict::Send, n == MOST_WAITING, "{n}");
        sent.extend(event.filter(|_| verdict == Verdict::Send));
    }
    let expected = (0..=MOST_WAITING).filter_map(|n| if n % 2 == 0 { press() } else { lift() });
    assert_eq!(sent, expected.collect::<Vec<_>>());
}

#[test]
fn it_is_given_back_a_while_after_the_focus_left() {
    let mut bench = Bench::new(false);
    bench.wants(press());
    bench.answered(Ask, &Ok(()));
    bench.hold.focus_moved(Some(id(2)), Some(id(3)), bench.now);
    assert_eq!(bench.pass(4), []);
    bench.hold.focus_moved(Some(id(3)), Some(id(2)), bench.now);
    assert_eq!(bench.pass(20), [], "it came back in time");
    bench.hold.went_away(Some(id(2)), bench.now);
    assert_eq!(bench.pass(20), []);
    bench.wants(press());
    assert_eq!(bench.pass(20), [], "typing keeps it");
    bench.hold.focus_moved(Some(id(2)), None, bench.now);
    assert_eq!(bench.hold.next(), Some(bench.now + RELEASE_AFTER));
    assert_eq!(bench.pass(5), [Deed::Claim(id(2), Release)]);
    assert!(!bench.hold.is_mine(id(2)));
    assert_eq!(bench.hold.next(), None);
}
