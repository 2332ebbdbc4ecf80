//! A Sound Blaster 16 at its usual place (port 0x220, interrupt 5, 16-bit DMA channel 5), playing round a ring.
//!
//! The ring is filled before the card starts, so a sound begins at once; each interrupt says that one block was played
//! and may be filled anew. The card runs only while something sounds: QEMU closes its voice in between.

use core::sync::atomic::{AtomicBool, Ordering};

use loco_demo_guest::marker::PERIOD_SAMPLES;
use loco_demo_guest::sound::{SAMPLE_RATE, Score};

use super::interrupts::{IRQ_SOUND, set_enabled};
use super::ports::{in8, out8, wait_for};

const BASE: u16 = 0x220;
const RESET: u16 = BASE + 6;
const READ: u16 = BASE + 0xa;
const WRITE: u16 = BASE + 0xc;
const READ_STATUS: u16 = BASE + 0xe;
const ACKNOWLEDGE_16: u16 = BASE + 0xf;

/// Samples that the card plays between two interrupts.
const BLOCK: usize = 1024;
const BLOCKS: usize = 4;
/// Samples that the ring holds: 93 ms. QEMU takes up to 1024 at once, so two blocks would be too few.
const RING: usize = BLOCK * BLOCKS;

/// 16-bit DMA cannot cross 128 KiB; aligned to its size, the ring crosses nothing.
#[repr(C, align(8192))]
struct Ring([i16; RING]);
static mut SAMPLES: Ring = Ring([0; RING]);
static PRESENT: AtomicBool = AtomicBool::new(false);

/// Tells the card that its interrupt was seen.
pub(crate) fn acknowledge() {
    if PRESENT.load(Ordering::Relaxed) {
        in8(ACKNOWLEDGE_16);
    }
}

fn tell(byte: u8) {
    wait_for(|| in8(WRITE) & 0x80 == 0);
    out8(WRITE, byte);
}

fn ask() -> Option<u8> {
    wait_for(|| in8(READ_STATUS) & 0x80 != 0).then(|| in8(READ))
}

/// The card and what it plays.
pub(crate) struct Sound {
    version: (u8, u8),
    playing: bool,
    /// Blocks played since the card started.
    played: u64,
    /// Blocks after the last sound that were played.
    silent: u32,
    score: Score,
}

impl Sound {
    /// Finds the card; `None` when nothing answers there, or it knows no 16 bits.
    pub(crate) fn find() -> Option<Self> {
        out8(RESET, 1);
        for _ in 0..16 {
            in8(0x80);
        }
        out8(RESET, 0);
        if ask() != Some(0xaa) {
            return None;
        }
        tell(0xe1);
        let version = (ask()?, ask()?);
        if version.0 < 4 {
            return None;
        }
        PRESENT.store(true, Ordering::Relaxed);
        set_enabled(IRQ_SOUND, true);
        Some(Self { version, playing: false, played: 0, silent: 0, score: Score::default() })
    }

    /// Version of its signal processor.
    pub(crate) fn version(&self) -> (u8, u8) {
        self.version
    }

    /// Whistles; `false` while it still does.
    pub(crate) fn whistle(&mut self) -> bool {
        let position = self.position();
        let whistle = Score { whistle: self.score.whistle, ..Score::default() };
        if self.playing && whistle.sounds_from(position) && !self.is_stuck() {
            return false;
        }
        if self.playing && self.is_stuck() {
            self.stop();
        }
        self.score.whistle = Some(self.begin());
        self.resume();
        true
    }

    /// Starts or stops the music.
    pub(crate) fn set_music(&mut self, on: bool) {
        if on == self.score.music.is_some() {
            return;
        }
        let from = self.begin();
        self.score.music = on.then_some(from);
        if on || self.playing {
            self.resume();
        }
    }

