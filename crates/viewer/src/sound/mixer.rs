//! Nine readers into one: runs inside the sound device's callback, so no lock is waited for and nothing is allocated.

use super::board::{Board, Strip};
use super::wake::Waker;
use loco_media::sound::meter::{BlockLevel, FLOOR_DBFS, Meter, Reading};
use loco_media::sound::{CHANNELS, Filled, RATE_HZ, Reader};
use loco_model::InstanceId;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;

/// Most frames mixed at once; longer callbacks are served in parts.
pub(super) const MAX_PART_FRAMES: usize = 1024;
/// A gain goes from nothing to full in this time, so that no step is heard.
const RAMP_SECS: f32 = 0.05;
/// Attach and detach commands that may wait for the callback.
const COMMANDS: usize = 64;
/// Meters are drawn at most so often.
const WAKE_SECS: f32 = 1.0 / 30.0;
/// A meter that moved by less is not drawn anew.
const WAKE_DB: f32 = 0.5;

/// Takes or removes an instance's sound.
pub(super) struct Command {
    pub(super) id: InstanceId,
    pub(super) reader: Option<Reader>,
}

/// The window's ends of the mixer's two rings.
pub(super) struct Desk {
    pub(super) commands: Producer<Command>,
    /// Readers that are no longer played: freed outside the callback.
    pub(super) retired: Consumer<Reader>,
}

/// The mixer.
pub(super) struct Mixer {
    board: Arc<Board>,
    waker: Arc<Waker>,
    commands: Consumer<Command>,
    retired: Producer<Reader>,
    channels: [Channel; InstanceId::COUNT],
    master: Output,
    scratch: Box<[f32]>,
    since_wake_secs: f32,
}

#[derive(Default)]
struct Channel {
    reader: Option<Reader>,
    output: Output,
}

/// What follows a source: gain, meter, and what the meter showed when the window was last woken.
#[derive(Default)]
struct Output {
    gain: f32,
    meter: Meter,
    drawn: Option<Reading>,
}

/// A mixer and its desk.
pub(super) fn mixer(board: Arc<Board>, waker: Arc<Waker>) -> (Desk, Mixer) {
    let (commands_in, commands) = RingBuffer::new(COMMANDS);
    let (retired, retired_out) = RingBuffer::new(2 * COMMANDS);
    let mixer = Mixer {
        board,
        waker,
        commands,
        retired,
        channels: Default::default(),
        master: Output::default(),
        scratch: vec![0.0; MAX_PART_FRAMES * CHANNELS].into_boxed_slice(),
        since_wake_secs: 0.0,
    };
    (Desk { commands: commands_in, retired: retired_out }, mixer)
}

// === impl Mixer ===

impl Mixer {
    /// Overwrites `out` (interleaved stereo, 48 kHz).
    pub(super) fn fill(&mut self, out: &mut [f32]) {
        while let Ok(Command { id, reader }) = self.commands.pop() {
            if let Some(old) = std::mem::replace(&mut self.channels[id.index()].reader, reader) {
                // Full only if the desk has not been looked after for a hundred changes; then it is freed here.
                drop(self.retired.push(old));
            }
        }
        for part in out.chunks_mut(MAX_PART_FRAMES * CHANNELS) {
            self.fill_part(part);
        }
    }

    fn fill_part(&mut self, out: &mut [f32]) {
        out.fill(0.0);
        let secs = (out.len() / CHANNELS) as f32 / RATE_HZ as f32;
        let now_us = self.board.now_us();
        let any_solo = self.board.any_solo();
        let mut moved = false;
        for (channel, strip) in self.channels.iter_mut().zip(&self.board.strips) {
            let Some(reader) = &mut channel.reader else { continue };
            let block = &mut self.scratch[..out.len()];
            let gain = strip.fader.gain(any_solo);
            let filled = reader.fill(block);
            moved |= channel.output.play(block, filled, gain, strip, secs, now_us);
            if filled == Filled::Sound {
                for (sum, sample) in out.iter_mut().zip(&*block) {
                    *sum += sample;
                }
            }
        }
        let strip = &self.board.master;
        moved |= self.master.play(out, Filled::Sound, strip.fader.gain(false), strip, secs, now_us);
        for sample in &mut *out {
            *sample = sample.clamp(-1.0, 1.0);
        }
        self.since_wake_secs += secs;
        if moved && self.since_wake_secs >= WAKE_SECS {
            self.since_wake_secs = 0.0;
            for output in self.channels.iter_mut().map(|c| &mut c.output).chain([&mut self.master]) {
                output.drawn = Some(output.meter.reading());
            }
            self.waker.wake();
        }
    }
}

// === impl Output ===

impl Output {
    /// Applies the gain to `block`, measures it, publishes; whether the meter has something new to draw.
    fn play(&mut self, block: &mut [f32], filled: Filled, gain: f32, strip: &Strip, secs: f32, now_us: u64) -> bool {
        let (level, input_peak) = if filled == Filled::Sound {
            let input_peak = BlockLevel::measure(block).loudest();
            self.apply(block, gain);
            (BlockLevel::measure(block), input_peak)
        } else {
            self.gain = gain;
            (BlockLevel::default(), 0.0)
        };
        self.meter.update(&level, input_peak, secs);
        let reading = self.meter.reading();
        strip.meter.publish(&reading, now_us);
        self.drawn.is_none_or(|drawn| differs(&drawn, &reading))
    }

    fn apply(&mut self, block: &mut [f32], target: f32) {
        let step = 1.0 / (RAMP_SECS * RATE_HZ as f32);
        for frame in block.chunks_exact_mut(CHANNELS) {
            self.gain += (target - self.gain).clamp(-step, step);
            for sample in frame {
                *sample *= self.gain;
            }
        }
    }
}

/// Whether one sees a difference.
fn differs(drawn: &Reading, now: &Reading) -> bool {
    let moved = |a: f32, b: f32| (a.max(FLOOR_DBFS) - b.max(FLOOR_DBFS)).abs() >= WAKE_DB;
    drawn.clipped != now.clipped
        || (0..2).any(|c| {
            moved(drawn.peak_dbfs[c], now.peak_dbfs[c])
                || moved(drawn.hold_dbfs[c], now.hold_dbfs[c])
                || moved(drawn.magnitude_dbfs[c], now.magnitude_dbfs[c])
        })
}

#[cfg(test)]
#[path = "mixer_tests.rs"]
mod tests;
