//! Sound out: nine readers, one mixer, one output.

use loco_media::sound::{Reader, ReaderStats};
use loco_model::InstanceId;
use std::sync::Arc;

/// Where the sound goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// The system's default device, followed when it changes.
    #[default]
    Default,
    /// One device by its id ([`DeviceInfo::id`]).
    Device(String),
    /// None: a clock consumes the sound, so that meters work. For off-screen runs and benches.
    Null,
}

/// How to start.
pub struct SoundConfig {
    /// Where the sound goes at first.
    pub output: Output,
    /// Called (on a thread of the sound system) when a meter or the state has something new to draw, at most 30 times
    /// a second.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// One output device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// To give to [`Output::Device`].
    pub id: String,
    /// For people.
    pub name: String,
    /// The system's default.
    pub default: bool,
}

/// What a meter shows, in dB of full scale; `f32::NEG_INFINITY` is silence. Peak and magnitude are after volume and mute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Peak with its decay, left and right.
    pub peak_dbfs: [f32; 2],
    /// Highest peak of the last 20 s, left and right.
    pub hold_dbfs: [f32; 2],
    /// Magnitude (RMS over 300 ms), left and right.
    pub magnitude_dbfs: [f32; 2],
    /// Peak before volume and mute, held for 1 s, louder channel.
    pub input_peak_dbfs: f32,
    /// Reached full scale within the last second.
    pub clipped: bool,
}

/// The output's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoundStatus {
    /// A device plays (or the null output was asked for).
    pub playing: bool,
    /// One line for people: the device, or why there is none.
    pub line: String,
    /// The device's name.
    pub device: Option<String>,
    /// Frames a second of the device.
    pub rate_hz: Option<u32>,
    /// Frames of the last callback.
    pub callback_frames: Option<u32>,
    /// Callback to loudspeaker in milliseconds, where the system says.
    pub output_latency_ms: Option<f64>,
    /// Times that a device was lost or changed and opened anew.
    pub reopened: u64,
}

/// The mixer and its output. Ends on drop.
pub struct SoundSystem {}

impl SoundSystem {
    /// Starts. Never fails for want of a device: see [`SoundStatus`].
    #[must_use]
    pub fn start(_config: SoundConfig) -> Self {
        Self {}
    }
    /// Gives an instance its sound; replaces what it had.
    pub fn attach(&self, _id: InstanceId, _reader: Reader) {}
    /// Takes an instance's sound away.
    pub fn detach(&self, _id: InstanceId) {}
    /// Fader position 0..=1 of an instance (gain is its cube).
    pub fn set_volume(&self, _id: InstanceId, _position: f32) {}
    /// Silences an instance.
    pub fn set_mute(&self, _id: InstanceId, _muted: bool) {}
    /// While any instance is solo, the others are silent.
    pub fn set_solo(&self, _id: InstanceId, _solo: bool) {}
    /// Fader position 0..=1 of everything.
    pub fn set_master(&self, _position: f32) {}
    /// Silences everything.
    pub fn set_master_mute(&self, _muted: bool) {}
    /// An instance's meter; `None` when it has no sound attached.
    #[must_use]
    pub fn levels(&self, _id: InstanceId) -> Option<Levels> {
        None
    }
    /// The meter of everything.
    #[must_use]
    pub fn master_levels(&self) -> Option<Levels> {
        None
    }
    /// Counters of an instance's sound; `None` when it has none attached.
    #[must_use]
    pub fn reader_stats(&self, _id: InstanceId) -> Option<ReaderStats> {
        None
    }
    /// Output devices as last seen; a call asks for a fresh list, and `wake` tells when it is there.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        Vec::new()
    }
    /// Chooses where the sound goes.
    pub fn set_device(&self, _output: Output) {}
    /// The output's state.
    #[must_use]
    pub fn status(&self) -> SoundStatus {
        SoundStatus::default()
    }
}
