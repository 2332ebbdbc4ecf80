//! Rows 10 and 11: bad links.

mod drive;
mod shapes;

use super::runs::{middle, over_runs};
use super::{Lab, object};
use crate::line::{Line, Options};
use crate::plot::Series;
use crate::report::{Condition, Row};
use crate::stats::{Summary, median, round};
use anyhow::{Context, Result};
use drive::{FREEZE_MS, Frames, Seen, drive};
use loco_impair::{Direction, Impairment};
use serde_json::{Map, Value, json};
use shapes::Shape;
use std::net::TcpListener;
use std::time::Duration;

/// Without loss, before the loss of row 10.
const CALM_S: f64 = 20.0;
/// The default ceiling of the row.
const CEILING: [&str; 2] = ["--bit-rate", "2000"];

const HOW_BAD: &str = "One demo guest 640x480 in mode busy (the whole screen changes 30 times a second), agent and viewer \
    as processes, between them the project's impairing proxy (one thread, poll): 8 Mbit/s, a queue of 100 kB, 50 ms each \
    way, first without loss, then with 0.3 % random loss each way. Frames decoded of those sent: the viewer's count against the \
    agent's, over the whole run, to within those on their way. Shown: the guest's ticks whose barcode the viewer presented; \
    less, since a key has the agent take a picture at once, 3 to 15 ms beside the one that was due, and of two pictures \
    within one drawing the newer is drawn; a freeze is more than 150 ms between two; lateness is the time from capture in the agent to presentation \
    (both processes' clock is the machine's), above its median without loss; beside it that against the guest's own clock, which has in it \
    how QEMU's looks at its display fall between the guest's ticks; keys are injected into the viewer's router four times a second, the clock stops \
    when the guest has told of them on its debug console. Several runs: medians, each run's values beside them.";

/// Row 10.
pub(super) async fn bad_link(lab: &Lab) -> Result<Row> {
    let mut runs = Vec::new();
    for run in 0..lab.runs {
        let (seen, hard) = one_bad(lab, run as u64).await?;
        if run == 0 {
            plots(lab, "row10", "8 Mbit/s, 100 ms, 0.3 % loss", &seen);
            lab.keep("row10.json", &raw(&seen))?;
        }
        runs.push(bad_numbers(&seen, hard));
        tracing::info!(run, numbers = %json!(runs.last()), "row 10");
    }
    let of = |name: &str| middle(&runs, name);
    let conditions = vec![
        Condition::at_least("frames decoded of those sent, per cent,", of("decoded_percent"), 99.9),
        Condition::at_most("freezes", of("freezes"), 1.0),
        Condition::at_most("longest gap, ms,", of("longest_gap_ms"), 170.0),
        Condition::at_most("99th percentile above the loss-free median, ms,", of("late_p99_ms"), 35.0),
        Condition::at_most("key to guest, 99th percentile, ms,", of("key_guest_p99_ms"), 50.0 + 30.0),
        Condition::at_most("keys that never came", of("keys_lost"), 0.0),
    ];
    let mut row = Row::new(10, "bad link: 8 Mbit/s, +50 ms each way, 0.3 % loss", "ms", HOW_BAD, conditions);
    row.ours = over_runs(&runs);
    Ok(row)
}

async fn one_bad(lab: &Lab, seed: u64) -> Result<(Seen, (f64, f64))> {
    let options = options(lab, "busy", seed);
    let mut line = Line::start(options).await?;
    let calm = Impairment::rate(8_000_000, 100_000).with_delay(Duration::from_millis(50));
    let lossy = calm.clone().with_loss(0.003);
    line.link.set(Direction::Down, calm.clone());
    line.link.set(Direction::Up, calm.clone());
    let watched = async {
        let id = *line.ids().first().context("no instance")?;
        let mut tiles = line.open_viewer().await?;
        let mut keys = line.keys(id)?;
        let length = lab.window.as_secs_f64();
        let (link, up) = (line.link.clone(), lossy.clone());
        let mut hooks = move |now: f64| {
            if now >= CALM_S && link.impairment(Direction::Up).loss == 0.0 {
                link.set(Direction::Up, up.clone());
            }
        };
        let phases = [(CALM_S, calm), (length, lossy)];
        let seen = drive(&line, &mut tiles, &mut keys, id, &phases, &mut hooks).await?;
        Ok((seen, (CALM_S, CALM_S + length)))
    }
    .await;
    line.stop().await?;
    watched
}

