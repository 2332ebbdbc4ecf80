//! Row 12: how late sound is, how far from its picture, and whether it ever runs dry.

use super::runs::{middle, over_runs};
use super::{Lab, object};
use crate::bed::{Bed, Mode};
use crate::guest_log::GuestLog;
use crate::plot::Series;
use crate::report::{Condition, Row, first_line_of};
use crate::stats::{Summary, round};
use anyhow::{Context, Result, bail};
use loco_model::{InstanceId, Key};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

const LABELS: (&str, &str) = ("milliseconds", "per cent of clicks");
/// Markers come once a second; more than this many seconds of them in one run tell nothing new.
const MOST_MARKER: Duration = Duration::from_secs(60);
/// How often the viewer is asked for its newest pair.
const LOOK: Duration = Duration::from_millis(300);
/// A click is handed out within this time after it was made.
const FAR_US: u64 = 600_000;
/// Sound has settled after this: a store that began too full or too empty.
const SETTLE: Duration = Duration::from_secs(5);

const HOW: &str = "Latency and skew: one demo guest in mode marker; once a second its sound card clicks (3 ms, -3 dBFS, over a \
    hum of -50 dBFS that keeps the card playing) while a field of its picture flashes, both on the same interrupt, which it also \
    tells on its debug console. The clock starts when that line is in the file that the agent keeps of it (within a millisecond) and stops when the sound device's callback \
    begins in which the click is handed out (what the device adds is told beside it). Skew: presentation of the first picture with \
    the flash -> click heard, that is callback, place of the click in it and the latency that the sound server tells; positive is \
    sound later. Underruns: nine demo guests with their music on, sound played on a private PulseAudio (null sink, callbacks as \
    the product asks for them), once for the time given; counted are stretches of sound that ran dry or were cut because too much had gathered. CPU \
    pressure is whatever the machine has: the guests run beside. Several runs: of latency and skew, medians, each run's values beside them.";

/// What one marker measured.
#[derive(Default)]
struct Marks {
    latency_ms: Vec<f64>,
    skew_ms: Vec<f64>,
    device_ms: Vec<f64>,
    /// Clicks that no line of the guest belongs to.
    unmatched: usize,
}

/// What nine sounds did.
struct Endurance {
    secs: f64,
    underruns: u64,
    skips: u64,
    concealed_late: u64,
    missed_ms: u64,
    /// What each keeps in store for late packets, at the end.
    spare_ms: Vec<f64>,
    sound: Value,
}

/// Row 12.
pub(super) async fn latency_skew_underruns(lab: &Lab) -> Result<Row> {
    let (mut all, mut runs) = (Marks::default(), Vec::new());
    for run in 0..lab.runs {
        let mut bed = Bed::start(&lab.loco, 1, Mode::Marker).await?;
        let measured = marks(&mut bed, lab.window.min(MOST_MARKER)).await;
        bed.stop().await?;
        let marks = measured?;
        runs.push(marks.numbers());
        tracing::info!(run, numbers = %json!(runs.last()), "row 12");
        all.add(marks);
    }
    let nine = {
        let mut bed = Bed::start(&lab.loco, 9, Mode::Town).await?;
        let measured = endurance(&mut bed, lab.window).await;
        bed.stop().await?;
        measured?
    };
    let series = [
        Series::distribution("guest's sample -> callback", &all.latency_ms),
        Series::distribution("sound after picture", &all.skew_ms),
    ];
    lab.plot("row12.svg", "Sound: latency and skew", LABELS, &series);
    lab.keep("row12.json", &json!({"latency_ms": all.latency_ms, "skew_ms": all.skew_ms}))?;

    let of = |name: &str| middle(&runs, name);
    let qemu = first_line_of(&crate::bed::qemu(), &["--version"]);
    let limit = if qemu.as_deref().and_then(major).is_some_and(|major| major >= 10) { 40.0 } else { 55.0 };
    let conditions = vec![
        Condition::at_most("guest's sample -> callback, 95th percentile, ms,", of("latency_p95_ms"), limit),
        Condition::at_most("sound later than picture, median, ms,", of("skew_p50_ms"), 45.0),
        Condition::at_least("sound earlier than picture, median, ms,", of("skew_p50_ms"), -20.0),
        Condition::at_most("underruns of nine sounds", Some((nine.underruns + nine.skips) as f64), 0.0),
    ];
    let mut row = Row::new(12, "sound: latency, skew, underruns", "ms", HOW, conditions);
    row.ours = over_runs(&runs);
    row.ours.extend(object([
        ("unmatched", json!(all.unmatched)),
        ("qemu", json!(qemu)),
        ("nine_secs", json!(round(nine.secs, 0))),
        ("nine_underruns", json!(nine.underruns)),
        ("nine_skips", json!(nine.skips)),
        ("nine_late", json!(nine.concealed_late)),
        ("nine_spare_ms", json!(Summary::of(&nine.spare_ms).map(|s| s.rounded(1)))),
        ("left_out_by_server_ms", json!(nine.missed_ms)),
        ("sound", nine.sound),
    ]));
    Ok(row)
}

