//! One viewer on one link, driven and watched: pictures by their barcodes, keys by the guest's own log.

use crate::guest_log::GuestLog;
use crate::line::{Line, session};
use crate::stats::Summary;
use crate::tiles::{PLAIN_KEY, Tiles};
use anyhow::Result;
use loco_demo_guest::PIT_DIVISOR;
use loco_impair::{Direction, Impairment, Sample};
use loco_model::InstanceId;
use loco_model::report::HealthReport;
use std::time::{Duration, Instant};

/// Between two keys.
const KEY_AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at the viewer's own numbers, which also has it measure the round trip.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A key that was not seen so long after the end never will be.
const LAST_KEYS: Duration = Duration::from_secs(3);
/// A picture that comes this much later than the one before is a freeze.
pub(super) const FREEZE_MS: f64 = 150.0;

/// A presented picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Picture {
    /// Seconds since the drive began.
    pub(super) at: f64,
    /// The guest's tick in it.
    pub(super) counter: u64,
    /// From its capture until it was presented.
    pub(super) latency_ms: Option<f64>,
    input_count: u16,
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Press {
    /// Seconds since the drive began.
    pub(super) at: f64,
    /// Until the guest told of it, in milliseconds; nothing when it did not.
    pub(super) guest_ms: Option<f64>,
    /// Until a picture that counts it was presented, in milliseconds; nothing when none was.
    pub(super) picture_ms: Option<f64>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Pictures with a new tick.
    pub(super) pictures: Vec<Picture>,
    /// Keys.
    pub(super) presses: Vec<Press>,
    /// Round trips as the viewer measured them: seconds, milliseconds.
    pub(super) round_trips: Vec<(f64, f64)>,
    /// What the link carried down, its clock beginning with the drive.
    pub(super) link: Vec<Sample>,
    /// The viewer's numbers at the end.
    pub(super) session: serde_json::Value,
    /// Frames sent and decoded from begin to end.
    pub(super) frames: Option<Frames>,
}

/// Frames of a session, since it began; a few are on their way at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    /// Which sessions.
    sessions: Vec<String>,
    /// That the agent sent.
    sent: u64,
    /// That the viewer decoded; nothing when it does not say.
    decoded: Option<u64>,
}

// === impl Frames ===

impl Frames {
    async fn count(line: &Line, tiles: &Tiles, id: InstanceId) -> Result<Self> {
        let health: HealthReport = line.client.get_json(&format!("{}/health", line.agent(id)?)).await?;
        let decoded = session(&tiles.automation, id).await?["frames_decoded"].as_u64();
        let viewers = &health.deep_health.viewers;
        Ok(Self {
            sessions: viewers.iter().map(|viewer| viewer.session.clone()).collect(),
            sent: viewers.iter().map(|viewer| viewer.frames_sent).sum(),
            decoded,
        })
    }

    /// Nothing when another session has begun meanwhile.
    fn since(self, before: &Self) -> Option<Self> {
        let sent = self.sent.checked_sub(before.sent)?;
        let decoded = self.decoded?.checked_sub(before.decoded?)?;
        (self.sessions == before.sessions).then_some(Self { sent, decoded: Some(decoded), ..self })
    }

    /// How many of those sent were decoded.
    pub(super) fn decoded_percent(&self) -> Option<f64> {
        let decoded = self.decoded?;
        (self.sent > 0).then(|| decoded as f64 / self.sent as f64 * 100.0)
    }
}

