//! Draws track: ballast, sleepers, rails.

use crate::paint::Canvas;
use crate::track::{CELL, COLUMNS, Cell, ROWS, Side, Track};

const BALLAST_EDGE: u32 = 0xa8926c;
const BALLAST: u32 = 0xcbb68e;
const SLEEPER: u32 = 0x7a5536;
const SLEEPER_DARK: u32 = 0x5b3e27;
const RAIL: u32 = 0x4b545f;
const RAIL_SHINE: u32 = 0xc4ccd4;
const BUFFER: u32 = 0xc0392b;
/// Rails from the middle line, in units.
const HALF_GAUGE: f32 = 5.0;
const HALF: f32 = CELL / 2.0;

/// What is laid one over the other, over all cells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Edge,
    Ballast,
    Sleepers,
    Rails,
}

/// Draws all track that the canvas shows.
pub(crate) fn draw(canvas: &mut Canvas<'_>, track: &Track) {
    for layer in [Layer::Edge, Layer::Ballast, Layer::Sleepers, Layer::Rails] {
        for y in 0..ROWS {
            for x in 0..COLUMNS {
                let (left, top) = (x as f32 * CELL, y as f32 * CELL);
                if track.has((x, y)) && !canvas.hides(left, top, left + CELL, top + CELL) {
                    piece(canvas, track, (x, y), layer);
                }
            }
        }
    }
}

fn piece(canvas: &mut Canvas<'_>, track: &Track, cell: Cell, layer: Layer) {
    let arms = track.arms(cell);
    let has = |side: Side| arms & side.bit() != 0;
    let crossing = arms.count_ones() == 4;
    for side in [Side::North, Side::West] {
        if has(side) && has(side.opposite()) {
            straight(canvas, cell, side == Side::West, layer);
        }
    }
    for (i, side) in Side::ALL.into_iter().enumerate() {
        let next = Side::ALL[(i + 1) % 4];
        if has(side) && has(next) && !crossing {
            curve(canvas, cell, side, next, layer);
        }
    }
    if layer == Layer::Rails && track.links(cell).count_ones() < 2 {
        for side in Side::ALL {
            if has(side) && !track.linked(cell, side) {
                buffer(canvas, cell, side);
            }
        }
    }
}

fn straight(canvas: &mut Canvas<'_>, cell: Cell, across: bool, layer: Layer) {
    let (left, top) = (cell.0 as f32 * CELL, cell.1 as f32 * CELL);
    // A strip along the way, `offset` beside its middle.
    let mut strip = |offset: f32, width: f32, from: f32, to: f32, colour: u32| {
        let (side, length) = (HALF + offset - width / 2.0, to - from);
        if across {
            canvas.rect(left + from, top + side, length, width, colour);
        } else {
            canvas.rect(left + side, top + from, width, length, colour);
        }
    };
    match layer {
        Layer::Edge => strip(0.0, 23.0, 0.0, CELL, BALLAST_EDGE),
        Layer::Ballast => strip(0.0, 20.0, 0.0, CELL, BALLAST),
        Layer::Sleepers => {
            for i in 0..5 {
                let from = 2.2 + 8.0 * i as f32;
                strip(0.6, 17.0, from, from + 4.0, SLEEPER_DARK);
                strip(0.0, 17.0, from, from + 3.4, SLEEPER);
            }
        }
        Layer::Rails => {
            for offset in [-HALF_GAUGE, HALF_GAUGE] {
                strip(offset, 2.2, 0.0, CELL, RAIL);
                strip(offset - 0.4, 0.8, 0.0, CELL, RAIL_SHINE);
            }
        }
    }
}

fn curve(canvas: &mut Canvas<'_>, cell: Cell, a: Side, b: Side, layer: Layer) {
    let ((ax, ay), (bx, by)) = (a.vector(), b.vector());
    let centre = (
        (cell.0 as f32 + 0.5) * CELL + (ax + bx) as f32 * HALF,
        (cell.1 as f32 + 0.5) * CELL + (ay + by) as f32 * HALF,
    );
    // The quarter that lies in the cell: north-east's centre sees it from 0.25 to 0.5 and so on round.
    let start = match a {
        Side::North => 0.25,
        Side::East => 0.5,
        Side::South => 0.75,
        Side::West => 0.0,
    };
    match layer {
        Layer::Edge => canvas.arc(centre, HALF - 11.5, HALF + 11.5, start, start + 0.25, BALLAST_EDGE),
        Layer::Ballast => canvas.arc(centre, HALF - 10.0, HALF + 10.0, start, start + 0.25, BALLAST),
        Layer::Sleepers => {
            for i in 0..4 {
                let turn = start + 0.25 * (i as f32 + 0.5) / 4.0;
                let (c, s) = (crate::math::cos(turn), crate::math::sin(turn));
                let at = |radius: f32| (centre.0 + radius * c, centre.1 + radius * s);
                canvas.line(at(HALF - 8.3), at(HALF + 8.7), 4.0, SLEEPER_DARK, 255);
                canvas.line(at(HALF - 8.5), at(HALF + 8.5), 3.4, SLEEPER, 255);
            }
        }
        Layer::Rails => {
            for radius in [HALF - HALF_GAUGE, HALF + HALF_GAUGE] {
                canvas.arc(centre, radius - 1.1, radius + 1.1, start, start + 0.25, RAIL);
                canvas.arc(centre, radius - 0.8, radius, start, start + 0.25, RAIL_SHINE);
            }
        }
    }
}

/// The stop at an open end.
fn buffer(canvas: &mut Canvas<'_>, cell: Cell, side: Side) {
    let (dx, dy) = side.vector();
    let (x, y) = ((cell.0 as f32 + 0.5) * CELL + dx as f32 * 17.0, (cell.1 as f32 + 0.5) * CELL + dy as f32 * 17.0);
    let (w, h) = if dx == 0 { (16.0, 4.0) } else { (4.0, 16.0) };
    canvas.rect(x - w / 2.0, y - h / 2.0, w, h, BUFFER);
    canvas.rect(x - w / 4.0, y - h / 4.0, w / 2.0, h / 2.0, 0xf4efe2);
}
