//! The panel under the town: name, help, speed, and the ground that the barcode strip lies on.

use crate::INSTANCE_COLOURS;
use crate::font;
use crate::geometry::Rect;
use crate::mode::Mode;
use crate::paint::{Canvas, shade};

/// Where the panel begins, in units; from here on nothing of the town is seen.
pub(crate) const TOP: f32 = 432.0;
/// Depth of the panel and the sign: only the cursor is above.
pub(crate) const DEPTH: u8 = 250;
/// Depth of the strip: nothing is above.
pub(crate) const STRIP_DEPTH: u8 = 255;
/// Light and dark cells of the strip. Not pure, so that scaling filters have room to overshoot.
pub(crate) const STRIP_COLOURS: [u32; 2] = [0x10161e, 0xf2efe4];

const GROUND: u32 = 0x1b2430;
const TEXT: u32 = 0xe8ecf1;
const MUTED: u32 = 0x9aa7b5;
const LEFT: f32 = 84.0;

/// What the panel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) instance: u8,
    pub(crate) mode: Mode,
    pub(crate) speed: u8,
    pub(crate) music: bool,
}

/// The sign's outer rectangle in units.
const SIGN: (f32, f32, f32, f32) = (10.0, 386.0, 62.0, 86.0);

/// Draws the panel without sign and strip cells.
pub(crate) fn draw(canvas: &mut Canvas<'_>, status: &Status) {
    let colour = INSTANCE_COLOURS[usize::from(status.instance)];
    canvas.set_depth(DEPTH);
    canvas.rect(0.0, TOP, 640.0, 50.0, GROUND);
    canvas.rect(0.0, TOP, 640.0, 2.4, colour);
    canvas.rect(0.0, TOP + 2.4, 640.0, 1.2, shade(GROUND, -45));
    font::text(canvas, LEFT, 440.0, 2.0, "LOCO TOWN", TEXT);
    gauge(canvas, status, colour);
    font::text(canvas, LEFT, 459.0, 1.0, "UP/DOWN SPEED  SPACE WHISTLE  ENTER TRACK", MUTED);
    font::text(canvas, LEFT, 469.0, 1.0, "MODE T Q B Y K SIZE F1-F3   MUSIC M", MUTED);
    if status.music {
        note(canvas, 319.0, 474.0, colour);
    }
    canvas.set_depth(0);
}

/// The number on its sign, over everything of the town.
pub(crate) fn draw_sign(canvas: &mut Canvas<'_>, instance: u8) {
    let colour = INSTANCE_COLOURS[usize::from(instance)];
    let (x, y, w, h) = SIGN;
    canvas.set_depth(DEPTH);
    canvas.rounded(x + 2.0, y + 2.5, w, h, 7.0, 0x000000, 90);
    canvas.rounded(x, y, w, h, 7.0, shade(colour, -45), 255);
    canvas.rounded(x + 1.2, y + 1.2, w - 2.4, h - 2.4, 6.2, colour, 255);
    canvas.rounded(x + 6.0, y + 6.0, w - 12.0, h - 12.0, 3.5, shade(colour, -45), 255);
    canvas.rounded(x + 6.8, y + 6.8, w - 13.6, h - 13.6, 3.0, 0xf7f3e8, 255);
    font::digit(canvas, x + w / 2.0 - 15.0, y + h / 2.0 - 22.0, instance + 1, 0x141a22);
    canvas.set_depth(0);
}

/// The pixels that the sign and its shadow take in a picture of `width`.
pub(crate) fn sign_rect(width: i32) -> Rect {
    let (x, y, w, h) = SIGN;
    pixels(x - 1.0, y - 1.0, w + 5.0, h + 5.0, width)
}

/// The pixels that change with the status.
pub(crate) fn status_rect(width: i32) -> Rect {
    pixels(LEFT, 434.0, 256.0, 46.0, width)
}

/// The first row of the panel in a picture of `width`.
pub(crate) fn top_row(width: i32) -> i32 {
    (TOP * width as f32 / 640.0) as i32
}

fn pixels(x: f32, y: f32, w: f32, h: f32, width: i32) -> Rect {
    let scale = width as f32 / 640.0;
    let (left, top) = ((x * scale) as i32, (y * scale) as i32);
    Rect::new(left, top, ((x + w) * scale) as i32 + 1 - left, ((y + h) * scale) as i32 + 1 - top)
}

fn gauge(canvas: &mut Canvas<'_>, status: &Status, colour: u32) {
    let text = match status.mode {
        Mode::Town => "TOWN",
        Mode::Quiet => "QUIET",
        Mode::Box => "BOX",
        Mode::Busy => "BUSY",
        Mode::Marker => "MARK",
        Mode::Storm => "STRM",
    };
    font::text(canvas, 206.0, 447.0, 1.0, text, MUTED);
    for step in 0..crate::train::MAXIMUM_SPEED {
        let height = 3.0 + f32::from(step) * 1.3;
        let x = 250.0 + f32::from(step) * 10.0;
        let fill = if step < status.speed { colour } else { 0x34414f };
        canvas.rounded(x, 454.5 - height, 7.0, height, 1.2, fill, 255);
    }
}

fn note(canvas: &mut Canvas<'_>, x: f32, y: f32, colour: u32) {
    canvas.ellipse(x, y, 2.6, 2.0, colour, 255);
    canvas.rect(x + 1.4, y - 9.0, 1.3, 9.0, colour);
    canvas.fill(&[(x + 1.4, y - 9.0), (x + 7.0, y - 6.5), (x + 7.0, y - 4.5), (x + 1.4, y - 7.0)], colour, 255);
}
