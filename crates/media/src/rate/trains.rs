//! What the link could carry, told by how far apart the packets of one frame arrive.
//!
//! A frame's packets leave at once; a bottleneck spreads them to its own rate (packet dispersion: Dovrolis et al.,
//! "What do packet dispersion techniques measure?", INFOCOM 2001). Only a hint: cross traffic makes it too low, radio
//! links that collect packets make it too high.

use super::MS;
use std::collections::VecDeque;

/// Packets this close at departure belong to one train.
const TOGETHER_US: u64 = 3 * MS;
/// Trains that the answer is made of.
const TRAINS: usize = 6;
/// Older ones tell nothing about now.
const FRESH_US: u64 = 600 * MS;
/// Resolution of the reports' times.
const TICK_US: u64 = 250;

#[derive(Clone, Copy, Debug)]
struct Train {
    departed_us: u64,
    first_us: u64,
    last_us: u64,
    /// Of all packets but the first.
    bytes: u64,
    packets: u32,
}

/// Trains of packets.
#[derive(Debug, Default)]
pub(super) struct Trains {
    current: Option<Train>,
    done: VecDeque<Train>,
}

// === impl Trains ===

impl Trains {
    /// A packet that arrived, in the order of departure.
    pub(super) fn add(&mut self, departed_us: u64, arrived_us: u64, bytes: u32) {
        match &mut self.current {
            Some(train) if departed_us.saturating_sub(train.departed_us) <= TOGETHER_US => {
                train.departed_us = departed_us;
                // Out of order it proves nothing.
                if arrived_us >= train.last_us {
                    train.last_us = arrived_us;
                    train.bytes += u64::from(bytes);
                    train.packets += 1;
                }
            }
            current => {
                let fresh = Train { departed_us, first_us: arrived_us, last_us: arrived_us, bytes: 0, packets: 1 };
                if let Some(train) = current.replace(fresh).filter(|train| train.packets > 1) {
                    if self.done.len() == TRAINS {
                        self.done.pop_front();
                    }
                    self.done.push_back(train);
                }
            }
        }
    }

    /// Bits a second at which the newest trains arrived; `None` where there were too few packets to tell.
    pub(super) fn rate(&self) -> Option<f64> {
        let newest_us = self.done.back()?.last_us;
        let fresh = || self.done.iter().filter(|train| train.last_us + FRESH_US >= newest_us);
        let packets: u32 = fresh().map(|train| train.packets - 1).sum();
        let bytes: u64 = fresh().map(|train| train.bytes).sum();
        let spans: u64 = fresh().map(|train| (train.last_us - train.first_us).max(TICK_US)).sum();
        (packets >= 3).then(|| bytes as f64 * 8e6 / spans as f64)
    }

    /// What was seen is of the past.
    pub(super) fn clear(&mut self) {
        self.done.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottleneck_shows_in_the_spacing() {
        let mut trains = Trains::default();
        assert_eq!(trains.rate(), None);
        // Frames of four packets of 1,250 bytes over a link of 1 Mbit/s: 10 ms each.
        for frame in 0..5u64 {
            for packet in 0..4 {
                let departed = frame * 100 * MS + packet * 200;
                trains.add(departed, frame * 100 * MS + (packet + 3) * 10 * MS, 1_250);
            }
        }
        let rate = trains.rate().expect("enough packets");
        assert!((rate - 1e6).abs() < 1e4, "{rate}");
    }
}
