//! The marker: once a second picture and sound do something at the same moment, so that tools can measure how far apart
//! they arrive.
//!
//! **Flash**: a field of 4 x 4 squares in the upper left, each as large as 4 x 4 cells of the barcode's grid. At rest
//! [`REST`] of them are light, for [`FLASH_TICKS`] ticks all others ([`FLASH`]), and the barcode's `flash` is set.
//!
//! **Click**: over a quiet hum (so that the card never stops) every [`PERIOD_SAMPLES`] samples a burst of
//! [`CLICK_SAMPLES`] samples: six turns of a sine, peak [`CLICK_PEAK`], from its first sample on.
//!
//! **The moment**: the clicks begin with a block of the sound card's ring. The flash is presented, and the line
//! `marker n=…` written, on the interrupt by which the card says that it has begun to read that block.

use crate::barcode::grid_rect;

/// Grid column and row of the field's upper left corner.
pub const FIELD: (u32, u32) = (4, 4);
/// Grid cells of one square's side.
pub const SQUARE: u32 = 4;
/// Squares of a row and of a column.
pub const SIDE: u32 = 4;
/// Light squares at rest: bit n is square n, row by row from the upper left.
pub const REST: u16 = 0x8421;
/// Light squares of a flash.
pub const FLASH: u16 = !REST;
/// Ticks that a flash lasts: 200 ms.
pub const FLASH_TICKS: u32 = 6;

/// Samples from one click to the next: 43 blocks of the card's ring, 0.998 s.
pub const PERIOD_SAMPLES: u64 = 43 * 1024;
/// Samples of a click: 3 ms.
pub const CLICK_SAMPLES: u64 = 132;
/// Peak of a click: -3 dBFS.
pub const CLICK_PEAK: i64 = 23_198;
/// Turns of a click's sine.
pub const CLICK_TURNS: u32 = 6;
/// Peak of the hum: -50 dBFS.
pub const HUM_PEAK: i64 = 104;
/// Frequency of the hum.
pub const HUM_HZ: u32 = 220;

/// Where a square lies in a picture: x, y, width, height.
#[must_use]
pub fn square_rect(index: u32, width: u32, height: u32) -> (u32, u32, u32, u32) {
    let (column, row) = (FIELD.0 + index % SIDE * SQUARE, FIELD.1 + index / SIDE * SQUARE);
    grid_rect(column, row, SQUARE, SQUARE, width, height)
}

/// Where the field lies in a picture: x, y, width, height.
#[must_use]
pub fn field_rect(width: u32, height: u32) -> (u32, u32, u32, u32) {
    grid_rect(FIELD.0, FIELD.1, SIDE * SQUARE, SIDE * SQUARE, width, height)
}
