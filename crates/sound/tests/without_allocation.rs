//! The reader runs in the sound device's callback: whatever comes in, it must not allocate there.

use loco_sound::{SoundEncoder, SoundPacket, packet_ring};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::mpsc;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

struct Counting;

fn note() {
    if WATCHED.get() {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn filling_never_allocates() {
    let (to, from) = mpsc::channel();
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        let _ = to.send((p.timestamp, p.marker, p.payload.to_vec()));
    })
    .unwrap();
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut out = vec![0.0; 4096 * 2];
    let mut sequence = 0u16;
    for n in 0..1000usize {
        // Sound, pauses, losses, bursts, a packet that is no Opus and callbacks of every size.
        let loud = if (n / 50) % 2 == 0 { 8000 } else { 0 };
        let piece: Vec<i16> = (0..960).map(|k| if k % 48 < 24 { loud } else { -loud }).collect();
        encoder.push(1, &piece);
        for (timestamp, marker, payload) in from.try_iter() {
            sequence = sequence.wrapping_add(1);
            match sequence % 29 {
                0 => {}
                1 => drop(writer.push(sequence, timestamp, marker, &[0xff; 9])),
                _ => drop(writer.push(sequence, timestamp, marker, &payload)),
            }
        }
        let frames = if n % 97 == 0 { 4096 } else { 64 + n % 480 };
        WATCHED.set(true);
        reader.fill(&mut out[..frames * 2]);
        WATCHED.set(false);
    }
    let stats = reader.stats().read();
    assert!(stats.packets_decoded > 200 && stats.concealed_lost > 5 && stats.packets_broken > 5, "{stats:?}");
    assert_eq!(CALLS.get(), 0, "allocations or frees: {stats:?}");
}
