//! Keys that come over two channels, in their order.

use super::{KeysEvent, KeysMessage, is_newer};
use std::collections::BTreeMap;

/// Key messages that may wait for an earlier one.
const MAX_KEYS_WAITING: usize = 64;

/// Puts key messages of two channels in order: each once, none before its predecessor.
#[derive(Clone, Debug, Default)]
pub struct KeysInOrder {
    /// The number that is due; `None` before the first.
    due: Option<u32>,
    /// Too early, by how many numbers from the one that is due.
    waiting: BTreeMap<u32, KeysEvent>,
}

impl KeysInOrder {
    /// A message of the reliable channel. Nothing before it can still come on that channel.
    pub fn reliable(&mut self, message: KeysMessage, mut take: impl FnMut(KeysEvent)) {
        let due = *self.due.get_or_insert(message.sequence);
        if message.sequence != due && !is_newer(message.sequence, due) {
            return;
        }
        let ahead = message.sequence.wrapping_sub(due);
        let mut later = self.waiting.split_off(&ahead);
        std::mem::take(&mut self.waiting).into_values().for_each(&mut take);
        later.remove(&ahead);
        take(message.event);
        // Counted from the new number on.
        self.waiting = later.into_iter().map(|(number, event)| (number - ahead - 1, event)).collect();
        self.due = Some(message.sequence.wrapping_add(1));
        self.go_on(take);
    }

    /// A message of the channel that loses some. One that is far ahead is left to the reliable channel.
    pub fn unreliable(&mut self, message: KeysMessage, take: impl FnMut(KeysEvent)) {
        // A session begins with 0.
        let ahead = message.sequence.wrapping_sub(self.due.unwrap_or(0));
        if (ahead as usize) < MAX_KEYS_WAITING {
            self.due.get_or_insert(0);
            self.waiting.entry(ahead).or_insert(message.event);
            self.go_on(take);
        }
    }

    /// Takes what is in its turn.
    fn go_on(&mut self, mut take: impl FnMut(KeysEvent)) {
        let mut taken = 0;
        while let Some(event) = self.waiting.remove(&taken) {
            take(event);
            taken += 1;
        }
        if taken > 0 {
            self.due = self.due.map(|due| due.wrapping_add(taken));
            let waiting = std::mem::take(&mut self.waiting);
            self.waiting = waiting.into_iter().map(|(number, event)| (number - taken, event)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel(sequence: u32) -> KeysMessage {
        KeysMessage { sequence, event: KeysEvent::Wheel { x: 0, y: sequence as i16 } }
    }

    #[test]
    fn keys_of_two_channels_come_once_and_in_order() {
        // A fixed series of fates: what failed once fails again.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut chance = |of: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % of
        };
        for start in [0, u32::MAX - 50] {
            let (mut order, mut got) = (KeysInOrder::default(), Vec::new());
            let mut take = |event| {
                let KeysEvent::Wheel { y, .. } = event else { panic!("{event:?}") };
                got.push(y);
            };
            let mut reliable_next = 0;
            if start != 0 {
                order.reliable(wheel(start), &mut take);
                reliable_next = 1;
            }
            for number in 0..300u32 {
                // Bundles of four, a third lost, some late, some twice; the reliable channel stalls now and then.
                for _ in 0..chance(3) {
                    let last = number.saturating_sub(chance(3) as u32);
                    for n in last.saturating_sub(3)..=last {
                        order.unreliable(wheel(start.wrapping_add(n)), &mut take);
                    }
                }
                if chance(20) == 0 {
                    while reliable_next <= number {
                        order.reliable(wheel(start.wrapping_add(reliable_next)), &mut take);
                        reliable_next += 1;
                    }
                }
            }
            while reliable_next < 300 {
                order.reliable(wheel(start.wrapping_add(reliable_next)), &mut take);
                reliable_next += 1;
            }
            let want: Vec<i16> = (0..300).map(|n| start.wrapping_add(n) as i16).collect();
            assert_eq!(got, want);
            assert!(order.waiting.is_empty());
        }
    }

    #[test]
    fn what_is_far_ahead_is_left_to_the_reliable_channel() {
        let (mut order, mut taken) = (KeysInOrder::default(), 0);
        for sequence in (1..2_000).chain([u32::MAX]) {
            order.unreliable(wheel(sequence), |_| taken += 1);
        }
        assert!(taken == 0 && order.waiting.len() < MAX_KEYS_WAITING);
        for sequence in 0..2_000 {
            order.reliable(wheel(sequence), |_| taken += 1);
        }
        assert_eq!(taken, 2_000);
    }
}
