//! The callback's end of an instance's sound: packets -> decode or conceal -> drift correction.

mod splice;
mod waiting;

use super::drift::{LEAST_SPARE_MS, Steering};
use super::ring::{Packet, PacketReader};
use super::stats::{Counters, ReaderStatsHandle, count, set};
use super::{Bell, CHANNELS, PACKET_FRAMES, RATE_HZ, SoundError, StereoResampler};
use opus::Channels;
use splice::{REACH_FRAMES, Splicer};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use waiting::Waiting;

/// Most frames made at once; longer callbacks are served in parts.
const MAX_PART_FRAMES: usize = 1024;
/// Longest packet of Opus: 120 ms.
const MAX_PACKET_FRAMES: usize = 5760;
/// Shortest one, 2.5 ms; all others are multiples of it.
const LEAST_PACKET_FRAMES: usize = 120;
/// What must be there before a stretch of sound begins, besides what is to be spare above the least.
const START_MS: f64 = 24.0;
/// If that much does not come, what is there is played after this many times its length.
const START_WAIT: f64 = 2.0;
/// More than this above the spare is thrown away, down to the start level: nothing that comes later than that is asked
/// for. Less is left out bit by bit where it is hardly heard; and a sound server that stood still may ask in one go for all
/// that it did not ask for meanwhile.
const FAR_TOO_MUCH_MS: f64 = 400.0;
/// What may be there beyond that in the middle of sound, before its beginning is left out.
const SURPLUS_MS: f64 = 20.0;
/// More than this above the start level is not held back to keep a pause as long as it was.
const PAUSE_KEPT_MS: f64 = 30.0;
/// Late packets concealed in a row before playing stops: 40 ms of ours, in which Opus lets fade what it makes up.
const MAX_LATE: u32 = 8;
/// A pause in the sender's time that is played as it was, at most; a longer one has no meaning for the delay.
const MAX_GAP_FRAMES: i64 = RATE_HZ as i64;
/// A pause so short that playing does not stop for it.
const SHORT_GAP_FRAMES: i64 = 2 * PACKET_FRAMES as i64;
/// A packet quieter than this (-78 dB) after which nothing comes was the end, and its own packet was lost.
const QUIET: f32 = 1.0 / 8192.0;
/// Frames over which sound comes and goes where it has to be cut.
const RAMP_FRAMES: usize = 96;
/// What the agent's packet and the codec's look-ahead add to the delay.
const CODEC_MS: f64 = 7.5;
/// What the resampler adds.
const RESAMPLER_MS: f64 = 0.7;

/// What [`Reader::fill`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Zeros: nothing plays.
    Silence,
    /// Sound.
    Sound,
}

/// Decodes one instance's packets inside the sound device's callback: no lock, no allocation, no system call.
pub struct Reader {
    ring: PacketReader,
    stats: ReaderStatsHandle,
    bell: Arc<OnceLock<Arc<Bell>>>,
    waiting: Waiting,
    opus: opus::Decoder,
    resampler: StereoResampler,
    steering: Steering,
    phase: Phase,
    /// Decoded, not yet played; its capacity is never exceeded.
    pcm: Vec<f32>,
    /// Frames of the session's longest packet so far: what is made up where nothing says how long.
    packet_frames: usize,
    /// The sender's time behind what was decoded or made up last.
    decoded_until: u32,
    last_packet_was_quiet: bool,
    /// Frames of a ramp up still to play.
    ramp_left: usize,
    splicer: Splicer,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nothing plays: for so many frames since the stretch ended whose time is given, and something waits for so many.
    Silent { ended_at: Option<u32>, silent_frames: i64, waited_frames: usize },
    /// Plays; so many packets in a row were late.
    Playing { late: u32 },
}

