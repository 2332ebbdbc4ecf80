//! Draws what stands: buildings, trees and bushes, seen from above and in front.

use crate::layout::{Kind, Layout, Thing};
use crate::paint::{Canvas, shade};
use crate::track::Track;

const WALLS: [u32; 6] = [0xf6efdf, 0xf2cf9b, 0xcfe3ee, 0xf0b8a6, 0xe8e3f2, 0xd9e8c4];
const ROOFS: [u32; 5] = [0xb5432f, 0x8c3b2c, 0x4f6d8f, 0xc46a35, 0x6b5a7d];
const DOORS: [u32; 4] = [0x6b4226, 0x2f5d7c, 0x3f6b3a, 0x7c2f3a];
const GLASS: u32 = 0x9fd3ef;
const LEAVES: [u32; 4] = [0x3f8f3a, 0x4c9a3a, 0x378245, 0x5c9c2f];
const SHADOW: u32 = 0x1d3b1a;

/// Draws all things that the canvas shows; trees where track was laid are gone.
pub(crate) fn draw(canvas: &mut Canvas<'_>, layout: &Layout, track: &Track) {
    for thing in layout.things() {
        let (x, y) = (thing.x, thing.y);
        if track.has(thing.cell) || canvas.hides(x - 30.0, y - 66.0, x + 34.0, y + 8.0) {
            continue;
        }
        draw_thing(canvas, thing);
    }
    canvas.set_depth(0);
}

fn draw_thing(canvas: &mut Canvas<'_>, thing: &Thing) {
    let (x, y, seed) = (thing.x, thing.y, thing.seed);
    canvas.set_depth(0);
    match thing.kind {
        Kind::House => house(canvas, x, y, seed, 15.0),
        Kind::TallHouse => house(canvas, x, y, seed, 25.0),
        Kind::Church => church(canvas, x, y),
        Kind::Windmill => windmill(canvas, x, y),
        Kind::Station => station(canvas, x, y, seed),
        Kind::Tree => tree(canvas, x, y, seed),
        Kind::Fir => fir(canvas, x, y, seed),
        Kind::Bush => bush(canvas, x, y, seed),
    }
}

fn pick<const N: usize>(colours: &[u32; N], seed: u32, shift: u32) -> u32 {
    colours[(seed >> shift) as usize % N]
}

/// A shadow that falls to the right.
fn cast(canvas: &mut Canvas<'_>, x: f32, y: f32, half: f32, length: f32) {
    let corners = [
        (x - half, y),
        (x + half, y),
        (x + half + length, y - length * 0.45),
        (x + half + length, y - length * 0.45 - 8.0),
        (x + half, y - 14.0),
    ];
    canvas.fill(&corners, SHADOW, 70);
}

fn window(canvas: &mut Canvas<'_>, x: f32, y: f32, frame: u32) {
    canvas.rect(x - 0.8, y - 0.8, 6.6, 7.1, frame);
    canvas.rect(x, y, 5.0, 5.4, GLASS);
    canvas.rect(x, y, 5.0, 1.5, 0xd8effa);
    canvas.rect(x + 2.1, y, 0.8, 5.4, frame);
    canvas.rect(x - 1.2, y + 6.0, 7.4, 1.1, shade(frame, -25));
}

fn house(canvas: &mut Canvas<'_>, x: f32, y: f32, seed: u32, height: f32) {
    let (wall, roof) = (pick(&WALLS, seed, 3), pick(&ROOFS, seed, 9));
    cast(canvas, x, y, 14.0, 12.0);
    canvas.stand_at(y);
    canvas.rect(x - 14.0, y - height, 28.0, height, wall);
    canvas.rect(x - 14.0, y - 2.5, 28.0, 2.5, shade(wall, -22));
    canvas.rect(x - 14.0, y - height, 28.0, 2.6, shade(wall, -30));
    // Door with its step.
    let door = pick(&DOORS, seed, 14);
    canvas.rounded(x - 3.4, y - 10.4, 6.8, 11.0, 1.5, 0xfbf6ea, 255);
    canvas.rounded(x - 2.5, y - 9.6, 5.0, 9.6, 1.0, door, 255);
    canvas.circle(x + 1.4, y - 4.6, 0.6, 0xf2d16b);
    canvas.rect(x - 4.4, y - 0.6, 8.8, 1.6, 0xb9b2a4);
    let rows = if height > 20.0 { 2 } else { 1 };
    for row in 0..rows {
        let wy = y - 10.2 - row as f32 * 10.5;
        window(canvas, x - 11.6, wy, 0xfbf6ea);
        window(canvas, x + 6.8, wy, 0xfbf6ea);
        if row == 1 {
            window(canvas, x - 2.5, wy, 0xfbf6ea);
        }
    }
    let eaves = y - height + 1.5;
    let ridge = eaves - 16.0;
    // Chimney behind the roof's ridge, with its shadow side.
    let side = if seed & 1 == 0 { 5.0 } else { -9.5 };
    canvas.rect(x + side, ridge - 4.0, 4.6, 10.0, 0x9b4f3c);
    canvas.rect(x + side + 3.0, ridge - 4.0, 1.6, 10.0, 0x7c3d2f);
    canvas.rect(x + side - 0.7, ridge - 5.0, 6.0, 1.8, 0xd9d2c5);
    let corners = [(x - 17.5, eaves), (x - 12.5, ridge), (x + 12.5, ridge), (x + 17.5, eaves)];
    canvas.fill(&corners, roof, 255);
    for row in 1..5 {
        let part = row as f32 / 5.0;
        let half = 12.5 + 5.0 * part;
        canvas.rect(x - half, ridge + 16.0 * part, 2.0 * half, 0.9, shade(roof, -18));
    }
    canvas.fill(&[(x + 4.0, eaves), (x + 3.0, ridge), (x + 12.5, ridge), (x + 17.5, eaves)], 0x000000, 26);
    canvas.rect(x - 12.9, ridge - 0.8, 25.8, 2.0, shade(roof, 24));
    canvas.rect(x - 17.9, eaves - 1.2, 35.8, 1.9, shade(roof, -34));
}

