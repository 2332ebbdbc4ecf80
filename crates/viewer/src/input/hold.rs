//! Whose input an instance takes, as one viewer sees it: asks for it with the first key, keeps still while another has
//! it, gives it back when the focus is elsewhere for a while. Pure: what is to be done comes out as a list.
//!
//! Whoever is alone never waits: its keys go out at once, and are asked for beside. So do the keys of everyone whose
//! control plane is gone, or too old to know of holders.

use loco_model::InstanceId;
use loco_model::input::KeysEvent;
use loco_model::usage::{ClaimAction, InputHolder};
use std::time::Duration;

/// The input is given back when the focus has been elsewhere for so long.
const RELEASE_AFTER: Duration = Duration::from_secs(5);
/// The same when the window has been without the keyboard for so long.
const AWAY_AFTER: Duration = Duration::from_secs(30);
/// Keys that wait for an answer go out after this: the agent decides then.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Most keys that wait for an answer.
const MOST_WAITING: usize = 64;
/// After a refusal for another reason than a holder nobody asks again for this long.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Why a claim came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Another viewer holds it; what the control plane says about that.
    Held(String),
    /// The control plane knows of no holders.
    Unknown,
    /// It failed; why.
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Tell the control plane.
    Claim(InstanceId, ClaimAction),
    /// Send what waited.
    Send(InstanceId, KeysEvent),
    /// Input was not sent: tell who has it. Once for each time that it is so.
    Refused(InstanceId),
    /// Another viewer took it from us.
    Taken(InstanceId),
}

/// What becomes of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it now.
    Send,
    /// Not now: it waits, or another has the input.
    Keep,
}

/// One instance.
#[derive(Clone, Debug, Default)]
struct Guest {
    holder: Option<InputHolder>,
    /// Asked at that time, and no answer yet.
    asking: Option<Duration>,
    /// Not to be asked about before.
    quiet_until: Option<Duration>,
    waiting: Vec<KeysEvent>,
    /// Given back then.
    release_at: Option<Duration>,
    /// It was said that another has it.
    told: bool,
}

/// All instances' input.
#[derive(Clone, Debug)]
pub struct Hold {
    me: InputHolder,
    guests: [Guest; InstanceId::COUNT],
    /// Other viewers are known.
    others: bool,
    /// The control plane answers, and knows of holders.
    speaks: bool,
}

impl Hold {
    /// Nobody's.
    #[must_use]
    pub fn new(me: InputHolder) -> Self {
        Self { me, guests: Default::default(), others: false, speaks: false }
    }

    /// Who holds it; `None`: nobody, or unknown.
    #[must_use]
    pub fn holder(&self, id: InstanceId) -> Option<&InputHolder> {
        self.guests.get(id.index())?.holder.as_ref()
    }

    /// Whether this viewer holds it.
    #[must_use]
    pub fn is_mine(&self, id: InstanceId) -> bool {
        self.holder(id).is_some_and(|holder| holder.viewer == self.me.viewer)
    }

    /// Who else holds it.
    #[must_use]
    pub fn other(&self, id: InstanceId) -> Option<&InputHolder> {
        self.holder(id).filter(|holder| holder.viewer != self.me.viewer)
    }

    /// The control plane is there, or gone: then everyone's keys go out, and the agents decide.
    pub fn set_speaks(&mut self, speaks: bool, out: &mut Vec<Deed>) {
        self.speaks = speaks;
        if !speaks {
            for id in InstanceId::all() {
                let guest = &mut self.guests[id.index()];
                (guest.holder, guest.asking) = (None, None);
                flush(id, guest, out);
            }
        }
    }

    /// Whether other viewers are known.
    pub fn set_others(&mut self, others: bool) {
        self.others = others;
    }

    /// The control plane says who holds it.
    pub fn heard(&mut self, id: InstanceId, holder: Option<InputHolder>, out: &mut Vec<Deed>) {
        let was_mine = self.is_mine(id);
        let Some(guest) = self.guests.get_mut(id.index()) else { return };
        if guest.holder == holder {
            return;
        }
        guest.holder = holder;
        let is_other = guest.holder.as_ref().is_some_and(|holder| holder.viewer != self.me.viewer);
        if is_other {
            let asked = guest.asking.take().is_some() || !guest.waiting.is_empty();
            guest.waiting.clear();
            guest.release_at = None;
            // Told by the take-over, or by the refusal.
            if was_mine {
                guest.told = true;
                out.push(Deed::Taken(id));
            } else if asked {
                guest.told = true;
                out.push(Deed::Refused(id));
            }
        } else {
            guest.told = false;
            if guest.holder.is_some() {
                guest.asking = None;
                flush(id, guest, out);
            }
        }
    }

