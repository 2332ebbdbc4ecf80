//! No device: a clock consumes the sound, so that meters live and nothing piles up. It rests while all is silent.

use super::feed::Source;
use crate::{CHANNELS, RATE_HZ};
use std::time::{Duration, Instant};

/// One tick: as long as a usual callback.
const TICK: Duration = Duration::from_millis(10);
const TICK_FRAMES: usize = RATE_HZ as usize / 100;
/// After a longer pause (the machine slept) ticks are left out.
const CATCH_UP: Duration = Duration::from_millis(200);

/// Plays into nothing as output `number` until another one is current.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(source: &Source, number: u64) -> Result<(), String> {
    let mut feed = source.feed(number, CHANNELS, RATE_HZ).map_err(|e| e.to_string())?;
    let source = source.clone();
    let run = move || {
        let mut block = [0.0; TICK_FRAMES * CHANNELS];
        let mut due = Instant::now();
        while source.pulse.is_current(number) {
            if source.is_idle() {
                let slept = Instant::now();
                // Rung by a packet, by a change of instances and by a change of outputs.
                source.bell.sleep(|| !source.pulse.is_current(number) || !source.is_idle());
                feed.pass(slept.elapsed());
                due = Instant::now();
                continue;
            }
            feed.fill(&mut block, None);
            due += TICK;
            let now = Instant::now();
            if now > due + CATCH_UP {
                due = now;
            }
            // This is the clock itself: there is nothing to wait for but time.
            std::thread::sleep(due.saturating_duration_since(now));
        }
    };
    std::thread::Builder::new().name("loco-sound-null".into()).spawn(run).map(drop).map_err(|e| e.to_string())
}
