//! Loco Town, the demo guest: what it shows, hears and says, without the machine below it.
//!
//! The binary of this crate is a bare-metal x86 program; everything that can be tested on a host lives here and knows
//! no ports and no interrupts. Tools use [`barcode`] to read what a guest shows from pixels, and [`whistle`] to know
//! what it sounds like.
#![cfg_attr(not(test), no_std)]

pub mod barcode;
mod mode;
pub mod whistle;

pub use mode::Mode;

/// The instances' colours (0xRRGGBB), by instance; the train wears it.
pub const INSTANCE_COLOURS: [u32; 9] =
    [0xE6_9F_00, 0x56_B4_E9, 0x1F_B5_87, 0xF0_E4_42, 0x4C_8D_F0, 0xE5_65_1A, 0xE0_7F_B6, 0xB8_C0_CC, 0x9D_7C_F0];

/// Ticks a second: the PIT's 1,193,182 Hz divided by [`PIT_DIVISOR`].
pub const TICKS_PER_SECOND: u32 = 30;
/// 1,193,182 / 39,773 = 30.0000 Hz.
pub const PIT_DIVISOR: u16 = 39_773;
