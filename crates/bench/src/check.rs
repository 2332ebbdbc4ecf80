//! `loco demo --check`: are all tiles really alive, as seen on the presented target?

use crate::clock::monotonic_us;
use crate::stats::{median, round};
use crate::tiles::{PLAIN_KEY, Tiles, Trace, advanced_each_second, shown_per_second};
use anyhow::{Context, Result};
use loco_http::{Client, TokenFile};
use loco_model::{InstanceId, InstanceState, Key};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A live tile's counter advanced in each of the last so many seconds.
const SECONDS_OBSERVED: u64 = 5;
/// Fewest frames per second that the viewer must decode of each tile.
const FPS_DECODED: f64 = 25.0;
/// Fewest distinct frames per second that the target must present of each tile.
const FPS_SHOWN: f64 = 10.0;
/// Keys pressed in each tile.
const PRESSES: usize = 5;
/// Whistles in the demo guest.
const WHISTLE: Key = Key::named("Space");
/// The whistle has gone through the whole chain and its meter by then.
const WHISTLE_HEARD_WITHIN: Duration = Duration::from_millis(1500);
/// How often the meters are read while a guest whistles; they hold their peak longer.
const METER_EVERY: Duration = Duration::from_millis(50);

/// What the check looks at: a demo that runs already.
#[derive(Clone, Debug)]
pub struct CheckArgs {
    /// Base URL of the control plane.
    pub api: String,
    /// File with the bearer token of the control plane and its agents.
    pub token_file: PathBuf,
    /// The viewer's automation socket; it may appear later than this call.
    pub automation: PathBuf,
    /// How many instances must be live.
    pub instances: usize,
    /// Where the screenshot goes.
    pub screenshot: PathBuf,
    /// How long the tiles may take until all are live.
    pub deadline: Duration,
}

/// What the check found: printed as one JSON line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// One per expected instance, in order.
    pub tiles: Vec<TileReport>,
    /// The PNG of the presented target; null when none could be taken.
    pub screenshot: Option<PathBuf>,
}

/// One tile of a [`CheckReport`]. Null is "not known".
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TileReport {
    /// Which.
    pub id: InstanceId,
    /// `live`, or the viewer's word for it, or `dead` when the viewer says live and the pixels do not.
    pub state: String,
    /// Frames decoded per second, by the viewer's counters.
    pub fps_decoded: Option<f64>,
    /// Distinct barcode counters presented per second.
    pub fps_shown: Option<f64>,
    /// Median from a key's injection to the presented target showing it, in milliseconds.
    pub latency_ms_p50: Option<f64>,
    /// Highest sample peak while its guest whistled, in dBFS.
    pub audio_peak_dbfs: Option<f64>,
    /// Bytes of media received per second.
    pub bytes_per_s: Option<f64>,
    /// What is wrong; null when the tile is live.
    pub problem: Option<String>,
}

impl CheckReport {
    /// Whether every tile is live.
    #[must_use]
    pub fn all_live(&self) -> bool {
        !self.tiles.is_empty() && self.tiles.iter().all(|tile| tile.problem.is_none())
    }

