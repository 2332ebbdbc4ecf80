//! Copies of input messages for the channel that loses some: no clock, no socket.
//!
//! A lost key would wait for the reliable channel's timer. So each goes over the other channel too, at once and twice
//! again, and with the next few keys; a position that nothing newer follows is repeated as well.

use bytes::BytesMut;
use loco_model::input::{MAX_KEYS_PER_BUNDLE, Pointer, PointerMessage};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The newest keys are sent again so long after the first time.
const KEYS_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(30)];
/// A position that nothing followed is sent again so long after the first time.
const POSITION_AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(60)];

/// A position's message has no more.
const POSITION_BYTES: usize = 16;

/// Keys of the last moments.
#[derive(Debug, Default)]
pub(super) struct KeyCopies {
    /// Encoded, the oldest first.
    recent: VecDeque<BytesMut>,
    last: Option<Instant>,
    sent_again: usize,
}

impl KeyCopies {
    /// One more key was encoded.
    pub(super) fn push(&mut self, message: BytesMut, now: Instant) {
        if self.next().is_none() {
            // What was before has been repeated enough.
            self.recent.clear();
        }
        if self.recent.len() >= MAX_KEYS_PER_BUNDLE {
            self.recent.pop_front();
        }
        self.recent.push_back(message);
        (self.last, self.sent_again) = (Some(now), 0);
    }

    /// The newest keys.
    pub(super) fn bundle(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(self.recent.iter().map(BytesMut::len).sum());
        self.recent.iter().for_each(|message| bytes.extend_from_slice(message));
        bytes
    }

    /// When they are to be sent again.
    pub(super) fn next(&self) -> Option<Instant> {
        Some(self.last? + *KEYS_AGAIN.get(self.sent_again)?)
    }

    /// What is to be sent again now.
    pub(super) fn again(&mut self, now: Instant) -> Option<BytesMut> {
        self.next().filter(|at| *at <= now)?;
        self.sent_again += 1;
        Some(self.bundle())
    }
}

/// The newest position.
#[derive(Debug, Default)]
pub(super) struct PositionCopies {
    sequence: u32,
    last: Option<(PointerMessage, Instant)>,
    sent_again: usize,
}

impl PositionCopies {
    /// The message of a new position.
    pub(super) fn push(&mut self, pointer: Pointer, now: Instant) -> BytesMut {
        let message = PointerMessage { sequence: self.sequence, pointer };
        self.sequence = self.sequence.wrapping_add(1);
        (self.last, self.sent_again) = (Some((message, now)), 0);
        encoded(message)
    }

    /// When it is to be sent again.
    pub(super) fn next(&self) -> Option<Instant> {
        Some(self.last?.1 + *POSITION_AGAIN.get(self.sent_again)?)
    }

    /// What is to be sent again now.
    pub(super) fn again(&mut self, now: Instant) -> Option<BytesMut> {
        self.next().filter(|at| *at <= now)?;
        self.sent_again += 1;
        self.last.map(|(message, _)| encoded(message))
    }
}

fn encoded(message: PointerMessage) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(POSITION_BYTES);
    message.encode(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> BytesMut {
        BytesMut::from(&[n][..])
    }

    fn pass(copies: &mut KeyCopies, start: Instant) -> Vec<(u128, Vec<u8>)> {
        std::iter::from_fn(|| {
            let at = copies.next()?;
            assert!(copies.again(at - Duration::from_millis(1)).is_none());
            Some(((at - start).as_millis(), copies.again(at)?.to_vec()))
        })
        .collect()
    }

    #[test]
    fn keys_are_sent_three_times_and_with_their_followers() {
        let (mut copies, start) = (KeyCopies::default(), Instant::now());
        copies.push(key(0), start);
        assert_eq!(copies.bundle()[..], [0]);
        assert_eq!(pass(&mut copies, start), [(10, vec![0]), (30, vec![0])]);
        assert_eq!(copies.next(), None, "and then no timer is left");
        for n in 1..=9 {
            copies.push(key(n), start);
        }
        assert_eq!(copies.bundle()[..], [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_position_is_repeated_only_when_nothing_follows() {
        let (mut copies, start) = (PositionCopies::default(), Instant::now());
        let at = |x| Pointer::Absolute { x, y: 0 };
        let first = copies.push(at(1), start);
        let second = copies.push(at(2), start + Duration::from_millis(19));
        assert_ne!(first, second);
        assert!(copies.again(start + Duration::from_millis(20)).is_none());
        assert_eq!(copies.again(start + Duration::from_millis(39)).as_ref(), Some(&second));
        assert_eq!(copies.again(start + Duration::from_millis(79)).as_ref(), Some(&second));
        assert!(copies.next().is_none());
    }
}
