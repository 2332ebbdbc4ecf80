//! Draws what is flat: grass, fields, roads and the pond.

use crate::layout::Layout;
use crate::math::{Random, cos, hash, sin};
use crate::paint::{Canvas, mix};

const GRASS_DARK: u32 = 0x5da344;
const GRASS_LIGHT: u32 = 0x83c45a;
const FLOWERS: [u32; 5] = [0xffffff, 0xffe066, 0xff8fa3, 0xe0a3ff, 0xff9d5c];
const ROAD_EDGE: u32 = 0x9a8f7f;
const ROAD: u32 = 0xc9c2b4;
const ROAD_LINE: u32 = 0xf3efe4;
const ROAD_WIDTH: f32 = 17.0;

/// Draws the ground that the canvas shows.
pub(crate) fn draw(canvas: &mut Canvas<'_>, layout: &Layout) {
    let seed = u32::from(layout.instance);
    grass(canvas, seed);
    tufts(canvas, seed);
    for (i, field) in layout.fields().enumerate() {
        draw_field(canvas, field, i % 2 == 1);
    }
    for (width, colour) in [(ROAD_WIDTH + 3.0, ROAD_EDGE), (ROAD_WIDTH, ROAD)] {
        for road in layout.roads() {
            along(road, |from, to| {
                canvas.line(from, to, width, colour, 255);
                canvas.circle(from.0, from.1, width / 2.0, colour);
                canvas.circle(to.0, to.1, width / 2.0, colour);
            });
        }
    }
    for road in layout.roads() {
        along(road, |from, to| dashes(canvas, from, to));
    }
    pond(canvas, layout);
}

fn along(corners: impl Iterator<Item = (f32, f32)>, mut draw: impl FnMut((f32, f32), (f32, f32))) {
    let mut last = None;
    for corner in corners {
        if let Some(from) = last.replace(corner) {
            draw(from, corner);
        }
    }
}

/// Soft patches of two greens, with a grain of single pixels.
fn grass(canvas: &mut Canvas<'_>, seed: u32) {
    const SIDE: usize = 16;
    let mut lattice = [0u8; SIDE * SIDE];
    for (i, value) in lattice.iter_mut().enumerate() {
        *value = hash(i as u32, seed, 1) as u8;
    }
    // Smooth noise between lattice points that are `1 << shift` 1/16 units apart.
    let noise = |x: u32, y: u32, shift: u32| {
        let (cx, cy) = ((x >> shift) as usize, (y >> shift) as usize);
        let (fx, fy) = ((x >> (shift - 4)) & 15, (y >> (shift - 4)) & 15);
        let at = |dx: usize, dy: usize| u32::from(lattice[(cy + dy) % SIDE * SIDE + (cx + dx) % SIDE]);
        (at(0, 0) * (16 - fx) + at(1, 0) * fx) * (16 - fy) + (at(0, 1) * (16 - fx) + at(1, 1) * fx) * fy
    };
    let clip = canvas.clip();
    let step = (16.0 * 256.0 / canvas.scale()) as u32;
    for y in clip.top..clip.bottom() {
        let v = (y as u32 * step) >> 8;
        for x in clip.left..clip.right() {
            let u = (x as u32 * step) >> 8;
            let patches = (noise(u, v, 10) * 2 + noise(u, v, 8)) >> 8;
            let grain = hash(x as u32, y as u32, seed) & 31;
            canvas.set(x, y, mix(GRASS_DARK, GRASS_LIGHT, (patches * 220 / 768 + grain).min(256)) & 0xff_ffff);
        }
    }
}

fn tufts(canvas: &mut Canvas<'_>, seed: u32) {
    let mut random = Random::new(seed + 900);
    for i in 0..330 {
        let (x, y) = (random.between(0.0, 640.0), random.between(0.0, 440.0));
        let flower = FLOWERS[random.below(5) as usize];
        let more = 2 + random.below(4);
        if canvas.hides(x - 12.0, y - 12.0, x + 12.0, y + 12.0) {
            for _ in 0..more * 2 * u32::from(i % 6 == 0) {
                random.next();
            }
            continue;
        }
        if i % 6 == 0 {
            for _ in 0..more {
                let (fx, fy) = (x + random.between(-8.0, 8.0), y + random.between(-5.0, 5.0));
                canvas.circle(fx, fy + 0.8, 1.5, 0x4f8f3a);
                canvas.circle(fx, fy, 1.25, flower);
            }
        } else {
            canvas.line((x, y), (x - 1.6, y - 3.2), 0.9, 0x4c9138, 200);
            canvas.line((x + 1.2, y), (x + 2.4, y - 3.4), 0.9, 0x4c9138, 200);
            canvas.line((x + 0.6, y), (x + 0.6, y - 4.0), 0.9, 0x9ad673, 200);
        }
    }
}