/// Sets the link as `phases` say, one after the other, and watches.
pub(super) async fn drive(
    line: &Line,
    tiles: &mut Tiles,
    keys: &mut GuestLog,
    id: InstanceId,
    phases: &[(f64, Impairment)],
    hooks: &mut dyn FnMut(f64),
) -> Result<Seen> {
    let first = tiles.prime(id).await?;
    // Of the priming key, and of what ran before.
    while keys.next(Duration::from_millis(300)).await.is_some() {}
    keys.take();
    tiles.automation.clear();
    let mut seen = Seen::default();
    let frames = Frames::count(line, tiles, id).await?;
    let (begun, begun_us, link_begun) = (Instant::now(), crate::clock::monotonic_us(), line.network.now());
    let since = |us: u64| us.saturating_sub(begun_us) as f64 / 1e6;
    let ends: Vec<f64> = phases
        .iter()
        .scan(0.0, |end, (seconds, _)| {
            *end += seconds;
            Some(*end)
        })
        .collect();
    let length = ends.last().copied().unwrap_or_default();
    let (mut phase, mut next_key, mut next_look) = (0, begun + KEY_AGAIN, begun + LOOK_AGAIN);
    let mut count = tiles.last(id).map_or(first.input_count, |reading| reading.input_count);
    let mut awaited: Vec<u16> = Vec::new();
    loop {
        let now = begun.elapsed().as_secs_f64();
        if phase < phases.len() && (phase == 0 || now >= ends[phase - 1]) {
            line.link.set(Direction::Down, phases[phase].1.clone());
            phase += 1;
        }
        hooks(now);
        if now >= length + LAST_KEYS.as_secs_f64() {
            break;
        }
        if Instant::now() >= next_key && now < length {
            next_key = Instant::now() + KEY_AGAIN;
            let at_us = tiles.automation.key(id, PLAIN_KEY, true).await?;
            tiles.automation.key(id, PLAIN_KEY, false).await?;
            count = count.wrapping_add(1);
            awaited.push(count);
            seen.presses.push(Press { at: since(at_us), ..Press::default() });
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + LOOK_AGAIN;
            seen.session = session(&tiles.automation, id).await?;
            if let Some(ms) = seen.session["round_trip_ms"].as_f64() {
                seen.round_trips.push((begun.elapsed().as_secs_f64(), ms));
            }
        }
        let wait = next_key.min(next_look).saturating_duration_since(Instant::now());
        if let Some(shown) = tiles.automation.shown(wait.min(Duration::from_millis(50))).await?
            && let Some(reading) = shown.reading.filter(|_| shown.id == id)
        {
            let picture = Picture {
                at: since(shown.at_us),
                counter: reading.counter,
                latency_ms: shown.latency_ms,
                input_count: reading.input_count,
            };
            for (press, awaited) in seen.presses.iter_mut().zip(&awaited) {
                let counts = picture.input_count.wrapping_sub(*awaited) < 0x8000;
                if press.picture_ms.is_none() && counts {
                    press.picture_ms = Some((picture.at - press.at) * 1e3);
                }
            }
            if seen.pictures.last().is_none_or(|last| last.counter < picture.counter) {
                seen.pictures.push(picture);
            }
        }
    }
    for press in &mut seen.presses {
        let Some(at_us) = keys.next(Duration::ZERO).await else { break };
        press.guest_ms = Some((since(at_us) - press.at) * 1e3);
    }
    seen.frames = Frames::count(line, tiles, id).await?.since(&frames);
    let until = Duration::from_secs_f64(length);
    seen.link = line.link.series(Direction::Down);
    seen.link.retain(|sample| sample.at >= link_begun && sample.at < link_begun + until);
    for sample in &mut seen.link {
        sample.at -= link_begun;
    }
    Ok(seen)
}

// === impl Seen ===

impl Seen {
    fn within(&self, from: f64, to: f64) -> impl Iterator<Item = &Picture> {
        self.pictures.iter().filter(move |picture| picture.at >= from && picture.at < to)
    }

    /// Pictures a second.
    pub(super) fn fps(&self, from: f64, to: f64) -> f64 {
        self.within(from, to).count() as f64 / (to - from)
    }

    /// The fewest in any whole second.
    pub(super) fn least_fps(&self, from: f64, to: f64) -> f64 {
        let seconds = (to - from).floor() as u32;
        let counts = (0..seconds).map(|i| self.fps(from + f64::from(i), from + f64::from(i + 1)));
        counts.fold(f64::INFINITY, f64::min)
    }

