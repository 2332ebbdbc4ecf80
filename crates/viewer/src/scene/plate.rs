//! What is said about an instance: the control plane's word and this viewer's own session, put together. Pure.

use loco_media::SessionState;
use loco_model::api::Instance;
use loco_model::{InstanceId, InstanceState};

/// What a tile says in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plate {
    /// Whose.
    pub id: InstanceId,
    /// What people call it.
    pub name: String,
    /// Colour, icon and word.
    pub state: InstanceState,
    /// The reason's shortest form, after the word.
    pub note: Option<String>,
    /// What happens and what comes next, over the picture while it is not live.
    pub message: Option<Message>,
}

/// Two lines over a picture that is not live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The state, in a word or three.
    pub title: String,
    /// What happens, or why.
    pub line: String,
}

/// Longest note on a plate, in characters; what is longer stands over the picture.
const NOTE_LENGTH: usize = 24;

impl Plate {
    /// Puts the control plane's word, the session's state and whether a picture was ever seen together.
    ///
    /// The worse of the two counts: an instance that the control plane calls live is still connecting here until its
    /// first picture, and a session that still stands does not make a recovering guest live.
    #[must_use]
    pub fn new(instance: &Instance, session: Option<&SessionState>, has_picture: bool) -> Self {
        let reason = instance.reason.clone();
        let (state, line) = match instance.state {
            InstanceState::Live | InstanceState::Degraded => match session {
                Some(SessionState::Connected) if has_picture => (instance.state, reason.clone()),
                Some(SessionState::Connected) => {
                    (InstanceState::Connecting, Some("Connected; the first picture is on its way".to_owned()))
                }
                Some(SessionState::Retrying { reason, attempts }) => {
                    (InstanceState::Connecting, Some(format!("{reason}; attempt {} comes by itself", attempts + 1)))
                }
                Some(SessionState::Failed { reason }) => (InstanceState::Failed, Some(reason.clone())),
                Some(SessionState::Connecting) | None => {
                    (InstanceState::Connecting, Some("Opening the stream".to_owned()))
                }
            },
            other => (other, reason.clone()),
        };
        let message = (!is_shown_live(state)).then(|| Message {
            title: state.word().to_owned(),
            line: line.clone().unwrap_or_else(|| default_line(state).to_owned()),
        });
        let note = line.filter(|line| is_shown_live(state) && line.chars().count() <= NOTE_LENGTH);
        Self { id: instance.id, name: instance.name.clone(), state, note, message }
    }
}

/// Whether the picture is shown as it is, in full colour.
#[must_use]
pub fn is_shown_live(state: InstanceState) -> bool {
    matches!(state, InstanceState::Live | InstanceState::Degraded)
}

fn default_line(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Connecting => "Waiting for its agent",
        InstanceState::Recovering => "It is being repaired; the picture comes back by itself",
        InstanceState::Failed => "No reason was given; its log may tell",
        InstanceState::Stopped => "Switched off",
        InstanceState::Live | InstanceState::Degraded => "",
    }
}

/// "7 live · 1 degraded": how many are in which state, the best first; `None` when there are no instances.
#[must_use]
pub fn summary(states: &(impl Iterator<Item = InstanceState> + Clone)) -> Option<String> {
    let parts: Vec<_> = InstanceState::ALL
        .iter()
        .filter_map(|state| match states.clone().filter(|s| s == state).count() {
            0 => None,
            count => Some(format!("{count} {}", state.word().to_lowercase())),
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// The instance that needs a person most: the worst state, then the lowest number; `None` when all are live.
#[must_use]
pub fn worst(states: impl Iterator<Item = (InstanceId, InstanceState)>) -> Option<InstanceId> {
    let rank = |state| InstanceState::ALL.iter().position(|s| *s == state).unwrap_or(0);
    states
        .filter(|(_, state)| *state != InstanceState::Live)
        .max_by_key(|(id, state)| (rank(*state), std::cmp::Reverse(*id)))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use InstanceState::{Connecting, Degraded, Failed, Live, Recovering, Stopped};

    fn instance(state: InstanceState, reason: Option<&str>) -> Instance {
        let id = InstanceId::try_new(4).unwrap();
        Instance { state, reason: reason.map(Into::into), ready: true, ..Instance::new(id) }
    }

    #[test]
    fn the_worse_word_counts() {
        let retrying = SessionState::Retrying { reason: "connection refused".into(), attempts: 2 };
        let broken = SessionState::Failed { reason: "no decoder".into() };
        let table = [
            (Live, Some(&SessionState::Connected), true, Live, None),
            (Live, Some(&SessionState::Connected), false, Connecting, Some("first picture")),
            (Live, None, false, Connecting, Some("Opening")),
            (Live, Some(&retrying), true, Connecting, Some("connection refused; attempt 3")),
            (Live, Some(&broken), true, Failed, Some("no decoder")),
            (Degraded, Some(&SessionState::Connected), true, Degraded, None),
            (Recovering, Some(&SessionState::Connected), true, Recovering, Some("repaired")),
            (Failed, Some(&retrying), true, Failed, Some("log")),
            (Stopped, None, false, Stopped, Some("off")),
            (Connecting, None, false, Connecting, Some("agent")),
        ];
        for (control, session, has_picture, state, line) in table {
            let plate = Plate::new(&instance(control, None), session, has_picture);
            assert_eq!(plate.state, state, "{control:?} {session:?}");
            match (line, plate.message) {
                (None, message) => assert_eq!(message, None, "{control:?} {session:?}"),
                (Some(part), Some(message)) => assert!(message.line.contains(part), "{}", message.line),
                (Some(_), None) => panic!("{control:?} {session:?} says nothing"),
            }
        }
    }

    #[test]
    fn short_reasons_stand_on_the_plate_and_long_ones_do_not() {
        let note = |reason| Plate::new(&instance(Degraded, Some(reason)), Some(&SessionState::Connected), true).note;
        assert_eq!(note("9 fps"), Some("9 fps".into()));
        assert_eq!(note("the guest has not answered a probe for 4 s"), None);
        let recovering = Plate::new(&instance(Recovering, Some("restarting QEMU")), None, true);
        assert_eq!(
            recovering.message.map(|m| (m.title, m.line)),
            Some(("Recovering".into(), "restarting QEMU".into()))
        );
    }

    #[test]
    fn the_bar_counts_and_finds_the_worst() {
        let states = [Live, Degraded, Live, Recovering, Live];
        assert_eq!(summary(&states.into_iter()), Some("3 live · 1 degraded · 1 recovering".into()));
        assert_eq!(summary(&[].into_iter()), None);
        let ids =
            |states: &[InstanceState]| worst(InstanceId::all().zip(states.iter().copied())).map(InstanceId::index);
        assert_eq!(ids(&states), Some(3));
        assert_eq!(ids(&[Live, Live]), None);
        assert_eq!(ids(&[Failed, Live, Failed]), Some(0));
    }
}