/// A field of wheat, or of cabbages.
fn draw_field(canvas: &mut Canvas<'_>, (x, y, w, h): (f32, f32, f32, f32), cabbages: bool) {
    if canvas.hides(x, y, x + w, y + h) {
        return;
    }
    if cabbages {
        canvas.rounded(x, y, w, h, 5.0, 0x6e4a2e, 255);
        canvas.rounded(x + 1.5, y + 1.5, w - 3.0, h - 3.0, 4.0, 0x8f6440, 255);
        let (columns, rows) = (((w - 6.0) / 9.0) as i32, ((h - 6.0) / 8.5) as i32);
        for row in 0..rows {
            let ry = y + 8.0 + row as f32 * 8.5;
            canvas.rect(x + 4.0, ry + 2.2, w - 8.0, 1.4, 0x6e4a2e);
            for column in 0..columns {
                let rx = x + 8.0 + column as f32 * 9.0;
                canvas.circle(rx, ry, 3.1, 0x3f8a3e);
                canvas.circle(rx - 0.4, ry - 0.7, 2.1, 0x6fbf57);
                canvas.circle(rx - 0.6, ry - 1.0, 0.9, 0xa9e08a);
            }
        }
        return;
    }
    canvas.rounded(x, y, w, h, 5.0, 0xb98d3e, 255);
    canvas.rounded(x + 1.5, y + 1.5, w - 3.0, h - 3.0, 4.0, 0xe6c35c, 255);
    let rows = (h / 6.0) as i32;
    for row in 0..rows {
        let ry = y + 4.0 + row as f32 * 6.0;
        if ry + 2.0 < y + h {
            canvas.rect(x + 4.0, ry, w - 8.0, 2.0, 0xcfa445);
            canvas.rect(x + 4.0, ry - 0.9, w - 8.0, 0.9, 0xf3dc8a);
        }
    }
}

fn dashes(canvas: &mut Canvas<'_>, from: (f32, f32), to: (f32, f32)) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.abs() + dy.abs();
    let count = (length / 16.0) as i32;
    for i in 0..count {
        let at = |part: f32| (from.0 + dx * part, from.1 + dy * part);
        let start = (i as f32 * 16.0 + 5.0) / length;
        canvas.line(at(start), at(start + 7.0 / length), 1.4, ROAD_LINE, 230);
    }
}

fn pond(canvas: &mut Canvas<'_>, layout: &Layout) {
    let ((x, y), (rx, ry)) = layout.pond();
    if canvas.hides(x - rx * 1.2, y - ry * 1.3, x + rx * 1.2, y + ry * 1.3) {
        return;
    }
    const STEPS: usize = 40;
    let phase = f32::from(layout.instance) * 0.13;
    let blob = |canvas: &mut Canvas<'_>, grow: f32, lift: f32, colour: u32, alpha: u32| {
        let mut corners = [(0.0, 0.0); STEPS];
        for (i, corner) in corners.iter_mut().enumerate() {
            let turn = i as f32 / STEPS as f32;
            let wave = 0.94 + 0.05 * sin(turn * 3.0 + phase) + 0.03 * sin(turn * 5.0 - phase);
            *corner = (x + (rx * wave + grow) * cos(turn), y + lift + (ry * wave + grow) * sin(turn));
        }
        canvas.fill(&corners, colour, alpha);
    };
    blob(canvas, 3.0, 0.0, 0x4f9140, 255);
    blob(canvas, 1.0, 0.0, 0xe3cf9a, 255);
    blob(canvas, -3.5, 0.0, 0x8fd0e8, 255);
    blob(canvas, -6.0, 1.0, 0x4aa3d8, 255);
    blob(canvas, -14.0, 2.5, 0x3b8cc4, 255);
    for (i, (dx, dy)) in [(-0.45, -0.25), (0.1, -0.45), (0.4, 0.1), (-0.2, 0.35), (0.5, -0.3)].into_iter().enumerate() {
        let (cx, cy) = (x + rx * dx, y + ry * dy);
        canvas.ellipse(cx, cy, 7.0 - i as f32 * 0.7, 0.8, 0xd6f1fb, 190);
        canvas.ellipse(cx + 6.0, cy + 2.2, 4.0, 0.7, 0xd6f1fb, 150);
    }
    for (dx, dy) in [(-0.62, 0.3), (-0.5, 0.45), (0.3, 0.55)] {
        let (cx, cy) = (x + rx * dx, y + ry * dy);
        canvas.ellipse(cx, cy, 4.2, 2.4, 0x3f9a4b, 255);
        canvas.ellipse(cx - 0.6, cy - 0.5, 2.6, 1.3, 0x62bd62, 255);
        canvas.circle(cx + 1.0, cy - 0.9, 1.1, 0xffb3c8);
    }
    for (i, side) in [-1.0f32, 1.0].into_iter().enumerate() {
        duck(canvas, x + rx * 0.18 * side + 4.0, y + ry * (0.16 - 0.3 * i as f32), -side);
    }
}

fn duck(canvas: &mut Canvas<'_>, x: f32, y: f32, facing: f32) {
    canvas.ellipse(x, y + 1.4, 5.4, 1.6, 0x2f78ae, 160);
    canvas.ellipse(x, y - 1.0, 4.6, 2.6, 0xfdfdf8, 255);
    canvas.circle(x + 3.6 * facing, y - 4.4, 2.1, 0xfdfdf8);
    canvas.ellipse(x + 5.9 * facing, y - 4.1, 1.5, 0.8, 0xf59b23, 255);
    canvas.circle(x + 4.2 * facing, y - 4.9, 0.5, 0x222222);
    canvas.ellipse(x - 0.8 * facing, y - 1.2, 2.6, 1.3, 0xdfe3e4, 255);
}
