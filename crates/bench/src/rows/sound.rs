//! Row 12: how late sound is, how far from its picture, and whether it ever runs dry.

use super::runs::{middle, over_runs};
use super::{Lab, object};
use crate::bed::{Bed, Mode};
use crate::clock::monotonic_us;
use crate::guest_log::GuestLog;
use crate::plot::Series;
use crate::report::{Condition, Row, first_line_of};
use crate::stats::{Summary, round};
use crate::tiles::Tiles;
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
/// Between two looks at nine sounds.
const WATCH: Duration = Duration::from_secs(5);
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
    /// Markers that the guest made and that should have been heard.
    made: usize,
    /// Clicks that were heard.
    heard: usize,
    latency_ms: Vec<f64>,
    skew_ms: Vec<f64>,
    device_ms: Vec<f64>,
    /// Clicks that no line of the guest belongs to.
    unmatched: usize,
}

/// What nine sounds did.
struct Endurance {
    secs: f64,
    /// Nothing where one of the nine does not say, began to count anew, or has stopped.
    underruns: Option<u64>,
    skips: Option<u64>,
    concealed_late: Option<u64>,
    missed_ms: Option<u64>,
    /// What each keeps in store for late packets, at the end.
    spare_ms: Vec<f64>,
    sound: Value,
    course: Vec<Value>,
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
    let raw = json!({"latency_ms": all.latency_ms, "skew_ms": all.skew_ms, "nine": nine.course});
    lab.keep("row12.json", &raw)?;

