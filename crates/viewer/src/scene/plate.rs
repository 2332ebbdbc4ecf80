//! What is said about an instance: the control plane's word and this viewer's own session, put together. Pure.

use super::words;
use crate::quality::{self, Quality};
use loco_media::SessionState;
use loco_model::api::Instance;
use loco_model::failure::FailureClass;
use loco_model::report::HELD;
use loco_model::usage::QualityLevel;
use loco_model::{InstanceId, InstanceState};
use std::time::Duration;

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
    /// Why it is not as it should be, where that is too long for a note: over the picture's upper edge.
    pub caption: Option<String>,
    /// How good the picture arrives; `None` before the first, and where that says nothing.
    pub level: Option<QualityLevel>,
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
    /// What a person can do about it.
    pub help: Vec<Help>,
}

/// What a person can do about an instance that is not live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Let it be repaired; beyond the limit where that is reached.
    Recover {
        /// The limit is reached.
        beyond: bool,
    },
    /// Let a guest that stands still go on.
    Resume,
    /// Save what was seen before the last attempt.
    Evidence,
}

/// What a plate is made from.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The control plane's word.
    pub instance: &'a Instance,
    /// This viewer's session; `None` where there is none.
    pub session: Option<&'a SessionState>,
    /// A picture was ever seen.
    pub has_picture: bool,
    /// How good it arrives.
    pub quality: Option<&'a Quality>,
    /// For how long it has been repaired.
    pub recovering_for: Option<Duration>,
    /// Something was saved before the last attempt.
    pub evidence: bool,
}

/// Longest note on a plate, in characters; what is longer stands over the picture.
const NOTE_LENGTH: usize = 24;

impl Plate {
    /// Puts the control plane's word, the session's state and what was seen together.
    ///
    /// The worse of the two counts: an instance that the control plane calls live is still connecting here until its
    /// first picture, and a session that still stands does not make a recovering guest live.
    #[must_use]
    pub fn new(told: &Told<'_>) -> Self {
        let Told { instance, session, has_picture, .. } = *told;
        let reason = instance.reason.clone();
        let (state, line) = match instance.state {
            // Another viewer's trouble is told, and takes nothing from the picture that arrives here.
            InstanceState::Recovering
                if instance.failure == FailureClass::Client
                    && has_picture
                    && matches!(session, Some(SessionState::Connected))
                    && told.quality.is_none_or(|quality| quality.level != QualityLevel::Lost) =>
            {
                (InstanceState::Degraded, instance.recovery.as_ref().map(words::being_done).or(reason))
            }
            InstanceState::Live | InstanceState::Degraded => match session {
                Some(SessionState::Connected) if has_picture => (instance.state, reason),
                Some(SessionState::Connected) => {
                    (InstanceState::Connecting, Some("Connected; the first picture is on its way".to_owned()))
                }
                Some(SessionState::Retrying { reason, .. }) => {
                    (InstanceState::Connecting, Some(format!("{reason}; it is tried again by itself")))
                }
                Some(SessionState::Failed { reason }) => (InstanceState::Failed, Some(reason.clone())),
                Some(SessionState::Connecting) | None => {
                    (InstanceState::Connecting, Some("Opening the stream".to_owned()))
                }
            },
            other => (other, reason),
        };
        let message = (!is_shown_live(state)).then(|| message(told, state, line.as_deref()));
        let quality = told.quality.filter(|_| is_shown_live(state));
        let (note, caption) = match line.filter(|_| is_shown_live(state)) {
            Some(line) if line.chars().count() <= NOTE_LENGTH => (Some(line), None),
            line => (quality.and_then(complaint), line.as_deref().map(sentence)),
        };
        // A still picture of a guest that does not live arrives as well as it can: that is no news.
        let level = told.quality.map(|quality| quality.level);
        let level = level.filter(|level| is_shown_live(state) || *level == QualityLevel::Lost);
        Self { id: instance.id, name: instance.name.clone(), state, note, caption, level, message }
    }
}

/// "fair, 9 fps"; nothing where all is well.
fn complaint(quality: &Quality) -> Option<String> {
    let word = quality::word(quality.level);
    match (&quality.short, quality.level) {
        (_, QualityLevel::Excellent) => None,
        (Some(short), _) => Some(format!("{word}, {short}")),
        (None, _) => Some(word.to_owned()),
    }
}

