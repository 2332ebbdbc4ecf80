//! A link: random or bursty loss, a bounded queue served at a rate that changes, delay with jitter.

use super::Rng;
use std::collections::VecDeque;

/// Bytes of IP, UDP and SRTP around an RTP packet.
const OVERHEAD: u64 = 38;

/// What travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel {
    pub(super) who: Who,
    pub(super) bytes: u32,
}

/// Whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// Stream, transmission and RTP number in one.
    Media(usize, u64),
    /// A download's packet.
    Tcp(usize, u64),
    /// A probe of the round trip, sent at this time.
    Ping(u64),
}

/// How a link is.
#[derive(Clone, Debug)]
pub(super) struct LinkConfig {
    /// From this time (ms) on, bits a second.
    pub(super) rate: Vec<(u64, f64)>,
    /// Bytes that may wait.
    pub(super) queue: u64,
    /// One way, in ms.
    pub(super) delay_ms: u64,
    /// Added at random, at most, in ms.
    pub(super) jitter_ms: u64,
    /// Share of packets lost at random, both ways.
    pub(super) loss: f64,
    /// Bursts of loss: every so many ms, so many ms long.
    pub(super) bursts: Option<(u64, u64)>,
    /// Nothing gets through from and to these times, in ms.
    pub(super) outage: Option<(u64, u64)>,
}

impl LinkConfig {
    pub(super) fn new(rate: &[(u64, f64)]) -> Self {
        Self { rate: rate.to_vec(), queue: 100_000, delay_ms: 10, jitter_ms: 0, loss: 0.0, bursts: None, outage: None }
    }
}

pub(super) struct Link {
    pub(super) config: LinkConfig,
    waiting: VecDeque<Parcel>,
    waiting_bytes: u64,
    busy: bool,
    last_arrival_us: u64,
    pub(super) dropped: u64,
}

impl Link {
    pub(super) fn new(config: LinkConfig) -> Self {
        Self { config, waiting: VecDeque::new(), waiting_bytes: 0, busy: false, last_arrival_us: 0, dropped: 0 }
    }

    pub(super) fn rate(&self, now_us: u64) -> f64 {
        let step = self.config.rate.iter().rev().find(|(from_ms, _)| from_ms * 1_000 <= now_us);
        step.map_or(1e9, |(_, rate)| *rate)
    }

    pub(super) fn loses(&self, now_us: u64, rng: &mut Rng) -> bool {
        let in_burst = self.config.bursts.is_some_and(|(every, long)| (now_us / 1_000) % every < long);
        let is_out = self.config.outage.is_some_and(|(from, to)| (from..to).contains(&(now_us / 1_000)));
        is_out || in_burst || rng.unit() < self.config.loss
    }

    /// A packet comes in; returns when its service ends, if it is the only one.
    pub(super) fn offer(&mut self, now_us: u64, parcel: Parcel, rng: &mut Rng) -> Option<u64> {
        let bytes = u64::from(parcel.bytes) + OVERHEAD;
        if self.loses(now_us, rng) || self.waiting_bytes + bytes > self.config.queue {
            self.dropped += 1;
            return None;
        }
        self.waiting.push_back(parcel);
        self.waiting_bytes += bytes;
        if self.busy { None } else { self.serve(now_us) }
    }

    fn serve(&mut self, now_us: u64) -> Option<u64> {
        let bytes = u64::from(self.waiting.front()?.bytes) + OVERHEAD;
        self.busy = true;
        Some(now_us + (bytes as f64 * 8e6 / self.rate(now_us)) as u64)
    }

    /// The first packet is through: it, when it arrives, and when the next will be through.
    pub(super) fn done(&mut self, now_us: u64, rng: &mut Rng) -> Option<(Parcel, u64, Option<u64>)> {
        self.busy = false;
        let parcel = self.waiting.pop_front()?;
        self.waiting_bytes -= u64::from(parcel.bytes) + OVERHEAD;
        let jitter_us = (rng.unit() * self.config.jitter_ms as f64 * 1e3) as u64;
        let at_us = (now_us + self.config.delay_ms * 1_000 + jitter_us).max(self.last_arrival_us);
        self.last_arrival_us = at_us;
        Some((parcel, at_us, self.serve(now_us)))
    }

    pub(super) fn back_us(&self, rng: &mut Rng) -> u64 {
        self.config.delay_ms * 1_000 + (rng.unit() * self.config.jitter_ms as f64 * 1e3) as u64
    }
}
