//! The whistle: a steady sine tone, so that a recording can be compared with these numbers.

/// Frequency of the tone.
pub const FREQUENCY_HZ: f32 = 880.0;
/// Length from the first to the last sample, with the two ramps.
pub const DURATION_MS: u32 = 800;
/// Length of the raised-cosine ramp at the start, and of the one at the end.
pub const RAMP_MS: u32 = 8;
/// The sine's peak between the ramps, relative to full scale, on both channels. (Its RMS level is 3.01 dB lower.)
pub const LEVEL_DBFS: f32 = -12.0;
