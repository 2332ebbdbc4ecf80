use super::*;

const NO_ACTIONS: [Action; 0] = [];

fn at(phase: Phase, target: Target) -> Lifecycle {
    Lifecycle { phase, target, ..Lifecycle::new() }
}

/// One edge: from, target before, event, to, actions.
type Edge = (Phase, Target, Event, Phase, &'static [Action]);

#[test]
fn every_edge() {
    use Phase::{Ending, Launching, Off, Paused, PoweringDown, Running, Waiting};
    use Target as T;
    let waiting = Waiting { failed: false };
    let failed = Waiting { failed: true };
    let run = Event::Target(T::Running);
    let pause = Event::Target(T::Paused);
    let stop = Event::Target(T::Stopped);
    let again = Event::Restart { hangs: false };
    let hangs = Event::Restart { hangs: true };
    let late = Event::Ended { after: EARLY };
    let edges: &[Edge] = &[
        // Targets.
        (Off, T::Stopped, run, Launching, &[Action::Launch]),
        (Off, T::Stopped, pause, Launching, &[Action::Launch]),
        (Off, T::Stopped, stop, Off, &[]),
        (waiting, T::Running, run, Launching, &[Action::Launch]),
        (failed, T::Running, run, Launching, &[Action::Launch]),
        (failed, T::Running, pause, Launching, &[Action::Launch]),
        (failed, T::Running, stop, Off, &[]),
        (Launching, T::Running, run, Launching, &[]),
        (Launching, T::Running, pause, Launching, &[]),
        (Launching, T::Running, stop, Ending, &[Action::End]),
        (Running, T::Running, run, Running, &[]),
        (Running, T::Running, pause, Running, &[Action::Pause]),
        (Running, T::Running, stop, PoweringDown, &[Action::Resume, Action::PowerDown]),
        (Paused, T::Paused, run, Paused, &[Action::Resume]),
        (Paused, T::Paused, pause, Paused, &[]),
        (Paused, T::Paused, stop, PoweringDown, &[Action::Resume, Action::PowerDown]),
        (PoweringDown, T::Stopped, stop, PoweringDown, &[]),
        (PoweringDown, T::Stopped, run, PoweringDown, &[]),
        (Ending, T::Stopped, stop, Ending, &[]),
        (Ending, T::Stopped, pause, Ending, &[]),
        // Restarts.
        (Off, T::Stopped, again, Launching, &[Action::Launch]),
        (failed, T::Running, again, Launching, &[Action::Launch]),
        (Launching, T::Running, again, Ending, &[Action::End]),
        (Running, T::Running, again, Ending, &[Action::Quit]),
        (Paused, T::Paused, again, Ending, &[Action::Quit]),
        (PoweringDown, T::Stopped, again, Ending, &[Action::Quit]),
        (Ending, T::Running, again, Ending, &[]),
        (Running, T::Running, hangs, Ending, &[Action::End]),
        (PoweringDown, T::Stopped, hangs, Ending, &[Action::End]),
        (Ending, T::Running, hangs, Ending, &[Action::End]),
        // What QEMU says.
        (Launching, T::Running, Event::Launched { paused: false }, Running, &[]),
        (Launching, T::Paused, Event::Launched { paused: true }, Paused, &[]),
        (Launching, T::Paused, Event::Launched { paused: false }, Running, &[Action::Pause]),
        (Launching, T::Running, Event::Launched { paused: true }, Paused, &[Action::Resume]),
        (Ending, T::Stopped, Event::Launched { paused: false }, Ending, &[]),
        (Running, T::Running, Event::Stopped, Paused, &[Action::RetryAfter(HELD_RETRY)]),
        (Running, T::Paused, Event::Stopped, Paused, &[]),
        (PoweringDown, T::Stopped, Event::Stopped, PoweringDown, &[]),
        (Paused, T::Paused, Event::Resumed, Running, &[Action::Pause]),
        (Paused, T::Running, Event::Resumed, Running, &[]),
        (Off, T::Stopped, Event::Resumed, Off, &[]),
        (Running, T::Running, Event::GuestShutdown, Ending, &[]),
        (PoweringDown, T::Stopped, Event::GuestShutdown, PoweringDown, &[]),
        // Ends.
        (Running, T::Running, late, Launching, &[Action::KeepEvidence, Action::Launch]),
        (Paused, T::Paused, late, Launching, &[Action::KeepEvidence, Action::Launch]),
        (Launching, T::Running, late, Launching, &[Action::KeepEvidence, Action::Launch]),
        (PoweringDown, T::Stopped, late, Off, &[]),
        (Ending, T::Stopped, late, Off, &[]),
        (Off, T::Stopped, late, Off, &[]),
        // Time.
        (PoweringDown, T::Stopped, Event::PatienceOver, Ending, &[Action::Quit]),
        (Ending, T::Stopped, Event::PatienceOver, Ending, &[Action::End]),
        (Off, T::Stopped, Event::PatienceOver, Off, &[]),
        (Running, T::Running, Event::PatienceOver, Running, &[]),
        (waiting, T::Running, Event::RetryDue, Launching, &[Action::Launch]),
        (failed, T::Running, Event::RetryDue, Launching, &[Action::Launch]),
        (Running, T::Running, Event::RetryDue, Running, &[]),
        (Paused, T::Running, Event::RetryDue, Paused, &[Action::Resume]),
        (Paused, T::Paused, Event::RetryDue, Paused, &[]),
        (Off, T::Stopped, Event::RetryDue, Off, &[]),
    ];
    for (from, target, event, to, actions) in edges {
        let mut machine = at(*from, *target);
        assert_eq!(machine.on(*event), *actions, "{from:?} ({target:?}) + {event:?}");
        assert_eq!(machine.phase, *to, "{from:?} ({target:?}) + {event:?}");
    }
}

#[test]
fn a_restart_comes_back() {
    let mut machine = at(Phase::Running, Target::Paused);
    machine.on(Event::Restart { hangs: false });
    assert_eq!(machine.state(), GuestState::Starting);
    assert_eq!(machine.on(Event::Ended { after: Duration::ZERO }), [Action::Launch]);
    assert_eq!((machine.target, machine.restarts), (Target::Paused, 0), "asked for, so not counted");
}

#[test]
fn wanted_again_while_going_down() {
    let mut machine = at(Phase::PoweringDown, Target::Stopped);
    machine.on(Event::Target(Target::Running));
    assert_eq!(machine.on(Event::Ended { after: EARLY }), [Action::Launch]);
    let mut machine = at(Phase::Ending, Target::Stopped);
    machine.on(Event::Target(Target::Running));
    machine.on(Event::Target(Target::Stopped));
    assert_eq!(machine.on(Event::Ended { after: EARLY }), NO_ACTIONS, "and not any more");
}

#[test]
fn a_crash_loop_fails_and_is_still_tried() {
    let mut machine = Lifecycle::new();
    machine.on(Event::Target(Target::Running));
    let mut waits = Vec::new();
    for _ in 0..7 {
        let actions = machine.on(Event::Ended { after: Duration::from_millis(50) });
        assert_eq!(actions[0], Action::KeepEvidence);
        match actions[1] {
            Action::Launch => waits.push(0),
            Action::RetryAfter(wait) => {
                waits.push(wait.as_millis());
                assert_eq!(machine.on(Event::RetryDue), [Action::Launch]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [0, 250, 500, 1000, 30_000, 30_000, 30_000]);
    assert_eq!(machine.restarts, 7);
    machine.on(Event::Launched { paused: false });
    assert_eq!(machine.on(Event::Ended { after: EARLY }), [Action::KeepEvidence, Action::Launch], "it had recovered");
}

#[test]
fn states_have_words() {
    for (phase, state) in [
        (Phase::Off, GuestState::Stopped),
        (Phase::Launching, GuestState::Starting),
        (Phase::Waiting { failed: false }, GuestState::Starting),
        (Phase::Waiting { failed: true }, GuestState::Failed),
        (Phase::Ending, GuestState::Stopping),
        (Phase::PoweringDown, GuestState::Stopping),
        (Phase::Paused, GuestState::Paused),
    ] {
        assert_eq!(at(phase, Target::Running).state(), state, "{phase:?}");
    }
}
