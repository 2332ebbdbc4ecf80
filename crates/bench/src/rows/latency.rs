//! Rows 1 and 2: key to pixel.

use super::{Lab, object};
use crate::bed::{Bed, Mode};
use crate::latency::{self, InBrowser, Latencies, Rhythm};
use crate::plot::{Series, cut};
use crate::report::{Condition, Peer, Row, ratio};
use anyhow::{Context, Result};
use serde_json::{Value, json};

const LABELS: (&str, &str) = ("milliseconds", "per cent of keys");
/// Right edge of the plots.
const RIGHT_MS: f64 = 100.0;

/// What a peer did, moving and still.
struct Measured {
    name: String,
    moving: Latencies,
    still: Latencies,
    extra: Vec<(&'static str, Value)>,
}

impl Measured {
    fn median(&self) -> Option<f64> {
        self.moving.summary().map(|summary| summary.p50)
    }

    fn peer(&self) -> Peer {
        let mut values = values(&self.moving, &self.still);
        values.remove("stages_ms");
        values.extend(self.extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Peer { name: self.name.clone(), values, others: Vec::new() }
    }
}

fn values(moving: &Latencies, still: &Latencies) -> serde_json::Map<String, Value> {
    object([
        ("moving_ms", json!(moving.summary())),
        ("still_ms", json!(still.summary())),
        ("lost", json!(moving.lost + still.lost)),
        ("stages_ms", moving.stages.clone()),
    ])
}

const HOW_ONE: &str = "One demo guest 640x480 in mode town (30 frames a second), then one in mode quiet with a key after \
    every 4 s of stillness; wall 1280x960 drawn off screen. Ours: the key is injected into the viewer's router, the \
    clock stops when the viewer has presented and read back a frame whose barcode counts it. TigerVNC: its own viewer on \
    an Xvfb of its own, connected to the same QEMU's VNC server by unix socket; the key is injected by XTEST, the clock \
    stops at the X server's DAMAGE event after which the screen's barcode counts it. Chromium, headless: plays the same \
    agent's WHEP stream with the playout-delay extension and jitterBufferTarget 0; the page sends the key on the \
    stream's data channel and reads the barcode in requestVideoFrameCallback; the clock stops when the browser expects \
    that frame on the screen (`composed_ms`: when it handed it to its compositor, before anything is drawn). The D-Bus display stays \
    connected while the peers run, which keeps QEMU refreshing every 30 ms: alone, its VNC server backs off when still. \
    Pauses between keys walk through all phases of a frame. The ratio is to the faster peer, by medians while moving.";

/// Row 1.
pub(super) async fn one_guest(lab: &Lab) -> Result<Row> {
    let (ours_moving, mut vnc, mut chromium) = {
        let mut bed = Bed::start_with_vnc(&lab.loco, 1, Mode::Town).await?;
        let measured = beside_peers(&mut bed, false, Rhythm::moving(lab.trials)).await;
        bed.stop().await?;
        measured?
    };
    let (ours_still, vnc_still, chromium_still) = {
        let mut bed = Bed::start_with_vnc(&lab.loco, 1, Mode::Quiet).await?;
        let measured = beside_peers(&mut bed, true, Rhythm::still(lab.still_trials())).await;
        bed.stop().await?;
        measured?
    };
    if let (Some(vnc), Some(still)) = (&mut vnc, vnc_still) {
        vnc.still = still.moving;
    }
    if let (Some(chromium), Some(still)) = (&mut chromium, chromium_still) {
        chromium.still = still.moving;
    }
    let mut all = vec![("loco", &ours_moving), ("loco, still", &ours_still)];
    all.extend([&vnc, &chromium].into_iter().flatten().map(|peer| (peer.name.as_str(), &peer.moving)));
    all.retain(|(_, latencies)| !latencies.ms.is_empty());
    let series: Vec<Series> = all.iter().map(|(name, latencies)| Series::distribution(name, &latencies.ms)).collect();
    lab.plot("row1.svg", "Key to picture, one guest (up to 100 ms)", LABELS, &cut(&series, RIGHT_MS));
    let raw: Vec<Value> = series.iter().map(|series| json!({"name": series.name, "points": series.points})).collect();
    lab.keep("row1.json", &json!(raw))?;

    let (moving, still) = (ours_moving.summary(), ours_still.summary());
    let ours = moving.map(|summary| summary.p50);
    let times = |peer: &Option<Measured>| ratio(ours, peer.as_ref().and_then(Measured::median));
    let lost = (ours_moving.lost + ours_still.lost) as f64;
    let conditions = vec![
        Condition::at_most("median while moving, ms,", ours, 10.0),
        Condition::at_most("95th percentile while moving, ms,", moving.map(|summary| summary.p95), 20.0),
        Condition::at_most("median after 4 s of stillness, ms,", still.map(|summary| summary.p50), 10.0),
        Condition::at_most("95th percentile after 4 s of stillness, ms,", still.map(|summary| summary.p95), 20.0),
        Condition::at_most("keys without a picture", Some(lost), 0.0),
        Condition::at_least("times faster than TigerVNC", times(&vnc), 2.0),
        Condition::at_least("times faster than Chromium", times(&chromium), 2.0),
    ];
    let mut row = Row::new(1, "key pressed -> changed pixel presented, one guest", "ms", HOW_ONE, conditions);
    row.ours = values(&ours_moving, &ours_still);
    let mut peers: Vec<Measured> = [vnc, chromium].into_iter().flatten().collect();
    peers.sort_by(|a, b| a.median().unwrap_or(f64::MAX).total_cmp(&b.median().unwrap_or(f64::MAX)));
    let mut peers = peers.iter().map(|peer| (peer.median(), peer.peer()));
    if let Some((median, mut best)) = peers.next() {
        best.others = peers.map(|(_, peer)| peer).collect();
        row.ratio = ratio(ours, median);
        row.peer = Some(best);
    }
    Ok(row)
}

/// Ours, then each peer alone. A peer that cannot be run is left out with a warning; its condition then does not hold.
async fn beside_peers(
    bed: &mut Bed,
    still: bool,
    rhythm: Rhythm,
) -> Result<(Latencies, Option<Measured>, Option<Measured>)> {
    let id = *bed.ids().first().context("the demo has no instance")?;
    let mut tiles = bed.open_viewer(still).await?;
    let ours = latency::ours(&mut tiles, &[id], rhythm).await?;
    drop(tiles);
    bed.close_viewer().await?;
    let vnc = latency::tiger_vnc(bed, id, rhythm).await.map(|(name, moving)| Measured {
        name,
        moving,
        still: Latencies::default(),
        extra: Vec::new(),
    });
    let chromium = latency::chromium(bed, id, rhythm).await.map(in_browser);
    Ok((ours, or_warn("TigerVNC", vnc), or_warn("Chromium", chromium)))
}

fn in_browser(seen: InBrowser) -> Measured {
    Measured {
        name: seen.version,
        moving: seen.shown,
        still: Latencies::default(),
        extra: vec![("composed_ms", json!(seen.composed.summary())), ("playout_delay", json!(seen.playout_delay))],
    }
}

fn or_warn<T>(name: &str, result: Result<T>) -> Option<T> {
    result.map_err(|error| tracing::warn!("{name} was not measured: {error:#}")).ok()
}

const HOW_NINE: &str = "Nine demo guests 640x480 in mode town, all shown on one wall of 1280x960; keys go to the tiles in \
    turn, otherwise as in row 1.";

/// Row 2.
pub(super) async fn nine_guests(lab: &Lab) -> Result<Row> {
    let mut bed = Bed::start(&lab.loco, 9, Mode::Town).await?;
    let measured = async {
        let mut tiles = bed.open_viewer(false).await?;
        let ids = bed.ids();
        latency::ours(&mut tiles, &ids, Rhythm::moving(lab.trials.max(9))).await
    }
    .await;
    bed.stop().await?;
    let measured = measured?;
    lab.plot(
        "row2.svg",
        "Key to picture, nine guests at once (up to 100 ms)",
        LABELS,
        &cut(&[Series::distribution("loco", &measured.ms)], RIGHT_MS),
    );
    let summary = measured.summary();
    let conditions = vec![
        Condition::at_most("95th percentile, ms,", summary.map(|summary| summary.p95), 33.0),
        Condition::at_most("keys without a picture", Some(measured.lost as f64), 0.0),
    ];
    let mut row = Row::new(2, "key pressed -> changed pixel presented, nine live at once", "ms", HOW_NINE, conditions);
    row.ours = object([("moving_ms", json!(summary)), ("lost", json!(measured.lost)), ("stages_ms", measured.stages)]);
    Ok(row)
}
