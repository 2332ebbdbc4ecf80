//! Whether the agent's own loops turn: the one thing for which its owner should end it.

use crate::agent::Agent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often each loop is asked.
const EVERY: Duration = Duration::from_secs(5);
/// A loop that has not answered for so long is stuck: a guest's supervisor may wait some seconds for a QEMU that hangs, and
/// a host may be very busy.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// When each loop last gave a sign of life.
#[derive(Debug)]
pub(crate) struct Heart {
    began: Instant,
    /// In milliseconds since then.
    timers: AtomicU64,
    supervisor: AtomicU64,
}

// === impl Heart ===

impl Heart {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), timers: AtomicU64::new(0), supervisor: AtomicU64::new(0) }
    }

    fn beat(&self, which: &AtomicU64) {
        which.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The loop that is stuck, if one is; `encoder` is how long the encoder has been at its frame.
    pub(crate) fn stuck(&self, encoder: Option<Duration>) -> Option<String> {
        let silent =
            |which: &AtomicU64| self.began.elapsed().saturating_sub(Duration::from_millis(which.load(Relaxed)));
        let loops = [
            ("the agent's timers", silent(&self.timers)),
            ("the guest's supervisor", silent(&self.supervisor)),
            ("the video encoder", encoder.unwrap_or_default()),
        ];
        let (name, silence) = loops.into_iter().find(|(_, silence)| *silence > STUCK_AFTER)?;
        Some(format!("{name} gave no sign of life for {} s", silence.as_secs()))
    }
}

/// Asks the agent's loops until it ends.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked: Option<futures::future::BoxFuture<'_, bool>> = None;
    loop {
        let answer = async {
            match &mut asked {
                Some(asked) => asked.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = agent.stop.cancelled() => return,
            alive = answer => {
                asked = None;
                if alive {
                    agent.heart.beat(&agent.heart.supervisor);
                }
            }
            _ = ticks.tick() => {
                agent.heart.beat(&agent.heart.timers);
                if asked.is_none() {
                    asked = Some(Box::pin(async { agent.guest.ping().await.is_ok() }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_silence_is_stuck() {
        let mut heart = Heart::new();
        assert_eq!(heart.stuck(None), None);
        assert_eq!(heart.stuck(Some(Duration::from_secs(29))), None);
        assert!(heart.stuck(Some(Duration::from_secs(31))).is_some_and(|why| why.contains("encoder")));
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(100)) else { return };
        heart.began = long_ago;
        assert!(heart.stuck(None).is_some_and(|why| why.contains("timers")));
        heart.beat(&heart.timers);
        assert!(heart.stuck(None).is_some_and(|why| why.contains("supervisor")));
        heart.beat(&heart.supervisor);
        assert_eq!(heart.stuck(None), None);
    }
}
