//! The clock of capture times: `CLOCK_MONOTONIC` in microseconds, the same for every process of one machine.

pub use loco_sound::clock::now_us;

/// Ticks of a video RTP timestamp in a second (RFC 6184 section 8.1, RFC 7741 section 6.1).
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// The RTP timestamp of a video frame that was captured at `capture_us`: wraps every 13 hours.
#[must_use]
pub const fn video_timestamp(capture_us: u64) -> u32 {
    (capture_us as u128 * VIDEO_CLOCK_HZ as u128 / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_wrap() {
        let wrap_us = (1u64 << 32) * 1_000_000 / u64::from(VIDEO_CLOCK_HZ);
        assert_eq!((video_timestamp(0), video_timestamp(1_000_000)), (0, VIDEO_CLOCK_HZ));
        assert_eq!((video_timestamp(wrap_us), video_timestamp(wrap_us + 1)), (u32::MAX, 0));
        assert_eq!(video_timestamp(u64::MAX), (u128::from(u64::MAX) * 90 / 1_000) as u32);
    }

    #[test]
    fn the_clock_goes_on() {
        let first = now_us();
        assert!(first > 0 && now_us() >= first);
    }
}
