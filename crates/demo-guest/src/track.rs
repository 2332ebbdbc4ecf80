//! The railway: a grid of cells, linked to their neighbours.
//!
//! Only links are kept; what a piece looks like (straight, curve, junction, crossing) follows from them, so pieces
//! connect by themselves. A link is always there on both sides.

/// Cells across the picture.
pub(crate) const COLUMNS: i32 = 16;
/// Cells from the top that can hold track; below lies the panel.
pub(crate) const ROWS: i32 = 11;
/// Side of a cell in units.
pub(crate) const CELL: f32 = 40.0;
/// Length of the quarter circle between two neighbouring sides.
pub(crate) const CURVE_LENGTH: f32 = CELL * core::f32::consts::FRAC_PI_4;

/// A cell: column and row.
pub(crate) type Cell = (i32, i32);

/// A side of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    North,
    East,
    South,
    West,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::North, Self::East, Self::South, Self::West];

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn opposite(self) -> Self {
        Self::ALL[(self as usize + 2) % 4]
    }

    /// Unit vector from the middle of a cell to the side.
    pub(crate) fn vector(self) -> (i32, i32) {
        match self {
            Self::North => (0, -1),
            Self::East => (1, 0),
            Self::South => (0, 1),
            Self::West => (-1, 0),
        }
    }

    /// The cell beyond the side.
    pub(crate) fn beyond(self, cell: Cell) -> Cell {
        let (dx, dy) = self.vector();
        (cell.0 + dx, cell.1 + dy)
    }
}

/// Why a piece was not placed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Outside the grid.
    Outside,
    /// A house, the pond or the like is there.
    Ground,
    /// The train is on it.
    Train,
    /// There is a piece already, or none to remove.
    Nothing,
}

impl Refusal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Ground => "ground",
            Self::Train => "train",
            Self::Nothing => "nothing",
        }
    }
}

/// Bit of a cell that holds a piece; the low four are its links.
const PIECE: u8 = 0x10;

/// All pieces.
#[derive(Clone)]
pub(crate) struct Track {
    cells: [u8; (COLUMNS * ROWS) as usize],
}

fn index(cell: Cell) -> Option<usize> {
    ((0..COLUMNS).contains(&cell.0) && (0..ROWS).contains(&cell.1)).then(|| (cell.1 * COLUMNS + cell.0) as usize)
}

impl Track {
    pub(crate) fn new() -> Self {
        Self { cells: [0; (COLUMNS * ROWS) as usize] }
    }

    pub(crate) fn has(&self, cell: Cell) -> bool {
        index(cell).is_some_and(|i| self.cells[i] & PIECE != 0)
    }

    /// The sides at which the piece is connected.
    pub(crate) fn links(&self, cell: Cell) -> u8 {
        index(cell).map_or(0, |i| self.cells[i] & 15)
    }

    pub(crate) fn linked(&self, cell: Cell, side: Side) -> bool {
        self.links(cell) & side.bit() != 0
    }

    /// The sides that the piece's rails reach: its links, and for ends the other side of a straight.
    pub(crate) fn arms(&self, cell: Cell) -> u8 {
        if !self.has(cell) {
            return 0;
        }
        let links = self.links(cell);
        match links.count_ones() {
            0 => Side::East.bit() | Side::West.bit(),
            1 => Side::ALL
                .into_iter()
                .filter(|s| links & s.bit() != 0)
                .fold(0, |arms, s| arms | s.bit() | s.opposite().bit()),
            _ => links,
        }
    }

    /// Puts pieces along the straight lines between corners, linked one to the next.
    pub(crate) fn lay(&mut self, corners: &[Cell]) {
        for pair in corners.windows(2) {
            let (mut cell, end) = (pair[0], pair[1]);
            let Some(side) =
                Side::ALL.into_iter().find(|s| s.vector() == ((end.0 - cell.0).signum(), (end.1 - cell.1).signum()))
            else {
                continue;
            };
            while cell != end {
                self.link(cell, side);
                cell = side.beyond(cell);
            }
        }
    }

    fn link(&mut self, cell: Cell, side: Side) {
        if let (Some(here), Some(there)) = (index(cell), index(side.beyond(cell))) {
            self.cells[here] |= PIECE | side.bit();
            self.cells[there] |= PIECE | side.opposite().bit();
        }
    }

    /// Puts a piece into an empty cell and connects it: with every neighbour that has an open end, at most two of them
    /// unless three or four point here; with none, it joins one neighbour as a branch.
    pub(crate) fn place(&mut self, cell: Cell) -> Result<(), Refusal> {
        let here = index(cell).ok_or(Refusal::Outside)?;
        if self.cells[here] & PIECE != 0 {
            return Err(Refusal::Nothing);
        }
        self.cells[here] = PIECE;
        let neighbour = |track: &Self, side: Side| {
            let there = side.beyond(cell);
            (track.has(there))
                .then(|| (track.links(there).count_ones(), track.arms(there) & side.opposite().bit() != 0))
        };
        // Ends that point here first, then other ends that can bend towards it.
        for points_here in [true, false] {
            for side in Side::ALL {
                let open = neighbour(self, side).is_some_and(|(links, points)| links < 2 && points == points_here);
                if open && (points_here || self.links(cell).count_ones() < 2) {
                    self.link(cell, side);
                }
            }
        }
        if self.links(cell) == 0
            && let Some(side) = Side::ALL.into_iter().find(|side| neighbour(self, *side).is_some())
        {
            self.link(cell, side);
        }
        // A second way out, if a line passes on the other side.
        if self.links(cell).count_ones() == 1
            && let Some(side) = Side::ALL.into_iter().find(|side| self.linked(cell, *side))
            && self.has(side.opposite().beyond(cell))
        {
            self.link(cell, side.opposite());
        }
        Ok(())
    }

