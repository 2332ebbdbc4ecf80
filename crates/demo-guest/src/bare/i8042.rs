//! The keyboard controller with its keyboard and mouse.

use super::ports::{in8, out8, wait_for};

const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;

fn command(byte: u8) {
    wait_for(|| in8(STATUS) & 2 == 0);
    out8(STATUS, byte);
}

fn write(byte: u8) {
    wait_for(|| in8(STATUS) & 2 == 0);
    out8(DATA, byte);
}

fn read() -> Option<u8> {
    wait_for(|| in8(STATUS) & 1 != 0).then(|| in8(DATA))
}

/// Sends a byte to the mouse; whether it was acknowledged.
fn tell_mouse(byte: u8) -> bool {
    command(0xd4);
    write(byte);
    read() == Some(0xfa)
}

/// Turns keyboard (set 1) and mouse on, interrupts of both allowed. `Some(true)`: the mouse has a wheel; `None`: there is
/// no mouse.
pub(crate) fn init() -> Option<bool> {
    command(0xad);
    command(0xa7);
    while in8(STATUS) & 1 != 0 {
        in8(DATA);
    }
    command(0x20);
    let configuration = read().unwrap_or(0);
    command(0x60);
    // Both interrupts and translation to set 1 on, both clocks running.
    write((configuration | 0x43) & !0x30);
    command(0xa8);
    command(0xae);
    let mut present = tell_mouse(0xf6);
    // The knock that turns a wheel on: sample rates 200, 100, 80; then the mouse says 3 when asked who it is.
    for rate in [200, 100, 80] {
        present &= tell_mouse(0xf3) && tell_mouse(rate);
    }
    let wheel = tell_mouse(0xf2) && read() == Some(3);
    // 200 samples a second, so that QEMU's packets stay small.
    present &= tell_mouse(0xf3) && tell_mouse(200);
    present &= tell_mouse(0xf4);
    present.then_some(wheel)
}
