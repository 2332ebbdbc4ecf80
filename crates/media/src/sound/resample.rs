//! Resampling.

/// x
pub struct StereoResampler;
