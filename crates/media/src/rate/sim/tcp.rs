//! A download beside the stream: Reno or CUBIC (RFC 9438), per-packet acknowledgements, never out of data.

use std::collections::VecDeque;

pub(super) const SEGMENT: u32 = 1_460;
const BETA: f64 = 0.7;
const CUBIC_C: f64 = 0.4;
const TIMEOUT_US: u64 = 1_000_000;

pub(super) struct Tcp {
    is_cubic: bool,
    pub(super) active: (u64, u64),
    window: f64,
    threshold: f64,
    next: u64,
    flying: VecDeque<u64>,
    recovery: u64,
    epoch: Option<(u64, f64)>,
    heard_us: u64,
    pub(super) delivered: u64,
}

impl Tcp {
    pub(super) fn new(is_cubic: bool, active_ms: (u64, u64)) -> Self {
        Self {
            is_cubic,
            active: (active_ms.0 * 1_000, active_ms.1 * 1_000),
            window: 10.0,
            threshold: f64::INFINITY,
            next: 0,
            flying: VecDeque::new(),
            recovery: 0,
            epoch: None,
            heard_us: 0,
            delivered: 0,
        }
    }

    /// The next packet, if the window has room.
    pub(super) fn send(&mut self, now_us: u64) -> Option<u64> {
        if now_us < self.active.0 || now_us >= self.active.1 || self.flying.len() as f64 >= self.window {
            return None;
        }
        if self.flying.is_empty() {
            self.heard_us = now_us;
        }
        self.flying.push_back(self.next);
        self.next += 1;
        Some(self.next - 1)
    }

    /// Packet `number` was acknowledged.
    pub(super) fn acknowledged(&mut self, now_us: u64, number: u64) {
        self.heard_us = now_us;
        self.delivered += u64::from(SEGMENT);
        self.flying.retain(|flying| *flying != number);
        // Three later ones arrived: what is older is lost.
        let lost = self.flying.front().is_some_and(|first| *first + 3 < number);
        self.flying.retain(|flying| *flying + 3 >= number);
        if lost {
            if number > self.recovery {
                self.recovery = self.next;
                self.epoch = Some((now_us, self.window));
                self.window = (self.window * if self.is_cubic { BETA } else { 0.5 }).max(2.0);
                self.threshold = self.window;
            }
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else if let (true, Some((since_us, most))) = (self.is_cubic, self.epoch) {
            let k = (most * (1.0 - BETA) / CUBIC_C).cbrt();
            let target = CUBIC_C * ((now_us - since_us) as f64 / 1e6 - k).powi(3) + most;
            self.window += ((target - self.window) / self.window).clamp(0.0, 0.5).max(0.01 / self.window);
        } else {
            self.window += 1.0 / self.window;
        }
    }

    /// Everything was lost.
    pub(super) fn timeout(&mut self, now_us: u64) {
        if !self.flying.is_empty() && now_us > self.heard_us + TIMEOUT_US {
            (self.threshold, self.window, self.heard_us) = ((self.window / 2.0).max(2.0), 2.0, now_us);
            self.flying.clear();
        }
    }
}
