//! From viewers to the guest: sessions' channels and `POST /input`.

use crate::agent::Agent;
use crate::hands::{AllHands, MAX_WHEEL_STEPS};
use axum::http::StatusCode;
use loco_guest::InputError;
use loco_http::Failure;
use loco_media::{SessionId, SessionInput};
use loco_model::input::{InputEvent, InputRequest, KeysEvent, MAX_EVENTS_PER_REQUEST};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Furthest that one motion of `POST /input` may go, in guest pixels: larger than any screen.
const MAX_MOTION: i32 = 16_384;

/// Injects what sessions say, of those whose input is taken, until the sender ends.
pub(crate) async fn inject_sessions(mut inputs: mpsc::Receiver<(SessionId, SessionInput)>, agent: Arc<Agent>) {
    let mut hands = AllHands::default();
    let mut holder = agent.seats.holder();
    loop {
        let said = tokio::select! {
            said = inputs.recv() => match said {
                Some(said) => Some(said),
                None => return,
            },
            Ok(()) = holder.changed() => None,
        };
        let emit = |event| {
            if let Err(error) = inject(&agent, event) {
                tracing::debug!("an input was not taken: {error}");
            }
        };
        match said {
            Some((session, SessionInput::Closed)) => {
                hands.events(session.as_str(), SessionInput::Closed, emit);
                agent.seats.leave(session.as_str());
            }
            Some((session, input)) if agent.seats.may_play(session.as_str()) => {
                hands.events(session.as_str(), input, emit);
            }
            Some((session, input)) => hands.ignore(session.as_str(), input),
            // Whoever lost the input to another holds nothing any more.
            None => {
                for session in hands.sessions().iter().filter(|session| !agent.seats.may_play(session)) {
                    hands.events(session, SessionInput::Keys(KeysEvent::ReleaseAll), emit);
                }
            }
        }
    }
}

fn inject(agent: &Agent, event: InputEvent) -> Result<(), InputError> {
    // The hint first: the guest may answer before this returns.
    agent.sender.input_hint();
    agent.input.event(event)
}

/// Injects the events of one `POST /input`: all of them, or none when one is not allowed.
///
/// # Errors
/// 422 names the event and the value that are not allowed; 503 when the guest does not take input now.
pub(crate) fn inject_request(agent: &Agent, request: &InputRequest) -> Result<(), Failure> {
    check(request).map_err(|detail| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail))?;
    for (place, event) in request.events.iter().enumerate() {
        inject(agent, *event).map_err(|error| {
            Failure::unavailable(format!("events[{place}] and those after it were not taken: {error}"))
        })?;
    }
    Ok(())
}

fn check(request: &InputRequest) -> Result<(), String> {
    let count = request.events.len();
    if count > MAX_EVENTS_PER_REQUEST {
        return Err(format!("events has {count} entries: allowed are 0 to {MAX_EVENTS_PER_REQUEST}"));
    }
    let within = |place: usize, name: &str, value: i32, most: i32| {
        if (-most..=most).contains(&value) {
            Ok(())
        } else {
            Err(format!("events[{place}].{name} is {value}: allowed are {} to {most}", -most))
        }
    };
    for (place, event) in request.events.iter().enumerate() {
        match *event {
            InputEvent::Motion { dx, dy } => {
                within(place, "dx", dx, MAX_MOTION)?;
                within(place, "dy", dy, MAX_MOTION)?;
            }
            InputEvent::Wheel { x, y } => {
                within(place, "x", x.into(), MAX_WHEEL_STEPS.into())?;
                within(place, "y", y.into(), MAX_WHEEL_STEPS.into())?;
            }
            InputEvent::Key { .. }
            | InputEvent::Button { .. }
            | InputEvent::Position { .. }
            | InputEvent::ReleaseAll => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let request = |events: Vec<InputEvent>| InputRequest { events };
        let fine = [
            InputEvent::Motion { dx: MAX_MOTION, dy: -MAX_MOTION },
            InputEvent::Wheel { x: 0, y: -MAX_WHEEL_STEPS },
            InputEvent::Position { x: u16::MAX, y: 0 },
            InputEvent::ReleaseAll,
        ];
        assert_eq!(check(&request(fine.to_vec())), Ok(()));
        assert_eq!(check(&request(vec![])), Ok(()));
        for (event, want) in [
            (InputEvent::Motion { dx: i32::MIN, dy: 0 }, "events[1].dx is -2147483648: allowed are -16384 to 16384"),
            (InputEvent::Motion { dx: 0, dy: MAX_MOTION + 1 }, "events[1].dy is 16385"),
            (InputEvent::Wheel { x: 65, y: 0 }, "events[1].x is 65: allowed are -64 to 64"),
            (InputEvent::Wheel { x: 0, y: i16::MIN }, "events[1].y is -32768"),
        ] {
            let error = check(&request(vec![InputEvent::ReleaseAll, event])).expect_err(want);
            assert!(error.contains(want), "{error}");
        }
        let error = check(&request(vec![InputEvent::ReleaseAll; 257])).expect_err("too many");
        assert_eq!(error, "events has 257 entries: allowed are 0 to 256");
    }
}
