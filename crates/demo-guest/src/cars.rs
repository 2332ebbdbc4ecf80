//! Draws what moves, as sprites: the train's cars, the smoke, the windmill's sails, the box and the cursor.
//!
//! A car is a stack of slices, each a little higher on the screen than the one below: so it has sides and a roof in
//! every direction, from one description.

use crate::math::{cos, sin};
use crate::paint::{Canvas, Point, shade};
use crate::train::CARS;

/// Directions that cars are drawn in.
pub(crate) const HEADINGS: usize = 64;
/// Half the side of the square that holds any car, in units.
pub(crate) const CAR_REACH: f32 = 24.0;
/// Sizes of a puff of smoke, from new to nearly gone.
pub(crate) const PUFFS: usize = 10;
/// Half the side of the square that holds any puff, in units.
pub(crate) const PUFF_REACH: f32 = 10.0;
/// Pictures of the windmill's sails, over a quarter of a turn.
pub(crate) const SAILS: usize = 10;
/// Half the side of the square that holds the sails, in units.
pub(crate) const SAIL_REACH: f32 = 28.0;
/// The sails' hub above the windmill's foot, in units.
pub(crate) const HUB_HEIGHT: f32 = 34.0;
/// Side of the square that holds the cursor, whose tip is its corner.
pub(crate) const CURSOR_REACH: f32 = 20.0;

/// From the engine's middle to its chimney's top: forwards, and up.
pub(crate) const CHIMNEY: (f32, f32) = (8.0, 15.0);
/// How far up on the screen one unit of height is.
const RISE: f32 = 0.85;

const DARK: u32 = 0x22262b;
const GLASS: u32 = 0x2c3d4d;
const GOLD: u32 = 0xf1c550;

/// One car in one direction.
struct Slices<'c, 'p> {
    canvas: &'c mut Canvas<'p>,
    forward: Point,
}

impl Slices<'_, '_> {
    fn at(&self, along: f32, aside: f32, height: f32) -> Point {
        let (c, s) = self.forward;
        (along * c - aside * s, along * s + aside * c - height * RISE)
    }

    /// A slab with cut corners: its middle along the car, length, width, height above the rails.
    fn slab(&mut self, along: f32, length: f32, width: f32, height: f32, colour: u32) {
        self.slab_aside(along, 0.0, length, width, height, colour, 255);
    }

    fn slab_aside(&mut self, along: f32, aside: f32, length: f32, width: f32, height: f32, colour: u32, alpha: u32) {
        let (l, w) = (length / 2.0, width / 2.0);
        let cut = l.min(w).min(1.3);
        let outline = [
            (l - cut, w),
            (l, w - cut),
            (l, cut - w),
            (l - cut, -w),
            (cut - l, -w),
            (-l, cut - w),
            (-l, w - cut),
            (cut - l, w),
        ];
        let corners = outline.map(|(x, y)| self.at(along + x, aside + y, height));
        self.canvas.fill(&corners, colour, alpha);
    }

    fn disc(&mut self, along: f32, radius: f32, height: f32, colour: u32) {
        let (x, y) = self.at(along, 0.0, height);
        self.canvas.circle(x, y, radius, colour);
    }

    fn chassis(&mut self, length: f32) {
        self.slab_aside(1.5, 0.0, length + 1.0, 13.0, -2.0, 0x14240f, 90);
        for height in 1..4 {
            self.slab(0.0, length, 8.0, height as f32, DARK);
        }
        for along in [-8.0, 8.0] {
            for height in 0..3 {
                self.slab(along, 7.5, 10.5, height as f32, 0x3a4047);
            }
        }
        self.slab(0.0, length + 4.0, 2.0, 2.5, DARK);
    }

