//! Where everything stands: three plans, each as drawn and mirrored two ways, so that nine towns differ.

use crate::math::{Random, hash};
use crate::track::{CELL, COLUMNS, Cell, ROWS, Refusal, Side, Track, cell_at};

/// Most things that stand in a town.
const MAXIMUM_THINGS: usize = 224;

/// What stands somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    House,
    TallHouse,
    Church,
    Windmill,
    Station,
    Tree,
    Fir,
    Bush,
}

/// One thing that stands on the ground.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing {
    pub(crate) kind: Kind,
    /// Middle of its foot, in units.
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Varies its colours and size.
    pub(crate) seed: u32,
    pub(crate) cell: Cell,
}

/// A place in cells, not whole ones.
type Spot = (f32, f32);

/// A plan; spots and cells are those of the plan before mirroring.
struct Plan {
    /// Lines of track, by their corners.
    lines: &'static [&'static [Cell]],
    /// A cell on a ring, and the side from which the train came in.
    start: (Cell, Side),
    buildings: &'static [(Cell, Kind)],
    /// Middle lines of the roads.
    roads: &'static [&'static [Spot]],
    pond: Pond,
    /// Left, top, width, height in cells.
    fields: &'static [(f32, f32, f32, f32)],
}

/// The pond's middle and half axes in cells.
#[derive(Clone, Copy)]
struct Pond {
    middle: Spot,
    half: Spot,
}

use Kind::{Church, House, Station, TallHouse, Windmill};

const PLANS: [Plan; 3] = [
    Plan {
        lines: &[
            &[
                (1, 2),
                (5, 2),
                (5, 1),
                (11, 1),
                (11, 2),
                (14, 2),
                (14, 6),
                (13, 6),
                (13, 9),
                (7, 9),
                (7, 8),
                (4, 8),
                (4, 9),
                (1, 9),
                (1, 2),
            ],
            &[(8, 1), (8, 4), (6, 4), (6, 8)],
        ],
        start: ((1, 5), Side::South),
        buildings: &[
            ((2, 4), House),
            ((3, 4), TallHouse),
            ((4, 4), House),
            ((2, 6), House),
            ((3, 6), Church),
            ((10, 3), House),
            ((11, 3), TallHouse),
            ((12, 3), House),
            ((12, 7), Windmill),
            ((11, 5), House),
            ((10, 10), Station),
        ],
        roads: &[&[(-0.5, 5.45), (5.45, 5.45), (5.45, 3.4)], &[(9.3, 4.45), (16.5, 4.45)]],
        pond: Pond { middle: (9.7, 6.9), half: (1.75, 1.05) },
        fields: &[(2.1, 7.15, 1.7, 1.5), (6.3, 2.2, 1.4, 1.5)],
    },
    Plan {
        lines: &[&[(1, 2), (7, 2), (7, 8), (14, 8), (14, 5), (1, 5), (1, 2)], &[(14, 5), (14, 1), (10, 1), (10, 5)]],
        start: ((3, 5), Side::East),
        buildings: &[
            ((3, 4), House),
            ((4, 4), TallHouse),
            ((6, 4), House),
            ((11, 3), House),
            ((12, 3), TallHouse),
            ((13, 3), House),
            ((12, 2), Church),
            ((9, 6), House),
            ((11, 7), House),
            ((6, 7), Windmill),
            ((11, 9), Station),
            ((3, 0), House),
        ],
        roads: &[&[(-0.5, 3.5), (5.5, 3.5), (5.5, 1.5), (3.0, 1.5)], &[(16.5, 4.45), (10.8, 4.45)]],
        pond: Pond { middle: (3.1, 8.1), half: (2.0, 1.25) },
        fields: &[(8.2, 9.2, 2.2, 1.5), (12.1, 6.2, 1.7, 1.6)],
    },
    Plan {
        lines: &[
            &[(1, 1), (14, 1), (14, 4), (12, 4), (12, 9), (2, 9), (2, 5), (1, 5), (1, 1)],
            &[(4, 9), (4, 7), (9, 7), (9, 9)],
        ],
        start: ((5, 1), Side::West),
        buildings: &[
            ((2, 3), House),
            ((3, 3), TallHouse),
            ((5, 3), Church),
            ((6, 3), House),
            ((3, 5), House),
            ((5, 5), House),
            ((6, 5), TallHouse),
            ((12, 3), House),
            ((14, 7), Windmill),
            ((6, 8), Station),
            ((10, 3), House),
        ],
        roads: &[&[(-0.5, 4.45), (7.6, 4.45), (7.6, 2.6), (13.2, 2.6)]],
        pond: Pond { middle: (9.9, 5.1), half: (1.75, 1.05) },
        fields: &[(13.2, 8.3, 2.2, 1.9), (5.2, 6.1, 0.01, 0.01)],
    },
];

