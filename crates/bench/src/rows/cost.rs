//! Rows 3, 4 and 5: what it costs.

use super::runs::{middle, over_runs};
use super::{Lab, cores, object};
use crate::automation::TileStats;
use crate::bed::{self, Bed, Cores, Mode};
use crate::browsing::{Played, Wall, mean};
use crate::cpu::MAIN_THREAD;
use crate::report::{Condition, Peer, Row, ratio};
use crate::stats::round;
use crate::tiles::Tiles;
use crate::udp::{self, Capture, Traffic};
use anyhow::{Context, Result};
use loco_model::Key;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Streams have found their pace, and whatever starting costs is over.
const SETTLING: Duration = Duration::from_secs(5);
/// Key of the demo guest for 1024x768.
const LARGE: Key = Key::named("F3");

/// A viewer's own counters, averaged over its tiles; nothing when one of them has none.
struct Rates {
    decoded: Option<f64>,
    shown: Option<f64>,
}

async fn rates(tiles: &mut Tiles) -> Result<Rates> {
    let wall = tiles.wall().await?;
    let over_all = |of: fn(&TileStats) -> Option<f64>| mean(wall.tiles.iter().map(|tile| of(tile.stats.as_ref()?)));
    Ok(Rates { decoded: over_all(|stats| stats.fps_decoded), shown: over_all(|stats| stats.fps_shown) })
}

/// Cores of those threads of a viewer that receive and decode: all but those that draw or play.
fn decoding(cores: &Cores) -> f64 {
    let own = |name: &str| !is_drawing(name) && !is_sound(name);
    cores.viewer.threads.iter().filter(|(name, _)| own(name)).map(|(_, used)| used).sum()
}

/// The scene's thread, the one that waits for the device, and those of the rasteriser (Mesa's `llvmpipe-N`, and those that it
/// names after the process).
fn is_drawing(thread: &str) -> bool {
    [MAIN_THREAD, "viewer-gpu"].contains(&thread) || thread.starts_with("llvmpipe") || thread.starts_with("loco:")
}

fn is_sound(thread: &str) -> bool {
    thread.starts_with("loco-sound") || thread.starts_with("cpal")
}

fn threads(threads: &BTreeMap<String, f64>) -> Value {
    let busy = threads.iter().filter(|(_, used)| **used >= 0.0005);
    Value::Object(busy.map(|(name, used)| (name.clone(), json!(round(*used, 4)))).collect())
}

fn played_values(played: &Played) -> Map<String, Value> {
    let by_kind: Map<String, Value> = played.by_kind.iter().map(|(kind, used)| (kind.clone(), cores(*used))).collect();
    object([
        ("client_cores", cores(played.cores)),
        ("fps_shown", json!(played.fps.map(|fps| round(fps, 1)))),
        ("key_frames_per_s", json!(played.key_frames_per_s.map(|rate| round(rate, 2)))),
        ("key_frame_requests_per_s", json!(played.key_frame_requests_per_s.map(|rate| round(rate, 2)))),
        ("jitter_buffer_ms", json!(played.jitter_buffer_ms.map(|ms| round(ms, 1)))),
        ("by_process", Value::Object(by_kind)),
    ])
}

const HOW_MOVING: &str = "Nine demo guests 640x480 in mode box (200x150 moving at 30 Hz), shown on one wall of 1280x960 drawn \
    off screen on the CPU, sound connected. CPU time of the agents with their helpers (guests excluded) and of the viewer from \
    /proc/*/schedstat over the window; decoding is the viewer without the threads that draw or play sound. Then the viewer is \
    closed and headless Chromium plays the same nine streams in one page of the same size: CPU time of all its processes.";

