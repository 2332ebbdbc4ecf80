//! The clock of capture times: `CLOCK_MONOTONIC` in microseconds, the same for every process of one machine.

pub use loco_sound::clock::now_us;

/// Ticks of a video RTP timestamp in a second (RFC 6184 section 8.1, RFC 7741 section 6.1).
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// The RTP timestamp of a video frame that was captured at `capture_us`: wraps every 13 hours.
#[must_use]
pub const fn video_timestamp(capture_us: u64) -> u32 {
    (capture_us as u128 * VIDEO_CLOCK_HZ as u128 / 1_000_000) as u32
}

/// The capture time nearest to `near_us` whose RTP timestamp is `timestamp`.
#[must_use]
pub const fn capture_time_us(timestamp: u32, near_us: u64) -> u64 {
    let near_ticks = (near_us as u128 * VIDEO_CLOCK_HZ as u128 / 1_000_000) as u64;
    let difference = timestamp.wrapping_sub(near_ticks as u32) as i32;
    let ticks = near_ticks.saturating_add_signed(difference as i64);
    (ticks as u128 * 1_000_000 / VIDEO_CLOCK_HZ as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_go_there_and_back_across_the_wrap() {
        for capture_us in [1u64, 33_333, 47_721_858_844, 47_721_858_845, 999_999_999_999] {
            for drift_us in [-20_000_000i64, 0, 20_000_000] {
                let near_us = capture_us.saturating_add_signed(drift_us);
                let back_us = capture_time_us(video_timestamp(capture_us), near_us);
                assert!(back_us.abs_diff(capture_us) <= 12, "{capture_us} came back as {back_us}");
            }
        }
    }

    #[test]
    fn the_clock_goes_on() {
        let first = now_us();
        assert!(first > 0 && now_us() >= first);
    }
}