    fn engine(&mut self, colour: u32) {
        self.chassis(25.0);
        self.slab(0.0, 26.0, 11.5, 4.0, shade(colour, -50));
        self.slab(0.0, 26.0, 11.5, 4.8, shade(colour, -30));
        self.slab(12.6, 2.0, 11.0, 4.0, 0xc0392b);
        // The boiler is round: narrower and lighter towards its top.
        for (i, width) in [8.4, 9.4, 9.6, 9.2, 8.0, 5.6, 3.0].into_iter().enumerate() {
            let height = 5.0 + i as f32;
            let light = -34 + 10 * i as i32;
            self.slab(2.5, 17.5, width, height, shade(colour, light));
            self.slab(11.6, 3.2, width, height, DARK);
            self.slab(5.6, 1.1, width, height, shade(GOLD, light / 2));
        }
        for height in 11..13 {
            self.disc(0.5, 2.2, height as f32, GOLD);
        }
        self.disc(0.1, 1.0, 13.0, 0xfbe7a6);
        for height in 10..16 {
            self.disc(CHIMNEY.0, 2.1 + if height > 13 { 0.8 } else { 0.0 }, height as f32, DARK);
        }
        self.disc(CHIMNEY.0, 1.7, 15.6, 0x59616a);
        let (x, y) = self.at(13.4, 0.0, 7.5);
        self.canvas.circle(x, y, 1.6, 0xfff3b0);
        // The cab.
        for height in 5..15 {
            let fill = if (9..13).contains(&height) { GLASS } else { shade(colour, if height < 9 { -18 } else { -6 }) };
            self.slab(-8.5, 8.5, 11.2, height as f32, fill);
            if (9..13).contains(&height) {
                for along in [-12.3, -4.8] {
                    self.slab(along, 1.2, 11.3, height as f32, shade(colour, -18));
                }
            }
        }
        self.slab(-8.7, 11.0, 12.8, 15.0, shade(colour, -55));
        self.slab(-8.7, 10.0, 11.0, 15.9, shade(colour, -42));
        self.slab(-8.7, 8.0, 6.0, 16.5, shade(colour, -28));
    }

    fn coach(&mut self, colour: u32) {
        self.chassis(25.0);
        for height in 4..13 {
            let fill = if height < 6 { shade(colour, -35) } else { shade(colour, -8) };
            self.slab(0.0, 25.5, 10.8, height as f32, fill);
            if (7..11).contains(&height) {
                for window in 0..4 {
                    self.slab(-8.7 + 5.8 * window as f32, 3.8, 11.1, height as f32, GLASS);
                }
            }
            if height == 6 {
                self.slab(0.0, 25.7, 11.0, 6.0, 0xf7f1e0);
            }
        }
        self.slab(0.0, 26.2, 11.4, 13.0, 0xb9b4a8);
        self.slab(0.0, 25.4, 10.0, 13.8, 0xe4e0d5);
        self.slab(0.0, 24.4, 6.4, 14.5, 0xf6f3ea);
        for along in [-7.0, 0.0, 7.0] {
            self.slab(along, 2.6, 2.6, 15.3, 0xa9a498);
        }
    }

    fn tender(&mut self, colour: u32) {
        self.chassis(23.0);
        for height in 4..10 {
            self.slab(0.0, 24.0, 10.8, height as f32, shade(colour, -26));
        }
        self.slab(0.0, 24.0, 10.8, 10.0, shade(colour, 8));
        self.slab(0.0, 21.6, 8.6, 10.0, 0x17191c);
        for (i, (along, aside)) in
            [(-7.0, 1.5), (-3.5, -1.8), (0.5, 1.2), (4.0, -1.4), (7.4, 1.6), (-0.5, -0.6), (5.5, 0.4)]
                .into_iter()
                .enumerate()
        {
            let (x, y) = self.at(along, aside, 10.8 + (i % 3) as f32 * 0.7);
            self.canvas.circle(x, y, 2.7, 0x2c3036);
            self.canvas.circle(x - 0.7, y - 0.8, 1.0, 0x50575f);
        }
    }

    fn timber(&mut self, colour: u32) {
        self.chassis(25.0);
        for height in 4..6 {
            self.slab(0.0, 25.5, 10.8, height as f32, shade(colour, -32));
        }
        self.slab(0.0, 25.5, 10.8, 6.0, shade(colour, -6));
        for (aside, height) in [(-3.2, 7.5), (0.0, 7.5), (3.2, 7.5), (-1.6, 10.0), (1.6, 10.0)] {
            for (width, lift, colour) in [(3.4, 0.0, 0x6e4a2b), (2.9, 0.9, 0x8d623b), (1.2, 1.5, 0xb08355)] {
                self.slab_aside(0.0, aside, 22.0, width, height + lift, colour, 255);
            }
        }
        for along in [-7.5, 7.5] {
            for height in 6..12 {
                for aside in [-5.2, 5.2] {
                    self.slab_aside(along, aside, 1.3, 1.3, height as f32, shade(colour, -40), 255);
                }
            }
            self.slab(along, 1.2, 6.6, 12.0, 0x4a4f55);
        }
    }
}

