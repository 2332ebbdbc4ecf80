//! What QEMU hands over at the PVH entry (xen/include/public/arch-x86/hvm/start_info.h).

use core::ffi::CStr;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;
/// Longest command line that is looked at.
const MAXIMUM_LINE: usize = 4096;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MemoryRange {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// The command line, and the first address after the memory that begins at 1 MiB (0 when unknown).
pub(crate) fn read(address: u32) -> (&'static str, u64) {
    // SAFETY: QEMU puts the structure below 4 GiB, where all memory is mapped, and nothing overwrites it; its magic
    // number is checked before anything else is believed.
    let info = unsafe { &*(address as usize as *const StartInfo) };
    if info.magic != MAGIC {
        return ("", 0);
    }
    let line = if info.command_line == 0 {
        ""
    } else {
        // SAFETY: as above; the line is looked at up to a limit only.
        let bytes = unsafe { core::slice::from_raw_parts(info.command_line as usize as *const u8, MAXIMUM_LINE) };
        CStr::from_bytes_until_nul(bytes).ok().and_then(|line| line.to_str().ok()).unwrap_or("bad-utf8")
    };
    let mut end = 0;
    if info.version >= 1 && info.memory_map != 0 {
        for entry in 0..info.memory_map_entries.min(128) as usize {
            // SAFETY: as above.
            let range = unsafe { &*(info.memory_map as usize as *const MemoryRange).add(entry) };
            if range.kind == RAM && range.start <= 0x10_0000 && range.start + range.size > 0x10_0000 {
                end = range.start + range.size;
            }
        }
    }
    (line, end)
}
