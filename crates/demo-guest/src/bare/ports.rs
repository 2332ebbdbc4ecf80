//! Port input and output, and the debug console on port 0xe9.

use core::arch::asm;
use core::fmt;

pub(crate) fn out8(port: u16, value: u8) {
    // SAFETY: the guest owns its machine; a port access touches no memory of Rust's.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

pub(crate) fn out16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
}

pub(crate) fn out32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
}

pub(crate) fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

pub(crate) fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Asks `ready` up to some hundred thousand times; `false` when the device never was.
pub(crate) fn wait_for(ready: impl Fn() -> bool) -> bool {
    (0..200_000).any(|_| ready())
}

/// Port 0xe9 of QEMU's `-debugcon` (and of Bochs).
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            out8(0xe9, byte);
        }
        Ok(())
    }
}

/// Writes a line to the debug console.
pub(crate) fn log(line: fmt::Arguments<'_>) {
    // The console takes every byte; there is nobody to tell of an error.
    let _ = fmt::Write::write_fmt(&mut Console, format_args!("{line}\n"));
}
