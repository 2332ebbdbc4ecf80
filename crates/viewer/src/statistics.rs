//! Numbers for people: one sheet of lines, shown over the picture and copied as text. Pure.
//!
//! Every line comes from a counter; what was not measured is left out or shown as a dash.

use crate::quality::{self, Quality};
use loco_media::ReceiverStats;
use loco_media::sound::ReaderStats;
use loco_media::stats::Percentiles;
use loco_model::InstanceState;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Seconds that a sparkline covers, one value each.
pub const TRACE_LENGTH: usize = 60;

/// One value a second, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// What it is, with its unit.
    pub name: String,
    /// `None` where nothing was measured.
    pub values: VecDeque<Option<f32>>,
}

impl Trace {
    /// An empty one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), values: VecDeque::with_capacity(TRACE_LENGTH) }
    }

    /// The next second's value.
    pub fn push(&mut self, value: Option<f32>) {
        if self.values.len() == TRACE_LENGTH {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    /// Whose numbers.
    pub title: String,
    /// What, and how much.
    pub lines: Vec<(String, String)>,
    /// The last minute.
    pub traces: Vec<Trace>,
}

impl Sheet {
    /// The same as text, one line each.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (name, value) in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }
}

/// One instance's numbers.
#[derive(Clone, Debug, Default)]
pub struct TileNumbers {
    /// What people call it.
    pub name: String,
    /// How it is.
    pub state: InstanceState,
    /// How good its picture arrives; `None` before the first.
    pub quality: Option<Quality>,
    /// The session's own.
    pub session: ReceiverStats,
    /// Pictures drawn in a second.
    pub fps_shown: Option<f32>,
    /// Decoded -> drawn by the device.
    pub draw: Percentiles,
    /// Of its sound; `None` where there is none.
    pub sound: Option<ReaderStats>,
    /// By how much its sound is heard later than its picture is seen, by its own marker; `None` while it shows none, or
    /// the sound system does not say how long it takes.
    pub skew_ms: Option<f64>,
    /// Momentary loudness in LUFS.
    pub loudness: Option<f32>,
}

/// The whole wall's numbers.
#[derive(Clone, Debug, Default)]
pub struct WallNumbers {
    /// Which adapter draws.
    pub adapter: String,
    /// Drawings a second.
    pub drawings: Option<f32>,
    /// Most drawings a second.
    pub rate_limit: f64,
    /// Start of a drawing -> device done.
    pub device: Percentiles,
    /// Share of one core that this process uses.
    pub cores: Option<f32>,
}

/// One number with `digits` behind the point and a unit; a dash where it is unknown.
fn number(value: Option<f32>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

fn percentiles(p: Percentiles) -> String {
    let each = |value| number(value, 1, "");
    format!("{} / {} / {} ms", each(p.p50_ms), each(p.p95_ms), each(p.p99_ms))
}

fn bit_rate(bytes_per_second: Option<f32>) -> String {
    match bytes_per_second.map(|bytes| bytes * 8.0) {
        Some(bits) if bits >= 1e6 => format!("{:.2} Mbit/s", bits / 1e6),
        Some(bits) => format!("{:.1} kbit/s", bits / 1e3),
        None => "–".to_owned(),
    }
}

/// How packets come, and from where.
fn path(session: &ReceiverStats) -> String {
    let Some(path) = &session.path else { return "–".to_owned() };
    let changes = match session.path_changes {
        0 => String::new(),
        1 => ", changed once".to_owned(),
        n => format!(", changed {n} times"),
    };
    format!("{} ({}){changes}", path.kind.word(), path.remote)
}

/// What became of frames that lost packets on the way.
fn repaired(session: &ReceiverStats) -> String {
    let wait = number(session.repair.p95_ms, 0, " ms");
    let skipped = session.frames_skipped;
    format!(
        "{} frames by parity, {} by resend (p95 {wait}), {skipped} skipped, {} key frames asked for",
        session.frames_rebuilt, session.frames_resent, session.key_frame_requests
    )
}

/// The sheet of one instance.
#[must_use]
pub fn tile_sheet(tile: &TileNumbers, wall: &WallNumbers, traces: Vec<Trace>) -> Sheet {
    let s = &tile.session;
    let quality = tile.quality.as_ref().map(|q| format!("{}: {}", quality::word(q.level), q.reason));
    let size = s.size.map_or_else(|| "–".to_owned(), |size| format!("{} × {}", size.width, size.height));
    let sent = s.packets_received + s.packets_lost;
    let loss = if sent > 0 { s.packets_lost as f64 * 100.0 / sent as f64 } else { 0.0 };
    let mut lines = vec![
        ("Quality".to_owned(), quality.unwrap_or_else(|| "–".to_owned())),
        ("Stream".to_owned(), format!("{size} {}", s.codec.as_deref().unwrap_or("–"))),
        ("Frames sent".to_owned(), number(s.fps_sent, 1, " fps")),
        ("Frames received".to_owned(), number(s.fps_received, 1, " fps")),
        ("Frames decoded".to_owned(), number(s.fps_decoded, 1, " fps")),
        ("Frames shown".to_owned(), number(tile.fps_shown, 1, " fps")),
        ("Bit rate".to_owned(), bit_rate(s.bytes_per_second)),
        ("Picture".to_owned(), s.limits.map_or_else(|| "–".to_owned(), |limits| limits.line())),
        ("Round trip".to_owned(), number(s.round_trip_ms, 1, " ms")),
        ("Path".to_owned(), path(s)),
        ("Jitter".to_owned(), number(s.jitter_ms, 1, " ms")),
        ("Lost".to_owned(), format!("{} packets ({loss:.2} %), {} frames", s.packets_lost, s.frames_dropped)),
        ("Repaired".to_owned(), repaired(s)),
        ("Freezes".to_owned(), format!("{} ({} ms)", s.freezes, s.frozen_ms)),
        ("Network p50/95/99".to_owned(), percentiles(s.network)),
        ("Assemble p50/95/99".to_owned(), percentiles(s.assemble)),
        ("Decode p50/95/99".to_owned(), percentiles(s.decode)),
        ("Mailbox p50/95/99".to_owned(), percentiles(s.mailbox)),
        ("Draw p50/95/99".to_owned(), percentiles(tile.draw)),
    ];
    if let Some(sound) = &tile.sound {
        let lost = sound.concealed_lost + sound.concealed_late;
        // Nothing was measured before the first sound.
        let delay_ms = (sound.stretches > 0).then_some(sound.latency_ms as f32);
        lines.push((
            "Sound".to_owned(),
            format!("{}, {lost} concealed, {} underruns", number(delay_ms, 1, " ms"), sound.underruns),
        ));
        lines.push(("Loudness".to_owned(), number(tile.loudness, 1, " LUFS")));
        let skew =
            tile.skew_ms.map_or_else(|| "– (the demo guest's K measures it)".to_owned(), |ms| format!("{ms:+.0} ms"));
        lines.push(("Sound after picture".to_owned(), skew));
    }
    lines.extend(wall_lines(wall));
    Sheet { title: tile.name.clone(), lines, traces }
}

/// The sheet of the whole wall, when nothing is focused.
#[must_use]
pub fn wall_sheet(tiles: &[TileNumbers], wall: &WallNumbers, traces: Vec<Trace>) -> Sheet {
    let sum = |of: fn(&TileNumbers) -> Option<f32>| tiles.iter().filter_map(of).reduce(|a, b| a + b);
    let mut lines = vec![
        ("Frames received".to_owned(), number(sum(|t| t.session.fps_received), 1, " fps")),
        ("Frames decoded".to_owned(), number(sum(|t| t.session.fps_decoded), 1, " fps")),
        ("Frames shown".to_owned(), number(sum(|t| t.fps_shown), 1, " fps")),
        ("Bit rate".to_owned(), bit_rate(sum(|t| t.session.bytes_per_second))),
        ("Packets lost".to_owned(), tiles.iter().map(|t| t.session.packets_lost).sum::<u64>().to_string()),
        ("Freezes".to_owned(), tiles.iter().map(|t| t.session.freezes).sum::<u64>().to_string()),
    ];
    lines.extend(wall_lines(wall));
    let noun = if tiles.len() == 1 { "instance" } else { "instances" };
    Sheet { title: format!("All {} {noun}", tiles.len()), lines, traces }
}

fn wall_lines(wall: &WallNumbers) -> Vec<(String, String)> {
    vec![
        ("Drawings".to_owned(), format!("{} (at most {:.0})", number(wall.drawings, 1, " per s"), wall.rate_limit)),
        ("Device p50/95/99".to_owned(), percentiles(wall.device)),
        ("This process".to_owned(), number(wall.cores.map(|cores| cores * 100.0), 0, " % of a core")),
        ("Adapter".to_owned(), wall.adapter.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_media::{Limiter, StreamLimits};
    use loco_model::Size;

    fn tile() -> TileNumbers {
        TileNumbers {
            name: "Loco 1".into(),
            state: InstanceState::Live,
            session: ReceiverStats {
                size: Some(Size::new(640, 480)),
                codec: Some("H264".into()),
                fps_sent: Some(30.0),
                fps_decoded: Some(29.97),
                bytes_per_second: Some(25_000.0),
                packets_received: 9_995,
                packets_lost: 5,
                decode: Percentiles { p50_ms: Some(0.41), p95_ms: Some(0.9), p99_ms: None },
                limits: Some(StreamLimits {
                    limiter: Limiter::Network,
                    bit_rate: 1_200_000,
                    ceiling: 2_000_000,
                    queue_ms: Some(35),
                    ..StreamLimits::default()
                }),
                ..ReceiverStats::default()
            },
            fps_shown: Some(28.0),
            quality: Some(quality::assess(&quality::Signs::default())),
            ..TileNumbers::default()
        }
    }

    #[test]
    fn the_text_says_what_was_measured_and_dashes_what_was_not() {
        let text = tile_sheet(&tile(), &WallNumbers::default(), Vec::new()).text();
        for line in [
            "Loco 1",
            "Quality: excellent: nothing lost, nothing late",
            "Stream: 640 × 480 H264",
            "Frames received: –",
            "Frames decoded: 30.0 fps",
            "Frames shown: 28.0 fps",
            "Bit rate: 200.0 kbit/s",
            "Lost: 5 packets (0.05 %), 0 frames",
            "Decode p50/95/99: 0.4 / 0.9 / – ms",
            "Round trip: –",
            "Path: –",
            "Picture: limited by the network: 1.2 Mbit/s of 2.0, queue 35 ms",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn sound_that_never_played_has_no_delay() {
        let line = |sound| {
            let text =
                tile_sheet(&TileNumbers { sound: Some(sound), ..tile() }, &WallNumbers::default(), Vec::new()).text();
            text.lines().find(|line| line.starts_with("Sound: ")).map(str::to_owned)
        };
        assert_eq!(line(ReaderStats::default()).as_deref(), Some("Sound: –, 0 concealed, 0 underruns"));
        let played = ReaderStats { stretches: 1, latency_ms: 38.0, ..ReaderStats::default() };
        assert_eq!(line(played).as_deref(), Some("Sound: 38.0 ms, 0 concealed, 0 underruns"));
    }

    #[test]
    fn totals() {
        let text = wall_sheet(&[tile(), tile()], &WallNumbers::default(), Vec::new()).text();
        assert!(text.contains("All 2 instances") && text.contains("Frames shown: 56.0 fps"), "{text}");
        assert!(text.contains("Frames received: –"), "a sum of nothing is nothing: {text}");
    }

    #[test]
    fn traces_keep_a_minute() {
        let mut trace = Trace::new("fps");
        (0..100).for_each(|n| trace.push(Some(n as f32)));
        assert_eq!((trace.values.len(), trace.values.front()), (TRACE_LENGTH, Some(&Some(40.0))));
    }
}
