//! Loco Town, the demo guest: what it shows, hears and says, without the machine below it.
//!
//! The binary of this crate is a bare-metal x86 program; everything that can be tested on a host lives here and knows
//! no ports and no interrupts. Tools use [`barcode`] to read what a guest shows from pixels, and [`whistle`] to know
//! what it sounds like.
//!
//! | key | does |
//! |---|---|
//! | up, down; wheel | train faster, slower |
//! | space | whistle |
//! | enter; left button, right button | place or remove track at the cursor; place, remove |
//! | T, Q, B, Y, X, K | mode town, quiet, box, busy, storm (busy, by leaps), marker (flash and click at once, see [`marker`]) |
//! | F1, F2, F3 | 640x480, 800x600, 1024x768 |
//! | M | music on, off |
//! | P or middle button held | draws the pointer's way on the ground |
//! | C | redraws everything, so wipes such drawings |
//!
//! Kernel command line: `instance=0..8 mode=town|quiet|box|busy|marker|storm size=640x480|800x600|1024x768 music=on|off
//! pointer=relative|absolute` (absolute by QEMU's vmmouse, which `-machine pc` has).
//!
//! Lines on the debug console (port 0xe9), each `loco: ` and then: `boot version=… instance=… mode=… size=… sb16=… mouse=…
//! wheel=… absolute=…`, `ready`, `key code=0x1e pressed=1 count=5`, `button n=0 pressed=1 x=… y=… count=…`, `speed step=…`, `whistle`,
//! `music on=1`, `marker n=5`, `mode name=…`, `size name=…`, `track place=X,Y` or `remove=X,Y` with `refused=outside|ground|train|nothing`,
//! `bad option WORD`, `cannot start: …`, `exception …`, `panic …`.
#![cfg_attr(not(test), no_std)]

pub mod barcode;
mod cars;
mod font;
mod geometry;
mod ground;
mod layout;
pub mod marker;
mod math;
mod mode;
mod options;
mod paint;
mod panel;
pub mod ps2;
mod rails;
mod smoke;
pub mod sound;
mod sprites;
mod stage;
mod things;
mod town;
mod track;
mod train;
pub mod whistle;

pub use geometry::Rect;
pub use mode::Mode;
pub use options::{Options, Resolution};
pub use sprites::SPRITE_WORDS;
pub use stage::PICTURE_WORDS;
pub use town::{Machine, Memory, Town};

/// The instances' colours (0xRRGGBB), by instance; the train wears it.
pub const INSTANCE_COLOURS: [u32; 9] =
    [0xE69F00, 0x56B4E9, 0x1FB587, 0xF0E442, 0x4C8DF0, 0xE5651A, 0xE07FB6, 0xB8C0CC, 0x9D7CF0];

/// Ticks a second: the PIT's 1,193,182 Hz divided by [`PIT_DIVISOR`].
pub const TICKS_PER_SECOND: u32 = 30;
/// 1,193,182 / 39,773 = 30.0000 Hz.
pub const PIT_DIVISOR: u16 = 39_773;
