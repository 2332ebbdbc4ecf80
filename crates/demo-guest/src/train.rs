//! The train: where its cars are, and which way it goes.

use crate::math::direction;
use crate::track::{Cell, Side, Track, way_length, way_point};

/// Cars with the engine.
pub(crate) const CARS: usize = 4;
/// From the middle of one car to the next, in units.
const SPACING: f32 = 29.0;
/// From a car's middle to each of its two bogies.
const BOGIE: f32 = 8.0;
/// From the middle of the first and the last car to the train's ends.
const OVERHANG: f32 = 13.0;
/// Length of the whole train.
const LENGTH: f32 = SPACING * (CARS - 1) as f32 + 2.0 * OVERHANG;
/// Highest speed step.
pub(crate) const MAXIMUM_SPEED: u8 = 8;
/// Units a tick for each speed step.
const STEP: f32 = 0.6;
/// Change of speed in a tick.
const ACCELERATION: f32 = 0.08;
/// Cells that the way may hold; the train covers at most seven.
const WAY: usize = 12;

/// A car's place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pose {
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Where its front points, in turns; 0 is right, 0.25 down.
    pub(crate) heading: f32,
}

/// The way through one cell.
#[derive(Clone, Copy, Debug)]
struct Step {
    cell: Cell,
    from: Side,
    to: Side,
}

impl Step {
    fn length(&self) -> f32 {
        way_length(self.from, self.to)
    }

    fn reversed(self) -> Self {
        Self { from: self.to, to: self.from, ..self }
    }
}

/// The train on its way.
#[derive(Clone)]
pub(crate) struct Train {
    /// The cells that it is in, the one with its leading end first.
    way: [Step; WAY],
    steps: usize,
    /// How far its leading end is into the first cell.
    head: f32,
    /// The engine pushes: the last car leads.
    backwards: bool,
    speed: f32,
    wanted: u8,
    /// Counts junctions, so that the train takes another way each time.
    choices: u32,
}

impl Train {
    /// A train whose end stands at the side `from` of a cell; it needs a way of at least its own length from there.
    pub(crate) fn new(track: &Track, cell: Cell, from: Side) -> Self {
        let to = track.exits(cell, from).next().unwrap_or(from.opposite());
        let step = Step { cell, from, to };
        let mut train =
            Self { way: [step; WAY], steps: 1, head: 0.0, backwards: false, speed: 0.0, wanted: 4, choices: 0 };
        train.run(track, LENGTH);
        train
    }

    /// The wanted speed, 0..=[`MAXIMUM_SPEED`].
    pub(crate) fn speed(&self) -> u8 {
        self.wanted
    }

    pub(crate) fn set_speed(&mut self, speed: u8) {
        self.wanted = speed.min(MAXIMUM_SPEED);
    }

    /// Whether it really moves.
    pub(crate) fn moves(&self) -> bool {
        self.speed > 0.0
    }

    /// Whether a part of it is in a cell.
    pub(crate) fn is_on(&self, cell: Cell) -> bool {
        self.way[..self.steps].iter().any(|step| step.cell == cell)
    }

    /// One tick further.
    pub(crate) fn tick(&mut self, track: &Track) {
        let goal = f32::from(self.wanted) * STEP;
        self.speed += (goal - self.speed).clamp(-2.0 * ACCELERATION, ACCELERATION);
        self.run(track, self.speed);
    }

    /// The cars, the engine first.
    pub(crate) fn cars(&self) -> [Pose; CARS] {
        let mut cars = [Pose::default(); CARS];
        for (i, car) in cars.iter_mut().enumerate() {
            let place = if self.backwards { CARS - 1 - i } else { i };
            let middle = OVERHANG + SPACING * place as f32;
            let (leading, trailing) = (self.point(middle - BOGIE), self.point(middle + BOGIE));
            let (front, back) = if self.backwards { (trailing, leading) } else { (leading, trailing) };
            *car = Pose {
                x: (front.0 + back.0) / 2.0,
                y: (front.1 + back.1) / 2.0,
                heading: direction(front.0 - back.0, front.1 - back.1),
            };
        }
        cars
    }

    /// The place `behind` units behind the leading end.
    fn point(&self, behind: f32) -> (f32, f32) {
        let mut distance = self.head - behind;
        for (i, step) in self.way[..self.steps].iter().enumerate() {
            if distance >= 0.0 || i + 1 == self.steps {
                return way_point(step.cell, step.from, step.to, distance.max(0.0));
            }
            distance += self.way[i + 1].length();
        }
        (0.0, 0.0)
    }