    /// 0 when every tile is live, else 1.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.all_live() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What was seen of one tile.
#[derive(Clone, Debug, Default)]
struct Seen {
    word: InstanceState,
    trace: Trace,
    observed: Duration,
    end_us: u64,
    fps_decoded: Vec<f64>,
    bytes_per_s: Vec<f64>,
    latencies_ms: Vec<f64>,
    audio_peak_dbfs: Option<f64>,
}

/// Watches, whistles, presses keys and takes a screenshot. `progress` gets a line for people at each step.
///
/// # Errors
/// When the control plane does not answer, or the viewer never appears or ends. A tile that is not live is not an error
/// but part of the report.
pub async fn check(args: CheckArgs, progress: impl Fn(&str)) -> Result<CheckReport> {
    let deadline = Instant::now() + args.deadline;
    let ids = InstanceId::all().take(args.instances).collect::<Vec<_>>();
    let known = known_instances(&args).await?;
    progress(&format!("control plane knows {known} instances; waiting for {} live tiles", ids.len()));
    let begun = Instant::now();
    let mut tiles = Tiles::connect(&args.automation, deadline).await?;
    let missing = tiles.wait_live(&ids, deadline).await?;
    let waited = begun.elapsed().as_secs_f64();
    if missing.is_empty() {
        progress(&format!("all tiles live after {waited:.1} s; watching for {SECONDS_OBSERVED} s"));
    } else {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        progress(&format!("after {waited:.1} s these tiles are not live: {}", names.join(", ")));
    }
    let mut seen = observe(&mut tiles, &ids).await?;
    for id in &ids {
        if tiles.last(*id).is_some() {
            let what = seen.entry(*id).or_default();
            what.audio_peak_dbfs = whistle(&mut tiles, *id).await?;
            press(&mut tiles, *id, what).await?;
            progress(&format!("{id}: {}", describe(what)));
        }
    }
    let screenshot = match tiles.automation.screenshot(&args.screenshot).await {
        Ok(()) => Some(args.screenshot.clone()),
        Err(error) => {
            progress(&format!("no screenshot: {error:#}"));
            None
        }
    };
    let reports = ids.iter().map(|id| judge(*id, seen.get(id).unwrap_or(&Seen::default())));
    Ok(CheckReport { tiles: reports.collect(), screenshot })
}

async fn known_instances(args: &CheckArgs) -> Result<usize> {
    let client = client(&args.token_file)?;
    let url = format!("{}/api/instances", args.api.trim_end_matches('/'));
    let instances: Vec<loco_model::api::Instance> = client.get_json(&url).await?;
    Ok(instances.len())
}

/// A client with the token of `token_file`.
pub(crate) fn client(token_file: &Path) -> Result<Client> {
    let tokens = TokenFile::open(token_file).with_context(|| format!("cannot use {}", token_file.display()))?;
    Ok(Client::new(tokens)?)
}

/// Watches all tiles together, asking for the viewer's own counters once a second.
async fn observe(tiles: &mut Tiles, ids: &[InstanceId]) -> Result<BTreeMap<InstanceId, Seen>> {
    let mut seen: BTreeMap<InstanceId, Seen> = ids.iter().map(|id| (*id, Seen::default())).collect();
    let begun = Instant::now();
    // A second more than is judged: the first one may still be settling.
    for _ in 0..=SECONDS_OBSERVED {
        for (id, trace) in tiles.collect(Duration::from_secs(1)).await? {
            seen.entry(id).or_default().trace.extend(trace);
        }
        for tile in tiles.wall().await?.tiles {
            let what = seen.entry(tile.id).or_default();
            what.word = tile.state;
            let stats = tile.stats.unwrap_or_default();
            what.fps_decoded.extend(stats.fps_decoded);
            what.bytes_per_s.extend(stats.bytes_per_s);
        }
    }
    let (end_us, observed) = (monotonic_us(), begun.elapsed());
    for what in seen.values_mut() {
        (what.end_us, what.observed) = (end_us, observed);
    }
    Ok(seen)
}

/// Whistles in one guest and returns the highest peak on its meter.
async fn whistle(tiles: &mut Tiles, id: InstanceId) -> Result<Option<f64>> {
    tiles.press(id, WHISTLE).await?;
    let end = Instant::now() + WHISTLE_HEARD_WITHIN;
    let mut peak: Option<f64> = None;
    while Instant::now() < end {
        tiles.collect(METER_EVERY).await?;
        let wall = tiles.wall().await?;
        let audio = wall.tiles.iter().find(|tile| tile.id == id).and_then(|tile| tile.audio);
        if let Some(now) = audio.and_then(|audio| audio.peak_dbfs) {
            peak = Some(peak.map_or(now, |peak| peak.max(now)));
        }
    }
    Ok(peak)
}

async fn press(tiles: &mut Tiles, id: InstanceId, what: &mut Seen) -> Result<()> {
    for _ in 0..PRESSES {
        what.latencies_ms.extend(tiles.press(id, PLAIN_KEY).await?);
    }
    Ok(())
}

fn describe(what: &Seen) -> String {
    let unknown = || "-".to_owned();
    format!(
        "{:.1} frames/s shown, key to picture {} ms, whistle {} dBFS",
        shown_per_second(&what.trace, what.observed),
        median(&what.latencies_ms).map_or_else(unknown, |ms| format!("{ms:.1}")),
        what.audio_peak_dbfs.map_or_else(unknown, |peak| format!("{peak:.1}")),
    )
}

/// The verdict over what was seen: pure.
fn judge(id: InstanceId, what: &Seen) -> TileReport {
    let fps_shown = (!what.observed.is_zero()).then(|| shown_per_second(&what.trace, what.observed));
    let fps_decoded = median(&what.fps_decoded);
    let problem = problem(id, what, fps_decoded, fps_shown);
    let word = serde_json::to_value(what.word).ok().and_then(|word| word.as_str().map(str::to_owned));
    let state = match (&problem, what.word) {
        (None, _) => "live".to_owned(),
        (Some(_), InstanceState::Live) => "dead".to_owned(),
        (Some(_), _) => word.unwrap_or_default(),
    };
    let one_digit = |value| round(value, 1);
    TileReport {
        id,
        state,
        fps_decoded: fps_decoded.map(one_digit),
        fps_shown: fps_shown.map(one_digit),
        latency_ms_p50: median(&what.latencies_ms).map(one_digit),
        audio_peak_dbfs: what.audio_peak_dbfs.map(one_digit),
        bytes_per_s: median(&what.bytes_per_s).map(f64::round),
        problem,
    }
}

fn problem(id: InstanceId, what: &Seen, fps_decoded: Option<f64>, fps_shown: Option<f64>) -> Option<String> {
    let Some((_, newest)) = what.trace.last() else {
        return Some("no readable barcode was presented".to_owned());
    };
    if usize::from(newest.instance) != id.index() {
        return Some(format!("presents the picture of instance-{}", newest.instance));
    }
    if !advanced_each_second(&what.trace, id, what.end_us, SECONDS_OBSERVED) {
        return Some(format!("its counter did not advance in each of the last {SECONDS_OBSERVED} s"));
    }
    let below = |fps: Option<f64>, limit: f64, verb: &str| match fps {
        Some(fps) if fps >= limit => None,
        Some(fps) => Some(format!("{fps:.1} frames per second {verb}, at least {limit} are needed")),
        None => Some(format!("nobody knows how many frames per second are {verb}")),
    };
    below(fps_decoded, FPS_DECODED, "decoded").or_else(|| below(fps_shown, FPS_SHOWN, "shown")).or_else(|| {
        (what.latencies_ms.len() < PRESSES)
            .then(|| format!("{} of {PRESSES} keys were not answered", PRESSES - what.latencies_ms.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_demo_guest::barcode::Reading;

    fn id() -> InstanceId {
        InstanceId::try_new(4).unwrap()
    }

    fn well() -> Seen {
        let reading = |counter| Reading {
            instance: 4,
            mode: loco_demo_guest::Mode::Town,
            flash: false,
            counter,
            input_code: 0,
            input_count: 0,
            held: 0,
            cursor_x: 0,
            cursor_y: 0,
        };
        Seen {
            word: InstanceState::Live,
            trace: (0..180).map(|i| (i * 33_333 + 1, reading(i))).collect(),
            observed: Duration::from_secs(6),
            end_us: 6_000_000,
            fps_decoded: vec![12.0, 29.9, 30.0, 30.0],
            bytes_per_s: vec![20_000.0],
            latencies_ms: vec![6.0; PRESSES],
            audio_peak_dbfs: Some(-12.04),
        }
    }

    #[test]
    fn a_live_tile() {
        let report = judge(id(), &well());
        assert_eq!((report.problem.as_deref(), report.state.as_str()), (None, "live"));
        assert_eq!((report.fps_shown, report.fps_decoded), (Some(30.0), Some(29.9)));
        assert_eq!((report.latency_ms_p50, report.audio_peak_dbfs), (Some(6.0), Some(-12.0)));
        let all = CheckReport { tiles: vec![report], screenshot: None };
        assert!(all.all_live());
        let json = serde_json::to_value(&all).unwrap();
        for field in ["id", "state", "fps_decoded", "fps_shown", "latency_ms_p50", "audio_peak_dbfs", "bytes_per_s"] {
            assert!(json["tiles"][0].get(field).is_some(), "{field} is missing in {json}");
        }
        assert!(!CheckReport { tiles: vec![], screenshot: None }.all_live(), "no tile at all is no success");
    }

    #[test]
    fn each_way_to_fail_is_named() {
        let check = |change: fn(&mut Seen), expected: &str| {
            let mut what = well();
            change(&mut what);
            let report = judge(id(), &what);
            let problem = report.problem.clone().unwrap_or_default();
            assert!(problem.contains(expected), "{problem:?} lacks {expected:?}");
            assert_eq!(report.state, "dead", "the viewer called it live");
            assert!(!CheckReport { tiles: vec![report], screenshot: None }.all_live());
        };
        check(|what| what.trace.clear(), "no readable barcode");
        check(|what| what.trace.iter_mut().for_each(|point| point.1.instance = 5), "instance-5");
        check(|what| what.trace.truncate(140), "did not advance");
        check(|what| what.fps_decoded = vec![24.9], "24.9 frames per second decoded");
        check(|what| what.fps_decoded.clear(), "nobody knows");
        check(|what| what.trace.retain(|point| point.1.counter % 4 == 0), "7.5 frames per second shown");
        check(|what| what.latencies_ms.truncate(2), "3 of 5 keys");
        let mut connecting = Seen { word: InstanceState::Connecting, ..well() };
        connecting.trace.clear();
        assert_eq!(judge(id(), &connecting).state, "connecting");
    }
}
