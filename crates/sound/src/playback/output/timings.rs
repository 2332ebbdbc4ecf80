//! Times of the supervision.

use std::time::Duration;

/// How long what may take, and how often is looked.
#[derive(Clone, Copy)]
pub(in crate::playback) struct Timings {
    /// First pause before opening is tried again; doubles up to `retry_max`.
    pub(in crate::playback) retry_min: Duration,
    pub(in crate::playback) retry_max: Duration,
    /// A callback that did not come for so long has stopped.
    pub(in crate::playback) watchdog: Duration,
    /// The same while a stream starts: PulseAudio's second callback after a long rest takes up to 2 s.
    pub(in crate::playback) start_watchdog: Duration,
    /// How often the default and the chosen device are looked for: cpal does not tell of a change on PulseAudio.
    pub(in crate::playback) follow: Duration,
    /// Over how long frames are counted against the clock.
    pub(in crate::playback) count: Duration,
    /// A call to the system that takes longer is called hung.
    pub(in crate::playback) hung: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(2),
            watchdog: Duration::from_secs(1),
            start_watchdog: Duration::from_secs(3),
            follow: Duration::from_secs(3),
            count: Duration::from_secs(5),
            hung: Duration::from_secs(4),
        }
    }
}
