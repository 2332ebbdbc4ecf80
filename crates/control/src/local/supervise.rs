//! Keeps one agent running.

use crate::provider::{Change, Found, Phase};
use async_trait::async_trait;
use futures::FutureExt as _;
use loco_model::InstanceId;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An agent that ran for so long was sound: the next failure is counted as the first.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// Failures in a row after which a person is told that it does not work.
const FAILED_AFTER: u32 = 3;
/// Pause before the second try; doubled for each further one. The first is made at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much a pause may be longer, so that nine agents that fail together are not tried together.
const JITTER: f64 = 0.25;

/// Starts agents.
#[async_trait]
pub(super) trait Launcher: Send {
    type Agent: Agent;
    /// Starts one and waits until it says where it answers. An agent that does not say it is ended again.
    async fn launch(&mut self) -> Result<Self::Agent, String>;
}

/// An agent that runs.
#[async_trait]
pub(super) trait Agent: Send {
    /// Base URL.
    fn url(&self) -> String;
    /// Waits until it ends, and says how. May be given up and called again.
    async fn ended(&mut self) -> String;
    /// Ends it.
    async fn stop(&mut self);
}

/// How long to wait before the next start, after so many failures in a row (1 or more).
pub(super) fn pause_after(failures: u32, jitter: f64) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 2).min(16)).min(LONGEST_PAUSE).mul_f64(1.0 + JITTER * jitter),
    }
}

/// Starts an agent, and again whenever it ends, until `stop`; tells every step. A `kick` ends one that runs, and ends the
/// pause before the next start.
pub(super) async fn supervise(
    id: InstanceId,
    mut launcher: impl Launcher,
    kick: Arc<Notify>,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) {
    let mut found = Found { agent_starts: Some(0), supervised: true, ..Found::new(id) };
    let mut starts = 0;
    let mut failures = 0;
    loop {
        starts += 1;
        found.agent_starts = Some(starts);
        if tell(&changes, &found).await.is_err() {
            return;
        }
        let launched = tokio::select! {
            launched = launcher.launch() => Some(launched),
            () = stop.cancelled() => None,
        };
        let reason = match launched {
            None => break,
            Some(Err(reason)) => reason,
            Some(Ok(mut agent)) => {
                // One that came before was meant for another agent.
                let _ = kick.notified().now_or_never();
                found.agent = Some(agent.url());
                found.phase = Phase::Up;
                if tell(&changes, &found).await.is_err() {
                    return agent.stop().await;
                }
                let since = Instant::now();
                let ended = tokio::select! {
                    reason = agent.ended() => Some(reason),
                    () = stop.cancelled() => None,
                    () = kick.notified() => {
                        let reason = "agent was ended on request".to_owned();
                        found.agent = None;
                        found.phase = Phase::Restarting { reason: format!("{reason}: restarting") };
                        if tell(&changes, &found).await.is_err() {
                            return agent.stop().await;
                        }
                        agent.stop().await;
                        // Not a failure of its own: started again at once.
                        failures = 0;
                        Some(reason)
                    }
                };
                let Some(reason) = ended else {
                    // Told before, so that what its end looks like from outside is not taken for a failure.
                    found.phase = Phase::Stopped;
                    if tell(&changes, &found).await.is_err() {
                        tracing::debug!(%id, "nobody listens any more");
                    }
                    agent.stop().await;
                    break;
                };
                if since.elapsed() >= STABLE_AFTER {
                    failures = 0;
                }
                reason
            }
        };
        failures += 1;
        tracing::warn!(%id, failures, "{reason}");
        found.agent = None;
        found.phase = if failures >= FAILED_AFTER {
            Phase::Failed { reason }
        } else {
            Phase::Restarting { reason: format!("{reason}: restarting") }
        };
        if tell(&changes, &found).await.is_err() {
            return;
        }
        let jitter = rand::rng().random_range(0.0..1.0);
        tokio::select! {
            () = tokio::time::sleep(pause_after(failures, jitter)) => {}
            () = kick.notified() => {}
            () = stop.cancelled() => break,
        }
    }
    found.agent = None;
    found.phase = Phase::Stopped;
    // When nobody listens any more there is nobody to tell.
    let _ = tell(&changes, &found).await;
}

