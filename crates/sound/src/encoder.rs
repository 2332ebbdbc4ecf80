//! The agent's end of a guest's sound: voices -> mix -> Opus, and nothing for silence.

use super::level::LastSecond;
use super::{CHANNELS, MAX_PAYLOAD_BYTES, PACKET_FRAMES, RATE_HZ, SoundError, SoundLink, SoundPacket};
use opus::{Application, Bitrate, Channels};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bits a second while there is sound.
const BIT_RATE: i32 = 96_000;
/// Of 0 to 10: music with drums at our bit rate and packet length loses nothing against the codec's own choice (9), and
/// takes three quarters of the time; with 3 it is half, and 0.35 dB of noise.
const COMPLEXITY: i32 = 5;
/// Samples of one packet.
const PACKET_SAMPLES: usize = PACKET_FRAMES * CHANNELS;
/// Silent packets sent after the last sound, before the end: the codec's look-ahead and its ringing.
const TAIL_PACKETS: u32 = 4;
/// The codec gives a frame's last 2.5 ms with the next packet (`OPUS_GET_LOOKAHEAD` for low delay at 48 kHz).
const LOOKAHEAD_FRAMES: usize = 120;
/// Voices that a guest may have. A sound card has one to four.
const MAX_VOICES: usize = 16;
/// A voice that gave nothing for so long is not waited for.
const VOICE_STALLED: Duration = Duration::from_millis(100);
/// How far one voice may be ahead of another before it goes on alone: two of QEMU's pieces.
const MIX_WAIT_SAMPLES: usize = 2048 * CHANNELS;
/// A voice further ahead than this loses its oldest samples.
const MAX_QUEUE_SAMPLES: usize = RATE_HZ as usize / 2 * CHANNELS;
/// A pause without `enable` that counts as a gap in time. A busy host makes QEMU pause for up to 270 ms and then catch
/// up, with nothing lost: that is none.
const GAP: Duration = Duration::from_secs(1);

/// Mixes a guest's voices, leaves silence out, encodes the rest as Opus (5 ms, 96 kbit/s). Cheap to clone; all clones
/// are one encoder. The methods take a short lock and call the link on the calling thread.
#[derive(Clone)]
pub struct SoundEncoder {
    state: Arc<Mutex<State>>,
}

/// Counters since the encoder was made, and the level now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoundEncoderStats {
    /// Voices that the guest has open.
    pub voices: u32,
    /// Opus packets handed to the link.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Stretches of sound begun.
    pub stretches: u64,
    /// 5 ms pieces left out because they were silent.
    pub silent_pieces: u64,
    /// Samples cut off at full scale because several voices were louder together.
    pub saturated: u64,
    /// Samples thrown away because a voice ran too far ahead of the others, or there were too many voices.
    pub dropped: u64,
    /// Times that a voice gave nothing for over 100 ms in the middle of sound: the host kept the guest waiting, and who
    /// listens hears a gap.
    pub underruns: u64,
    /// Packets that Opus refused to make.
    pub failed: u64,
    /// Peak of the last second in dB of full scale; `None` while nothing sounds.
    pub peak_dbfs: Option<f32>,
}

struct State {
    link: Box<dyn SoundLink>,
    opus: opus::Encoder,
    voices: Vec<Voice>,
    began: Instant,
    /// Frames since `began` of the next sample to be sent.
    next_frame: u64,
    /// RTP timestamp of frame 0 (RFC 3550 wants a random one).
    timestamp_offset: u32,
    phase: Phase,
    /// A voice was opened or started: its samples may begin later than the last ones ended.
    fresh: bool,
    last_push: Option<Instant>,
    /// Last sample of each channel: what repeats it for a whole piece is silent, whatever its value.
    held: [i16; CHANNELS],
    toc: Option<u8>,
    level: LastSecond,
    stats: SoundEncoderStats,
}

struct Voice {
    id: u64,
    enabled: bool,
    queue: VecDeque<i16>,
    last_push: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is sent.
    Silent,
    /// Packets are sent; so many silent ones still before the end.
    Sounding { tail: u32 },
}

// === impl SoundEncoder ===