fn church(canvas: &mut Canvas<'_>, x: f32, y: f32) {
    let (wall, roof) = (0xf7f2e6, 0x56708f);
    cast(canvas, x, y, 14.0, 16.0);
    canvas.stand_at(y);
    canvas.rect(x - 4.0, y - 17.0, 19.0, 17.0, wall);
    canvas.rect(x - 4.0, y - 2.5, 19.0, 2.5, shade(wall, -22));
    for i in 0..2 {
        canvas.rounded(x + 0.5 + i as f32 * 7.0, y - 12.5, 4.0, 8.0, 1.9, 0x7fb6d6, 255);
    }
    canvas.fill(&[(x - 4.0, y - 15.5), (x - 2.0, y - 30.0), (x + 13.0, y - 30.0), (x + 17.5, y - 15.5)], roof, 255);
    canvas.rect(x - 3.0, y - 30.6, 16.4, 1.8, shade(roof, 25));
    // Tower, clock and spire.
    canvas.rect(x - 15.0, y - 36.0, 12.5, 36.0, wall);
    canvas.rect(x - 5.5, y - 36.0, 3.0, 36.0, shade(wall, -14));
    canvas.rect(x - 15.0, y - 2.5, 12.5, 2.5, shade(wall, -22));
    canvas.rounded(x - 11.6, y - 10.0, 5.6, 10.0, 2.6, 0x6b4226, 255);
    canvas.circle(x - 8.8, y - 27.5, 3.7, 0x4a4037);
    canvas.circle(x - 8.8, y - 27.5, 3.0, 0xffffff);
    canvas.line((x - 8.8, y - 27.5), (x - 8.8, y - 29.8), 0.9, 0x222222, 255);
    canvas.line((x - 8.8, y - 27.5), (x - 7.2, y - 26.8), 0.9, 0x222222, 255);
    canvas.fill(&[(x - 16.5, y - 35.0), (x - 8.8, y - 56.0), (x - 1.0, y - 35.0)], roof, 255);
    canvas.fill(&[(x - 7.0, y - 35.0), (x - 8.8, y - 56.0), (x - 1.0, y - 35.0)], shade(roof, -22), 255);
    canvas.rect(x - 9.3, y - 62.0, 1.1, 7.0, 0xe8c25a);
    canvas.rect(x - 11.0, y - 60.2, 4.5, 1.1, 0xe8c25a);
}

/// The tower; its sails turn, and are a sprite.
fn windmill(canvas: &mut Canvas<'_>, x: f32, y: f32) {
    cast(canvas, x, y, 11.0, 16.0);
    canvas.stand_at(y);
    canvas.fill(&[(x - 11.5, y), (x - 7.0, y - 34.0), (x + 7.0, y - 34.0), (x + 11.5, y)], 0xf4ead6, 255);
    canvas.fill(&[(x + 3.0, y), (x + 2.0, y - 34.0), (x + 7.0, y - 34.0), (x + 11.5, y)], 0xd8ccb4, 255);
    canvas.rect(x - 11.0, y - 2.5, 22.0, 2.5, 0xb9a98a);
    canvas.rounded(x - 3.0, y - 9.5, 6.0, 9.5, 2.8, 0x6b4226, 255);
    canvas.rounded(x - 2.2, y - 22.0, 4.4, 5.5, 2.0, GLASS, 255);
    canvas.ellipse(x, y - 34.5, 9.0, 6.0, 0x9a4432, 255);
    canvas.ellipse(x - 1.5, y - 36.5, 6.0, 3.2, 0xbb5d44, 255);
}