/// Why playing stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The sender said so, at this time of its own.
    End(u32),
    /// It was silent already.
    Quiet,
    /// In the middle of sound.
    Underrun,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(ring: PacketReader) -> Result<Self, SoundError> {
        Ok(Self {
            ring,
            stats: ReaderStatsHandle::default(),
            bell: Arc::default(),
            waiting: Waiting::new(),
            opus: opus::Decoder::new(RATE_HZ, Channels::Stereo)?,
            resampler: StereoResampler::new(RATE_HZ, RATE_HZ, MAX_PART_FRAMES)?,
            steering: Steering::new(),
            phase: Phase::SILENT,
            pcm: Vec::with_capacity((2 * MAX_PART_FRAMES + 2 * MAX_PACKET_FRAMES) * CHANNELS),
            packet_frames: PACKET_FRAMES,
            decoded_until: 0,
            last_packet_was_quiet: true,
            ramp_left: 0,
            splicer: Splicer::default(),
        })
    }

    /// Overwrites `out` (interleaved stereo, 48 kHz of the sound device's clock) with what is due.
    pub fn fill(&mut self, out: &mut [f32]) -> Filled {
        let mut filled = Filled::Silence;
        for part in out.chunks_mut(MAX_PART_FRAMES * CHANNELS) {
            if self.fill_part(part) == Filled::Sound {
                filled = Filled::Sound;
            }
        }
        filled
    }

    /// The counters; stay readable after the reader went into the callback.
    #[must_use]
    pub fn stats(&self) -> ReaderStatsHandle {
        self.stats.clone()
    }

    /// Rung with every packet that comes in from now on. The first one that is set stays.
    pub fn set_bell(&self, bell: Arc<Bell>) {
        // Set twice by the same system: the same bell.
        let _ = self.bell.set(bell);
    }

    pub(super) fn bell(&self) -> Arc<OnceLock<Arc<Bell>>> {
        self.bell.clone()
    }

    /// Nothing plays and nothing waits to be played.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Silent { .. }) && self.ring.is_empty() && self.waiting.len() == 0
    }

    /// What this reader learnt to keep in store for packets that come late, in milliseconds.
    #[must_use]
    pub fn learnt_spare_ms(&self) -> f64 {
        self.steering.learnt_ms()
    }

    /// What other readers of the same machine learnt to keep in store, in milliseconds: this one does too, until told
    /// anew.
    pub fn share_spare(&mut self, others_ms: f64) {
        self.steering.share(others_ms);
    }

    /// So many frames passed in silence without a call of [`Reader::fill`].
    pub fn pass(&mut self, frames: usize) {
        if let Phase::Silent { silent_frames, .. } = &mut self.phase {
            *silent_frames = silent_frames.saturating_add_unsigned(frames as u64);
        }
    }

    fn fill_part(&mut self, out: &mut [f32]) -> Filled {
        let frames = out.len() / CHANNELS;
        self.take_packets();
        if !self.starts_or_plays(frames) {
            out.fill(0.0);
            return Filled::Silence;
        }
        let part_ms = milliseconds(frames);
        let surplus_ms = self.stored_ms() - part_ms - self.steering.spare_ms();
        if surplus_ms > FAR_TOO_MUCH_MS {
            self.skip();
        }
        self.steering.observe(self.stored_ms() - part_ms, part_ms / 1000.0);
        self.splice(frames);
        let speed = self.steering.speed();
        let need = self.resampler.prepare(frames, 1.0 + speed) * CHANNELS;
        let mut stop = None;
        while self.pcm.len() < need && stop.is_none() {
            stop = self.pull();
        }
        if stop == Some(Stop::Underrun) {
            // Of what is made up only so much is heard: that has to fade.
            let heard = self.pcm.len().min(need);
            ramp_down(&mut self.pcm[heard.saturating_sub(self.packet_frames * CHANNELS)..heard]);
        }
        if self.pcm.len() < need {
            self.pcm.resize(need, 0.0);
        }
        self.resampler.process(&self.pcm[..need], out);
        self.pcm.copy_within(need.., 0);
        self.pcm.truncate(self.pcm.len() - need);
        self.ramp_up(out);

        let stored_ms = self.stored_ms();
        let counters = self.counters();
        set(&counters.buffer_ms, stored_ms);
        set(&counters.latency_ms, CODEC_MS + stored_ms + RESAMPLER_MS);
        set(&counters.drift_ppm, speed * 1e6);
        set(&counters.spare_ms, self.steering.spare_ms());
        if let Some(stop) = stop {
            self.stop(stop);
        }
        Filled::Sound
    }

    fn counters(&self) -> &Counters {
        &self.stats.0
    }

    /// Empties the ring into the places.
    fn take_packets(&mut self) {
        while let Ok(packet) = self.ring.pop() {
            if packet.epoch != self.waiting.epoch {
                self.waiting.begin_session(packet.epoch);
                self.phase = Phase::SILENT;
                self.pcm.clear();
                self.packet_frames = PACKET_FRAMES;
                self.stats.0.playing.store(false, Relaxed);
                set(&self.stats.0.drift_ppm, 0.0);
            }
            if !self.waiting.put(packet) {
                count(&self.stats.0.packets_stale);
            }
        }
    }

    /// What is in store, decoded and not.
    fn stored_ms(&self) -> f64 {
        milliseconds(self.pcm.len() / CHANNELS + self.waiting.frames(self.packet_frames))
    }

    /// What a stretch of sound begins with.
    fn start_ms(&self) -> f64 {
        START_MS + self.steering.spare_ms() - LEAST_SPARE_MS
    }

    /// Whether this part is played; begins a stretch of sound when enough is there.
    fn starts_or_plays(&mut self, frames: usize) -> bool {
        let start_ms = self.start_ms();
        let Phase::Silent { ended_at, silent_frames, waited_frames } = &mut self.phase else { return true };
        let (gap_played, ended_at, waited) = (*silent_frames, *ended_at, *waited_frames);
        *silent_frames = silent_frames.saturating_add(frames as i64);
        let Some((timestamp, marker)) = self.waiting.skip_to_first().map(|p| (p.timestamp, p.marker)) else {
            *waited_frames = 0;
            return false;
        };
        *waited_frames += frames;
        let stored_ms = self.stored_ms();
        let waited_ms = milliseconds(waited);
        if stored_ms < start_ms && waited_ms < START_WAIT * start_ms && !self.waiting.holds_end() {
            return false;
        }
        let gap = ended_at.map_or(0, |end| i64::from(timestamp.wrapping_sub(end) as i32));
        let gap_left = if gap <= MAX_GAP_FRAMES { gap - gap_played } else { 0 };
        if gap_left > frames as i64 / 2 && stored_ms < start_ms + PAUSE_KEPT_MS {
            return false;
        }
        if !marker && stored_ms > start_ms + SURPLUS_MS {
            // A host that stalled catches up. Sound is interrupted already; later it would be once more.
            self.keep_start();
        }
        self.phase = Phase::Playing { late: 0 };
        self.steering.restart();
        self.pcm.clear();
        // A marked packet begins out of silence by itself; any other is in the middle of sound.
        self.ramp_left = if marker { 0 } else { RAMP_FRAMES };
        count(&self.counters().stretches);
        self.counters().playing.store(true, Relaxed);
        true
    }

    fn stop(&mut self, why: Stop) {
        if why == Stop::Underrun {
            count(&self.counters().underruns);
        }
        let ended_at = if let Stop::End(timestamp) = why { Some(timestamp) } else { None };
        self.phase = Phase::Silent { ended_at, silent_frames: 0, waited_frames: 0 };
        self.pcm.clear();
        let counters = self.counters();
        counters.playing.store(false, Relaxed);
        set(&counters.drift_ppm, 0.0);
    }

    /// Throws away all but what a stretch begins with.
    fn keep_start(&mut self) {
        let keep = (self.start_ms() * f64::from(RATE_HZ) / 1000.0) as u64 / self.packet_frames.max(1) as u64;
        self.pcm.clear();
        self.waiting.keep_newest(keep);
    }

    /// Throws away what is too much.
    fn skip(&mut self) {
        self.keep_start();
        self.steering.restart();
        self.ramp_left = RAMP_FRAMES;
        count(&self.counters().skips);
    }

    /// Leaves out or repeats a little, where the store is far from what it should be.
    fn splice(&mut self, frames: usize) {
        let off_ms = self.steering.off_ms(self.stored_ms() - milliseconds(frames));
        let off_frames = (off_ms * f64::from(RATE_HZ) / 1000.0) as i64;
        if !self.splicer.is_due(off_frames != 0, frames) {
            return;
        }
        while self.pcm.len() < REACH_FRAMES * CHANNELS
            && let Some(packet) = self.waiting.take_sound()
        {
            self.decode(&packet);
        }
        if let Some(shorter) = self.splicer.splice(&mut self.pcm, off_frames) {
            self.steering.spliced(shorter as f64 * 1000.0 / f64::from(RATE_HZ));
            count(&self.counters().splices);
        }
    }

    /// One more packet into `pcm`: decoded, or concealed because it is lost (its successor is there) or late (nothing is
    /// there; it is played when it comes, so that the delay grows by itself). Says when playing stops with this.
    fn pull(&mut self) -> Option<Stop> {
        if let Some(packet) = self.waiting.take() {
            self.phase = Phase::Playing { late: 0 };
            if packet.is_end() {
                return self.end_of_stretch(packet.timestamp);
            }
            self.decode(&packet);
            return None;
        }
        if let Some(first) = self.waiting.first() {
            if first.marker {
                // The stretch's end is among what was lost: its tail was silent.
                self.waiting.skip_to_first();
                return Some(Stop::Quiet);
            }
            let gap = first.timestamp.wrapping_sub(self.decoded_until) as usize;
            let says = gap.is_multiple_of(LEAST_PACKET_FRAMES) && (1..self.packet_frames).contains(&gap);
            let frames = if says { gap } else { self.packet_frames };
            self.waiting.next += 1;
            self.conceal(frames);
            self.decoded_until = self.decoded_until.wrapping_add(frames as u32);
            count(&self.counters().concealed_lost);
            return None;
        }
        if self.last_packet_was_quiet {
            return Some(Stop::Quiet);
        }
        let late = 1 + if let Phase::Playing { late } = self.phase { late } else { 0 };
        self.steering.saw_late(late, f64::from(late) * milliseconds(self.packet_frames));
        self.conceal(self.packet_frames);
        if late > MAX_LATE {
            return Some(Stop::Underrun);
        }
        self.phase = Phase::Playing { late };
        count(&self.counters().concealed_late);
        None
    }

    /// The sender ended its stretch; a new one that follows at once is played without a stop.
    fn end_of_stretch(&mut self, ended_at: u32) -> Option<Stop> {
        let gap = self.waiting.first().map(|p| i64::from(p.timestamp.wrapping_sub(ended_at) as i32));
        match gap {
            Some(gap @ 0..=SHORT_GAP_FRAMES) => {
                let silence = self.pcm.len() + gap as usize * CHANNELS;
                self.pcm.resize(silence, 0.0);
                self.waiting.skip_to_first();
                None
            }
            _ => Some(Stop::End(ended_at)),
        }
    }

    fn decode(&mut self, packet: &Packet) {
        let begin = self.pcm.len();
        self.decoded_until = packet.timestamp.wrapping_add(packet.frames.into());
        self.pcm.resize(begin + usize::from(packet.frames).min(MAX_PACKET_FRAMES) * CHANNELS, 0.0);
        match self.opus.decode_float(packet.payload(), &mut self.pcm[begin..], false) {
            Ok(frames) => {
                self.pcm.truncate(begin + frames * CHANNELS);
                self.packet_frames = self.packet_frames.max(frames);
                self.last_packet_was_quiet = self.pcm[begin..].iter().all(|s| s.abs() < QUIET);
                count(&self.counters().packets_decoded);
            }
            Err(_) => {
                self.pcm.truncate(begin);
                self.conceal(packet.frames.into());
                count(&self.counters().packets_broken);
            }
        }
    }

    /// So many frames made up by Opus from what came before.
    fn conceal(&mut self, frames: usize) {
        let begin = self.pcm.len();
        self.pcm.resize(begin + frames * CHANNELS, 0.0);
        if self.opus.decode_float(&[], &mut self.pcm[begin..], false).is_err() {
            self.pcm[begin..].fill(0.0);
        }
    }

    fn ramp_up(&mut self, out: &mut [f32]) {
        for frame in out.chunks_exact_mut(CHANNELS).take(self.ramp_left) {
            let gain = 1.0 - self.ramp_left as f32 / RAMP_FRAMES as f32;
            self.ramp_left -= 1;
            for sample in frame {
                *sample *= gain;
            }
        }
    }
}

fn milliseconds(frames: usize) -> f64 {
    frames as f64 * 1000.0 / f64::from(RATE_HZ)
}

fn ramp_down(interleaved: &mut [f32]) {
    let frames = (interleaved.len() / CHANNELS).max(1) as f32;
    for (n, frame) in interleaved.chunks_exact_mut(CHANNELS).enumerate() {
        for sample in frame {
            *sample *= 1.0 - (n + 1) as f32 / frames;
        }
    }
}

// === impl Phase ===

impl Phase {
    const SILENT: Self = Self::Silent { ended_at: None, silent_frames: 0, waited_frames: 0 };
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
