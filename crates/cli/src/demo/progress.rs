//! Lines for people on stderr while the guests start.

use crate::logging::tell;
use std::time::Instant;

/// Counts live guests up to the number that is expected.
pub(super) struct Progress {
    expected: usize,
    told: usize,
    begun: Instant,
}

impl Progress {
    pub(super) fn new(expected: usize, begun: Instant) -> Self {
        Self { expected, told: 0, begun }
    }

    /// Says how many are live if that is more than before; returns whether all are.
    pub(super) fn tell(&mut self, live: usize) -> bool {
        if live > self.told {
            self.told = live;
            let seconds = self.begun.elapsed().as_secs_f64();
            tell(&format!("{live} of {} guests live ({seconds:.1} s)", self.expected));
        }
        self.told >= self.expected
    }
}
