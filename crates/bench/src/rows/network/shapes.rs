//! The shapes of links that row 11 tries: so many that no controller is tuned to one.

use loco_impair::{Bursts, Impairment};
use std::time::Duration;

const MBIT: u64 = 1_000_000;
/// One way, where nothing else is said: 20 ms of round trip.
const NEAR: Duration = Duration::from_millis(10);
/// A router's usual queue.
const QUEUE: usize = 100_000;

/// A link over time.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// For people and file names.
    pub(super) name: &'static str,
    /// What it does down, and for how many seconds.
    pub(super) phases: Vec<(f64, Impairment)>,
    /// What it does up, all the time.
    pub(super) up: Impairment,
    /// The hard part: from its first second up to, not including, its last.
    pub(super) hard: (f64, f64),
    /// A download shares it during the hard part.
    pub(super) rival: bool,
    /// Pictures a second in the hard part that a person still calls a picture.
    pub(super) least_fps: f64,
}

fn link(bits: u64, queue: usize, one_way: Duration) -> Impairment {
    Impairment::rate(bits, queue).with_delay(one_way)
}

/// `high`, `low` and `high` again, `each` seconds each.
fn step(name: &'static str, each: f64, high: Impairment, low: Impairment, least_fps: f64) -> Shape {
    let up = Impairment::default().with_delay(high.delay).with_loss(high.loss);
    let phases = vec![(each, high.clone()), (each, low), (each, high)];
    Shape { name, phases, up, hard: (each, 2.0 * each), rival: false, least_fps }
}

/// One state, `each` seconds of it without and twice that with what is hard about it.
fn onset(name: &'static str, each: f64, good: Impairment, hard: Impairment, least_fps: f64) -> Shape {
    let up = Impairment::default().with_delay(hard.delay).with_jitter(hard.jitter).with_loss(hard.loss);
    let phases = vec![(each, good.clone()), (2.0 * each, hard), (each, good)];
    Shape { name, phases, up, hard: (each, 3.0 * each), rival: false, least_fps }
}

/// All, the first being the row's own.
pub(super) fn all(each: f64) -> Vec<Shape> {
    let ms = Duration::from_millis;
    let low = MBIT / 2;
    let near = |bits| link(bits, QUEUE, NEAR);
    let ramp = |name, from: u64, to: u64| {
        let at = |i: u64| near(from + to * i / 10 - from * i / 10);
        let mut phases = vec![(each / 2.0, near(from))];
        phases.extend((1..=10).map(|i| (each / 10.0, at(i))));
        phases.push((each / 2.0, near(to)));
        phases.extend((1..=10).rev().map(|i| (each / 10.0, at(i - 1))));
        phases.push((each / 2.0, near(from)));
        let up = Impairment::default().with_delay(NEAR);
        Shape { name, phases, up, hard: (each / 2.0, 3.0 * each), rival: false, least_fps: 10.0 }
    };
    let bursts = Bursts { begin: 0.002, end: 0.2, loss: 0.8 };
    let mut outage = step("outage", each, near(3 * MBIT), near(3 * MBIT), 3.0);
    outage.phases = vec![(each, near(3 * MBIT)), (1.0, near(0)), (2.0 * each - 1.0, near(3 * MBIT))];
    outage.hard = (each + 1.0, 2.0 * each);
    let mut rival = onset("download", each, near(3 * MBIT), near(3 * MBIT), 10.0);
    rival.rival = true;
    vec![
        step("cliff-5-0.5-5", each, near(5 * MBIT), near(low), 20.0),
        step("cliff-5-1-5", each, near(5 * MBIT), near(MBIT), 20.0),
        step("cliff-2-0.3-2", each, near(2 * MBIT), near(300_000), 10.0),
        ramp("ramp-5-0.5-5", 5 * MBIT, low),
        step("cliff-rtt100", each, link(5 * MBIT, QUEUE, ms(50)), link(low, QUEUE, ms(50)), 10.0),
        step("cliff-rtt300", each, link(5 * MBIT, QUEUE, ms(150)), link(low, QUEUE, ms(150)), 5.0),
        step("cliff-loss2", each, near(5 * MBIT).with_loss(0.02), near(low).with_loss(0.02), 10.0),
        step("cliff-short-queue", each, link(5 * MBIT, 10_000, NEAR), link(low, 10_000, NEAR), 10.0),
        step("cliff-long-queue", each, link(5 * MBIT, 500_000, NEAR), link(low, 500_000, NEAR), 20.0),
        onset("bursts", each, near(3 * MBIT), near(3 * MBIT).with_bursts(bursts), 20.0),
        onset("jitter50", each, near(3 * MBIT), near(3 * MBIT).with_jitter(ms(50)), 20.0),
        onset(
            "play-100ms-loss2",
            each,
            link(3 * MBIT, QUEUE, ms(50)),
            link(3 * MBIT, QUEUE, ms(50)).with_loss(0.02),
            20.0,
        ),
        outage,
        rival,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_shapes_at_least_each_with_its_hard_part_inside() {
        let shapes = all(8.0);
        assert!(shapes.len() >= 12);
        for shape in &shapes {
            let (from, to) = shape.hard;
            let length: f64 = shape.phases.iter().map(|(seconds, _)| seconds).sum();
            assert!(0.0 < from && from < to && to < length, "{}", shape.name);
        }
        let ramp = shapes.iter().find(|shape| shape.name.starts_with("ramp")).unwrap();
        let rates: Vec<_> = ramp.phases.iter().filter_map(|(_, link)| link.rate).collect();
        assert_eq!((rates[0], rates[11], rates[rates.len() - 1]), (5_000_000, 500_000, 5_000_000));
        assert!(rates[..12].is_sorted_by(|a, b| a >= b), "{rates:?}");
    }
}
