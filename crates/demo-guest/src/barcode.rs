//! The strip of black and white cells in the lower right corner that tells tools what the guest shows.
//!
//! All of it is proportional to the picture: the picture is a grid of 80 x 60 cells, the strip takes 36 x 4 of them, so
//! that a decoder needs the picture's size and nothing else, also after scaling. At 640x480 a cell is 8x8 pixels on the
//! grid of a video encoder's transform blocks, which keeps it sharp and cheap at low bit rates.
//!
//! 144 cells: 8 of a sync pattern (four at each end, which give the light and dark levels too), 120 of payload, 16 of
//! CRC-16/CCITT-FALSE over the payload's 15 bytes. Payload, most significant bit first: instance 4, flash 1, mode 3, counter 64,
//! input code 9, held 3, input count 16, cursor x 10, cursor y 10.

use crate::Mode;

/// Cells that the whole picture's width is divided into.
pub const GRID_WIDTH: u32 = 80;
/// Cells that the whole picture's height is divided into.
pub const GRID_HEIGHT: u32 = 60;
/// Cells in a row of the strip.
pub const COLUMNS: u32 = 36;
/// Rows of the strip.
pub const ROWS: u32 = 4;
/// Grid column of the strip's left edge.
pub const LEFT: u32 = GRID_WIDTH - COLUMNS - 1;
/// Grid row of the strip's top edge.
pub const TOP: u32 = GRID_HEIGHT - ROWS - 1;
/// Cells of the strip.
pub const CELLS: usize = (COLUMNS * ROWS) as usize;

/// Smallest picture that [`decode`] looks at: two pixels per cell.
pub const MINIMUM_WIDTH: u32 = GRID_WIDTH * 2;
/// Smallest picture that [`decode`] looks at: two pixels per cell.
pub const MINIMUM_HEIGHT: u32 = GRID_HEIGHT * 2;

/// In [`Reading::input_code`]: the input was a pointer button; the low bits are QEMU's `InputButton` (left 0, middle 1,
/// right 2, wheel up 3, wheel down 4).
pub const POINTER_BUTTON: u16 = 0x100;

const SYNC: [bool; 8] = [true, false, true, true, false, true, false, false];
const SYNC_CELLS: [usize; 8] = [0, 1, 2, 3, CELLS - 4, CELLS - 3, CELLS - 2, CELLS - 1];
const PAYLOAD_BYTES: usize = 15;
/// Least difference between light and dark sync cells, in steps of luma; a dimmed picture still has it.
const MINIMUM_CONTRAST: u32 = 24;

/// What the strip says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which instance the guest is, 0..=8.
    pub instance: u8,
    /// What the guest shows.
    pub mode: Mode,
    /// The marker's field flashes ([`crate::marker`]).
    pub flash: bool,
    /// Ticks presented since boot (30 a second); stands still in [`Mode::Quiet`].
    pub counter: u64,
    /// The last press: a key's scancode of set 1 with bit 7 for the prefix 0xe0 (QEMU's "qnum"), or [`POINTER_BUTTON`]
    /// and the button. 0 before the first press.
    pub input_code: u16,
    /// Presses of keys and buttons since boot, wrapping.
    pub input_count: u16,
    /// Keys and buttons held down now; 7 means seven or more.
    pub held: u8,
    /// The cursor's tip in 1/1024 of the width, 0..=1023.
    pub cursor_x: u16,
    /// The cursor's tip in 1/1024 of the height, 0..=1023.
    pub cursor_y: u16,
}

/// The strip's cells, row by row; `true` is light.
pub type Cells = [bool; CELLS];

/// The strip for a reading. Values too large for their field are cut to its low bits, `held` saturates.
#[must_use]
pub fn encode(reading: &Reading) -> Cells {
    let mut writer = BitWriter::default();
    writer.put(u64::from(reading.instance), 4);
    writer.put(u64::from(reading.flash), 1);
    writer.put(reading.mode as u64, 3);
    writer.put(reading.counter, 64);
    writer.put(u64::from(reading.input_code), 9);
    writer.put(u64::from(reading.held.min(7)), 3);
    writer.put(u64::from(reading.input_count), 16);
    writer.put(u64::from(reading.cursor_x), 10);
    writer.put(u64::from(reading.cursor_y), 10);
    let payload = writer.bytes;
    let crc = crc16(&payload).to_be_bytes();

    let mut cells = [false; CELLS];
    for (cell, light) in SYNC_CELLS.into_iter().zip(SYNC) {
        cells[cell] = light;
    }
    for (bit, cell) in cells[4..CELLS - 4].iter_mut().enumerate() {
        let byte = if bit / 8 < PAYLOAD_BYTES { payload[bit / 8] } else { crc[bit / 8 - PAYLOAD_BYTES] };
        *cell = byte >> (7 - bit % 8) & 1 == 1;
    }
    cells
}

/// Where cell `index` lies in a picture: x, y, width, height. Neighbours share their edges at every size.
#[must_use]
pub fn cell_rect(index: usize, width: u32, height: u32) -> (u32, u32, u32, u32) {
    let (column, row) = (LEFT + index as u32 % COLUMNS, TOP + index as u32 / COLUMNS);
    grid_rect(column, row, 1, 1, width, height)
}

