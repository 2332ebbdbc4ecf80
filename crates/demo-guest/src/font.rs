//! Letters of 5x7 dots for the panel, and the large digits of the sign.

use crate::paint::{Canvas, Point};

/// Columns of each letter, lowest bit on top; capitals, digits and a few signs.
const LETTERS: [(u8, [u8; 5]); 43] = [
    (b'A', [0x7e, 0x11, 0x11, 0x11, 0x7e]),
    (b'B', [0x7f, 0x49, 0x49, 0x49, 0x36]),
    (b'C', [0x3e, 0x41, 0x41, 0x41, 0x22]),
    (b'D', [0x7f, 0x41, 0x41, 0x22, 0x1c]),
    (b'E', [0x7f, 0x49, 0x49, 0x49, 0x41]),
    (b'F', [0x7f, 0x09, 0x09, 0x09, 0x01]),
    (b'G', [0x3e, 0x41, 0x49, 0x49, 0x7a]),
    (b'H', [0x7f, 0x08, 0x08, 0x08, 0x7f]),
    (b'I', [0x00, 0x41, 0x7f, 0x41, 0x00]),
    (b'J', [0x20, 0x40, 0x41, 0x3f, 0x01]),
    (b'K', [0x7f, 0x08, 0x14, 0x22, 0x41]),
    (b'L', [0x7f, 0x40, 0x40, 0x40, 0x40]),
    (b'M', [0x7f, 0x02, 0x0c, 0x02, 0x7f]),
    (b'N', [0x7f, 0x04, 0x08, 0x10, 0x7f]),
    (b'O', [0x3e, 0x41, 0x41, 0x41, 0x3e]),
    (b'P', [0x7f, 0x09, 0x09, 0x09, 0x06]),
    (b'Q', [0x3e, 0x41, 0x51, 0x21, 0x5e]),
    (b'R', [0x7f, 0x09, 0x19, 0x29, 0x46]),
    (b'S', [0x46, 0x49, 0x49, 0x49, 0x31]),
    (b'T', [0x01, 0x01, 0x7f, 0x01, 0x01]),
    (b'U', [0x3f, 0x40, 0x40, 0x40, 0x3f]),
    (b'V', [0x1f, 0x20, 0x40, 0x20, 0x1f]),
    (b'W', [0x3f, 0x40, 0x38, 0x40, 0x3f]),
    (b'X', [0x63, 0x14, 0x08, 0x14, 0x63]),
    (b'Y', [0x07, 0x08, 0x70, 0x08, 0x07]),
    (b'Z', [0x61, 0x51, 0x49, 0x45, 0x43]),
    (b'0', [0x3e, 0x51, 0x49, 0x45, 0x3e]),
    (b'1', [0x00, 0x42, 0x7f, 0x40, 0x00]),
    (b'2', [0x42, 0x61, 0x51, 0x49, 0x46]),
    (b'3', [0x21, 0x41, 0x45, 0x4b, 0x31]),
    (b'4', [0x18, 0x14, 0x12, 0x7f, 0x10]),
    (b'5', [0x27, 0x45, 0x45, 0x45, 0x39]),
    (b'6', [0x3c, 0x4a, 0x49, 0x49, 0x30]),
    (b'7', [0x01, 0x71, 0x09, 0x05, 0x03]),
    (b'8', [0x36, 0x49, 0x49, 0x49, 0x36]),
    (b'9', [0x06, 0x49, 0x49, 0x29, 0x1e]),
    (b'/', [0x20, 0x10, 0x08, 0x04, 0x02]),
    (b'-', [0x08, 0x08, 0x08, 0x08, 0x08]),
    (b'.', [0x00, 0x60, 0x60, 0x00, 0x00]),
    (b',', [0x00, 0x50, 0x30, 0x00, 0x00]),
    (b':', [0x00, 0x36, 0x36, 0x00, 0x00]),
    (b'+', [0x08, 0x08, 0x3e, 0x08, 0x08]),
    (b'\'', [0x00, 0x05, 0x03, 0x00, 0x00]),
];