fn bad_numbers(seen: &Seen, (from, to): (f64, f64)) -> Map<String, Value> {
    // The first seconds settle.
    let calm = (5.0, CALM_S);
    let share = |(from, to)| {
        let (ticks, shown) = seen.ticks(from, to);
        (ticks > 0).then(|| shown as f64 / ticks as f64 * 100.0)
    };
    let gaps: Vec<f64> = seen.gaps(from, to).into_iter().map(|(_, ms)| ms).collect();
    let above = |measure: &dyn Fn(f64, f64) -> Vec<f64>, (from, to): (f64, f64)| {
        let base = median(&measure(calm.0, calm.1))?;
        let above: Vec<f64> = measure(from, to).iter().map(|ms| ms - base).collect();
        Summary::of(&above).map(|summary| summary.p99)
    };
    let from_capture = |from, to| seen.latencies(from, to);
    let from_tick = |from, to| seen.lateness(from, to);
    let hard = (from, to);
    let (guest, picture, lost) = seen.keys(from, to);
    let (calm_guest, ..) = seen.keys(calm.0, calm.1);
    object([
        ("decoded_percent", number(seen.frames.as_ref().and_then(Frames::decoded_percent))),
        ("shown_percent", number(share((from, to)))),
        ("shown_percent_without_loss", number(share(calm))),
        ("freezes", json!(gaps.iter().filter(|ms| **ms > FREEZE_MS).count())),
        ("longest_gap_ms", number(gaps.iter().copied().reduce(f64::max))),
        ("latency_p50_ms", number(median(&seen.latencies(from, to)))),
        ("latency_p50_without_loss_ms", number(median(&seen.latencies(calm.0, calm.1)))),
        ("late_p99_ms", number(above(&from_capture, hard))),
        ("late_p99_without_loss_ms", number(above(&from_capture, calm))),
        ("late_to_tick_p99_ms", number(above(&from_tick, hard))),
        ("late_to_tick_p99_without_loss_ms", number(above(&from_tick, calm))),
        ("key_guest_p50_ms", number(guest.map(|summary| summary.p50))),
        ("key_guest_p99_ms", number(guest.map(|summary| summary.p99))),
        ("key_guest_p99_without_loss_ms", number(calm_guest.map(|summary| summary.p99))),
        ("key_picture_p50_ms", number(picture.map(|summary| summary.p50))),
        ("keys_lost", json!(lost)),
        ("packets_lost", json!(seen.link.iter().map(|sample| sample.lost).sum::<u64>())),
        ("mbit_per_s", number(Some(mean_rate(seen, from, to) / 1e6))),
    ])
}

const HOW_SHAPES: &str = "One demo guest 640x480 in mode storm (every picture far from the one before: it takes any rate), ceiling 2 Mbit/s, agent and viewer as processes behind the \
    impairing proxy. Each shape has an easy part, a hard one and an easy one again, of 8 s or as --seconds says. fps: \
    distinct barcodes presented. Round trip: the viewer's own echo on the session, once a second. Key to picture: \
    injected into the viewer's router, until a presented picture counts it. Full again: until the link carries 90 % of \
    the rate before. Several runs: medians, each run's values beside them.";