impl SoundEncoder {
    /// An encoder whose packets go to `link`.
    ///
    /// # Errors
    /// When Opus cannot be set up.
    pub fn new(link: impl SoundLink + 'static) -> Result<Self, SoundError> {
        let mut opus = opus::Encoder::new(RATE_HZ, Channels::Stereo, Application::LowDelay)?;
        opus.set_bitrate(Bitrate::Bits(BIT_RATE))?;
        opus.set_complexity(COMPLEXITY)?;
        let now = Instant::now();
        let state = State {
            link: Box::new(link),
            opus,
            voices: Vec::with_capacity(MAX_VOICES),
            began: now,
            next_frame: 0,
            timestamp_offset: rand::random(),
            phase: Phase::Silent,
            fresh: true,
            last_push: None,
            held: [0; CHANNELS],
            toc: None,
            level: LastSecond::new(now),
            stats: SoundEncoderStats::default(),
        };
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// The guest opened a voice.
    pub fn open(&self, voice: u64) {
        self.state.lock().voice(voice, Instant::now());
    }

    /// The guest started or stopped a voice. When the last one stops, what is left is sent, and the end.
    pub fn enable(&self, voice: u64, enabled: bool) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(index) = state.voice(voice, now) else { return };
        state.fresh |= enabled && !state.voices[index].enabled;
        state.voices[index].enabled = enabled;
        state.finish_if_stopped(now);
    }

    /// Samples of a voice: interleaved stereo, 48 kHz, just captured. A voice that was not opened or started is.
    pub fn push(&self, voice: u64, samples: &[i16]) {
        self.push_at(voice, samples, Instant::now());
    }

    /// The guest closed a voice.
    pub fn close(&self, voice: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(closed) = state.voices.iter_mut().find(|v| v.id == voice) {
            closed.enabled = false;
        }
        state.finish_if_stopped(now);
        state.voices.retain(|v| v.id != voice);
        state.stats.voices = state.voices.len() as u32;
    }

    /// The counters and the level now.
    #[must_use]
    pub fn stats(&self) -> SoundEncoderStats {
        self.stats_at(Instant::now())
    }

    fn stats_at(&self, now: Instant) -> SoundEncoderStats {
        let mut state = self.state.lock();
        let peak_dbfs = state.level.peak_dbfs(now);
        SoundEncoderStats { peak_dbfs, ..state.stats }
    }

    fn push_at(&self, voice: u64, samples: &[i16], now: Instant) {
        let mut state = self.state.lock();
        let samples = &samples[..samples.len() / CHANNELS * CHANNELS];
        let Some(index) = state.voice(voice, now) else {
            state.stats.dropped += samples.len() as u64;
            return;
        };
        let waited = state.last_push.is_some_and(|last| now.saturating_duration_since(last) > VOICE_STALLED);
        if waited && !state.fresh && state.phase != Phase::Silent {
            state.stats.underruns += 1;
        }
        state.follow_clock(samples.len() / CHANNELS, now);
        let voice = &mut state.voices[index];
        voice.enabled = true;
        voice.last_push = now;
        voice.queue.extend(samples);
        let excess = voice.queue.len().saturating_sub(MAX_QUEUE_SAMPLES);
        voice.queue.drain(..excess);
        state.stats.dropped += excess as u64;
        state.last_push = Some(now);
        while state.is_piece_ready(now) {
            let piece = state.mix(true);
            state.emit(&piece, now);
        }
    }
}

// === impl State ===

impl State {
    /// Index of a voice, opened if need be; `None` when there are too many.
    fn voice(&mut self, id: u64, now: Instant) -> Option<usize> {
        if let Some(index) = self.voices.iter().position(|v| v.id == id) {
            return Some(index);
        }
        if self.voices.len() == MAX_VOICES {
            tracing::warn!(voice = id, max = MAX_VOICES, "too many voices: this one is not heard");
            return None;
        }
        self.voices.push(Voice { id, enabled: false, queue: VecDeque::new(), last_push: now });
        self.stats.voices = self.voices.len() as u32;
        self.fresh = true;
        Some(self.voices.len() - 1)
    }

    /// Moves the timeline on over a gap in which the guest played nothing.
    fn follow_clock(&mut self, frames: usize, now: Instant) {
        let paused = self.last_push.is_none_or(|last| now.saturating_duration_since(last) > GAP);
        if (self.fresh || paused) && self.voices.iter().all(|v| v.queue.is_empty()) {
            let micros = now.saturating_duration_since(self.began).as_micros() as u64;
            let captured = (micros * u64::from(RATE_HZ) / 1_000_000).saturating_sub(frames as u64);
            if captured > self.next_frame {
                self.end();
                self.next_frame = captured;
            }
        }
        self.fresh = false;
    }