/// What happens, and what comes next.
fn message(told: &Told<'_>, state: InstanceState, line: Option<&str>) -> Message {
    let left = told.instance.attempts_left;
    let mut title = state.word().to_owned();
    let mut line = line.map_or_else(|| default_line(state).to_owned(), sentence);
    let mut help = Vec::new();
    match (&told.instance.recovery, state) {
        (Some(attempt), _) => {
            if let Some(ordinal) = words::ordinal(left) {
                title = format!("{title}, {ordinal}");
            }
            line = sentence(&words::being_done(attempt));
            if let Some(seconds) = told.recovering_for.map(|time| time.as_secs()).filter(|seconds| *seconds > 0) {
                line = format!("{line} · {seconds} s");
            }
        }
        (None, InstanceState::Failed) => {
            if told.instance.failure == FailureClass::Network {
                // Connections cost no attempt.
                line = format!("{line}. It is live again by itself once it answers.");
            } else if is_out_of_room(told.instance) {
                line = format!("{line}. It goes on by itself once there is room.");
            } else if let Some(left) = left {
                line = format!("{line}. {}.", sentence(&words::attempts_left(left)));
            }
            help.push(Help::Recover { beyond: left == Some(0) });
            if told.evidence {
                help.push(Help::Evidence);
            }
        }
        (None, InstanceState::Stopped) if is_paused(told.instance) => help.push(Help::Resume),
        (None, _) => {}
    }
    Message { title, line, help }
}

/// Whether its guest stands still because someone wanted it to.
#[must_use]
pub fn is_paused(instance: &Instance) -> bool {
    instance.state == InstanceState::Stopped
        && instance.reason.as_deref().is_some_and(|reason| reason.contains("paused"))
}

/// Whether its guest is held until its disk has room again.
fn is_out_of_room(instance: &Instance) -> bool {
    instance.reason.as_deref().is_some_and(|reason| reason.starts_with(HELD) && reason.contains("no space"))
}