/// A town's ground and its things; the track on it is kept apart, since it changes.
pub(crate) struct Layout {
    pub(crate) instance: u8,
    plan: &'static Plan,
    mirror_x: bool,
    mirror_y: bool,
    things: [Thing; MAXIMUM_THINGS],
    count: usize,
    blocked: [bool; (COLUMNS * ROWS) as usize],
}

impl Layout {
    /// The town of an instance, with its railway.
    pub(crate) fn new(instance: u8) -> (Self, Track) {
        let nobody = Thing { kind: Kind::Bush, x: 0.0, y: 0.0, seed: 0, cell: (0, 0) };
        let variant = instance / 3;
        let mut layout = Self {
            instance,
            plan: &PLANS[usize::from(instance % 3)],
            mirror_x: variant == 1,
            mirror_y: variant == 2,
            things: [nobody; MAXIMUM_THINGS],
            count: 0,
            blocked: [false; (COLUMNS * ROWS) as usize],
        };
        let mut track = Track::new();
        for line in layout.plan.lines {
            for pair in line.windows(2) {
                track.lay(&[layout.cell(pair[0]), layout.cell(pair[1])]);
            }
        }
        layout.build(&track);
        layout.plant(&track);
        let things = &mut layout.things[..layout.count];
        things.sort_unstable_by(|a, b| a.y.total_cmp(&b.y));
        (layout, track)
    }

    /// Where the train starts: a cell, and the side at which it came in.
    pub(crate) fn start(&self) -> (Cell, Side) {
        let (cell, side) = self.plan.start;
        let flipped = match side {
            Side::East | Side::West if self.mirror_x => side.opposite(),
            Side::North | Side::South if self.mirror_y => side.opposite(),
            _ => side,
        };
        (self.cell(cell), flipped)
    }

    /// What stands there, from the back to the front.
    pub(crate) fn things(&self) -> &[Thing] {
        &self.things[..self.count]
    }

    /// The windmill's foot in units.
    pub(crate) fn mill(&self) -> Option<(f32, f32)> {
        self.things().iter().find(|thing| thing.kind == Kind::Windmill).map(|thing| (thing.x, thing.y))
    }

    /// The roads' corners in units.
    pub(crate) fn roads(&self) -> impl Iterator<Item = impl Iterator<Item = (f32, f32)>> {
        self.plan.roads.iter().map(|road| road.iter().map(|spot| self.unit(*spot)))
    }

