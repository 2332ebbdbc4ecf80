//! The clock of capture and playing times: `CLOCK_MONOTONIC` in microseconds, on unix the same for every process of one
//! machine; elsewhere since this process first asked.

/// Now, in microseconds.
#[cfg(unix)]
#[must_use]
pub fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Now, in microseconds.
#[cfg(not(unix))]
#[must_use]
pub fn now_us() -> u64 {
    static BEGAN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    BEGAN.elapsed().as_micros() as u64
}