    /// Starts or stops hum and clicks.
    pub(crate) fn set_marker(&mut self, on: bool) {
        if on == self.score.marker.is_some() {
            return;
        }
        // Some blocks ahead, so that the first click's block is told of by an interrupt too.
        let from = self.begin() + RING as u64;
        self.score.marker = on.then_some(from);
        if on || self.playing {
            self.resume();
        }
    }

    /// After an interrupt: fills what was played, stops when all is silent. Whether the card has begun to read a block
    /// that begins with a click.
    pub(crate) fn refill(&mut self, blocks: u32) -> bool {
        if !self.playing {
            return false;
        }
        let mut clicks = false;
        for _ in 0..blocks {
            let block = self.played;
            self.played += 1;
            let since = self.score.marker.and_then(|from| self.position().checked_sub(from));
            clicks |= since.is_some_and(|since| since % PERIOD_SAMPLES == 0);
            let ahead = block + BLOCKS as u64;
            self.fill(ahead);
        }
        // Two blocks of silence lie between the last sound and the end, so nothing is cut off.
        if self.score.sounds_from(self.position()) {
            self.silent = 0;
        } else {
            self.silent += blocks;
            if self.silent > 2 {
                self.stop();
            }
        }
        clicks
    }

    /// First sample of what may begin now: the ring's start, or behind what the card may already have read.
    fn begin(&self) -> u64 {
        if self.playing { self.position() + BLOCK as u64 } else { 0 }
    }

    /// Samples played, to the block.
    fn position(&self) -> u64 {
        self.played * BLOCK as u64
    }

    /// The card stands although it should play: nobody takes its sound.
    fn is_stuck(&self) -> bool {
        let remaining = || {
            out8(0xd8, 0);
            u16::from(in8(0xc6)) | u16::from(in8(0xc6)) << 8
        };
        self.played == 0 && remaining() as usize == RING - 1
    }

    fn fill(&mut self, block: u64) {
        let at = block as usize % BLOCKS * BLOCK;
        // SAFETY: only this function touches the ring from Rust, and the card only reads; a block that it is just
        // reading would sound wrong, no more.
        let samples = unsafe { core::slice::from_raw_parts_mut((&raw mut SAMPLES).cast::<i16>().add(at), BLOCK) };
        self.score.render(block * BLOCK as u64, samples);
    }

    /// Makes what lies ahead anew, and starts the card if it stands.
    fn resume(&mut self) {
        self.silent = 0;
        let first = if self.playing { self.played + 1 } else { 0 };
        for block in first..self.played + BLOCKS as u64 {
            self.fill(block);
        }
        if !self.playing {
            self.start();
        }
    }

    fn start(&mut self) {
        self.playing = true;
        let address = &raw const SAMPLES as u32;
        let (words, count) = ((address >> 1) as u16, (RING - 1) as u16);
        out8(0xd4, 4 | 1); // mask channel 5
        out8(0xd8, 0);
        out8(0xd6, 0x58 | 1); // single transfers, round and round, memory to card
        for byte in words.to_le_bytes() {
            out8(0xc4, byte);
        }
        out8(0x8b, (address >> 16) as u8 & 0xfe);
        for byte in count.to_le_bytes() {
            out8(0xc6, byte);
        }
        out8(0xd4, 1);
        let [low, high] = (SAMPLE_RATE as u16).to_le_bytes();
        let [length_low, length_high] = (BLOCK as u16 - 1).to_le_bytes();
        // Speaker on; rate; 16 bits out, round and round, with FIFO; signed, one channel; samples to an interrupt.
        for byte in [0xd1, 0x41, high, low, 0xb6, 0x10, length_low, length_high] {
            tell(byte);
        }
    }

    fn stop(&mut self) {
        // Pause 16-bit DMA; QEMU closes its voice.
        tell(0xd5);
        out8(0xd4, 4 | 1);
        self.playing = false;
        self.played = 0;
        self.silent = 0;
        self.score.whistle = None;
    }
}