/// Row 3.
pub(super) async fn nine_moving(lab: &Lab) -> Result<Row> {
    let mut bed = Bed::start(&lab.loco, 9, Mode::Box).await?;
    let measured = moving(lab, &mut bed).await;
    bed.stop().await?;
    let (ours, rates, with_browser, played) = measured?;
    let decoding = decoding(&ours);
    let client = played.as_ref().map(|played| played.cores);
    let shown = rates.shown.zip(played.as_ref().and_then(|played| played.fps)).map(|(ours, theirs)| ours / theirs);
    let conditions = vec![
        Condition::at_most("agents + decoding, cores,", Some(ours.agents + decoding), 0.5),
        Condition::at_most("decoding / Chromium's client", client.map(|client| decoding / client), 0.3334),
        Condition::at_most(
            "decoding + drawing / Chromium's client",
            client.map(|client| ours.viewer.cores / client),
            1.0,
        ),
        Condition::at_least("frames shown / Chromium's", shown, 0.95),
        Condition::at_least("frames decoded per second and tile", rates.decoded, 29.0),
    ];
    let mut row = Row::new(3, "CPU of nine whole chains, mode box at 30 Hz", "cores", HOW_MOVING, conditions);
    row.ours = object([
        ("agents", cores(ours.agents)),
        ("decoding", cores(decoding)),
        ("viewer", cores(ours.viewer.cores)),
        ("control", cores(ours.control)),
        ("guests", cores(ours.guests)),
        ("fps_decoded", json!(rates.decoded.map(|fps| round(fps, 1)))),
        ("fps_shown", json!(rates.shown.map(|fps| round(fps, 1)))),
        ("agent_threads", threads(&ours.agent_threads)),
        ("viewer_threads", threads(&ours.viewer.threads)),
    ]);
    row.ratio = ratio(Some(ours.viewer.cores), client);
    row.peer = played.map(|played| {
        let mut values = played_values(&played);
        values.insert("agents".to_owned(), cores(with_browser.agents));
        Peer { name: played.version, values, others: Vec::new() }
    });
    Ok(row)
}

async fn moving(lab: &Lab, bed: &mut Bed) -> Result<(Cores, Rates, Cores, Option<Played>)> {
    let mut tiles = bed.open_viewer(false).await?;
    tiles.unwatch().await?;
    tokio::time::sleep(SETTLING).await;
    let ours = bed::cores(bed, lab.window).await?;
    let rates = rates(&mut tiles).await?;
    tiles.automation.screenshot(&lab.out.join("row3-loco.png")).await?;
    drop(tiles);
    bed.close_viewer().await?;
    match browse(lab, bed, "row3-chromium.png").await {
        Ok((with_browser, played, _)) => Ok((ours, rates, with_browser, Some(played))),
        Err(error) => {
            tracing::warn!("Chromium was not measured: {error:#}");
            Ok((ours, rates, Cores::default(), None))
        }
    }
}

/// Chromium plays all: what the bed and the browser use, and what the agents send.
async fn browse(lab: &Lab, bed: &Bed, picture: &str) -> Result<(Cores, Played, Option<Sent>)> {
    let mut wall = Wall::start(bed).await?;
    tokio::time::sleep(SETTLING).await;
    let sent = Sending::start(bed)?;
    let (used, played) = tokio::try_join!(bed::cores(bed, lab.window), wall.measure(lab.window))?;
    let sent = sent.map(Sending::finish).transpose()?;
    std::fs::write(lab.out.join(picture), wall.screenshot().await?)?;
    wall.stop().await;
    Ok((used, played, sent))
}

/// Everything that a bed's agents send by UDP.
struct Sending {
    capture: Capture,
    ports: Vec<BTreeSet<u16>>,
}

/// What they sent.
struct Sent {
    /// By agent, in kbit/s; nothing of one that was not seen to send.
    kbit_per_s: Vec<Option<f64>>,
    /// All together.
    packets_per_s: f64,
}

impl Sending {
    /// Starts counting; nothing when the system does not allow it.
    fn start(bed: &Bed) -> Result<Option<Self>> {
        let ports: Vec<BTreeSet<u16>> = bed.processes()?.agents().iter().map(|pid| udp::ports_of(&[*pid])).collect();
        match Capture::start(ports.iter().flatten().copied().collect()) {
            Ok(capture) => Ok(Some(Self { capture, ports })),
            Err(error) => {
                tracing::warn!("bytes are not counted: a packet socket needs CAP_NET_RAW ({error})");
                Ok(None)
            }
        }
    }