/// Where the strip lies in a picture: x, y, width, height.
#[must_use]
pub fn region(width: u32, height: u32) -> (u32, u32, u32, u32) {
    grid_rect(LEFT, TOP, COLUMNS, ROWS, width, height)
}

/// A rectangle of grid cells in pixels: x, y, width, height.
pub(crate) fn grid_rect(
    column: u32,
    row: u32,
    columns: u32,
    rows: u32,
    width: u32,
    height: u32,
) -> (u32, u32, u32, u32) {
    let edge = |cell: u32, size: u32, cells: u32| (cell * size + cells / 2) / cells;
    let (left, top) = (edge(column, width, GRID_WIDTH), edge(row, height, GRID_HEIGHT));
    let right = edge(column + columns, width, GRID_WIDTH);
    let bottom = edge(row + rows, height, GRID_HEIGHT);
    (left, top, right - left, bottom - top)
}

/// Reads the strip out of a picture of the guest's whole screen that was scaled to `width` x `height`, which need not
/// be 4:3. `luma(x, y)` is asked only inside [`region`]; any monotonic measure of brightness does, limited range too.
///
/// `None`: the picture is too small, has no strip, or is damaged (sync pattern, CRC, or a value out of its range).
pub fn decode(width: u32, height: u32, luma: impl Fn(u32, u32) -> u8) -> Option<Reading> {
    if width < MINIMUM_WIDTH || height < MINIMUM_HEIGHT {
        return None;
    }
    let level = |index: usize| cell_level(index, width, height, &luma);
    let (mut light, mut dark) = (0, 0);
    for (cell, is_light) in SYNC_CELLS.into_iter().zip(SYNC) {
        *(if is_light { &mut light } else { &mut dark }) += level(cell);
    }
    // Four cells of each kind; levels are in 1/16 of a step.
    let (light, dark) = (light / 4, dark / 4);
    if light < dark + MINIMUM_CONTRAST * 16 {
        return None;
    }
    let threshold = (light + dark) / 2;
    let is_light = |index: usize| level(index) > threshold;
    if SYNC_CELLS.into_iter().zip(SYNC).any(|(cell, expected)| is_light(cell) != expected) {
        return None;
    }

    let mut bytes = [0u8; PAYLOAD_BYTES + 2];
    for bit in 0..CELLS - 8 {
        bytes[bit / 8] |= u8::from(is_light(bit + 4)) << (7 - bit % 8);
    }
    let (payload, crc) = bytes.split_at(PAYLOAD_BYTES);
    if crc16(payload).to_be_bytes() != crc {
        return None;
    }
    let mut reader = BitReader { bytes: payload, position: 0 };
    let reading = Reading {
        instance: reader.take(4) as u8,
        flash: reader.take(1) == 1,
        mode: Mode::from_index(reader.take(3) as u8)?,
        counter: reader.take(64),
        input_code: reader.take(9) as u16,
        held: reader.take(3) as u8,
        input_count: reader.take(16) as u16,
        cursor_x: reader.take(10) as u16,
        cursor_y: reader.take(10) as u16,
    };
    (usize::from(reading.instance) < crate::INSTANCE_COLOURS.len()).then_some(reading)
}

/// Mean luma of the pixels whose centres lie in the middle half of a cell (each way), in 1/16 of a step.
fn cell_level(index: usize, width: u32, height: u32, luma: &impl Fn(u32, u32) -> u8) -> u32 {
    let column = LEFT + index as u32 % COLUMNS;
    let row = TOP + index as u32 / COLUMNS;
    let (x0, x1) = middle(column, width, GRID_WIDTH);
    let (y0, y1) = middle(row, height, GRID_HEIGHT);
    let mut sum = 0;
    for y in y0..=y1 {
        for x in x0..=x1 {
            sum += u32::from(luma(x, y));
        }
    }
    sum * 16 / ((x1 - x0 + 1) * (y1 - y0 + 1))
}

/// First and last pixel whose centre is in the middle half of grid cell `cell`; never empty from two pixels a cell on.
fn middle(cell: u32, size: u32, cells: u32) -> (u32, u32) {
    // Pixel p's centre is p + 1/2; in units of 1/(4 cells) pixel all of it is whole.
    let (unit, half) = (4 * cells, 2 * cells);
    let first = ((4 * cell + 1) * size - half).div_ceil(unit);
    let last = ((4 * cell + 3) * size - half) / unit;
    (first, last.max(first))
}

#[derive(Default)]
struct BitWriter {
    bytes: [u8; PAYLOAD_BYTES],
    position: usize,
}

impl BitWriter {
    fn put(&mut self, value: u64, bits: usize) {
        for bit in (0..bits).rev() {
            self.bytes[self.position / 8] |= ((value >> bit & 1) as u8) << (7 - self.position % 8);
            self.position += 1;
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl BitReader<'_> {
    fn take(&mut self, bits: usize) -> u64 {
        let mut value = 0;
        for _ in 0..bits {
            let bit = self.bytes[self.position / 8] >> (7 - self.position % 8) & 1;
            value = value << 1 | u64::from(bit);
            self.position += 1;
        }
        value
    }
}

/// CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xffff, not reflected ("123456789" gives 0x29b1).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests;