    /// A claim was answered.
    pub fn answered(
        &mut self,
        id: InstanceId,
        action: ClaimAction,
        result: &Result<(), Denial>,
        now: Duration,
        out: &mut Vec<Deed>,
    ) {
        let me = self.me.clone();
        let Some(guest) = self.guests.get_mut(id.index()) else { return };
        if action == ClaimAction::Release {
            return;
        }
        let was_asking = guest.asking.take().is_some();
        match result {
            Ok(()) => {
                (guest.holder, guest.told) = (Some(me), false);
                flush(id, guest, out);
            }
            Err(Denial::Held(_)) => {
                guest.waiting.clear();
                guest.quiet_until = Some(now + ASK_AGAIN);
                if was_asking && !std::mem::replace(&mut guest.told, true) {
                    out.push(Deed::Refused(id));
                }
            }
            Err(Denial::Unknown) => self.set_speaks(false, out),
            Err(Denial::Failed(_)) => {
                guest.quiet_until = Some(now + ASK_AGAIN);
                flush(id, guest, out);
            }
        }
    }

    /// A person gives an input; `event` is what may wait, pointer motion may not.
    pub fn wants(&mut self, id: InstanceId, event: Option<KeysEvent>, now: Duration, out: &mut Vec<Deed>) -> Verdict {
        let (mine, speaks, others) = (self.is_mine(id), self.speaks, self.others);
        let Some(guest) = self.guests.get_mut(id.index()) else { return Verdict::Send };
        // Letting go is no wish to play.
        let is_wish = !matches!(event, Some(KeysEvent::ReleaseAll | KeysEvent::Key { pressed: false, .. }));
        if is_wish {
            guest.release_at = None;
        }
        if mine || !speaks {
            return Verdict::Send;
        }
        if guest.holder.is_some() {
            if is_wish && !std::mem::replace(&mut guest.told, true) {
                out.push(Deed::Refused(id));
            }
            return Verdict::Keep;
        }
        if is_wish && guest.asking.is_none() && guest.quiet_until.is_none_or(|until| now >= until) {
            guest.asking = Some(now);
            out.push(Deed::Claim(id, ClaimAction::Ask));
        }
        if !others || guest.asking.is_none() {
            return Verdict::Send;
        }
        let Some(event) = event else { return Verdict::Keep };
        if guest.waiting.len() == MOST_WAITING {
            // None may be lost, least of all one that lets go: they go out as if nobody had answered.
            flush(id, guest, out);
            return Verdict::Send;
        }
        guest.waiting.push(event);
        Verdict::Keep
    }

    /// Takes it, whoever has it.
    pub fn take(&mut self, id: InstanceId, now: Duration, out: &mut Vec<Deed>) {
        if let Some(guest) = self.guests.get_mut(id.index()) {
            (guest.asking, guest.release_at, guest.told) = (Some(now), None, false);
            out.push(Deed::Claim(id, ClaimAction::Take));
        }
    }

    /// Gives it back.
    pub fn release(&mut self, id: InstanceId, out: &mut Vec<Deed>) {
        if self.is_mine(id)
            && let Some(guest) = self.guests.get_mut(id.index())
        {
            *guest = Guest::default();
            out.push(Deed::Claim(id, ClaimAction::Release));
        }
    }

    /// The focus went from one to another.
    pub fn focus_moved(&mut self, from: Option<InstanceId>, to: Option<InstanceId>, now: Duration) {
        if let Some(guest) = from.and_then(|id| self.guests.get_mut(id.index())) {
            guest.release_at = Some(now + RELEASE_AFTER);
            guest.told = false;
        }
        if let Some(guest) = to.and_then(|id| self.guests.get_mut(id.index())) {
            guest.release_at = None;
        }
    }

    /// The window lost the keyboard.
    pub fn went_away(&mut self, focus: Option<InstanceId>, now: Duration) {
        if let Some(guest) = focus.and_then(|id| self.guests.get_mut(id.index())) {
            guest.release_at = guest.release_at.or(Some(now + AWAY_AFTER));
        }
    }

    /// An instance is gone.
    pub fn removed(&mut self, id: InstanceId) {
        if let Some(guest) = self.guests.get_mut(id.index()) {
            *guest = Guest::default();
        }
    }

    /// Does what is due.
    pub fn pass(&mut self, now: Duration, out: &mut Vec<Deed>) {
        for id in InstanceId::all() {
            let guest = &mut self.guests[id.index()];
            if guest.asking.is_some_and(|asked| now >= asked + ANSWER_WITHIN) {
                guest.asking = None;
                guest.quiet_until = Some(now + ASK_AGAIN);
                flush(id, guest, out);
            }
            if guest.release_at.is_some_and(|at| now >= at) {
                guest.release_at = None;
                self.release(id, out);
            }
        }
    }

    /// When something is due; `None`: nothing is.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let due = |guest: &Guest| [guest.asking.map(|asked| asked + ANSWER_WITHIN), guest.release_at];
        self.guests.iter().flat_map(due).flatten().min()
    }
}

fn flush(id: InstanceId, guest: &mut Guest, out: &mut Vec<Deed>) {
    out.extend(guest.waiting.drain(..).map(|event| Deed::Send(id, event)));
}

#[cfg(test)]
mod tests {
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
}