    fn finish(self) -> Result<Sent> {
        let traffic: Traffic = self.capture.finish()?;
        let kbit_per_s = self.ports.iter().map(|ports| traffic.saw(ports).then(|| traffic.kbit_per_s(ports))).collect();
        Ok(Sent { kbit_per_s, packets_per_s: traffic.packets_per_s() })
    }
}

impl Sent {
    /// The agent that sends most; nothing when one of them is not known.
    fn worst(&self) -> Option<f64> {
        let all: Vec<f64> = self.kbit_per_s.iter().copied().collect::<Option<_>>()?;
        all.into_iter().max_by(f64::total_cmp)
    }

    fn values(&self) -> Value {
        let each: Vec<_> = self.kbit_per_s.iter().map(|rate| rate.map(|rate| round(rate, 3))).collect();
        json!({"kbit_per_s_each": each, "packets_per_s_all": round(self.packets_per_s, 2)})
    }
}

const HOW_STILL: &str = "Nine demo guests 640x480 in mode quiet (nothing moves, no sound), shown on one wall of 1280x960. CPU time of \
    agents with helpers, viewer and control plane (guests excluded) as in row 3. Bytes: the UDP payload of every datagram that leaves \
    an agent's ports, media, RTCP, STUN and DTLS alike, captured by a packet socket from outside. The same again with headless \
    Chromium as the viewer.";

/// Row 4.
pub(super) async fn nine_still(lab: &Lab) -> Result<Row> {
    let mut bed = Bed::start(&lab.loco, 9, Mode::Quiet).await?;
    let measured = still(lab, &mut bed).await;
    bed.stop().await?;
    let (ours, sent, browsed) = measured?;
    let all = ours.agents + ours.viewer.cores + ours.control;
    let worst = sent.as_ref().and_then(Sent::worst);
    let browser_worst = browsed.as_ref().and_then(|(_, _, sent)| sent.as_ref()?.worst());
    let conditions = vec![
        Condition::at_most("agents + viewer + control plane, cores,", Some(all), 0.03),
        Condition::at_most("UDP payload of the busiest agent, kbit/s,", worst, 1.0),
        Condition::at_most("the same with Chromium as the viewer", browser_worst, 1.0),
    ];
    let mut row = Row::new(4, "CPU and bytes of nine still desktops", "cores, kbit/s", HOW_STILL, conditions);
    row.ours = object([
        ("cores", cores(all)),
        ("agents", cores(ours.agents)),
        ("viewer", cores(ours.viewer.cores)),
        ("control", cores(ours.control)),
        ("guests", cores(ours.guests)),
        ("kbit_per_s", json!(worst.map(|rate| round(rate, 3)))),
        ("udp", sent.map_or(Value::Null, |sent| sent.values())),
        ("agent_threads", threads(&ours.agent_threads)),
        ("viewer_threads", threads(&ours.viewer.threads)),
    ]);
    if let Some((used, played, sent)) = browsed {
        let mut values = played_values(&played);
        values.insert("agents".to_owned(), cores(used.agents));
        values.insert("kbit_per_s".to_owned(), json!(browser_worst.map(|rate| round(rate, 3))));
        values.insert("udp".to_owned(), sent.map_or(Value::Null, |sent| sent.values()));
        row.ratio = ratio(Some(ours.viewer.cores), Some(played.cores));
        row.peer = Some(Peer { name: format!("{} on the same agents", played.version), values, others: Vec::new() });
    }
    Ok(row)
}

type Still = (Cores, Option<Sent>, Option<(Cores, Played, Option<Sent>)>);

async fn still(lab: &Lab, bed: &mut Bed) -> Result<Still> {
    let mut tiles = bed.open_viewer(true).await?;
    tiles.unwatch().await?;
    tokio::time::sleep(SETTLING).await;
    let sending = Sending::start(bed)?;
    let ours = bed::cores(bed, lab.window).await?;
    let sent = sending.map(Sending::finish).transpose()?;
    drop(tiles);
    bed.close_viewer().await?;
    let browsed = browse(lab, bed, "row4-chromium.png").await;
    let browsed = browsed.map_err(|error| tracing::warn!("Chromium was not measured: {error:#}")).ok();
    Ok((ours, sent, browsed))
}

