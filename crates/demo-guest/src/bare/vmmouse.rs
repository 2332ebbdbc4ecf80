//! QEMU's "vmmouse": absolute positions through VMware's port (the protocol of xf86-input-vmmouse). Its interrupt is the
//! PS/2 mouse's.

use core::arch::asm;

use loco_demo_guest::ps2::AbsoluteEvent;

const PORT: u16 = 0x5658;
const MAGIC: u32 = 0x564d_5868;
const GET_VERSION: u32 = 10;
const POINTER_DATA: u32 = 39;
const POINTER_STATUS: u32 = 40;
const POINTER_COMMAND: u32 = 41;
const READ_ID: u32 = 0x4541_4552;
const REQUEST_ABSOLUTE: u32 = 0x5342_4152;
const ID: u32 = 0x3442_554a;
const STATUS_ERROR: u32 = 0xffff_0000;
/// Words of a packet.
const PACKET: u32 = 4;

/// One call; gives eax, ebx, ecx, edx.
fn call(command: u32, argument: u32) -> [u32; 4] {
    let (mut a, mut b, mut c, mut d) = (MAGIC, u64::from(argument), command, u32::from(PORT));
    // SAFETY: the port answers in registers and touches no memory; rbx, which is not the program's to use, is put back.
    unsafe {
        asm!(
            "xchg {b}, rbx",
            "in eax, dx",
            "xchg {b}, rbx",
            b = inout(reg) b,
            inout("eax") a,
            inout("ecx") c,
            inout("edx") d,
            options(nomem, nostack)
        );
    }
    [a, b as u32, c, d]
}

/// Turns absolute positions on; `false` when the machine has no such device.
pub(crate) fn init() -> bool {
    let [version, magic, ..] = call(GET_VERSION, 0);
    if version == u32::MAX || magic != MAGIC {
        return false;
    }
    call(POINTER_COMMAND, READ_ID);
    let [status, ..] = call(POINTER_STATUS, 0);
    if status & 0xffff == 0 || call(POINTER_DATA, 1)[0] != ID {
        return false;
    }
    call(POINTER_COMMAND, REQUEST_ABSOLUTE);
    true
}

/// The next event, if there is one.
pub(crate) fn read() -> Option<AbsoluteEvent> {
    let [status, ..] = call(POINTER_STATUS, 0);
    if status & STATUS_ERROR == STATUS_ERROR || status & 0xffff < PACKET {
        return None;
    }
    let [flags, x, y, z] = call(POINTER_DATA, PACKET);
    let bit = |mask: u32, bit: u8| if flags & mask != 0 { bit } else { 0 };
    Some(AbsoluteEvent {
        x: x.min(0xffff) as u16,
        y: y.min(0xffff) as u16,
        wheel: -(z as i32).signum(),
        buttons: bit(0x20, 1) | bit(0x08, 2) | bit(0x10, 4),
    })
}