/// Draws text; `dot` is the side of a dot in units, a letter takes six by eight dots.
pub(crate) fn text(canvas: &mut Canvas<'_>, x: f32, y: f32, dot: f32, text: &str, colour: u32) {
    for (i, byte) in text.bytes().enumerate() {
        let Some((_, columns)) = LETTERS.iter().find(|(letter, _)| *letter == byte.to_ascii_uppercase()) else {
            continue;
        };
        for (column, bits) in columns.iter().enumerate() {
            let left = x + (i * 6 + column) as f32 * dot;
            // Each run of dots is one rectangle, so that no seams show at uneven scales.
            let mut row = 0;
            while row < 7 {
                let run = (bits >> row).trailing_ones() as usize;
                if run > 0 {
                    canvas.rect(left, y + row as f32 * dot, dot, run as f32 * dot, colour);
                }
                row += run.max(1);
            }
        }
    }
}

/// The strokes of digits 1..=8 in a box of 30x44.
const STROKES: [&[&[Point]]; 8] = [
    &[&[(6.0, 9.0), (17.0, 0.0), (17.0, 44.0)], &[(7.0, 44.0), (27.0, 44.0)]],
    &[&[
        (3.0, 12.0),
        (4.5, 5.5),
        (9.0, 1.4),
        (15.0, 0.0),
        (21.0, 1.4),
        (25.5, 5.5),
        (27.0, 12.0),
        (24.0, 20.0),
        (3.0, 44.0),
        (28.0, 44.0),
    ]],
    &[&[
        (3.0, 0.0),
        (26.0, 0.0),
        (13.0, 17.5),
        (19.0, 18.0),
        (24.5, 21.5),
        (27.5, 27.0),
        (27.5, 33.5),
        (24.5, 39.5),
        (19.5, 43.0),
        (13.5, 44.0),
        (7.5, 42.8),
        (2.5, 38.0),
    ]],
    &[&[(22.0, 44.0), (22.0, 0.0), (1.0, 31.0), (29.0, 31.0)]],
    &[&[
        (26.0, 0.0),
        (6.0, 0.0),
        (4.0, 20.0),
        (9.0, 17.0),
        (15.0, 16.2),
        (21.0, 18.0),
        (25.5, 22.5),
        (27.5, 29.0),
        (26.5, 36.0),
        (22.0, 41.8),
        (15.0, 44.0),
        (8.0, 42.8),
        (3.0, 38.5),
    ]],
    &[&[
        (21.0, 0.0),
        (10.0, 12.0),
        (5.0, 20.5),
        (2.8, 29.0),
        (4.0, 36.5),
        (8.5, 42.0),
        (15.0, 44.0),
        (21.5, 42.0),
        (26.2, 36.5),
        (27.2, 30.5),
        (25.5, 24.0),
        (21.0, 19.0),
        (15.0, 17.5),
        (9.0, 19.0),
        (4.5, 23.5),
    ]],
    &[&[(2.0, 0.0), (28.0, 0.0), (12.0, 44.0)]],
    &[
        &[
            (15.0, 0.0),
            (20.5, 1.5),
            (24.0, 5.5),
            (24.8, 10.0),
            (23.5, 15.0),
            (20.0, 18.6),
            (15.0, 20.0),
            (10.0, 18.6),
            (6.5, 15.0),
            (5.2, 10.0),
            (6.0, 5.5),
            (9.5, 1.5),
            (15.0, 0.0),
        ],
        &[
            (15.0, 20.0),
            (21.5, 21.8),
            (26.2, 26.0),
            (27.8, 32.0),
            (26.2, 38.4),
            (21.5, 42.4),
            (15.0, 44.0),
            (8.5, 42.4),
            (3.8, 38.4),
            (2.2, 32.0),
            (3.8, 26.0),
            (8.5, 21.8),
            (15.0, 20.0),
        ],
    ],
];

/// Draws the digit 1..=9 with its box's corner at (x, y); strokes of seven units stand out by half of that.
pub(crate) fn digit(canvas: &mut Canvas<'_>, x: f32, y: f32, number: u8, colour: u32) {
    const WIDTH: f32 = 7.0;
    // Nine is six upside down.
    let turned = number == 9;
    let strokes = STROKES[usize::from(if turned { 5 } else { number.clamp(1, 8) - 1 })];
    let place = |(px, py): Point| if turned { (x + 30.0 - px, y + 44.0 - py) } else { (x + px, y + py) };
    for stroke in strokes {
        for pair in stroke.windows(2) {
            let (from, to) = (place(pair[0]), place(pair[1]));
            canvas.line(from, to, WIDTH, colour, 255);
            canvas.circle(from.0, from.1, WIDTH / 2.0, colour);
            canvas.circle(to.0, to.1, WIDTH / 2.0, colour);
        }
    }
}
