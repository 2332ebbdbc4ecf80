//! Set 1 scancodes (bit 7: prefix 0xe0) of the keys that do something.

pub(super) const UP: [u8; 2] = [0xc8, 0x48];
pub(super) const DOWN: [u8; 2] = [0xd0, 0x50];
pub(super) const SPACE: u8 = 0x39;
pub(super) const ENTER: [u8; 2] = [0x1c, 0x9c];
pub(super) const Q: u8 = 0x10;
pub(super) const T: u8 = 0x14;
pub(super) const B: u8 = 0x30;
pub(super) const Y: u8 = 0x15;
pub(super) const X: u8 = 0x2d;
pub(super) const K: u8 = 0x25;
pub(super) const M: u8 = 0x32;
pub(super) const P: u8 = 0x19;
pub(super) const C: u8 = 0x2e;
pub(super) const F1: u8 = 0x3b;
pub(super) const F3: u8 = 0x3d;
