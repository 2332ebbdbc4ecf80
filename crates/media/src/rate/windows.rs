//! Least values of a while.

use std::collections::VecDeque;

/// Entries per span: what is kept is bounded, and a value leaves at most one part too early.
const PARTS: u64 = 64;

/// The least value of the last `span_us`.
#[derive(Debug)]
pub(super) struct WindowMin {
    span_us: u64,
    /// Times and values, both growing from front to back.
    entries: VecDeque<(u64, i64)>,
}

// === impl WindowMin ===

impl WindowMin {
    pub(super) const fn new(span_us: u64) -> Self {
        Self { span_us, entries: VecDeque::new() }
    }

    /// Adds a value; returns the least.
    pub(super) fn add(&mut self, at_us: u64, value: i64) -> i64 {
        while self.entries.len() > 1 && self.entries.front().is_some_and(|(at, _)| at + self.span_us < at_us) {
            self.entries.pop_front();
        }
        while self.entries.back().is_some_and(|(_, last)| *last >= value) {
            self.entries.pop_back();
        }
        // A larger value matters only once the smaller ones have left: one per part of the span is enough.
        if self.entries.back().is_none_or(|(at, _)| at + self.span_us / PARTS <= at_us) {
            self.entries.push_back((at_us, value));
        }
        self.entries.front().map_or(value, |(_, least)| *least)
    }

    /// The least value, if any was ever added.
    pub(super) fn least(&self) -> Option<i64> {
        self.entries.front().map(|(_, least)| *least)
    }

    /// Forgets nothing although time passes: what was seen `us` later is treated as seen now.
    pub(super) fn hold(&mut self, us: u64) {
        for (at, _) in &mut self.entries {
            *at += us;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_value_leaves_in_time() {
        let mut window = WindowMin::new(1_000);
        assert_eq!(window.least(), None);
        assert_eq!(window.add(0, 5), 5);
        assert_eq!(window.add(500, 9), 5);
        assert_eq!(window.add(900, 7), 5);
        assert_eq!(window.add(1_100, 8), 7);
        assert_eq!(window.add(1_200, 2), 2);
        for at in 1_200..100_000 {
            window.add(at, at as i64);
        }
        assert!(window.entries.len() <= PARTS as usize + 4, "{} are kept", window.entries.len());
        assert!((99_999 - window.least().expect("a value") - 1_000).abs() <= 20);
    }
}
