//! Nine readers into one: runs inside the sound device's callback, so no lock is waited for and nothing is allocated.

use super::board::{Board, Strip};
use super::wake::Waker;
use crate::ear::Ear;
use crate::loudness::Loudness;
use crate::machine::Machine;
use crate::meter::{BlockLevel, Decay, FLOOR_DBFS, IDLE_SECS, Meter, Reading};
use crate::{Bell, CHANNELS, Filled, RATE_HZ, Reader, SoundError};
use loco_model::InstanceId;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Most frames mixed at once; longer callbacks are served in parts.
pub(super) const MAX_PART_FRAMES: usize = 1024;
/// A gain goes from nothing to full in this time, so that no step is heard.
const RAMP_SECS: f32 = 0.05;
/// Attach and detach commands that may wait for the callback.
const COMMANDS: usize = 64;
/// What a momentary loudness is taken over: 400 ms (EBU Tech 3341).
const MOMENTARY_FRAMES: usize = RATE_HZ as usize * 2 / 5;
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
    /// Wakes an output that rests because all is silent.
    pub(super) bell: Arc<Bell>,
}

/// When a callback began and how long its sound takes from there to the loudspeaker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// By `crate::clock`.
    pub(super) began_us: u64,
    /// `None` where the system does not say.
    pub(super) latency_us: Option<u64>,
}

/// The mixer.
pub(super) struct Mixer {
    board: Arc<Board>,
    waker: Arc<Waker>,
    commands: Consumer<Command>,
    retired: Producer<Reader>,
    bell: Arc<Bell>,
    machine: Arc<Machine>,
    channels: [Channel; InstanceId::COUNT],
    master: Output,
    scratch: Box<[f32]>,
    since_wake_secs: f32,
    /// Something moved since the window was woken.
    moved: bool,
}

struct Channel {
    reader: Option<Reader>,
    output: Output,
    ear: Ear,
}

/// What follows a source: gain, meters, and what the meter showed when the window was last woken.
struct Output {
    gains: [f32; CHANNELS],
    meter: Meter,
    loudness: Loudness,
    drawn: Option<Reading>,
}

/// A mixer and its desk.
///
/// # Errors
/// When a loudness meter cannot be made.
pub(super) fn mixer(board: Arc<Board>, waker: Arc<Waker>) -> Result<(Desk, Mixer), SoundError> {
    let (commands_in, commands) = RingBuffer::new(COMMANDS);
    let (retired, retired_out) = RingBuffer::new(2 * COMMANDS);
    let mut channels = Vec::with_capacity(InstanceId::COUNT);
    for _ in 0..InstanceId::COUNT {
        channels.push(Channel { reader: None, output: Output::new()?, ear: Ear::default() });
    }
    let Ok(channels) = channels.try_into() else { unreachable!("as many as there are instances") };
    let bell = Arc::new(Bell::default());
    let mixer = Mixer {
        board,
        waker,
        commands,
        retired,
        bell: bell.clone(),
        machine: Arc::default(),
        channels,
        master: Output::new()?,
        scratch: vec![0.0; MAX_PART_FRAMES * CHANNELS].into_boxed_slice(),
        since_wake_secs: 0.0,
        moved: false,
    };
    Ok((Desk { commands: commands_in, retired: retired_out, bell }, mixer))
}

// === impl Mixer ===

impl Mixer {
    /// Overwrites `out` (interleaved stereo, 48 kHz) with what begins `offset` frames after `moment`.
    pub(super) fn fill(&mut self, out: &mut [f32], moment: Moment, offset: usize) {
        while let Ok(Command { id, reader }) = self.commands.pop() {
            let channel = &mut self.channels[id.index()];
            // Another one's levels and clicks are not this one's.
            channel.output.forget();
            channel.ear = Ear::default();
            if let Some(old) = std::mem::replace(&mut channel.reader, reader) {
                // Full only if the desk has not been looked after for a hundred changes; then it is freed here.
                drop(self.retired.push(old));
            }
        }
        self.share_spare();
        for (n, part) in out.chunks_mut(MAX_PART_FRAMES * CHANNELS).enumerate() {
            self.fill_part(part, moment, offset + n * MAX_PART_FRAMES);
        }
    }

    /// A stall of this machine, or of the one that all guests run on, comes to one instance now and to another then: what
    /// two of them learnt, all keep in store, and what a machine that is full will come to. One alone may have a bad way of
    /// its own.
    fn share_spare(&mut self) {
        let (mut most, mut second) = (0.0f64, 0.0f64);
        for learnt in self.channels.iter().filter_map(|c| c.reader.as_ref()).map(Reader::learnt_spare_ms) {
            second = second.max(learnt.min(most));
            most = most.max(learnt);
        }
        for reader in self.channels.iter_mut().filter_map(|c| c.reader.as_mut()) {
            reader.share_spare(second.max(self.machine.spare_ms()));
        }
    }

    /// Nothing sounds, nothing waits, and no meter would move: an output that is its own clock may rest.
    pub(super) fn is_idle(&self) -> bool {
        let rests = |output: &Output| output.meter.is_at_rest();
        self.commands.is_empty()
            && self.master.meter.is_at_rest()
            && self.channels.iter().all(|c| c.reader.as_ref().is_none_or(|r| r.is_idle() && rests(&c.output)))
    }

