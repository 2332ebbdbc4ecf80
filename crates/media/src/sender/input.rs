//! A session's data channels: messages in, each once.

use super::{SessionId, SessionInput};
use crate::transport::Channel;
use loco_model::input::{KEYS_CHANNEL, KeysMessage, POINTER_CHANNEL, PointerMessage, is_newer};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Junk messages that are told; more are counted as an attack on the log.
const TOLD_ERRORS: u32 = 8;

/// Where a session's input goes, and which numbers it has seen.
pub(super) struct InputTap {
    session: SessionId,
    input: mpsc::Sender<(SessionId, SessionInput)>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    keys: Option<u32>,
    pointer: Option<u32>,
    errors: u32,
}

impl InputTap {
    pub(super) fn new(session: SessionId, input: mpsc::Sender<(SessionId, SessionInput)>) -> Self {
        Self { session, input, last: Mutex::default() }
    }

    /// What a message of channel `keys` means; nothing where it is a duplicate or junk.
    fn keys(&self, bytes: &[u8]) -> Option<SessionInput> {
        let message = self.told(KeysMessage::decode(bytes))?;
        newer(&mut self.last.lock().keys, message.sequence).then_some(SessionInput::Keys(message.event))
    }

    /// What a message of channel `pointer` means; nothing where a newer one was there first, or it is junk.
    fn pointer(&self, bytes: &[u8]) -> Option<SessionInput> {
        let message = self.told(PointerMessage::decode(bytes))?;
        newer(&mut self.last.lock().pointer, message.sequence).then_some(SessionInput::Pointer(message.pointer))
    }

    fn told<T>(&self, decoded: Result<T, loco_model::input::WireError>) -> Option<T> {
        decoded
            .inspect_err(|error| {
                let mut last = self.last.lock();
                last.errors += 1;
                if last.errors <= TOLD_ERRORS {
                    tracing::warn!(session = %self.session, %error, "an input message was ignored");
                }
            })
            .ok()
    }
}

fn newer(last: &mut Option<u32>, sequence: u32) -> bool {
    let is_new = last.is_none_or(|last| is_newer(sequence, last));
    if is_new {
        *last = Some(sequence);
    }
    is_new
}

/// Reads one data channel to its end.
pub(super) async fn run_channel(channel: Channel, tap: Arc<InputTap>) {
    let is_keys = match channel.label.as_str() {
        KEYS_CHANNEL => true,
        POINTER_CHANNEL => false,
        other => {
            tracing::debug!(session = %tap.session, label = other, "an unknown data channel is ignored");
            return;
        }
    };
    while let Some(message) = channel.next().await {
        let input = if is_keys { tap.keys(&message) } else { tap.pointer(&message) };
        let Some(input) = input else { continue };
        let sent = if is_keys {
            // A key may wait, but never be lost.
            tap.input.send((tap.session.clone(), input)).await.is_ok()
        } else {
            // A newer position makes up for a dropped one.
            !matches!(tap.input.try_send((tap.session.clone(), input)), Err(mpsc::error::TrySendError::Closed(_)))
        };
        if !sent {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::input::{KeysEvent, Pointer};

    #[test]
    fn each_key_once_and_only_the_newest_position() {
        let (input, _taken) = mpsc::channel(1);
        let tap = InputTap::new(SessionId::random(), input);
        let key = |sequence| {
            let mut bytes = Vec::new();
            KeysMessage { sequence, event: KeysEvent::ReleaseAll }.encode(&mut bytes);
            tap.keys(&bytes).is_some()
        };
        assert!(key(u32::MAX) && !key(u32::MAX) && key(0) && key(1) && !key(0));
        let pointer = |sequence| {
            let mut bytes = Vec::new();
            PointerMessage { sequence, pointer: Pointer::Absolute { x: 1, y: 2 } }.encode(&mut bytes);
            tap.pointer(&bytes).is_some()
        };
        assert!(pointer(5) && !pointer(4) && pointer(6), "the channels are numbered apart");
        assert!(tap.keys(b"junk").is_none() && tap.pointer(b"").is_none());
    }
}
