//! Chromium playing a whole wall: what it shows and what it costs.

use crate::bed::Bed;
use crate::chromium::{Counters, Player};
use crate::cpu::{Process, Snapshot, tree};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A browser that plays all instances of a bed.
pub(crate) struct Wall {
    player: Player,
}

/// What it did over some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played {
    /// The browser's name and version.
    pub(crate) version: String,
    /// Cores of all its processes.
    pub(crate) cores: f64,
    /// The same by kind of process (`renderer`, `gpu-process`, `utility`, `browser`, …).
    pub(crate) by_kind: BTreeMap<String, f64>,
    /// Frames per second that it showed, per stream; nothing where it does not say.
    pub(crate) fps: Option<f64>,
    /// Key frames per second and stream.
    pub(crate) key_frames_per_s: Option<f64>,
    /// Requests for key frames per second and stream.
    pub(crate) key_frame_requests_per_s: Option<f64>,
    /// Mean stay of a frame in its jitter buffer since the beginning.
    pub(crate) jitter_buffer_ms: Option<f64>,
}

impl Wall {
    /// Starts the browser and plays every instance, with sound.
    ///
    /// # Errors
    /// When there is no Chromium, or a stream does not play.
    pub(crate) async fn start(bed: &Bed) -> Result<Self> {
        let mut player = Player::start(bed.client.clone(), &bed.sound_environment()).await?;
        for id in bed.ids() {
            player.play(&format!("{}/whep", bed.agent(id)?), true).await?;
        }
        Ok(Self { player })
    }

    /// What it does over `duration`.
    ///
    /// # Errors
    /// When the browser is gone.
    pub(crate) async fn measure(&mut self, duration: Duration) -> Result<Played> {
        let pid = self.player.browser.pid().context("the browser has ended")?;
        let processes = tree(pid);
        let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
        let counters = self.player.counters().await?;
        let (before, begun) = (Snapshot::take(&pids), Instant::now());
        tokio::time::sleep(duration).await;
        let usage = before.until(&Snapshot::take(&pids));
        let seconds = begun.elapsed().as_secs_f64();
        let later = self.player.counters().await?;
        let mut by_kind: BTreeMap<String, f64> = BTreeMap::new();
        for process in &processes {
            let used = usage.get(&process.pid).map_or(0.0, |usage| usage.cores);
            *by_kind.entry(kind(process).to_owned()).or_default() += used;
        }
        Ok(Played {
            version: self.player.browser.version().to_owned(),
            cores: by_kind.values().sum(),
            by_kind,
            fps: rate(&counters, &later, seconds, shown),
            key_frames_per_s: rate(&counters, &later, seconds, |counters| Some(counters.key_frames? as f64)),
            key_frame_requests_per_s: rate(&counters, &later, seconds, |all| Some(all.key_frame_requests? as f64)),
            jitter_buffer_ms: mean(later.iter().map(|counters| counters.jitter_buffer_ms)),
        })
    }

    /// What the page looks like now, as PNG.
    ///
    /// # Errors
    /// When the browser is gone.
    pub(crate) async fn screenshot(&mut self) -> Result<Vec<u8>> {
        self.player.browser.screenshot().await
    }

    /// Ends the streams, then the browser.
    pub(crate) async fn stop(self) {
        self.player.stop().await;
    }
}

/// Kind of a browser's process, by its command line.
fn kind(process: &Process) -> &str {
    let argument = process.command.split(' ').find_map(|argument| argument.strip_prefix("--type="));
    argument.unwrap_or("browser")
}

/// Frames shown: decoded and not dropped.
fn shown(counters: &Counters) -> Option<f64> {
    Some(counters.frames_decoded? as f64 - counters.dropped.unwrap_or(0) as f64)
}

/// Growth of a counter per second and stream.
fn rate(before: &[Counters], after: &[Counters], seconds: f64, of: impl Fn(&Counters) -> Option<f64>) -> Option<f64> {
    mean(before.iter().zip(after).map(|(before, after)| Some((of(after)? - of(before)?) / seconds)))
}

/// Mean; nothing when there are no values or one is unknown.
pub(crate) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_kinds() {
        let counters = |decoded, dropped| Counters { frames_decoded: decoded, dropped, ..Counters::default() };
        let before = [counters(Some(100), Some(0)), counters(Some(10), None)];
        let after = [counters(Some(400), Some(20)), counters(Some(310), None)];
        assert_eq!(rate(&before, &after, 10.0, shown), Some(29.0));
        assert_eq!(rate(&before, &[counters(None, None), after[1].clone()], 10.0, shown), None, "unknown is not zero");
        assert_eq!(rate(&[], &[], 10.0, shown), None);
        let process = |command: &str| Process { pid: 1, parent: 0, command: command.to_owned() };
        assert_eq!(kind(&process("/usr/lib/chromium/chromium --type=gpu-process --x")), "gpu-process");
        assert_eq!(kind(&process("/usr/lib/chromium/chromium --headless=new")), "browser");
    }
}