    /// Rung when [`Mixer::is_idle`] may no longer hold.
    pub(super) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// How full the machine is, for who may look at it.
    pub(super) fn machine(&self) -> Arc<Machine> {
        self.machine.clone()
    }

    /// So many frames passed without a call of [`Mixer::fill`], in silence. Meters forget, as OBS's do without data.
    pub(super) fn pass(&mut self, frames: usize) {
        let forget = frames as f32 / RATE_HZ as f32 > IDLE_SECS;
        for channel in &mut self.channels {
            channel.output.loudness.add_silence(frames);
            if let Some(reader) = &mut channel.reader {
                reader.pass(frames);
            }
        }
        self.master.loudness.add_silence(frames);
        for output in self.channels.iter_mut().map(|c| &mut c.output).chain([&mut self.master]).filter(|_| forget) {
            output.meter.reset();
        }
    }

    fn fill_part(&mut self, out: &mut [f32], moment: Moment, offset: usize) {
        out.fill(0.0);
        let frames = out.len() / CHANNELS;
        let secs = frames as f32 / RATE_HZ as f32;
        let now_us = self.board.now_us();
        let (any_solo, dim, decay) = (self.board.any_solo(), self.board.dim(), self.board.decay());
        let mut moved = false;
        let mut sum = Filled::Silence;
        for (channel, strip) in self.channels.iter_mut().zip(&self.board.strips) {
            let Some(reader) = &mut channel.reader else { continue };
            let block = &mut self.scratch[..out.len()];
            let filled = reader.fill(block);
            if strip.heard.wanted.load(Relaxed) {
                match filled {
                    Filled::Silence => channel.ear.listen_to_silence(frames),
                    Filled::Sound => {
                        if let Some(click) = channel.ear.listen(block) {
                            let offset_us = (offset + click) as u64 * 1_000_000 / u64::from(RATE_HZ);
                            strip.heard.publish(moment.began_us, offset_us, moment.latency_us);
                            // Who draws wants to pair it with its flash.
                            moved = true;
                        }
                    }
                }
            }
            let gains = strip.fader.gains(any_solo, dim);
            moved |= channel.output.play(block, filled, gains, decay, strip, secs, now_us);
            if filled == Filled::Sound {
                sum = Filled::Sound;
                for (sum, sample) in out.iter_mut().zip(&*block) {
                    *sum += sample;
                }
            }
        }
        let strip = &self.board.master;
        moved |= self.master.play(out, sum, strip.fader.gains(false, 1.0), decay, strip, secs, now_us);
        if sum == Filled::Sound {
            for sample in &mut *out {
                *sample = sample.clamp(-1.0, 1.0);
            }
        }
        self.since_wake_secs += secs;
        self.moved |= moved;
        if self.moved && self.since_wake_secs >= WAKE_SECS {
            (self.since_wake_secs, self.moved) = (0.0, false);
            for output in self.channels.iter_mut().map(|c| &mut c.output).chain([&mut self.master]) {
                output.drawn = Some(output.meter.reading());
            }
            self.waker.wake();
        }
    }
}

// === impl Output ===

impl Output {
    fn new() -> Result<Self, SoundError> {
        Ok(Self { gains: [0.0; CHANNELS], meter: Meter::default(), loudness: Loudness::new()?, drawn: None })
    }

    /// What follows is another source's.
    fn forget(&mut self) {
        self.meter.reset();
        self.loudness.add_silence(MOMENTARY_FRAMES);
        self.drawn = None;
    }

    /// Applies the gains to `block`, measures it, publishes; whether the meter has something new to draw.
    fn play(
        &mut self,
        block: &mut [f32],
        filled: Filled,
        gains: [f32; CHANNELS],
        decay: Decay,
        strip: &Strip,
        secs: f32,
        now_us: u64,
    ) -> bool {
        let (level, input_peak) = if filled == Filled::Sound {
            let input_peak = BlockLevel::measure(block).loudest();
            self.apply(block, gains);
            self.loudness.add(block);
            (BlockLevel::measure(block), input_peak)
        } else {
            self.gains = gains;
            self.loudness.add_silence(block.len() / CHANNELS);
            (BlockLevel::default(), 0.0)
        };
        self.meter.set_decay(decay);
        self.meter.update(&level, input_peak, secs);
        let reading = self.meter.reading();
        strip.meter.publish(&reading, self.loudness.momentary_lufs(), now_us);
        self.drawn.is_none_or(|drawn| differs(&drawn, &reading))
    }

    fn apply(&mut self, block: &mut [f32], targets: [f32; CHANNELS]) {
        let step = 1.0 / (RAMP_SECS * RATE_HZ as f32);
        for frame in block.chunks_exact_mut(CHANNELS) {
            for ((sample, gain), target) in frame.iter_mut().zip(&mut self.gains).zip(targets) {
                *gain += (target - *gain).clamp(-step, step);
                *sample *= *gain;
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