async fn tell(changes: &mpsc::Sender<Change>, found: &Found) -> Result<(), ()> {
    changes.send(Change::Found(found.clone())).await.map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// What the next start does.
    #[derive(Clone, Copy, Debug)]
    enum Script {
        Refuses,
        Runs(Duration),
        RunsForEver,
    }

    struct Scripted {
        steps: std::vec::IntoIter<Script>,
        last: Script,
        stopped: Arc<AtomicU32>,
    }

    struct Puppet {
        ends_at: Option<Instant>,
        stopped: Arc<AtomicU32>,
    }

    #[async_trait]
    impl Launcher for Scripted {
        type Agent = Puppet;

        async fn launch(&mut self) -> Result<Puppet, String> {
            let ends_at = match self.steps.next().unwrap_or(self.last) {
                Script::Refuses => return Err("agent exited with code 1".into()),
                Script::Runs(time) => Some(Instant::now() + time),
                Script::RunsForEver => None,
            };
            Ok(Puppet { ends_at, stopped: self.stopped.clone() })
        }
    }

    #[async_trait]
    impl Agent for Puppet {
        fn url(&self) -> String {
            "http://127.0.0.1:1".into()
        }

        async fn ended(&mut self) -> String {
            match self.ends_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
            "agent exited".into()
        }

        async fn stop(&mut self) {
            self.stopped.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Watched {
        changes: mpsc::Receiver<Change>,
        stop: CancellationToken,
        kick: Arc<Notify>,
        stopped: Arc<AtomicU32>,
        begun: Instant,
        task: tokio::task::JoinHandle<()>,
    }

    fn watch<const N: usize>(steps: [Script; N], last: Script) -> Watched {
        let (send, changes) = mpsc::channel(64);
        let (stop, stopped) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let launcher = Scripted { steps: Vec::from(steps).into_iter(), last, stopped: stopped.clone() };
        let id = InstanceId::try_new(0).expect("index");
        let kick = Arc::new(Notify::new());
        let task = tokio::spawn(supervise(id, launcher, kick.clone(), send, stop.clone()));
        Watched { changes, stop, kick, stopped, begun: Instant::now(), task }
    }

    impl Watched {
        /// The next step: phase, number of starts, whether there is a URL, milliseconds since the beginning.
        async fn next(&mut self) -> (Phase, u32, bool, u128) {
            let Some(Change::Found(found)) = self.changes.recv().await else { panic!("no change") };
            let starts = found.agent_starts.expect("counted");
            (found.phase, starts, found.agent.is_some(), self.begun.elapsed().as_millis())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_restart_is_at_once_and_each_step_is_told() {
        let second = Duration::from_secs(1);
        let mut watched = watch([Script::Runs(second)], Script::RunsForEver);
        let restarting = Phase::Restarting { reason: "agent exited: restarting".into() };
        assert_eq!(watched.next().await, (Phase::Starting, 1, false, 0));
        assert_eq!(watched.next().await, (Phase::Up, 1, true, 0));
        assert_eq!(watched.next().await, (restarting.clone(), 1, false, 1000));
        let (phase, starts, has_url, at) = watched.next().await;
        assert_eq!((phase, starts, has_url), (restarting, 2, false));
        assert!(at <= 1002, "{at}");
        assert!(matches!(watched.next().await, (Phase::Up, 2, true, _)));
        watched.stop.cancel();
        assert!(matches!(watched.next().await, (Phase::Stopped, 2, true, _)), "told before it is ended");
        assert!(matches!(watched.next().await, (Phase::Stopped, 2, false, _)));
        watched.task.await.expect("supervisor");
        assert_eq!(watched.stopped.load(Ordering::Relaxed), 1, "the agent was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kick_ends_an_agent_and_another_takes_its_place_at_once() {
        let mut watched = watch([], Script::RunsForEver);
        assert!(matches!(watched.next().await, (Phase::Starting, 1, false, _)));
        assert!(matches!(watched.next().await, (Phase::Up, 1, true, _)));
        watched.kick.notify_one();
        assert!(matches!(watched.next().await, (Phase::Restarting { .. }, 1, false, _)), "told before it is ended");
        assert!(matches!(watched.next().await, (Phase::Restarting { .. }, 1, false, _)));
        assert!(matches!(watched.next().await, (Phase::Restarting { .. }, 2, false, _)));
        assert!(matches!(watched.next().await, (Phase::Up, 2, true, 0..=5)));
        assert_eq!(watched.stopped.load(Ordering::Relaxed), 1);
        watched.stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_kick_that_comes_late_spares_the_next_agent_and_one_in_a_pause_ends_it() {
        let second = Duration::from_secs(1);
        let mut watched = watch([Script::Runs(second), Script::Refuses, Script::Refuses], Script::RunsForEver);
        // Known to nobody yet, the first has ended when it is to be ended.
        while !matches!(watched.next().await.0, Phase::Restarting { .. }) {}
        watched.kick.notify_one();
        let mut starts = 1;
        while starts < 3 {
            starts = watched.next().await.1;
        }
        assert!(matches!(watched.next().await, (Phase::Failed { .. }, 3, false, _)));
        let paused_at = watched.begun.elapsed().as_millis();
        watched.kick.notify_one();
        assert!(matches!(watched.next().await, (Phase::Failed { .. }, 4, false, at) if at <= paused_at + 5));
        assert!(matches!(watched.next().await, (Phase::Up, 4, true, _)));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(watched.stopped.load(Ordering::Relaxed), 0, "it goes on");
        watched.stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_failure_is_told_and_tried_on_ever_more_slowly() {
        let mut watched = watch([], Script::Refuses);
        let mut last_at = 0;
        let mut pauses = Vec::new();
        for start in 1..=14 {
            let (phase, starts, _, at) = watched.next().await;
            assert_eq!(starts, start);
            pauses.push(at - last_at);
            last_at = at;
            match start {
                1 => assert_eq!(phase, Phase::Starting),
                2 | 3 => assert!(matches!(phase, Phase::Restarting { .. }), "{phase:?}"),
                _ => assert_eq!(phase, Phase::Failed { reason: "agent exited with code 1".into() }),
            }
            let (phase, ..) = watched.next().await;
            let failed = matches!(phase, Phase::Failed { .. });
            assert_eq!(failed, start >= FAILED_AFTER, "{phase:?}");
        }
        for (at, pause) in pauses.iter().enumerate().skip(2) {
            let least = (250u128 << (at - 2)).min(30_000);
            assert!(
                (least..=least * 5 / 4 + 2).contains(pause),
                "pause {at} is {pause} ms, expected {least} and a little"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_ran_long_is_forgiven() {
        let mut watched =
            watch([Script::Refuses, Script::Refuses, Script::Runs(STABLE_AFTER), Script::Refuses], Script::RunsForEver);
        let mut phases = Vec::new();
        while watched.stopped.load(Ordering::Relaxed) == 0 {
            let (phase, starts, ..) = watched.next().await;
            assert!(!matches!(phase, Phase::Failed { .. }), "after {phases:?}");
            phases.push(phase);
            if starts == 5 {
                watched.stop.cancel();
                break;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_ends_a_pause_and_a_closed_channel_ends_everything() {
        let mut watched = watch([], Script::Refuses);
        while !matches!(watched.next().await.0, Phase::Failed { .. }) {}
        watched.stop.cancel();
        let at = Instant::now();
        while !matches!(watched.next().await.0, Phase::Stopped) {}
        assert!(at.elapsed() < Duration::from_millis(5));
        watched.task.await.expect("supervisor");

        let watched = watch([Script::Runs(Duration::from_secs(1))], Script::RunsForEver);
        drop(watched.changes);
        watched.task.await.expect("ends though nobody said stop");
    }

    #[test]
    fn pauses_are_bounded() {
        assert_eq!(pause_after(1, 1.0), Duration::ZERO);
        assert_eq!(pause_after(2, 0.0), FIRST_PAUSE);
        assert_eq!(pause_after(u32::MAX, 0.0), LONGEST_PAUSE);
    }
}