    /// Milliseconds from each picture to the next, by when the next came; from the last one until `to`, where that has an
    /// end: pictures that stop are a gap too.
    pub(super) fn gaps(&self, from: f64, to: f64) -> Vec<(f64, f64)> {
        let pairs = self.pictures.windows(2).filter(|pair| pair[1].at >= from && pair[1].at < to);
        let gaps = pairs.map(|pair| (pair[1].at, (pair[1].at - pair[0].at) * 1e3));
        let last = self.pictures.iter().rfind(|picture| picture.at < to).map_or(from, |picture| picture.at);
        gaps.chain(to.is_finite().then_some((to, (to - last) * 1e3))).collect()
    }

    /// The guest's ticks of that time, and how many of them were shown.
    pub(super) fn ticks(&self, from: f64, to: f64) -> (u64, u64) {
        let mut counters = self.within(from, to).map(|picture| picture.counter);
        let first = counters.next();
        let last = counters.last().or(first);
        let ticks = first.zip(last).map_or(0, |(first, last)| last - first + 1);
        (ticks, self.within(from, to).count() as u64)
    }

    /// How late each picture is against its guest's clock, in milliseconds above the most punctual one of the five
    /// seconds around it: a guest on a busy machine loses ticks now and then, which moves its clock for good.
    pub(super) fn lateness(&self, from: f64, to: f64) -> Vec<f64> {
        const AROUND_S: f64 = 2.5;
        let late = |picture: &Picture| picture.at * 1e3 - picture.counter as f64 * 1e3 / TICKS_PER_SECOND;
        let pictures: Vec<&Picture> = self.within(from, to).collect();
        let (mut first, mut last) = (0, 0);
        let above = pictures.iter().map(|picture| {
            while pictures[first].at < picture.at - AROUND_S {
                first += 1;
            }
            while last < pictures.len() && pictures[last].at <= picture.at + AROUND_S {
                last += 1;
            }
            let least = pictures[first..last].iter().map(|other| late(other)).fold(f64::INFINITY, f64::min);
            late(picture) - least
        });
        above.collect()
    }

    /// From capture to presentation, in milliseconds, of the pictures of that time.
    pub(super) fn latencies(&self, from: f64, to: f64) -> Vec<f64> {
        self.within(from, to).filter_map(|picture| picture.latency_ms).collect()
    }

    /// Of the presses of that time: until the guest, until the picture, and how many never reached the guest.
    pub(super) fn keys(&self, from: f64, to: f64) -> (Option<Summary>, Option<Summary>, usize) {
        let presses = || self.presses.iter().filter(move |press| press.at >= from && press.at < to);
        let guest: Vec<f64> = presses().filter_map(|press| press.guest_ms).collect();
        let picture: Vec<f64> = presses().filter_map(|press| press.picture_ms).collect();
        let lost = presses().filter(|press| press.guest_ms.is_none()).count();
        let summary = |values: &[f64]| Summary::of(values).map(|summary| summary.rounded(1));
        (summary(&guest), summary(&picture), lost)
    }

    /// The longest round trip.
    pub(super) fn longest_round_trip(&self, from: f64, to: f64) -> Option<f64> {
        let within = self.round_trips.iter().filter(|(at, _)| *at >= from && *at < to);
        within.map(|(_, ms)| *ms).reduce(f64::max)
    }

    /// Bits a second that the link carried, over half a second each.
    pub(super) fn rate(&self) -> Vec<(f64, f64)> {
        let over = 5;
        let windows = self.link.windows(over);
        windows
            .map(|samples| {
                let bits: f64 = samples.iter().map(|sample| sample.bytes_out as f64 * 8.0).sum();
                let seconds: f64 = samples.iter().map(|sample| sample.length.as_secs_f64()).sum();
                (samples[over - 1].at.as_secs_f64() + samples[over - 1].length.as_secs_f64(), bits / seconds)
            })
            .collect()
    }