    fn run(&mut self, track: &Track, distance: f32) {
        self.head += distance;
        while self.head > self.way[0].length() {
            let rest = self.head - self.way[0].length();
            if let Some(next) = self.next_step(track) {
                self.way.copy_within(0..WAY - 1, 1);
                self.way[0] = next;
                self.steps = (self.steps + 1).min(WAY);
                self.head = rest;
            } else {
                self.head = self.way[0].length();
                self.turn_back();
                return;
            }
        }
        // Let go of the cells behind.
        let mut covered = self.head;
        let mut needed = 1;
        while covered < LENGTH && needed < self.steps {
            covered += self.way[needed].length();
            needed += 1;
        }
        self.steps = needed;
    }

    fn next_step(&mut self, track: &Track) -> Option<Step> {
        let last = self.way[0];
        if !track.linked(last.cell, last.to) {
            return None;
        }
        let (cell, from) = (last.to.beyond(last.cell), last.to.opposite());
        let count = track.exits(cell, from).count() as u32;
        if count > 1 {
            self.choices += 1;
        }
        let to = track.exits(cell, from).nth((self.choices % count.max(1)) as usize)?;
        Some(Step { cell, from, to })
    }

    /// At the end of the line: what was last leads now.
    fn turn_back(&mut self) {
        let mut covered = self.head;
        for step in &self.way[1..self.steps] {
            covered += step.length();
        }
        self.head = if covered < LENGTH { self.way[self.steps - 1].length() } else { covered - LENGTH };
        // The leading end is now where the train ended: so far into the last cell, seen from its other side.
        self.head = self.way[self.steps - 1].length() - self.head;
        self.way[..self.steps].reverse();
        for step in &mut self.way[..self.steps] {
            *step = step.reversed();
        }
        self.backwards = !self.backwards;
        self.speed = 0.0;
    }

    /// Distance between two cars' middles that cannot be exceeded.
    #[cfg(test)]
    fn gaps(&self) -> impl Iterator<Item = f32> {
        let cars = self.cars();
        (1..CARS).map(move |i| {
            let (dx, dy) = (cars[i].x - cars[i - 1].x, cars[i].y - cars[i - 1].y);
            dx.hypot(dy)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance between two poses, in units.
    fn distance(a: &Pose, b: &Pose) -> f32 {
        (a.x - b.x).hypot(a.y - b.y)
    }

    fn check(track: &Track, mut train: Train, ticks: u32) -> Train {
        let mut before = train.cars();
        for tick in 0..ticks {
            train.tick(track);
            let cars = train.cars();
            for (old, new) in before.iter().zip(&cars) {
                assert!(distance(old, new) <= STEP * 8.0 + 0.1, "a jump at tick {tick}: {old:?} {new:?}");
            }
            for gap in train.gaps() {
                assert!((20.0..=SPACING + 0.1).contains(&gap), "gap {gap} at tick {tick}");
            }
            before = cars;
        }
        train
    }

    #[test]
    fn runs_round_a_ring_smoothly() {
        let mut track = Track::new();
        track.lay(&[(1, 1), (6, 1), (6, 3), (9, 3), (9, 8), (1, 8), (1, 1)]);
        let mut train = Train::new(&track, (3, 1), Side::West);
        train.set_speed(200);
        assert_eq!(train.speed(), MAXIMUM_SPEED);
        let start = train.cars()[0];
        let mut visits = 0;
        for _ in 0..4000 {
            train.tick(&track);
            visits += u32::from(distance(&train.cars()[0], &start) < 3.0);
        }
        assert!(visits >= 8, "{visits}");
        check(&track, train, 3000);
    }

    #[test]
    fn turns_back_at_ends_without_a_jump() {
        let mut track = Track::new();
        track.lay(&[(1, 1), (6, 1), (6, 4)]);
        let train = check(&track, Train::new(&track, (1, 1), Side::West), 4000);
        assert!(train.moves());
    }

    #[test]
    fn takes_both_ways_of_a_junction() {
        let mut track = Track::new();
        track.lay(&[(1, 1), (9, 1), (9, 8), (1, 8), (1, 1)]);
        track.lay(&[(5, 1), (5, 8)]);
        let mut train = Train::new(&track, (1, 1), Side::South);
        let (mut middle, mut outer) = (false, false);
        for _ in 0..6000 {
            train.tick(&track);
            middle |= train.is_on((5, 4));
            outer |= train.is_on((9, 4));
        }
        assert!(middle && outer);
        check(&track, train, 3000);
    }

    #[test]
    fn stands_at_speed_zero() {
        let mut track = Track::new();
        track.lay(&[(1, 1), (9, 1), (9, 8), (1, 8), (1, 1)]);
        let mut train = Train::new(&track, (1, 1), Side::South);
        train.set_speed(0);
        let before = train.cars();
        let train = check(&track, train, 100);
        assert_eq!(train.cars(), before);
        assert!(!train.moves());
    }
}