    /// Left, top, width and height of the fields in units.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (f32, f32, f32, f32)> {
        self.plan.fields.iter().filter(|field| field.2 > 0.1).map(|(x, y, w, h)| {
            let (a, b) = (self.unit((*x, *y)), self.unit((x + w, y + h)));
            (a.0.min(b.0), a.1.min(b.1), w * CELL, h * CELL)
        })
    }

    /// The pond's middle and half axes in units.
    pub(crate) fn pond(&self) -> ((f32, f32), (f32, f32)) {
        let Pond { middle, half } = self.plan.pond;
        (self.unit(middle), (half.0 * CELL, half.1 * CELL))
    }

    /// Whether track may be laid in a cell.
    pub(crate) fn is_free(&self, cell: Cell) -> Result<(), Refusal> {
        if !(0..COLUMNS).contains(&cell.0) || !(0..ROWS).contains(&cell.1) {
            return Err(Refusal::Outside);
        }
        if self.blocked[(cell.1 * COLUMNS + cell.0) as usize] { Err(Refusal::Ground) } else { Ok(()) }
    }

    fn cell(&self, (x, y): Cell) -> Cell {
        (if self.mirror_x { COLUMNS - 1 - x } else { x }, if self.mirror_y { ROWS - 1 - y } else { y })
    }

    fn unit(&self, (x, y): Spot) -> (f32, f32) {
        let x = if self.mirror_x { COLUMNS as f32 - x } else { x };
        let y = if self.mirror_y { ROWS as f32 - y } else { y };
        (x * CELL, y * CELL)
    }

    fn block(&mut self, cell: Cell) {
        if (0..COLUMNS).contains(&cell.0) && (0..ROWS).contains(&cell.1) {
            self.blocked[(cell.1 * COLUMNS + cell.0) as usize] = true;
        }
    }

    fn add(&mut self, thing: Thing) {
        if self.count < MAXIMUM_THINGS {
            self.things[self.count] = thing;
            self.count += 1;
        }
    }

    fn build(&mut self, track: &Track) {
        for (place, kind) in self.plan.buildings {
            let cell = self.cell(*place);
            if track.has(cell) {
                continue;
            }
            let seed = hash(place.0 as u32, place.1 as u32, u32::from(self.instance));
            // The last row reaches under the panel.
            let foot = ((cell.1 as f32 + 1.0) * CELL - 5.0).min(crate::panel::TOP - 6.0);
            let (x, y) = ((cell.0 as f32 + 0.5) * CELL, foot);
            self.add(Thing { kind: *kind, x, y, seed, cell });
            self.block(cell);
        }
        let ((x, y), (rx, ry)) = self.pond();
        for cell in cells() {
            let (cx, cy) = ((cell.0 as f32 + 0.5) * CELL, (cell.1 as f32 + 0.5) * CELL);
            let near = |d: f32, r: f32| (d.abs() - CELL * 0.42).max(0.0) / r;
            let (dx, dy) = (near(cx - x, rx), near(cy - y, ry));
            if dx * dx + dy * dy < 0.95 {
                self.block(cell);
            }
        }
    }

    fn plant(&mut self, track: &Track) {
        let mut random = Random::new(u32::from(self.instance) * 77 + 5);
        for cell in cells() {
            let edge = cell.0 == 0 || cell.0 == COLUMNS - 1 || cell.1 == 0;
            if track.has(cell) || self.is_free(cell).is_err() {
                continue;
            }
            let wanted = if edge { 1 + random.below(3) } else { random.below(3) };
            for _ in 0..wanted {
                let x = cell.0 as f32 * CELL + random.between(7.0, 33.0);
                let y = cell.1 as f32 * CELL + random.between(14.0, 38.0);
                let kind = match random.below(10) {
                    0..=4 => Kind::Tree,
                    5..=7 => Kind::Fir,
                    _ => Kind::Bush,
                };
                let seed = random.next();
                if self.has_room(x, y) {
                    self.add(Thing { kind, x, y, seed, cell: cell_at(x, y) });
                }
            }
        }
    }

    /// Whether a tree may stand there: not on roads and fields, not under the sign, not into another.
    fn has_room(&self, x: f32, y: f32) -> bool {
        let on_road = self.roads().any(|road| {
            let mut last = None;
            road.into_iter().any(|corner| {
                let from = last.replace(corner).unwrap_or(corner);
                let inside = |v: f32, a: f32, b: f32| v > a.min(b) - 17.0 && v < a.max(b) + 17.0;
                inside(x, from.0, corner.0) && inside(y - 3.0, from.1, corner.1)
            })
        });
        let on_field = self.fields().any(|(left, top, width, height)| {
            x > left - 8.0 && x < left + width + 8.0 && y > top - 4.0 && y < top + height + 18.0
        });
        let crowded = self.things().iter().any(|other| (other.x - x).abs() < 12.0 && (other.y - y).abs() < 10.0);
        let under_sign = x < 92.0 && y > 370.0;
        !(on_road || on_field || crowded || under_sign)
    }
}

fn cells() -> impl Iterator<Item = Cell> {
    (0..ROWS).flat_map(|y| (0..COLUMNS).map(move |x| (x, y)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Train;

    #[test]
    fn every_train_runs_for_ever_in_its_own_town() {
        for instance in 0..9 {
            let (layout, track) = Layout::new(instance);
            let (cell, side) = layout.start();
            assert!(track.has(cell), "{instance}");
            let mut train = Train::new(&track, cell, side);
            let mut stops = 0;
            for _ in 0..5000 {
                train.tick(&track);
                stops += u32::from(!train.moves());
            }
            assert_eq!(stops, 0, "the train of {instance} met the end of a line");
        }
    }

    #[test]
    fn nothing_stands_on_track_and_towns_differ() {
        let mut seen: Vec<Vec<(i32, i32)>> = Vec::new();
        for instance in 0..9 {
            let (layout, track) = Layout::new(instance);
            assert!(layout.things().len() > 60, "{instance}: {}", layout.things().len());
            assert!(layout.count < MAXIMUM_THINGS, "{instance}");
            assert!(layout.things().iter().all(|thing| !track.has(thing.cell)), "{instance}");
            assert!(cells().all(|cell| !track.has(cell) || layout.is_free(cell).is_ok()), "{instance}: pond on track");
            let places: Vec<(i32, i32)> = layout.things().iter().map(|t| (t.x as i32, t.y as i32)).collect();
            assert!(!seen.contains(&places));
            seen.push(places);
        }
    }
}