    /// Seconds after `from` until the link carries `share` of its mean rate before `until` again; nothing when it does
    /// not, or carried nothing before.
    pub(super) fn full_again(&self, until: f64, from: f64, share: f64) -> Option<f64> {
        let rates = self.rate();
        let settled: Vec<f64> = rates.iter().filter(|(at, _)| *at > until / 2.0 && *at < until).map(|r| r.1).collect();
        let mean = settled.iter().sum::<f64>() / settled.len().max(1) as f64;
        if mean <= 0.0 {
            return None;
        }
        rates.iter().find(|(at, rate)| *at >= from && *rate >= mean * share).map(|(at, _)| at - from)
    }
}

/// The demo guest's clock, divided from the PC's timer of 1,193,182 Hz.
const TICKS_PER_SECOND: f64 = 1_193_182.0 / PIT_DIVISOR as f64;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let picture = |i: u64| Picture { at: i as f64 / 30.0, counter: i, latency_ms: Some(i as f64), input_count: 0 };
        // Two seconds, half a second of it missing.
        let pictures = (0..60).filter(|i| !(30..45).contains(i)).map(picture).collect();
        Seen { pictures, ..Seen::default() }
    }

    #[test]
    fn pictures_gaps_and_ticks() {
        let seen = seen();
        assert_eq!((seen.fps(0.0, 1.0), seen.least_fps(0.0, 2.0)), (30.0, 15.0));
        assert_eq!(seen.ticks(0.0, 2.0), (60, 45));
        let longest = seen.gaps(0.0, 2.0).into_iter().map(|(_, ms)| ms).fold(0.0, f64::max);
        assert!((longest - 16.0 * 1e3 / 30.0).abs() < 1e-6);
        let stopped = Seen { pictures: seen.pictures[..20].to_vec(), ..Seen::default() };
        let longest = stopped.gaps(0.0, 2.0).into_iter().map(|(_, ms)| ms).fold(0.0, f64::max);
        assert!((longest - (2.0 - 19.0 / 30.0) * 1e3).abs() < 1e-6, "pictures that stop are a gap: {longest}");
        assert_eq!(Seen::default().gaps(1.0, 2.0), [(2.0, 1000.0)]);
        assert!(stopped.gaps(0.0, f64::INFINITY).iter().all(|(_, ms)| *ms < 100.0));
        let lateness = seen.lateness(0.0, 2.0);
        assert!(lateness.iter().all(|ms| ms.abs() < 1.0), "{lateness:?}");
        assert_eq!(seen.latencies(0.95, 1.6), [29.0, 45.0, 46.0, 47.0]);
    }

    #[test]
    fn full_again_is_when_the_rate_is_back() {
        let length = Duration::from_millis(100);
        let sample = |i: u32| Sample {
            at: length * i,
            length,
            bytes_out: if (100..200).contains(&i) { 1_000 } else { 10_000 },
            ..Sample::default()
        };
        let seen = Seen { link: (0..300).map(sample).collect(), ..Seen::default() };
        let back = seen.full_again(10.0, 20.0, 0.9).unwrap();
        assert!((0.3..0.6).contains(&back), "{back}");
        assert_eq!(seen.full_again(10.0, 40.0, 0.9), None);
        let nothing = Seen { link: seen.link.iter().map(|s| Sample { bytes_out: 0, ..*s }).collect(), ..seen };
        assert_eq!(nothing.full_again(10.0, 20.0, 0.9), None, "nothing is not as much as before");
    }

    #[test]
    fn frames_of_another_session_are_not_compared() {
        let frames = |session: &str, sent, decoded| Frames {
            sessions: vec![session.to_owned()],
            sent,
            decoded: (decoded > 0).then_some(decoded),
        };
        let percent = |later: Frames| later.since(&frames("a", 100, 99)).and_then(|frames| frames.decoded_percent());
        assert_eq!(percent(frames("a", 300, 289)), Some(95.0));
        assert_eq!(percent(frames("b", 300, 299)), None);
        assert_eq!(percent(frames("a", 100, 99)), None, "none of none");
        assert_eq!(percent(frames("a", 300, 0)), None, "unknown is not zero");
    }
}
