//! What is heard, at the sound server and on the meters.

use crate::{Stage, WHISTLING};
use anyhow::{Context, Result, ensure};
use loco_demo_guest::whistle;
use loco_model::InstanceId;
use loco_tests::ears::{Recorder, SINK};
use loco_tests::recording::Recording;
use loco_tests::wait::wait_for;
use loco_tests::wall::Wall;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long is listened after the whistle was asked for: it lasts 0.8 s.
const LISTEN_SECS: f64 = 3.0;
/// Quieter than this is silence, for the ear and for 16 bits.
const SILENCE_DBFS: f64 = -80.0;
/// A second each, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the master fader stands when a viewer starts.
const MASTER: f64 = 0.8;
/// How much faster or slower the sound may be played to follow the guest's clock.
const MOST_DETUNED: f64 = 0.004;

/// What was heard and metered while one guest whistled.
struct Heard {
    recording: Recording,
    /// Loudest peak of each tile's meter.
    meters: Vec<f64>,
}

/// Lets a guest whistle, records, and watches all meters meanwhile.
async fn whistle(stage: &Stage, index: usize) -> Result<Heard> {
    let wall = &stage.wall;
    // Whoever is not focused would be heard dimmed.
    wall.viewer.automation.command("sound", json!({"dims": false})).await?;
    let mut recorder = Recorder::start(&stage.sound, SINK).await?;
    // What was in its pipe before.
    recorder.take(0.3).await?;
    wall.tap(index, "Space").await?;
    let (recording, meters) = tokio::join!(recorder.take(LISTEN_SECS), loudest(wall));
    Ok(Heard { recording: recording?, meters: meters? })
}

async fn loudest(wall: &Wall) -> Result<Vec<f64>> {
    let mut loudest = vec![f64::NEG_INFINITY; wall.len()];
    let until = Instant::now() + Duration::from_secs_f64(LISTEN_SECS);
    while Instant::now() < until {
        for (loudest, tile) in loudest.iter_mut().zip(wall.tiles().await?) {
            let peak = tile.audio.and_then(|audio| audio.peak_dbfs).unwrap_or(f64::NEG_INFINITY);
            *loudest = loudest.max(peak);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(loudest)
}

pub(crate) async fn a_whistle_is_heard_and_metered_on_its_tile_only(stage: &mut Stage) -> Result<()> {
    let id = InstanceId::try_new(WHISTLING)?;
    stage.wall.viewer.automation.command("volume", json!({"tile": id, "volume": 1.0})).await?;
    let Heard { recording, meters } = whistle(stage, WHISTLING).await?;
    println!("meters {meters:.1?}");
    is_the_whistle(&recording)?;
    let level = f64::from(whistle::LEVEL_DBFS);
    for (index, meter) in meters.iter().enumerate() {
        if index == WHISTLING {
            ensure!((meter - level).abs() < 1.0, "the meter showed {meter} dBFS instead of {level}");
        } else {
            ensure!(*meter < SILENCE_DBFS, "the meter of tile {index} showed {meter} dBFS");
        }
    }
    Ok(())
}

pub(crate) async fn a_muted_tile_is_silent(stage: &mut Stage) -> Result<()> {
    mute(&stage.wall, true).await?;
    let heard = whistle(stage, WHISTLING).await;
    let muted = stage.wall.tiles().await?[WHISTLING].audio.as_ref().is_some_and(|audio| audio.muted);
    mute(&stage.wall, false).await?;
    let recording = heard?.recording;
    ensure!(muted, "the tile does not say that it is muted");
    ensure!(recording.is_silent(SILENCE_DBFS), "muted, but heard at {:.1} dBFS", recording.peak_dbfs());
    // And heard again afterwards.
    let again = whistle(stage, WHISTLING).await?.recording;
    is_the_whistle(&again)
}

/// The viewer's own measurement of how far sound and picture are apart, on a guest that does both at once.
pub(crate) async fn a_flash_and_its_click_are_seen_and_heard_together(stage: &mut Stage) -> Result<()> {
    const PAIRS: u64 = 6;
    let wall = &stage.wall;
    wall.wait_live().await?;
    wall.tap(WHISTLING, "KeyK").await?;
    let measured = wait_for("flashes with clicks", PATIENCE, async || {
        let shown = wall.viewer.automation.command("wall", json!({})).await?;
        let marker = shown["tiles"][WHISTLING]["marker"].clone();
        ensure!(marker["pairs"].as_u64().is_some_and(|pairs| pairs >= PAIRS), "{marker}");
        Ok(marker)
    })
    .await;
    // The sheet is the focused one's.
    wall.viewer.automation.focus(InstanceId::try_new(WHISTLING)?).await?;
    let text = wall.viewer.automation.command("statistics", json!({"shown": true})).await;
    wall.viewer.automation.command("statistics", json!({"shown": false})).await?;
    wall.tap(WHISTLING, "KeyT").await?;
    let (measured, text) = (measured?, text?);
    println!("{measured}");
    let skew = measured["skew_ms_p50"].as_f64().context("no skew although PulseAudio says its latency")?;
    // Far from what is aimed at, and near enough to show that both belong together: nine guests share few cores here.
    ensure!((-100.0..250.0).contains(&skew), "sound {skew} ms after the picture");
    let lines = text["text"].as_str().unwrap_or_default();
    ensure!(lines.contains("Sound after picture: +") || lines.contains("Sound after picture: -"), "{lines}");
    Ok(())
}

/// Frequency, length and level of the one sound in a recording are the whistle's.
fn is_the_whistle(recording: &Recording) -> Result<()> {
    let wanted = f64::from(whistle::FREQUENCY_HZ);
    let level = level_at_speaker();
    let parts = recording.loud_parts(level - 20.0);
    let part = parts.first().cloned().with_context(|| format!("nothing heard: {:.1} dBFS", recording.peak_dbfs()))?;
    ensure!(parts.len() == 1, "heard in pieces: {parts:?}");
    let length_ms = part.len() as f64 / 48.0;
    let tone = recording.part(part);
    // Without the ramps.
    let middle = tone.part(4800..tone.frames().saturating_sub(4800));
    let frequency = middle.frequency_hz().context("no tone")?;
    let heard = [0, 1].map(|channel| middle.tone_dbfs(channel, frequency));
    println!("whistle: {frequency:.2} Hz, {length_ms:.0} ms, {heard:.2?} dBFS, peak {:.2} dBFS", tone.peak_dbfs());
    ensure!((frequency - wanted).abs() < wanted * MOST_DETUNED + 0.5, "{frequency} Hz");
    ensure!((length_ms - f64::from(whistle::DURATION_MS)).abs() < 60.0, "{length_ms} ms");
    ensure!(heard.iter().all(|heard| (heard - level).abs() < 1.0), "{heard:?} dBFS instead of {level}");
    Ok(())
}

/// The whistle's level behind the master fader, whose law is cubic as OBS's.
fn level_at_speaker() -> f64 {
    f64::from(whistle::LEVEL_DBFS) + 20.0 * MASTER.powi(3).log10()
}

async fn mute(wall: &Wall, muted: bool) -> Result<()> {
    let id = InstanceId::try_new(WHISTLING)?;
    wall.viewer.automation.command("mute", json!({"tile": id, "muted": muted})).await.map(drop)
}
