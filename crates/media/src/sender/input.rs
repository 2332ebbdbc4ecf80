//! A session's data channels: messages in, each once, keys in their order.

use super::{SessionId, SessionInput};
use crate::transport::Channel;
use bytes::BytesMut;
use loco_model::input::{
    KEYS_CHANNEL, KeysEvent, KeysInOrder, KeysMessage, MAX_KEYS_PER_BUNDLE, PATH_CHANNEL, POINTER_CHANNEL,
    PointerMessage, is_newer,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Junk messages that are told; more are counted as an attack on the log.
const TOLD_ERRORS: u32 = 8;

/// Bytes of a message that is sent back.
const MOST_ECHO: usize = 16;

/// Where a session's input goes, and which numbers it has seen.
pub(super) struct InputTap {
    session: SessionId,
    input: mpsc::Sender<(SessionId, SessionInput)>,
    /// Held while events are handed on, so that two channels do not overtake each other.
    keys: tokio::sync::Mutex<Keys>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Keys {
    order: KeysInOrder,
    ready: Vec<KeysEvent>,
}

#[derive(Default)]
struct Last {
    pointer: Option<u32>,
    errors: u32,
}

impl InputTap {
    pub(super) fn new(session: SessionId, input: mpsc::Sender<(SessionId, SessionInput)>) -> Self {
        Self { session, input, keys: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    /// Hands on what a message of the reliable channel means; whether anyone still takes it.
    async fn reliable(&self, bytes: &[u8]) -> bool {
        let Some(message) = self.told(KeysMessage::decode(bytes)) else { return true };
        let mut keys = self.keys.lock().await;
        let Keys { order, ready } = &mut *keys;
        order.reliable(message, |event| ready.push(event));
        self.hand_on(ready).await
    }

    /// The same of a bundle that came over the other channel.
    async fn bundle(&self, mut bytes: &[u8]) -> bool {
        let mut keys = self.keys.lock().await;
        let Keys { order, ready } = &mut *keys;
        for _ in 0..MAX_KEYS_PER_BUNDLE {
            if bytes.is_empty() {
                break;
            }
            let Some((message, rest)) = self.told(KeysMessage::split(bytes)) else { break };
            order.unreliable(message, |event| ready.push(event));
            bytes = rest;
        }
        self.hand_on(ready).await
    }

    /// A key may wait, but never be lost.
    async fn hand_on(&self, ready: &mut Vec<KeysEvent>) -> bool {
        for event in ready.drain(..) {
            if self.input.send((self.session.clone(), SessionInput::Keys(event))).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The same of a position, unless a newer one was there first.
    fn position(&self, bytes: &[u8]) -> bool {
        let Some(message) = self.told(PointerMessage::decode(bytes)) else { return true };
        if !newer(&mut self.last.lock().pointer, message.sequence) {
            return true;
        }
        let input = (self.session.clone(), SessionInput::Pointer(message.pointer));
        // A newer position makes up for a dropped one.
        !matches!(self.input.try_send(input), Err(mpsc::error::TrySendError::Closed(_)))
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

/// Sends everything back: how the other end learns that the path lives, and its round trip.
async fn echo(channel: &Channel) {
    while let Some(message) = channel.next().await {
        if message.len() <= MOST_ECHO && !channel.send(BytesMut::from(&message[..])).await {
            return;
        }
    }
}

/// Reads one data channel to its end.
pub(super) async fn run_channel(channel: Channel, tap: Arc<InputTap>) {
    let is_keys = match channel.label.as_str() {
        KEYS_CHANNEL => true,
        POINTER_CHANNEL => false,
        PATH_CHANNEL => return echo(&channel).await,
        other => {
            tracing::debug!(session = %tap.session, label = other, "an unknown data channel is ignored");
            return;
        }
    };
    while let Some(message) = channel.next().await {
        let is_taken = match (is_keys, KeysMessage::is_bundle(&message)) {
            (true, _) => tap.reliable(&message).await,
            (false, true) => tap.bundle(&message).await,
            (false, false) => tap.position(&message),
        };
        if !is_taken {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::input::Pointer;

    fn wheel(sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        KeysMessage { sequence, event: KeysEvent::Wheel { x: 0, y: sequence as i16 } }.encode(&mut bytes);
        bytes
    }

    #[tokio::test]
    async fn each_key_once_and_in_order_whichever_channel_it_came_by() {
        let (input, mut taken) = mpsc::channel(64);
        let tap = InputTap::new(SessionId::random(), input);
        assert!(tap.reliable(&wheel(0)).await && tap.bundle(&wheel(0)).await);
        assert!(tap.bundle(&[wheel(2), wheel(3)].concat()).await, "too early");
        assert!(tap.bundle(&[wheel(1), b"junk".to_vec()].concat()).await, "junk ends a bundle");
        assert!(tap.reliable(&wheel(1)).await && tap.reliable(&wheel(2)).await && tap.reliable(&wheel(3)).await);
        assert!(tap.reliable(b"junk").await && tap.bundle(&[]).await);
        let mut got = Vec::new();
        while let Ok((_, SessionInput::Keys(KeysEvent::Wheel { y, .. }))) = taken.try_recv() {
            got.push(y);
        }
        assert_eq!(got, [0, 1, 2, 3]);
        drop(taken);
        assert!(!tap.reliable(&wheel(4)).await, "nobody takes it");
    }

    #[tokio::test]
    async fn only_the_newest_position_counts() {
        let (input, mut taken) = mpsc::channel(64);
        let tap = InputTap::new(SessionId::random(), input);
        for sequence in [5, 4, 6, 6] {
            let mut bytes = Vec::new();
            PointerMessage { sequence, pointer: Pointer::Absolute { x: sequence as u16, y: 2 } }.encode(&mut bytes);
            assert!(!KeysMessage::is_bundle(&bytes) && tap.position(&bytes));
        }
        assert!(tap.position(b"") && tap.position(b"junk"));
        let mut got = Vec::new();
        while let Ok((_, SessionInput::Pointer(Pointer::Absolute { x, .. }))) = taken.try_recv() {
            got.push(x);
        }
        assert_eq!(got, [5, 6], "positions are numbered apart from keys");
    }
}
