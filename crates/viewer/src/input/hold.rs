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
    /// This viewer may only look; why.
    Forbidden(String),
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
    /// This viewer may only look: tell why. Once for all keys, and for each wish that was made by a click.
    Forbidden(String),
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
    /// It was said that this viewer may only look: so it may everywhere.
    told_forbidden: bool,
}

impl Hold {
    /// Nobody's.
    #[must_use]
    pub fn new(me: InputHolder) -> Self {
        Self { me, guests: Default::default(), others: false, speaks: false, told_forbidden: false }
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
        let told_forbidden = &mut self.told_forbidden;
        let Some(guest) = self.guests.get_mut(id.index()) else { return };
        if action == ClaimAction::Release {
            return;
        }
        let was_asking = guest.asking.take().is_some();
        match result {
            Ok(()) => {
                (guest.holder, guest.told) = (Some(me), false);
                *told_forbidden = false;
                flush(id, guest, out);
            }
            Err(Denial::Held(_)) => {
                guest.waiting.clear();
                guest.quiet_until = Some(now + ASK_AGAIN);
                if was_asking && !std::mem::replace(&mut guest.told, true) {
                    out.push(Deed::Refused(id));
                }
            }
            Err(Denial::Forbidden(why)) => {
                guest.quiet_until = Some(now + ASK_AGAIN);
                // Its agent lets in whom it knows: it decides.
                flush(id, guest, out);
                if !std::mem::replace(told_forbidden, true) || action == ClaimAction::Take {
                    out.push(Deed::Forbidden(why.clone()));
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

    /// A person clicks for an input: it is asked for at once, and a refusal is told, also where one was told before.
    pub fn insist(&mut self, id: InstanceId) {
        self.told_forbidden = false;
        if let Some(guest) = self.guests.get_mut(id.index()) {
            (guest.quiet_until, guest.told) = (None, false);
        }
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
mod tests;
