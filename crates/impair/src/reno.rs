//! The congestion control of a TCP sender: NewReno without its timers (RFC 5681, RFC 6582), enough to be a fair
//! competitor on a link. Pure.

/// Bytes of a full segment's payload: an Ethernet frame less 40 bytes of headers and 12 of timestamps.
pub(crate) const SEGMENT: usize = 1448;
/// RFC 6928: the window to begin with.
const FIRST_WINDOW: f64 = 10.0 * SEGMENT as f64;
/// RFC 5681 section 3.1: never below two segments.
const LEAST_WINDOW: f64 = 2.0 * SEGMENT as f64;
/// What a receiver's buffer takes at most.
const MOST_WINDOW: f64 = 4.0 * 1024.0 * 1024.0;

/// A sender's window.
#[derive(Clone, Debug)]
pub struct Reno {
    window: f64,
    threshold: f64,
    in_flight: usize,
    /// Losses among what was sent before this number are of one event.
    recover: u64,
    sent: u64,
}

// === impl Reno ===

impl Reno {
    /// A sender at its start.
    #[must_use]
    pub fn new() -> Self {
        Self { window: FIRST_WINDOW, threshold: f64::INFINITY, in_flight: 0, recover: 0, sent: 0 }
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.window as usize).saturating_sub(self.in_flight)
    }

    /// Bytes of the window now.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// `bytes` were sent; returns the number of that segment.
    pub fn sent(&mut self, bytes: usize) -> u64 {
        self.in_flight += bytes;
        self.sent += 1;
        self.sent
    }

    /// They were acknowledged.
    pub fn acknowledged(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let growth = if self.window < self.threshold {
            bytes as f64
        } else {
            // One segment per round trip.
            SEGMENT as f64 * bytes as f64 / self.window
        };
        self.window = (self.window + growth).min(MOST_WINDOW);
    }

    /// Segment `number` of `bytes` turned out to be lost: it is no more in flight, and the window is halved once per
    /// round trip.
    pub fn lost(&mut self, number: u64, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if number > self.recover {
            self.recover = self.sent;
            self.window = (self.window / 2.0).max(LEAST_WINDOW);
            self.threshold = self.window;
        }
    }
}

impl Default for Reno {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Impairment, Link, Verdict};
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// A bulk sender on a link; returns the share of the rate that it got.
    fn bulk(impairment: Impairment, rate: f64, seconds: u64) -> f64 {
        let one_way = impairment.delay;
        let (mut link, mut reno, mut delivered) = (Link::new(impairment, 1), Reno::new(), 0);
        // What the sender learns, and when: a segment's arrival or its loss.
        let mut news: BTreeMap<(Duration, u64), bool> = BTreeMap::new();
        for t in 0..seconds * 1000 {
            let now = Duration::from_millis(t);
            while let Some(number) = link.pop(now) {
                delivered += SEGMENT;
                news.insert((now + one_way, number), true);
            }
            while let Some(((at, number), arrived)) = news.pop_first() {
                if at > now {
                    news.insert((at, number), arrived);
                    break;
                }
                if arrived { reno.acknowledged(SEGMENT) } else { reno.lost(number, SEGMENT) }
            }
            while reno.room() >= SEGMENT {
                let number = reno.sent(SEGMENT);
                if link.push(now, SEGMENT + 52, number) != Verdict::Passes {
                    news.insert((now + one_way * 2, number), false);
                }
            }
        }
        delivered as f64 * 8.0 / seconds as f64 / rate
    }

    #[test]
    fn it_fills_a_link_and_slows_down_at_loss() {
        let link = Impairment::rate(5_000_000, 50_000).with_delay(Duration::from_millis(20));
        let full = bulk(link.clone(), 5e6, 20);
        assert!(full > 0.85, "{full}");
        let lossy = bulk(link.with_loss(0.05), 5e6, 20);
        assert!(lossy < 0.6 * full && lossy > 0.05, "{lossy} of {full}");
    }
}