// === impl Marks ===

impl Marks {
    /// One run in a few numbers.
    fn numbers(&self) -> Map<String, Value> {
        let rounded = |value: Option<f64>| json!(value.map(|value| round(value, 1)));
        let [latency, skew, device] = [&self.latency_ms, &self.skew_ms, &self.device_ms].map(|of| Summary::of(of));
        object([
            ("latency_p50_ms", rounded(latency.map(|s| s.p50))),
            ("latency_p95_ms", rounded(latency.map(|s| s.p95))),
            ("latency_max_ms", rounded(latency.map(|s| s.max))),
            ("skew_p50_ms", rounded(skew.map(|s| s.p50))),
            ("skew_p95_ms", rounded(skew.map(|s| s.p95))),
            ("device_p50_ms", rounded(device.map(|s| s.p50))),
            ("clicks", json!(self.latency_ms.len())),
        ])
    }

    fn add(&mut self, other: Self) {
        self.latency_ms.extend(other.latency_ms);
        self.skew_ms.extend(other.skew_ms);
        self.device_ms.extend(other.device_ms);
        self.unmatched += other.unmatched;
    }
}

/// `QEMU emulator version 7.2.22 (…)` is 7.
fn major(line: &str) -> Option<u32> {
    line.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

async fn marks(bed: &mut Bed, window: Duration) -> Result<Marks> {
    let id = *bed.ids().first().context("the demo has no instance")?;
    let mut tiles = bed.open_viewer(true).await?;
    let mut log = GuestLog::follow(&bed.guest_console(id)?, |line| line.starts_with("loco: marker n="))?;
    tiles.unwatch().await?;
    tiles.automation.command("sound", json!({"output": "default"})).await?;
    tokio::time::sleep(SETTLE).await;
    let mut seen = 0;
    let mut clicks: Vec<u64> = Vec::new();
    let mut marks = Marks::default();
    let end = Instant::now() + window;
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        let wall = tiles.automation.command("wall", json!({})).await?;
        let marker = &wall["tiles"][0]["marker"];
        let Some(count) = marker["clicks"].as_u64().filter(|count| *count != seen) else { continue };
        seen = count;
        clicks.push(marker["handed_us"].as_u64().context("a click without its callback")?);
        marks.skew_ms.extend(marker["skew_ms"].as_f64());
        marks.device_ms.extend(marker["latency_us"].as_f64().map(|us| us / 1e3));
    }
    let made = log.take();
    for handed_us in clicks {
        match made.iter().rev().find(|made_us| **made_us <= handed_us) {
            Some(made_us) if handed_us - made_us < FAR_US => {
                marks.latency_ms.push((handed_us - made_us) as f64 / 1e3);
            }
            _ => marks.unmatched += 1,
        }
    }
    drop(tiles);
    bed.close_viewer().await?;
    if marks.latency_ms.is_empty() {
        bail!("no click was heard: {} lines of the guest", made.len());
    }
    Ok(marks)
}

async fn endurance(bed: &mut Bed, window: Duration) -> Result<Endurance> {
    let tiles = bed.open_viewer(false).await?;
    tiles.automation.command("sound", json!({"output": "default"})).await?;
    for id in bed.ids() {
        music_on(bed, id).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let wall = tiles.automation.command("wall", json!({})).await?;
        let playing = readers(&wall).filter(|reader| reader["playing"] == json!(true)).count();
        if playing == bed.ids().len() {
            break;
        }
        if Instant::now() > deadline {
            bail!("only {playing} sounds play");
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(SETTLE).await;
    let before = tiles.automation.command("wall", json!({})).await?;
    let began = Instant::now();
    tokio::time::sleep(window).await;
    let after = tiles.automation.command("wall", json!({})).await?;
    let grown = |name: &str| {
        let sum = |wall: &Value| readers(wall).filter_map(|reader| reader[name].as_u64()).sum::<u64>();
        sum(&after).saturating_sub(sum(&before))
    };
    let missed = |wall: &Value| wall["sound"]["missed_ms"].as_u64().unwrap_or_default();
    let sound = &after["sound"];
    let kept = ["line", "callback_frames", "output_latency_ms", "reopened", "priority"];
    let result = Endurance {
        secs: began.elapsed().as_secs_f64(),
        underruns: grown("underruns"),
        skips: grown("skips"),
        concealed_late: grown("concealed_late"),
        spare_ms: readers(&after).filter_map(|reader| reader["spare_ms"].as_f64()).collect(),
        missed_ms: missed(&after).saturating_sub(missed(&before)),
        sound: kept.into_iter().map(|name| (name.to_owned(), sound[name].clone())).collect(),
    };
    drop(tiles);
    bed.close_viewer().await?;
    Ok(result)
}

fn readers(wall: &Value) -> impl Iterator<Item = &Value> {
    wall["tiles"].as_array().into_iter().flatten().map(|tile| &tile["audio"]["reader"])
}

async fn music_on(bed: &Bed, id: InstanceId) -> Result<()> {
    bed.tap(id, Key::named("KeyM")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major("nonsense"), None);
    }
}
