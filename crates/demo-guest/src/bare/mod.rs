//! The thin bottom of the guest: boot, interrupts and devices of a PC.
//!
//! Here belongs the network card, when trains travel between towns: a driver beside these, its interrupt in
//! [`interrupts`], its frames handed to the library.

pub(crate) mod i8042;
pub(crate) mod interrupts;
pub(crate) mod ports;
pub(crate) mod sb16;
pub(crate) mod screen;
pub(crate) mod start_info;
pub(crate) mod vmmouse;

core::arch::global_asm!(include_str!("boot.s"));
