//! Who sits at each session: which viewer, in which role, and so whether its input is taken.

use loco_http::Role;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// One session's viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seat {
    /// Its id, if it named itself.
    viewer: Option<String>,
    role: Role,
}

/// All sessions' viewers, and the one whose input is taken.
#[derive(Debug)]
pub(crate) struct Seats {
    all: Mutex<BTreeMap<String, Seat>>,
    holder: watch::Receiver<Option<String>>,
}

// === impl Seats ===

impl Seats {
    /// `holder`: the viewer whose input is taken; everyone's while `None`.
    pub(crate) fn new(holder: watch::Receiver<Option<String>>) -> Self {
        Self { all: Mutex::default(), holder }
    }

    /// A session begins.
    pub(crate) fn take(&self, session: &str, viewer: Option<String>, role: Role) {
        self.all.lock().insert(session.to_owned(), Seat { viewer, role });
    }

    /// It has ended.
    pub(crate) fn leave(&self, session: &str) {
        self.all.lock().remove(session);
    }

    /// Whether its input is taken now.
    pub(crate) fn may_play(&self, session: &str) -> bool {
        let holder = self.holder.borrow();
        self.all.lock().get(session).is_some_and(|seat| {
            seat.role >= Role::Play && holder.as_ref().is_none_or(|holder| seat.viewer.as_ref() == Some(holder))
        })
    }

    /// Follows whose input is taken.
    pub(crate) fn holder(&self) -> watch::Receiver<Option<String>> {
        self.holder.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_and_only_players_give_input() {
        let (holder, holder_out) = watch::channel(None);
        let seats = Seats::new(holder_out);
        seats.take("a", Some("ada".to_owned()), Role::Operate);
        seats.take("b", None, Role::Play);
        seats.take("c", Some("cyd".to_owned()), Role::View);
        let may = || ["a", "b", "c", "d"].map(|session| seats.may_play(session));
        assert_eq!(may(), [true, true, false, false]);
        holder.send_replace(Some("ada".to_owned()));
        assert_eq!(may(), [true, false, false, false]);
        holder.send_replace(Some("cyd".to_owned()));
        assert_eq!(may(), [false, false, false, false], "holding does not make a player");
        holder.send_replace(None);
        seats.leave("a");
        assert_eq!(may(), [false, true, false, false]);
    }
}