    /// Takes a piece away, and its neighbours' links to it.
    pub(crate) fn remove(&mut self, cell: Cell) -> Result<(), Refusal> {
        let here = index(cell).ok_or(Refusal::Outside)?;
        if self.cells[here] & PIECE == 0 {
            return Err(Refusal::Nothing);
        }
        self.cells[here] = 0;
        for side in Side::ALL {
            if let Some(there) = index(side.beyond(cell)) {
                self.cells[there] &= !side.opposite().bit();
            }
        }
        Ok(())
    }

    /// Where a train that came in at `from` may leave the piece, straight on first.
    pub(crate) fn exits(&self, cell: Cell, from: Side) -> impl Iterator<Item = Side> {
        let arms = self.arms(cell);
        let straight = from.opposite();
        let crossing = arms.count_ones() == 4;
        [straight, Side::ALL[(from as usize + 1) % 4], Side::ALL[(from as usize + 3) % 4]]
            .into_iter()
            .filter(move |side| arms & side.bit() != 0 && (!crossing || *side == straight))
    }
}

/// The cell that holds a place given in units.
pub(crate) fn cell_at(x: f32, y: f32) -> Cell {
    ((x / CELL) as i32, (y / CELL) as i32)
}

/// Length of the way through a cell.
pub(crate) fn way_length(from: Side, to: Side) -> f32 {
    if from == to.opposite() { CELL } else { CURVE_LENGTH }
}

/// Where one is on the way through a cell, `distance` after coming in at `from`, in units.
pub(crate) fn way_point(cell: Cell, from: Side, to: Side, distance: f32) -> (f32, f32) {
    let middle = ((cell.0 as f32 + 0.5) * CELL, (cell.1 as f32 + 0.5) * CELL);
    let unit = |side: Side| {
        let (x, y) = side.vector();
        (x as f32, y as f32)
    };
    let (a, b) = (unit(from), unit(to));
    let half = CELL / 2.0;
    if from == to.opposite() {
        let along = distance - half;
        return (middle.0 + b.0 * along, middle.1 + b.1 * along);
    }
    // A quarter circle around the corner between the two sides.
    let centre = (middle.0 + (a.0 + b.0) * half, middle.1 + (a.1 + b.1) * half);
    let turn = 0.25 * distance / CURVE_LENGTH;
    let (c, s) = (crate::math::cos(turn), crate::math::sin(turn));
    (centre.0 - half * (b.0 * c + a.0 * s), centre.1 - half * (b.1 * c + a.1 * s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_from_side_to_side_without_a_gap() {
        for from in Side::ALL {
            for to in Side::ALL.into_iter().filter(|to| *to != from) {
                let length = way_length(from, to);
                for (side, distance) in [(from, 0.0), (to, length)] {
                    let (x, y) = way_point((2, 3), from, to, distance);
                    let (dx, dy) = side.vector();
                    let expected = (100.0 + 20.0 * dx as f32, 140.0 + 20.0 * dy as f32);
                    assert!((x - expected.0).abs() < 0.02 && (y - expected.1).abs() < 0.02, "{from:?} {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_ring_placed_piece_by_piece_closes() {
        let mut track = Track::new();
        for cell in [(2, 2), (3, 2), (4, 2), (4, 3), (4, 4), (3, 4), (2, 4), (2, 3)] {
            track.place(cell).unwrap();
        }
        for cell in [(2, 2), (3, 2), (4, 2), (4, 3), (4, 4), (3, 4), (2, 4), (2, 3)] {
            assert_eq!(track.links(cell).count_ones(), 2, "{cell:?}");
        }
        assert_eq!(track.place((2, 2)), Err(Refusal::Nothing));
        assert_eq!(track.place((16, 2)), Err(Refusal::Outside));
        track.remove((3, 2)).unwrap();
        assert_eq!(track.links((2, 2)), Side::South.bit());
        assert_eq!(track.remove((3, 2)), Err(Refusal::Nothing));
        track.place((3, 2)).unwrap();
        assert_eq!(track.links((3, 2)), Side::East.bit() | Side::West.bit());
    }

    #[test]
    fn a_piece_beside_a_line_becomes_a_branch() {
        let mut track = Track::new();
        track.lay(&[(1, 5), (8, 5)]);
        track.place((4, 6)).unwrap();
        assert_eq!(track.links((4, 5)), Side::East.bit() | Side::South.bit() | Side::West.bit());
        let exits: Vec<Side> = track.exits((4, 5), Side::West).collect();
        assert_eq!(exits, [Side::East, Side::South]);
        assert_eq!(track.exits((4, 5), Side::South).count(), 2);
    }

    #[test]
    fn links_are_always_mutual() {
        let mut random = crate::math::Random::new(4);
        let mut track = Track::new();
        for _ in 0..3000 {
            let cell = (random.below(18) as i32 - 1, random.below(13) as i32 - 1);
            let _ = if random.below(3) == 0 { track.remove(cell) } else { track.place(cell) };
        }
        for y in 0..ROWS {
            for x in 0..COLUMNS {
                for side in Side::ALL {
                    let there = side.beyond((x, y));
                    assert_eq!(track.linked((x, y), side), track.linked(there, side.opposite()), "{x},{y} {side:?}");
                    assert!(!track.linked((x, y), side) || track.has((x, y)));
                }
            }
        }
    }
}
