//! Key to pixel, for us and for each peer, in the same rhythm.

use crate::bed::Bed;
use crate::chromium::Player;
use crate::stats::Summary;
use crate::tiles::{PLAIN_KEY, Tiles};
use crate::vnc::TigerVnc;
use anyhow::{Context, Result};
use loco_model::{InstanceId, Size};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// When keys are pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rhythm {
    /// How many.
    pub(crate) trials: usize,
    /// Shortest pause before each.
    pub(crate) pause: Duration,
    /// How long a picture may take.
    pub(crate) patience: Duration,
}

impl Rhythm {
    /// While the picture moves.
    #[must_use]
    pub(crate) fn moving(trials: usize) -> Self {
        Self { trials, pause: Duration::from_millis(60), patience: Duration::from_millis(400) }
    }

    /// Each after four seconds in which nothing moved.
    #[must_use]
    pub(crate) fn still(trials: usize) -> Self {
        Self { trials, pause: Duration::from_secs(4), patience: Duration::from_millis(2000) }
    }

    /// Pauses before trial `index`: longer by a part that walks through all phases of a 33 ms frame.
    async fn rest(&self, index: usize) {
        tokio::time::sleep(self.pause + Duration::from_millis((index as u64 * 37) % 71)).await;
    }
}

/// What was measured, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Latencies {
    /// One per key that was seen.
    pub(crate) ms: Vec<f64>,
    /// Keys that no picture showed in time.
    pub(crate) lost: usize,
    /// Where the viewer's own clocks say that time went; null for peers.
    pub(crate) stages: Value,
}

impl Latencies {
    fn note(&mut self, ms: Option<f64>) {
        match ms {
            Some(ms) => self.ms.push(ms),
            None => self.lost += 1,
        }
    }

    /// Its numbers; nothing when no key was seen.
    #[must_use]
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(&self.ms).map(|summary| summary.rounded(2))
    }
}

/// Ours: injected at the viewer's window, seen on the presented target. The keys go to `ids` in turn.
///
/// # Errors
/// When the viewer is gone.
pub(crate) async fn ours(tiles: &mut Tiles, ids: &[InstanceId], rhythm: Rhythm) -> Result<Latencies> {
    tiles.wall().await?;
    for id in ids {
        tiles.prime(*id).await?;
    }
    let mut latencies = Latencies::default();
    for (index, id) in ids.iter().cycle().take(rhythm.trials).enumerate() {
        // A person looks at a tile first and types then: moving the focus draws, and is not what is measured.
        tiles.automation.focus(*id).await?;
        rhythm.rest(index).await;
        latencies.note(tiles.press(*id, PLAIN_KEY).await?);
    }
    latencies.stages = tiles.wall().await?.stages();
    Ok(latencies)
}

/// TigerVNC's: injected at the X server of its window, seen on that X server's screen.
///
/// # Errors
/// When TigerVNC cannot be run, or the guest has no VNC server.
pub(crate) async fn tiger_vnc(bed: &Bed, id: InstanceId, rhythm: Rhythm) -> Result<(String, Latencies)> {
    let socket = bed.processes()?.vnc_socket(id).context("QEMU was started without a VNC server")?;
    let vnc = TigerVnc::start(&socket, Size::new(640, 480)).await?;
    let mut latencies = Latencies::default();
    for index in 0..rhythm.trials {
        rhythm.rest(index).await;
        let (screen, place) = (Arc::clone(&vnc.screen), vnc.place);
        let seen = tokio::task::spawn_blocking(move || screen.press(place, PLAIN_KEY, rhythm.patience)).await??;
        latencies.note(seen.map(|seen| seen.as_secs_f64() * 1000.0));
    }
    Ok((vnc.version().to_owned(), latencies))
}

/// What Chromium did.
#[derive(Clone, Debug, Default)]
pub(crate) struct InBrowser {
    /// The browser's name and version.
    pub(crate) version: String,
    /// Until the browser handed the frame to its compositor: the earliest that can be said.
    pub(crate) composed: Latencies,
    /// Until the browser expected it on the screen.
    pub(crate) shown: Latencies,
    /// Whether the stream carried the wish for no play-out delay.
    pub(crate) playout_delay: bool,
}

/// Chromium's: sent by the page on the stream's own data channel, seen by the page in the frame that it is given.
///
/// # Errors
/// When there is no Chromium or it does not play.
pub(crate) async fn chromium(bed: &Bed, id: InstanceId, rhythm: Rhythm) -> Result<InBrowser> {
    let mut player = Player::start(bed.client.clone(), &bed.sound_environment()).await?;
    let index = player.play(&format!("{}/whep", bed.agent(id)?), true).await?;
    player.watch(index).await?;
    let mut result = InBrowser {
        version: player.browser.version().to_owned(),
        playout_delay: player.has_playout_delay(),
        ..InBrowser::default()
    };
    // A still picture shows nothing before the first key.
    let first = player.press(index, PLAIN_KEY, Duration::from_secs(2)).await?;
    let mut last = first.last_reading().context("Chromium shows no barcode")?;
    for trial in 0..rhythm.trials {
        rhythm.rest(trial).await;
        let press = player.press(index, PLAIN_KEY, rhythm.patience).await?;
        let latency = press.latency_ms(last.input_count);
        result.composed.note(latency.map(|latency| latency.0));
        result.shown.note(latency.map(|latency| latency.1));
        last = press.last_reading().unwrap_or(last);
    }
    player.stop().await;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_keys_are_counted_not_averaged() {
        let mut latencies = Latencies::default();
        for ms in [Some(4.0), None, Some(6.0)] {
            latencies.note(ms);
        }
        let summary = latencies.summary().unwrap();
        assert_eq!((summary.n, summary.mean, latencies.lost), (2, 5.0, 1));
        assert_eq!(Latencies::default().summary(), None);
    }
}