/// Row 11.
pub(super) async fn shapes(lab: &Lab) -> Result<Row> {
    let each = lab.phase.as_secs_f64();
    let all = shapes::all(each);
    let mut ours = Map::new();
    let mut conditions = Vec::new();
    for (index, shape) in all.iter().enumerate() {
        let mut runs = Vec::new();
        for run in 0..lab.runs {
            let seen = one_shape(lab, shape, run as u64).await.with_context(|| shape.name)?;
            if run == 0 {
                plots(lab, &format!("row11-{}", shape.name), shape.name, &seen);
                lab.keep(&format!("row11-{}.json", shape.name), &raw(&seen))?;
            }
            runs.push(shape_numbers(&seen, shape));
            tracing::info!(shape = shape.name, run, numbers = %json!(runs.last()), "row 11");
        }
        let of = |name: &str| middle(&runs, name);
        let named = |what: &str| format!("{}: {what}", shape.name);
        conditions.push(Condition::at_least(&named("pictures a second"), of("fps"), shape.least_fps));
        conditions.push(Condition::at_least(&named("fewest in a second"), of("least_fps"), 3.0));
        if index == 0 {
            conditions.push(Condition::at_most(&named("longest round trip, ms,"), of("round_trip_max_ms"), 300.0));
        }
        let is_cliff = shape.name.starts_with("cliff") || shape.name.starts_with("ramp");
        if is_cliff {
            let limit = if index == 0 { 1.5 } else { each };
            conditions.push(Condition::at_most(&named("full again, s,"), of("full_again_s"), limit));
        }
        ours.insert(shape.name.to_owned(), Value::Object(over_runs(&runs)));
    }
    let mut row =
        Row::new(11, "shapes of links: cliffs, ramps, loss, bursts, jitter, queues", "ms", HOW_SHAPES, conditions);
    row.ours = ours;
    Ok(row)
}

async fn one_shape(lab: &Lab, shape: &Shape, seed: u64) -> Result<Seen> {
    let mut line = Line::start(options(lab, "storm", seed)).await?;
    line.link.set(Direction::Up, shape.up.clone());
    line.link.set(Direction::Down, shape.phases[0].1.clone());
    let watched = async {
        let id = *line.ids().first().context("no instance")?;
        let mut tiles = line.open_viewer().await?;
        let mut keys = line.keys(id)?;
        let mut download = shape.rival.then(|| Download::offer(&line)).transpose()?;
        let (from, to) = shape.hard;
        let mut hooks = |now: f64| {
            if let Some(download) = &mut download {
                download.run(now >= from && now < to);
            }
        };
        drive(&line, &mut tiles, &mut keys, id, &shape.phases, &mut hooks).await
    }
    .await;
    line.stop().await?;
    watched
}

fn shape_numbers(seen: &Seen, shape: &Shape) -> Map<String, Value> {
    let (from, to) = shape.hard;
    let (guest, picture, lost) = seen.keys(from, to);
    let gap = seen.gaps(from, to).into_iter().map(|(_, ms)| ms).reduce(f64::max);
    let queue = seen.link.iter().map(|sample| sample.queue_delay.as_secs_f64() * 1e3).reduce(f64::max);
    object([
        ("fps", number(Some(seen.fps(from, to)))),
        ("least_fps", number(Some(seen.least_fps(from, to)))),
        ("longest_gap_ms", number(gap)),
        ("round_trip_max_ms", number(seen.longest_round_trip(from, to))),
        ("key_guest_p99_ms", number(guest.map(|summary| summary.p99))),
        ("key_picture_p50_ms", number(picture.map(|summary| summary.p50))),
        ("key_picture_p95_ms", number(picture.map(|summary| summary.p95))),
        ("keys_lost", json!(lost)),
        ("queue_max_ms", number(queue)),
        ("full_again_s", number(seen.full_again(from, to, 0.9))),
        ("mbit_per_s", number(Some(mean_rate(seen, from, to) / 1e6))),
    ])
}