const HOW_ENCODING: &str = "One demo guest switched to 1024x768 in mode busy (the whole screen changes at 30 Hz), one viewer. CPU time of \
    the agent's process over the window, which holds capture, colour conversion, encoding, encryption and sending; the guest is \
    excluded. The comparison named in the targets (Selkies, 1080p60, scaled by pixels and rate: 0.28 core) was measured elsewhere \
    and is no peer of this run.";

/// Row 5.
pub(super) async fn encoding(lab: &Lab) -> Result<Row> {
    let (mut runs, mut last_threads) = (Vec::new(), Value::Null);
    for _ in 0..lab.runs {
        let mut bed = Bed::start(&lab.loco, 1, Mode::Busy).await?;
        let measured = busy(lab, &mut bed, Some(LARGE)).await;
        bed.stop().await?;
        let (used, rates) = measured?;
        runs.push(object([
            ("agent", cores(used.agents)),
            ("guest", cores(used.guests)),
            ("viewer", cores(used.viewer.cores)),
            ("fps_decoded", json!(rates.decoded.map(|fps| round(fps, 1)))),
        ]));
        last_threads = threads(&used.agent_threads);
    }
    let conditions = vec![
        Condition::at_most("agent, cores,", middle(&runs, "agent"), 0.2),
        Condition::at_least("frames decoded per second", middle(&runs, "fps_decoded"), 29.0),
    ];
    let mut row = Row::new(5, "software encoding, 1024x768 at 30 Hz, mode busy", "cores", HOW_ENCODING, conditions);
    row.ours = over_runs(&runs);
    row.ours.insert("agent_threads".to_owned(), last_threads);
    Ok(row)
}

/// One busy guest, after `key` set its resolution.
async fn busy(lab: &Lab, bed: &mut Bed, key: Option<Key>) -> Result<(Cores, Rates)> {
    let id = *bed.ids().first().context("the demo has no instance")?;
    let mut tiles = bed.open_viewer(false).await?;
    if let Some(key) = key {
        bed.tap(id, key).await?;
        tokio::time::sleep(SETTLING).await;
        tiles.wait_live(&[id], std::time::Instant::now() + SETTLING).await?;
    }
    tiles.unwatch().await?;
    tokio::time::sleep(SETTLING).await;
    let used = bed::cores(bed, lab.window).await?;
    Ok((used, rates(&mut tiles).await?))
}

/// CPU of one busy guest's chain at 640x480 and at 1024x768, for the growth with pixels.
pub(super) async fn by_pixels(lab: &Lab) -> Result<(Cores, Cores)> {
    let mut results = Vec::new();
    for key in [None, Some(LARGE)] {
        let mut bed = Bed::start(&lab.loco, 1, Mode::Busy).await?;
        let measured = busy(lab, &mut bed, key).await;
        bed.stop().await?;
        results.push(measured?.0);
    }
    let large = results.pop().context("nothing was measured")?;
    Ok((results.pop().context("nothing was measured")?, large))
}

/// CPU of `instances` moving chains.
pub(super) async fn by_instances(lab: &Lab, instances: usize) -> Result<Cores> {
    let mut bed = Bed::start(&lab.loco, instances, Mode::Box).await?;
    let measured = async {
        let mut tiles = bed.open_viewer(false).await?;
        tiles.unwatch().await?;
        tokio::time::sleep(SETTLING).await;
        bed::cores(&bed, lab.window).await
    }
    .await;
    bed.stop().await?;
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_was_not_seen_is_not_the_quietest() {
        let sent = |rates: &[Option<f64>]| Sent { kbit_per_s: rates.to_vec(), packets_per_s: 1.0 }.worst();
        assert_eq!(sent(&[Some(0.2), Some(0.4)]), Some(0.4));
        assert_eq!(sent(&[Some(0.2), None]), None);
        assert_eq!(sent(&[]), None);
    }
}
