//! Interrupt table, interrupt controller, timer, and what each interrupt leaves behind for the main loop.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::ports::{in8, log, out8};

pub(crate) const IRQ_TIMER: u8 = 0;
pub(crate) const IRQ_KEYBOARD: u8 = 1;
pub(crate) const IRQ_SOUND: u8 = 5;
pub(crate) const IRQ_MOUSE: u8 = 12;

/// First vector of the interrupt controllers' sixteen.
const FIRST_VECTOR: u64 = 32;

/// Ticks of the timer that the main loop has not yet handled.
pub(crate) static TICKS: AtomicU32 = AtomicU32::new(0);
/// Interrupts of the sound card that the main loop has not yet handled.
pub(crate) static SOUND: AtomicU32 = AtomicU32::new(0);
/// Bytes of the keyboard and of the mouse.
pub(crate) static KEYBOARD: Queue = Queue::new();
pub(crate) static MOUSE: Queue = Queue::new();

unsafe extern "C" {
    static interrupt_table: [u64; 48];
}

#[repr(C, align(16))]
struct Table([[u64; 2]; 256]);
static mut TABLE: Table = Table([[0; 2]; 256]);

/// What the stub pushes; only what is reported has a name.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    instruction: u64,
    code_segment: u64,
    flags: u64,
    stack: u64,
    stack_segment: u64,
}

/// Bytes from an interrupt to the main loop. When full, the oldest are lost by being overwritten, never memory.
pub(crate) struct Queue {
    bytes: [AtomicU8; 256],
    read: AtomicU32,
    written: AtomicU32,
}

impl Queue {
    const fn new() -> Self {
        Self { bytes: [const { AtomicU8::new(0) }; 256], read: AtomicU32::new(0), written: AtomicU32::new(0) }
    }

    fn push(&self, byte: u8) {
        let written = self.written.load(Ordering::Relaxed);
        self.bytes[written as usize & 255].store(byte, Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Release);
    }

    pub(crate) fn pop(&self) -> Option<u8> {
        let (mut read, written) = (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Acquire));
        if read == written {
            return None;
        }
        // What was overwritten is no longer there: go on with the oldest that is.
        if written.wrapping_sub(read) > self.bytes.len() as u32 {
            read = written.wrapping_sub(self.bytes.len() as u32);
        }
        let byte = self.bytes[read as usize & 255].load(Ordering::Relaxed);
        self.read.store(read.wrapping_add(1), Ordering::Relaxed);
        Some(byte)
    }

    fn is_empty(&self) -> bool {
        self.read.load(Ordering::Relaxed) == self.written.load(Ordering::Acquire)
    }
}

/// Loads the interrupt table and moves the controllers' interrupts to their vectors, all of them masked.
pub(crate) fn init() {
    // SAFETY: runs once, before interrupts are on; the table lives for ever and its entries are those of the stubs.
    unsafe {
        for (vector, stub) in interrupt_table.into_iter().enumerate() {
            let stack = if vector < FIRST_VECTOR as usize { 2 } else { 1 };
            let low = stub & 0xffff | 8 << 16 | stack << 32 | 0x8e << 40 | (stub >> 16 & 0xffff) << 48;
            (&raw mut TABLE.0[vector]).write([low, stub >> 32]);
        }
        let base = &raw const TABLE as u64;
        let pointer: [u16; 5] = [4095, base as u16, (base >> 16) as u16, (base >> 32) as u16, (base >> 48) as u16];
        asm!("lidt [{}]", in(reg) &pointer, options(nostack));
    }
    // Both 8259A: edge triggered, cascaded on 2, vectors 32.. and 40.., all masked but the cascade.
    let words = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xfb),
        (0xa1, 0xff),
    ];
    for (port, value) in words {
        out8(port, value);
    }
}

/// Lets an interrupt through, or not.
pub(crate) fn set_enabled(irq: u8, enabled: bool) {
    let (port, bit) = if irq < 8 { (0x21, 1 << irq) } else { (0xa1, 1 << (irq - 8)) };
    let mask = in8(port);
    out8(port, if enabled { mask & !bit } else { mask | bit });
}

/// Starts the timer with this divisor of 1,193,182 Hz, or stops it, so that a quiet guest never wakes.
pub(crate) fn set_timer(divisor: Option<u16>) {
    set_enabled(IRQ_TIMER, divisor.is_some());
    match divisor {
        // Channel 0, both bytes, rate generator.
        Some(divisor) => {
            let [low, high] = divisor.to_le_bytes();
            out8(0x43, 0x34);
            out8(0x40, low);
            out8(0x40, high);
        }
        // Channel 0, both bytes, one shot, and no count: it does not run.
        None => out8(0x43, 0x30),
    }
}

/// Sleeps until an interrupt, unless one has left something to do. Interrupts are on afterwards.
pub(crate) fn wait() {
    // SAFETY: `sti` takes effect after the following instruction, so no interrupt is lost between the check and `hlt`.
    unsafe {
        asm!("cli", options(nostack));
        let idle = TICKS.load(Ordering::Relaxed) == 0
            && SOUND.load(Ordering::Relaxed) == 0
            && KEYBOARD.is_empty()
            && MOUSE.is_empty();
        if idle {
            asm!("sti", "hlt", options(nostack));
        } else {
            asm!("sti", options(nostack));
        }
    }
}

/// Stops for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: nothing runs after this.
        unsafe { asm!("cli", "hlt", options(nostack)) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_interrupt(frame: &Frame) {
    if frame.vector < FIRST_VECTOR {
        let address: u64;
        // SAFETY: reading cr2 changes nothing.
        unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) }
        log(format_args!(
            "loco: exception vector={} error={:#x} instruction={:#x} stack={:#x} address={address:#x} code={:#x} flags={:#x} ss={:#x} rax={:#x}",
            frame.vector,
            frame.error,
            frame.instruction,
            frame.stack,
            frame.code_segment,
            frame.flags,
            frame.stack_segment,
            frame.registers[14]
        ));
        halt();
    }
    let irq = (frame.vector - FIRST_VECTOR) as u8;
    if is_spurious(irq) {
        return;
    }
    match irq {
        IRQ_TIMER => {
            TICKS.fetch_add(1, Ordering::Relaxed);
        }
        IRQ_KEYBOARD | IRQ_MOUSE => read_controller(),
        IRQ_SOUND => {
            super::sb16::acknowledge();
            SOUND.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
    if irq >= 8 {
        out8(0xa0, 0x20);
    }
    out8(0x20, 0x20);
}

/// An 8259A answers with its last line when a request went away; it must not be acknowledged then.
fn is_spurious(irq: u8) -> bool {
    let in_service = |port: u16| {
        out8(port, 0x0b);
        in8(port) & 0x80 != 0
    };
    match irq {
        7 => !in_service(0x20),
        15 => {
            let spurious = !in_service(0xa0);
            if spurious {
                // The first controller does not know, and waits for its acknowledgement.
                out8(0x20, 0x20);
            }
            spurious
        }
        _ => false,
    }
}

/// Takes all bytes that the keyboard controller has; bit 5 of its status says whose they are.
fn read_controller() {
    for _ in 0..64 {
        let status = in8(0x64);
        if status & 1 == 0 {
            break;
        }
        let byte = in8(0x60);
        if status & 0x20 == 0 { KEYBOARD.push(byte) } else { MOUSE.push(byte) }
    }
}