fn station(canvas: &mut Canvas<'_>, x: f32, y: f32, seed: u32) {
    let roof = pick(&ROOFS, seed, 5);
    canvas.rounded(x - 30.0, y - 3.0, 60.0, 7.0, 2.0, 0xa9a293, 255);
    canvas.rounded(x - 30.0, y - 4.0, 60.0, 5.5, 2.0, 0xd6d0c3, 255);
    cast(canvas, x, y - 2.0, 19.0, 10.0);
    canvas.stand_at(y);
    canvas.rect(x - 19.0, y - 18.0, 38.0, 16.0, 0xf2d9a8);
    canvas.rect(x - 19.0, y - 5.0, 38.0, 3.0, 0xb08d58);
    for i in 0..3 {
        window(canvas, x - 16.0 + i as f32 * 13.5, y - 13.4, 0xfbf6ea);
    }
    canvas.rounded(x - 8.8, y - 12.0, 5.0, 10.0, 1.5, 0x5b3a22, 255);
    canvas.fill(&[(x - 23.0, y - 16.5), (x - 17.0, y - 30.0), (x + 17.0, y - 30.0), (x + 23.0, y - 16.5)], roof, 255);
    for row in 1..4 {
        let half = 17.0 + 1.5 * row as f32;
        canvas.rect(x - half, y - 30.0 + 3.4 * row as f32, half * 2.0, 0.9, shade(roof, -18));
    }
    canvas.rect(x - 17.4, y - 30.6, 34.8, 1.8, shade(roof, 24));
    canvas.rect(x - 23.4, y - 17.6, 46.8, 1.9, shade(roof, -34));
    canvas.circle(x, y - 23.0, 5.0, 0x3b2a1c);
    canvas.circle(x, y - 23.0, 4.1, 0xffffff);
    canvas.line((x, y - 23.0), (x, y - 26.0), 0.9, 0x222222, 255);
    canvas.line((x, y - 23.0), (x + 2.4, y - 22.2), 0.9, 0x222222, 255);
}

fn tree(canvas: &mut Canvas<'_>, x: f32, y: f32, seed: u32) {
    let r = 7.0 + (seed >> 4 & 3) as f32;
    let leaf = pick(&LEAVES, seed, 8);
    canvas.ellipse(x + r * 0.55, y - 0.5, r * 1.05, r * 0.4, SHADOW, 75);
    canvas.stand_at(y);
    canvas.rect(x - 1.6, y - 8.0, 3.2, 8.0, 0x75502f);
    canvas.rect(x + 0.4, y - 8.0, 1.2, 8.0, 0x563920);
    let top = y - 6.0 - r;
    canvas.circle(x, top + 1.0, r, shade(leaf, -28));
    canvas.circle(x - r * 0.55, top + r * 0.25, r * 0.62, shade(leaf, -16));
    canvas.circle(x + r * 0.5, top + r * 0.1, r * 0.6, shade(leaf, -20));
    canvas.circle(x - 0.8, top - 0.6, r * 0.85, leaf);
    canvas.circle(x - r * 0.3, top - r * 0.35, r * 0.5, shade(leaf, 16));
    canvas.circle(x - r * 0.4, top - r * 0.5, r * 0.24, shade(leaf, 34));
    if seed >> 20 & 7 == 0 {
        for (dx, dy) in [(-0.4, 0.3), (0.35, -0.2), (0.1, 0.45), (-0.1, -0.5)] {
            canvas.circle(x + r * dx, top + r * dy, 1.2, 0xe2433c);
        }
    }
}

fn fir(canvas: &mut Canvas<'_>, x: f32, y: f32, seed: u32) {
    let r = 6.5 + (seed >> 4 & 3) as f32 * 0.8;
    let leaf = if seed & 1 == 0 { 0x2f7650 } else { 0x2b6a3e };
    canvas.ellipse(x + r * 0.6, y - 0.5, r, r * 0.35, SHADOW, 75);
    canvas.stand_at(y);
    canvas.rect(x - 1.3, y - 5.0, 2.6, 5.0, 0x6a4728);
    for step in 0..3 {
        let foot = y - 3.0 - step as f32 * r * 0.85;
        let half = r * (1.0 - 0.2 * step as f32);
        let tip = foot - r * 1.45;
        canvas.fill(&[(x - half, foot), (x, tip), (x + half, foot)], shade(leaf, -20 + 12 * step), 255);
        canvas.fill(&[(x - half, foot), (x, tip), (x - half * 0.1, foot)], shade(leaf, -4 + 12 * step), 255);
    }
}

fn bush(canvas: &mut Canvas<'_>, x: f32, y: f32, seed: u32) {
    let leaf = pick(&LEAVES, seed, 6);
    canvas.ellipse(x + 2.0, y, 7.0, 2.2, SHADOW, 70);
    canvas.stand_at(y);
    canvas.circle(x - 3.0, y - 2.8, 3.6, shade(leaf, -22));
    canvas.circle(x + 3.0, y - 2.6, 3.4, shade(leaf, -26));
    canvas.circle(x, y - 4.2, 4.0, shade(leaf, -4));
    canvas.circle(x - 1.2, y - 5.4, 2.0, shade(leaf, 18));
    if seed & 3 == 0 {
        for dx in [-3.0, 0.5, 3.2] {
            canvas.circle(x + dx, y - 3.0 - dx.abs() * 0.3, 1.1, 0xff8fb0);
        }
    }
}