fn options(lab: &Lab, mode: &'static str, seed: u64) -> Options {
    let agent = CEILING.map(str::to_owned).to_vec();
    Options { loco: lab.loco.clone(), instances: 1, mode, agent, viewer: Vec::new(), seed }
}

fn mean_rate(seen: &Seen, from: f64, to: f64) -> f64 {
    let within: Vec<f64> =
        seen.rate().iter().filter(|(at, _)| *at >= from && *at < to).map(|(_, bits)| *bits).collect();
    within.iter().sum::<f64>() / within.len().max(1) as f64
}

fn number(value: Option<f64>) -> Value {
    value.filter(|value| value.is_finite()).map_or(Value::Null, |value| json!(round(value, 2)))
}

/// Rate, queue and gaps over time.
fn plots(lab: &Lab, name: &str, title: &str, seen: &Seen) {
    let series = |name: &str, points: Vec<(f64, f64)>| Series { name: name.to_owned(), points };
    let at = |sample: &loco_impair::Sample| sample.at.as_secs_f64();
    let capacity = seen.link.iter().filter_map(|s| Some((at(s), s.rate? as f64 / 1e6))).collect();
    let carried = seen.rate().into_iter().map(|(at, bits)| (at, bits / 1e6)).collect();
    let rates = [series("link", capacity), series("carried", carried)];
    lab.plot(&format!("{name}-rate.svg"), &format!("{title}: rate"), ("seconds", "Mbit/s"), &rates);
    let queue = seen.link.iter().map(|s| (at(s), s.queue_delay.as_secs_f64() * 1e3)).collect();
    let delays = [
        series("queue", queue),
        series("between two pictures", seen.gaps(0.0, f64::INFINITY)),
        series("round trip", seen.round_trips.clone()),
        series("key to picture", seen.presses.iter().filter_map(|p| Some((p.at, p.picture_ms?))).collect()),
    ];
    lab.plot(&format!("{name}-delay.svg"), &format!("{title}: delays"), ("seconds", "milliseconds"), &delays);
}

fn raw(seen: &Seen) -> Value {
    let link = seen.link.iter().map(|s| {
        json!([
            round(s.at.as_secs_f64(), 1),
            s.rate,
            s.bytes_out,
            s.queue_bytes,
            s.queue_delay.as_millis() as u64,
            s.lost
        ])
    });
    json!({
        "link": {"columns": ["s", "bit/s", "bytes", "queue bytes", "queue ms", "lost"], "rows": link.collect::<Vec<_>>()},
        "pictures": seen.pictures.iter().map(|p| json!([round(p.at, 4), p.counter])).collect::<Vec<_>>(),
        "keys": seen.presses.iter().map(|p| json!([round(p.at, 4), p.guest_ms, p.picture_ms])).collect::<Vec<_>>(),
        "round_trips": seen.round_trips,
        "session": seen.session,
    })
}

/// A download that takes what it can get of the link.
struct Download {
    entrance: std::net::SocketAddr,
    running: Option<std::net::TcpStream>,
}

impl Download {
    fn offer(line: &Line) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let entrance = line.link.tcp(listener.local_addr()?)?;
        std::thread::Builder::new().name("download".to_owned()).spawn(move || {
            use std::io::Write as _;
            // One after the other; each ends with its taker.
            for mut stream in listener.incoming().flatten() {
                while stream.write_all(&[0; 16_384]).is_ok() {}
            }
        })?;
        Ok(Self { entrance, running: None })
    }

    fn run(&mut self, runs: bool) {
        if runs == self.running.is_some() {
            return;
        }
        self.end();
        if runs && let Ok(stream) = std::net::TcpStream::connect(self.entrance) {
            if let Ok(mut reader) = stream.try_clone() {
                std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            }
            self.running = Some(stream);
        }
    }
}

impl Download {
    /// Its reader has the stream too: that ends with the connection only.
    fn end(&mut self) {
        if let Some(stream) = self.running.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.end();
    }
}