/// With its first letter as a sentence has it, unless it begins with a name or an address.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    if !first.chars().all(|letter| letter.is_alphabetic() || letter == ':') {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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
    use loco_model::failure::Remedy;
    use loco_model::recovery::{Attempt, Initiator};

    fn instance(state: InstanceState, reason: Option<&str>) -> Instance {
        let id = InstanceId::try_new(4).unwrap();
        Instance { state, reason: reason.map(Into::into), ready: true, ..Instance::new(id) }
    }

    fn plate(instance: &Instance, session: Option<&SessionState>, has_picture: bool) -> Plate {
        Plate::new(&Told { instance, session, has_picture, quality: None, recovering_for: None, evidence: false })
    }

    fn attempt() -> Attempt {
        Attempt {
            reason: Some("QEMU exited with signal 9".into()),
            ..Attempt::begun(
                "a",
                InstanceId::try_new(4).unwrap(),
                0,
                FailureClass::Qemu,
                Remedy::RestartQemu,
                Initiator::Agent,
            )
        }
    }

    #[test]
    fn a_repair_says_what_is_done_which_attempt_it_is_and_how_long_it_takes() {
        let being = Instance {
            recovery: Some(attempt()),
            attempts_left: Some(1),
            ..instance(Recovering, Some("guest is starting"))
        };
        let told = Told {
            instance: &being,
            session: None,
            has_picture: true,
            quality: None,
            recovering_for: Some(Duration::from_millis(4_200)),
            evidence: true,
        };
        let message = Plate::new(&told).message.unwrap();
        assert_eq!(message.title, "Recovering, attempt 2 of 3");
        assert_eq!(message.line, "Restarting QEMU: QEMU exited with signal 9 · 4 s");
        assert_eq!(message.help, []);
        // Not repaired: why, what is left, what a person can do.
        let failed = Instance { attempts_left: Some(0), ..instance(Failed, Some("QEMU does not start")) };
        let message = Plate::new(&Told { instance: &failed, recovering_for: None, ..told }).message.unwrap();
        assert_eq!(message.line, "QEMU does not start. No attempts are left in this hour.");
        assert_eq!(message.help, [Help::Recover { beyond: true }, Help::Evidence]);
        let paused = instance(Stopped, Some("guest is paused"));
        assert_eq!(plate(&paused, None, true).message.map(|m| m.help), Some(vec![Help::Resume]));
    }

    #[test]
    fn quality_stands_behind_the_word_unless_all_is_well() {
        let live = instance(Live, None);
        let plate = |level, short: Option<&str>| {
            let quality = Quality { level, reason: String::new(), short: short.map(Into::into) };
            Plate::new(&Told {
                instance: &live,
                session: Some(&SessionState::Connected),
                has_picture: true,
                quality: Some(&quality),
                recovering_for: None,
                evidence: false,
            })
        };
        let excellent = plate(QualityLevel::Excellent, None);
        assert_eq!((excellent.note, excellent.level), (None, Some(QualityLevel::Excellent)));
        assert_eq!(plate(QualityLevel::Fair, Some("9 fps")).note.as_deref(), Some("fair, 9 fps"));
        assert_eq!(plate(QualityLevel::Lost, None).note.as_deref(), Some("lost"));
    }

    #[test]
    fn the_worse_word_counts() {
        let retrying = SessionState::Retrying { reason: "connection refused".into(), attempts: 2 };
        let broken = SessionState::Failed { reason: "no decoder".into() };
        let table = [
            (Live, Some(&SessionState::Connected), true, Live, None),
            (Live, Some(&SessionState::Connected), false, Connecting, Some("first picture")),
            (Live, None, false, Connecting, Some("Opening")),
            (Live, Some(&retrying), true, Connecting, Some("Connection refused; it is tried again")),
            (Live, Some(&broken), true, Failed, Some("No decoder")),
            (Degraded, Some(&SessionState::Connected), true, Degraded, None),
            (Recovering, Some(&SessionState::Connected), true, Recovering, Some("repaired")),
            (Failed, Some(&retrying), true, Failed, Some("log")),
            (Stopped, None, false, Stopped, Some("off")),
            (Connecting, None, false, Connecting, Some("agent")),
        ];
        for (control, session, has_picture, state, line) in table {
            let plate = plate(&instance(control, None), session, has_picture);
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
        let note = |reason| plate(&instance(Degraded, Some(reason)), Some(&SessionState::Connected), true).note;
        assert_eq!(note("9 fps"), Some("9 fps".into()));
        assert_eq!(note("the guest has not answered a probe for 4 s"), None);
        let caption = |reason| plate(&instance(Degraded, Some(reason)), Some(&SessionState::Connected), true).caption;
        assert_eq!(caption("9 fps"), None);
        let long = "guest runs and its sound cannot be had";
        assert_eq!(caption(long), Some("Guest runs and its sound cannot be had".into()));
        // Over a picture that is not live the message says it.
        assert_eq!(plate(&instance(Recovering, Some(long)), Some(&SessionState::Connected), true).caption, None);
        let recovering = plate(&instance(Recovering, Some("restarting QEMU")), None, true);
        assert_eq!(
            recovering.message.map(|m| (m.title, m.line)),
            Some(("Recovering".into(), "Restarting QEMU".into()))
        );
    }

    #[test]
    fn another_viewers_trouble_takes_nothing_from_a_picture_that_arrives() {
        let reason = Some("ada@workstation: the decoder fails");
        let client = Instance { failure: FailureClass::Client, ..instance(Recovering, reason) };
        let here = plate(&client, Some(&SessionState::Connected), true);
        assert_eq!((here.state, here.message), (Degraded, None));
        assert_eq!(here.caption.as_deref(), Some("ada@workstation: the decoder fails"));
        let attempt = Attempt { reason: reason.map(Into::into), action: Remedy::RestartStream, ..attempt() };
        let repaired = Instance { recovery: Some(attempt), ..client.clone() };
        let caption = plate(&repaired, Some(&SessionState::Connected), true).caption;
        assert_eq!(caption.as_deref(), Some("Restarting its stream: ada@workstation: the decoder fails"));
        let retrying = SessionState::Retrying { reason: "no answer in time".into(), attempts: 2 };
        assert_eq!(plate(&client, Some(&retrying), true).state, Recovering);
        let qemu = Instance { failure: FailureClass::Qemu, ..client };
        assert_eq!(plate(&qemu, Some(&SessionState::Connected), true).state, Recovering);
    }

    #[test]
    fn who_cannot_be_reached_costs_no_attempt() {
        let reason = Some("agent does not answer: no answer in time");
        let lost = Instance { failure: FailureClass::Network, attempts_left: Some(3), ..instance(Failed, reason) };
        let line = plate(&lost, None, true).message.map(|message| message.line);
        let told = "Agent does not answer: no answer in time. It is live again by itself once it answers.";
        assert_eq!(line.as_deref(), Some(told));
    }

    #[test]
    fn a_guest_without_room_goes_on_by_itself() {
        let line = |why: &str| {
            let reason = format!("{HELD}: {why}");
            let held = Instance { attempts_left: Some(3), ..instance(Failed, Some(&reason)) };
            plate(&held, None, true).message.map(|message| message.line)
        };
        let told = "QEMU holds the guest: no space is left. It goes on by itself once there is room.";
        assert_eq!(line("no space is left").as_deref(), Some(told));
        let told = "QEMU holds the guest: input/output error. 3 attempts are left in this hour.";
        assert_eq!(line("input/output error").as_deref(), Some(told));
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