    /// Every voice that plays has a piece, or one is so far ahead that the others are not waited for.
    fn is_piece_ready(&self, now: Instant) -> bool {
        let (mut longest, mut waiting) = (0, false);
        for voice in &self.voices {
            longest = longest.max(voice.queue.len());
            let stalled = now.saturating_duration_since(voice.last_push) > VOICE_STALLED;
            waiting |= voice.enabled && !stalled && voice.queue.len() < PACKET_SAMPLES;
        }
        longest >= PACKET_SAMPLES && (!waiting || longest >= MIX_WAIT_SAMPLES)
    }

    /// Takes one piece of every voice. If `whole`, one that plays and has less gives nothing: the rest is on its way. What
    /// a stopped voice has left is its end, and belongs here.
    fn mix(&mut self, whole: bool) -> [i16; PACKET_SAMPLES] {
        let mut sum = [0i32; PACKET_SAMPLES];
        for voice in &mut self.voices {
            if whole && voice.enabled && voice.queue.len() < PACKET_SAMPLES {
                continue;
            }
            let length = voice.queue.len().min(PACKET_SAMPLES);
            for (to, from) in sum.iter_mut().zip(voice.queue.drain(..length)) {
                *to += i32::from(from);
            }
        }
        sum.map(|sample| {
            let cut = sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
            self.stats.saturated += u64::from(cut != sample);
            cut as i16
        })
    }

    /// When no voice plays any more: sends what is left and the end.
    fn finish_if_stopped(&mut self, now: Instant) {
        if self.voices.iter().any(|v| v.enabled) {
            return;
        }
        while let Some(longest) = self.voices.iter().map(|v| v.queue.len()).max().filter(|&length| length > 0) {
            let piece = self.mix(false);
            self.emit(&piece, now);
            if longest <= PACKET_SAMPLES && PACKET_SAMPLES - longest < LOOKAHEAD_FRAMES * CHANNELS {
                self.emit(&[0; PACKET_SAMPLES], now);
            }
        }
        self.end();
        self.held = [0; CHANNELS];
    }

    /// Sends one piece, or leaves it out.
    fn emit(&mut self, piece: &[i16; PACKET_SAMPLES], now: Instant) {
        let silent = piece.chunks_exact(CHANNELS).all(|frame| frame == self.held);
        self.held.copy_from_slice(&piece[PACKET_SAMPLES - CHANNELS..]);
        let peak = if silent { 0 } else { piece.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0) };
        self.level.add(peak, now);
        if !self.link.has_listeners() {
            self.phase = Phase::Silent;
            self.next_frame += PACKET_FRAMES as u64;
            return;
        }
        let marker = self.phase == Phase::Silent;
        self.phase = match self.phase {
            Phase::Silent if silent => {
                self.stats.silent_pieces += 1;
                self.next_frame += PACKET_FRAMES as u64;
                return;
            }
            Phase::Sounding { tail: 0 } if silent => return self.end(),
            Phase::Sounding { tail } if silent => Phase::Sounding { tail: tail - 1 },
            Phase::Silent | Phase::Sounding { .. } => Phase::Sounding { tail: TAIL_PACKETS },
        };
        self.stats.stretches += u64::from(marker);
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        match self.opus.encode(piece, &mut payload) {
            Ok(length) => {
                self.toc = payload.first().copied();
                self.send(&payload[..length], marker);
            }
            Err(error) => {
                self.stats.failed += 1;
                tracing::debug!(%error, "a piece of sound was not encoded");
            }
        }
        self.next_frame += PACKET_FRAMES as u64;
    }

    /// Ends a stretch of sound by a packet of its own, so that the receiver does not take silence for loss. It stands for
    /// one silent piece.
    fn end(&mut self) {
        if self.phase != Phase::Silent {
            self.phase = Phase::Silent;
            if let Some(toc) = self.toc {
                // The TOC's two lowest bits say "one frame" (RFC 6716, section 3.1); a frame of no bytes is a pause.
                self.send(&[toc & !3], false);
                self.next_frame += PACKET_FRAMES as u64;
            }
        }
    }

    fn send(&mut self, payload: &[u8], marker: bool) {
        let timestamp = (self.next_frame as u32).wrapping_add(self.timestamp_offset);
        self.link.send(SoundPacket { timestamp, marker, payload });
        self.stats.packets += 1;
        self.stats.bytes += payload.len() as u64;
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