/// Draws a car around (0, 0): 0 the engine, then its tender, coach and timber wagon.
pub(crate) fn draw_car(canvas: &mut Canvas<'_>, car: usize, heading: usize, colour: u32) {
    let turns = heading as f32 / HEADINGS as f32;
    let mut slices = Slices { canvas, forward: (cos(turns), sin(turns)) };
    match car % CARS {
        0 => slices.engine(colour),
        1 => slices.tender(colour),
        2 => slices.coach(colour),
        _ => slices.timber(colour),
    }
}

/// Draws a puff of smoke around (0, 0).
pub(crate) fn draw_puff(canvas: &mut Canvas<'_>, age: usize) {
    let part = age as f32 / PUFFS as f32;
    let radius = 2.6 + 5.4 * part;
    let alpha = (225.0 * (1.0 - part)) as u32 + 12;
    canvas.ellipse(0.6, 0.8, radius, radius, 0xb6bec6, alpha * 3 / 4);
    canvas.ellipse(-0.3, -0.4, radius * 0.86, radius * 0.86, 0xf2f5f7, alpha);
}

/// Draws the windmill's sails around (0, 0).
pub(crate) fn draw_sails(canvas: &mut Canvas<'_>, phase: usize) {
    for arm in 0..4 {
        let turn = (arm as f32 + phase as f32 / SAILS as f32) * 0.25;
        let (c, s) = (cos(turn), sin(turn));
        let at = |r: f32, side: f32| (c * r - s * side, s * r + c * side);
        canvas.fill(&[at(6.0, 0.3), at(25.0, 0.3), at(25.0, 6.4), at(6.0, 5.4)], 0xfffaf0, 255);
        for i in 0..4 {
            let r = 9.0 + 5.0 * i as f32;
            canvas.line(at(r, 0.0), at(r, 6.0), 0.7, 0xa78c67, 255);
        }
        canvas.line(at(0.0, 0.0), at(26.0, 0.0), 1.7, 0x7a5a3a, 255);
    }
    canvas.circle(0.0, 0.0, 2.2, 0x4d3823);
}

/// Draws the cursor with its tip at (1, 1).
pub(crate) fn draw_cursor(canvas: &mut Canvas<'_>, colour: u32) {
    const ARROW: [Point; 7] =
        [(0.0, 0.0), (0.0, 14.5), (3.4, 11.3), (5.8, 16.6), (8.3, 15.5), (5.9, 10.4), (10.4, 10.4)];
    let moved = |dx: f32, dy: f32| ARROW.map(|(x, y)| (x + 1.0 + dx, y + 1.0 + dy));
    canvas.fill(&moved(1.4, 1.8), 0x000000, 80);
    for (dx, dy) in [(-0.8, -0.6), (0.8, -0.4), (-0.8, 0.9), (0.9, 0.9), (0.0, 1.1), (0.0, -1.0)] {
        canvas.fill(&moved(dx, dy), 0x10161e, 255);
    }
    canvas.fill(&moved(0.0, 0.0), 0xffffff, 255);
    canvas.fill(&[(1.0, 1.0), (1.0, 6.0), (4.6, 4.6)], colour, 255);
}

/// Draws the box of mode box; it fills a sprite of `width` x `height` pixels.
pub(crate) fn draw_box(canvas: &mut Canvas<'_>, width: f32, height: f32, colour: u32) {
    canvas.rect(0.0, 0.0, width, height, shade(colour, -50));
    canvas.rect(4.0, 4.0, width - 8.0, height - 8.0, colour);
    let mut x = -height;
    while x < width {
        let stripe = [(x, height), (x + height, 0.0), (x + height + 12.0, 0.0), (x + 12.0, height)];
        canvas.fill(&stripe, 0xffffff, 46);
        x += 30.0;
    }
    for i in 0..4 {
        let part = 8.0 + i as f32 * 2.5;
        canvas.rounded(part, part, width - 2.0 * part, height - 2.0 * part, 10.0, 0x10161e, 22);
    }
    let (x, y) = (width / 2.0, height / 2.0);
    canvas.circle(x, y, 40.0, 0xfdfbf4);
    canvas.circle(x, y, 33.0, shade(colour, -30));
    for spoke in 0..8 {
        let turn = spoke as f32 / 8.0;
        canvas.line((x, y), (x + 34.0 * cos(turn), y + 34.0 * sin(turn)), 5.0, 0xfdfbf4, 255);
    }
    canvas.circle(x, y, 10.0, 0xfdfbf4);
    canvas.circle(x, y, 5.0, 0x10161e);
}
