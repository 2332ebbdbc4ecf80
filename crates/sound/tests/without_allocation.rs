//! The reader and the mixer run in the sound device's callback: whatever comes in, they must not allocate there.

// Threads are told apart by the kernel's numbers.
#![cfg(target_os = "linux")]

use loco_model::InstanceId;
use loco_sound::playback::{Output, SoundConfig, SoundSystem};
use loco_sound::{PacketWriter, SoundEncoder, SoundPacket, packet_ring};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// The thread that plays into nothing, by the kernel's number; 0: none is watched.
static PLAYER: AtomicU32 = AtomicU32::new(0);
static PLAYER_CALLS: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn note() {
    if WATCHED.get() {
        CALLS.set(CALLS.get() + 1);
    }
    let player = PLAYER.load(SeqCst);
    if player != 0 && rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() == player {
        PLAYER_CALLS.fetch_add(1, SeqCst);
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

/// The thread of this process with that name.
fn thread(name: &str) -> Option<u32> {
    std::fs::read_dir("/proc/self/task").ok()?.flatten().find_map(|task| {
        let told = std::fs::read_to_string(task.path().join("comm")).ok()?;
        (told.trim() == name).then(|| task.file_name().to_string_lossy().parse().ok())?
    })
}

#[test]
fn mixing_never_allocates() {
    const GUESTS: usize = 3;
    let system = SoundSystem::start(SoundConfig { output: Output::Null, wake: Arc::new(|| {}) }).unwrap();
    let ids: Vec<_> = InstanceId::all().take(GUESTS).collect();
    let (to, from) = mpsc::channel();
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        let _ = to.send((p.timestamp, p.marker, p.payload.to_vec()));
    })
    .unwrap();
    let mut writers: Vec<PacketWriter> = Vec::new();
    for id in &ids {
        let (writer, reader) = packet_ring().unwrap();
        system.attach(*id, reader);
        writers.push(writer);
    }
    let (began, mut sequence) = (Instant::now(), 0u16);
    for n in 0..150u32 {
        let piece: Vec<i16> = (0..960).map(|k| if k % 48 < 24 { 9000 } else { -9000 }).collect();
        encoder.push(1, &piece);
        for (timestamp, marker, payload) in from.try_iter() {
            sequence = sequence.wrapping_add(1);
            for writer in &mut writers {
                let _ = writer.push(sequence, timestamp, marker, &payload);
            }
        }
        let (id, odd) = (ids[n as usize % GUESTS], n % 2 == 1);
        match n / 10 % 5 {
            0 => system.set_solo(id, odd),
            1 => system.set_side(id, if odd { 0.7 } else { -0.7 }),
            2 => system.set_dimmed(id, odd),
            3 => system.listen_for_clicks(id, odd),
            _ => system.set_mute(id, odd),
        }
        // Once it plays: a thread's own beginning may allocate.
        if n == 30 {
            PLAYER.store(thread("loco-sound-null").expect("it plays"), SeqCst);
        }
        std::thread::sleep((Duration::from_millis(10) * n).saturating_sub(began.elapsed()));
    }
    let stats = system.reader_stats(ids[0]).unwrap();
    PLAYER.store(0, SeqCst);
    assert!(stats.packets_decoded > 150 && stats.playing, "{stats:?}");
    assert_eq!(PLAYER_CALLS.load(SeqCst), 0, "allocations or frees");
}