    let of = |name: &str| middle(&runs, name);
    let qemu = first_line_of(&crate::bed::qemu(), &["--version"]);
    let limit = if qemu.as_deref().and_then(major).is_some_and(|major| major >= 10) { 40.0 } else { 55.0 };
    let dry = nine.underruns.zip(nine.skips).map(|(underruns, skips)| underruns + skips);
    let conditions = vec![
        Condition::at_most("guest's sample -> callback, 95th percentile, ms,", of("latency_p95_ms"), limit),
        Condition::at_most("sound later than picture, median, ms,", of("skew_p50_ms"), 45.0),
        Condition::at_least("sound earlier than picture, median, ms,", of("skew_p50_ms"), -20.0),
        Condition::at_most("underruns of nine sounds", dry.map(|dry| dry as f64), 0.0),
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
    /// Whether so few clicks are missing that the slowest of twenty is among those that were timed.
    fn tells_p95(&self) -> bool {
        let timed = self.latency_ms.len();
        let lost = self.unmatched.max(self.made.saturating_sub(self.heard));
        lost * 20 <= timed + lost
    }

    /// One run in a few numbers.
    fn numbers(&self) -> Map<String, Value> {
        let rounded = |value: Option<f64>| json!(value.map(|value| round(value, 1)));
        let [latency, skew, device] = [&self.latency_ms, &self.skew_ms, &self.device_ms].map(|of| Summary::of(of));
        object([
            ("latency_p50_ms", rounded(latency.map(|s| s.p50))),
            ("latency_p95_ms", rounded(latency.filter(|_| self.tells_p95()).map(|s| s.p95))),
            ("latency_max_ms", rounded(latency.map(|s| s.max))),
            ("skew_p50_ms", rounded(skew.map(|s| s.p50))),
            ("skew_p95_ms", rounded(skew.map(|s| s.p95))),
            ("device_p50_ms", rounded(device.map(|s| s.p50))),
            ("clicks", json!(self.latency_ms.len())),
            ("clicks_made", json!(self.made)),
        ])
    }

    fn add(&mut self, other: Self) {
        self.latency_ms.extend(other.latency_ms);
        self.skew_ms.extend(other.skew_ms);
        self.device_ms.extend(other.device_ms);
        self.unmatched += other.unmatched;
        self.made += other.made;
        self.heard += other.heard;
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
    let (mut seen, mut first) = (0, None);
    let begun_us = monotonic_us();
    let mut clicks: Vec<u64> = Vec::new();
    let mut marks = Marks::default();
    let end = Instant::now() + window;
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        let wall = tiles.automation.command("wall", json!({})).await?;
        let marker = &wall["tiles"][0]["marker"];
        let Some(count) = marker["clicks"].as_u64().filter(|count| *count != seen) else { continue };
        seen = count;
        first.get_or_insert(count);
        clicks.push(marker["handed_us"].as_u64().context("a click without its callback")?);
        marks.skew_ms.extend(marker["skew_ms"].as_f64());
        marks.device_ms.extend(marker["latency_us"].as_f64().map(|us| us / 1e3));
    }
    let made = log.take();
    // The newest one may still be on its way.
    marks.made = made.iter().filter(|made_us| **made_us >= begun_us).count().saturating_sub(1);
    let heard = first.and_then(|first: u64| seen.checked_sub(first));
    marks.heard = heard.map_or(0, |more| usize::try_from(more + 1).unwrap_or(usize::MAX));
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
    let sounds = bed.ids().len();
    wait_playing(&tiles, sounds, Instant::now() + Duration::from_secs(20)).await?;
    tokio::time::sleep(SETTLE).await;
    let before = tiles.automation.command("wall", json!({})).await?;
    let began = Instant::now();
    let course = watch(&tiles, window).await?;
    let after = tiles.automation.command("wall", json!({})).await?;
    let secs = began.elapsed().as_secs_f64();
    // One that has stopped runs dry no more. Between two stretches each is silent for a moment.
    let lasted = wait_playing(&tiles, sounds, Instant::now() + SETTLE).await;
    let lasts = lasted.inspect_err(|error| tracing::warn!("at the end: {error}")).is_ok();
    let counted = |name| grown(&before, &after, name).filter(|_| lasts);
    let missed = |wall: &Value| wall["sound"]["missed_ms"].as_u64();
    let sound = &after["sound"];
    let kept = ["line", "callback_frames", "output_latency_ms", "reopened", "priority"];
    let result = Endurance {
        secs,
        underruns: counted("underruns"),
        skips: counted("skips"),
        concealed_late: counted("concealed_late"),
        spare_ms: readers(&after).filter_map(|reader| reader["spare_ms"].as_f64()).collect(),
        missed_ms: missed(&after).zip(missed(&before)).and_then(|(after, before)| after.checked_sub(before)),
        sound: kept.into_iter().map(|name| (name.to_owned(), sound[name].clone())).collect(),
        course,
    };
    drop(tiles);
    bed.close_viewer().await?;
    Ok(result)
}

/// Lets `window` pass; what the readers had counted by then, again and again, so that interruptions have a time.
async fn watch(tiles: &Tiles, window: Duration) -> Result<Vec<Value>> {
    const COUNTS: [&str; 5] = ["underruns", "skips", "concealed_late", "buffer_ms", "spare_ms"];
    let (began, mut course) = (Instant::now(), Vec::new());
    loop {
        let left = window.saturating_sub(began.elapsed());
        tokio::time::sleep(left.min(WATCH)).await;
        if left <= WATCH {
            return Ok(course);
        }
        let wall = tiles.automation.command("wall", json!({})).await?;
        let each = |name: &str| readers(&wall).map(|reader| reader[name].clone()).collect::<Value>();
        let mut now: Map<String, Value> = COUNTS.iter().map(|name| ((*name).to_owned(), each(name))).collect();
        now.insert("at_us".to_owned(), json!(monotonic_us()));
        now.insert("missed_ms".to_owned(), wall["sound"]["missed_ms"].clone());
        course.push(Value::Object(now));
    }
}

async fn wait_playing(tiles: &Tiles, sounds: usize, deadline: Instant) -> Result<()> {
    loop {
        let wall = tiles.automation.command("wall", json!({})).await?;
        let playing = readers(&wall).filter(|reader| reader["playing"] == json!(true)).count();
        if playing == sounds {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {playing} of {sounds} sounds play");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn readers(wall: &Value) -> impl Iterator<Item = &Value> {
    wall["tiles"].as_array().into_iter().flatten().map(|tile| &tile["audio"]["reader"])
}

/// What a counter of all readers grew by; nothing when one of them does not say, or began anew.
fn grown(before: &Value, after: &Value, name: &str) -> Option<u64> {
    let counts = |wall| readers(wall).map(|reader| reader[name].as_u64()).collect::<Option<Vec<u64>>>();
    let (before, after) = (counts(before)?, counts(after)?);
    let each = before.iter().zip(&after).map(|(before, after)| after.checked_sub(*before));
    (before.len() == after.len()).then(|| each.sum()).flatten()
}

async fn music_on(bed: &Bed, id: InstanceId) -> Result<()> {
    bed.tap(id, Key::named("KeyM")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_began_anew_hides_nothing() {
        let wall = |counts: &[Value]| {
            let tile = |count: &Value| json!({"audio": {"reader": {"underruns": count}}});
            json!({"tiles": counts.iter().map(tile).collect::<Vec<_>>()})
        };
        let before = wall(&[json!(5), json!(1)]);
        assert_eq!(grown(&before, &wall(&[json!(7), json!(1)]), "underruns"), Some(2));
        assert_eq!(grown(&before, &wall(&[json!(0), json!(9)]), "underruns"), None);
        assert_eq!(grown(&before, &wall(&[json!(7), Value::Null]), "underruns"), None);
        assert_eq!(grown(&before, &wall(&[json!(7)]), "underruns"), None);
    }

    #[test]
    fn clicks_that_are_missing_are_not_early() {
        let marks = |made, heard, unmatched| Marks {
            made,
            heard,
            unmatched,
            latency_ms: vec![40.0; heard - unmatched],
            ..Marks::default()
        };
        let p95 = |marks: Marks| marks.numbers()["latency_p95_ms"].as_f64();
        assert_eq!(p95(marks(60, 61, 0)), Some(40.0));
        assert_eq!(p95(marks(60, 58, 0)), Some(40.0));
        assert_eq!(p95(marks(60, 40, 0)), None, "a third was not heard");
        assert_eq!(p95(marks(60, 60, 4)), None, "too many belong to no line of the guest");
    }

    #[test]
    fn versions() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major("nonsense"), None);
    }
}
