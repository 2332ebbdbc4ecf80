//! Where a metric goes: a straight line through its last hours. A prediction is made only where the line fits well and
//! the limit is known; everything else is left unsaid.

use crate::history::Metric;
use loco_model::api::{HistoryPoint, Trend};

/// How far back a line looks, in milliseconds.
pub(crate) const BACK_MS: u64 = 6 * HOUR_MS;
/// Shortest time that a line is drawn through, in milliseconds.
const LEAST_SPAN_MS: u64 = HOUR_MS / 2;
/// Fewest points that a line is drawn through.
const LEAST_POINTS: usize = 20;
/// Share of the variance that a line must explain before it is gone on into the future.
const GOOD_FIT: f64 = 0.8;
/// Farthest that it is gone on, in milliseconds: four times as far as it looks back.
const FORWARD_MS: f64 = 4.0 * BACK_MS as f64;
const HOUR_MS: u64 = 3_600_000;

/// A straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    /// Value at the moment that counts as zero.
    at_zero: f64,
    /// Change per hour.
    per_hour: f64,
    /// Share of the variance that it explains, 0..=1.
    fit: f64,
}

/// The line of least squares through points of (hours, value); `None` for fewer than two different times.
fn line(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let sum = |part: fn(f64, f64) -> f64| points.iter().map(|(x, y)| part(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    if xx.is_nan() || xx <= 0.0 {
        return None;
    }
    let per_hour = xy / xx;
    // Values that are all the same lie on their line exactly.
    let fit = if yy > 0.0 { (xy * xy / (xx * yy)).clamp(0.0, 1.0) } else { 1.0 };
    Some(Line { at_zero: mean_y - per_hour * mean_x, per_hour, fit })
}

/// A metric's trend; `None` while there is too little of it.
pub(crate) fn trend(metric: &Metric, points: &[HistoryPoint], now_ms: u64) -> Option<Trend> {
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < LEAST_POINTS || last.at_ms.saturating_sub(first.at_ms) < LEAST_SPAN_MS {
        return None;
    }
    // From now, so that the numbers stay small and the line's value at zero is today's.
    let hours = |at_ms: u64| (at_ms as f64 - now_ms as f64) / HOUR_MS as f64;
    let places: Vec<(f64, f64)> = points.iter().map(|point| (hours(point.at_ms), point.mean)).collect();
    let line = line(&places)?;
    let reaches = metric.limit.and_then(|limit| reaches(line, limit));
    let text = match (reaches, metric.limit) {
        (Some(hours), _) => format!("{} reaches its limit in {}", metric.label, duration(hours)),
        (None, _) if line.fit < GOOD_FIT => format!("{} has no clear direction", metric.label),
        (None, _) if is_steady(line, &places) => format!("{} is steady", metric.label),
        (None, _) => {
            let (word, by) = if line.per_hour > 0.0 { ("rises", line.per_hour) } else { ("falls", -line.per_hour) };
            format!("{} {word} by {} an hour", metric.label, amount(by, metric.unit))
        }
    };
    Some(Trend {
        metric: metric.name.to_owned(),
        per_hour: line.per_hour,
        fit: line.fit,
        limit: reaches.and(metric.limit),
        reaches_at_ms: reaches.map(|hours| now_ms.saturating_add((hours * HOUR_MS as f64) as u64)),
        text,
    })
}

/// In how many hours a line that rises reaches a limit that it is below; `None` when it does not, or not so that it could
/// be said.
fn reaches(line: Line, limit: f64) -> Option<f64> {
    if line.fit < GOOD_FIT || line.per_hour <= 0.0 || line.at_zero >= limit {
        return None;
    }
    let hours = (limit - line.at_zero) / line.per_hour;
    (hours * HOUR_MS as f64 <= FORWARD_MS).then_some(hours)
}

/// Whether a line changes by less than a hundredth of its values over the time that it looks at.
fn is_steady(line: Line, places: &[(f64, f64)]) -> bool {
    let span = places.last().map_or(0.0, |(x, _)| *x) - places.first().map_or(0.0, |(x, _)| *x);
    let size = places.iter().map(|(_, y)| y.abs()).fold(0.0, f64::max);
    (line.per_hour * span).abs() <= size / 100.0
}

/// "25 min", "2 h", "1.5 days".
fn duration(hours: f64) -> String {
    match hours {
        hours if hours * 60.0 < 59.5 => format!("{:.0} min", (hours * 60.0).max(1.0)),
        hours if hours < 48.0 => format!("{hours:.0} h"),
        hours => format!("{:.1} days", hours / 24.0),
    }
}

/// "12 MB", "0.25 cores", "3 %".
fn amount(value: f64, unit: &str) -> String {
    let digits = |value: f64| match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    };
    match unit {
        "bytes" if value >= 1e6 => format!("{} MB", digits(value / 1e6)),
        "bytes" => format!("{} kB", digits(value / 1e3)),
        "bits/s" => format!("{} kbit/s", digits(value / 1e3)),
        "1" => digits(value),
        unit => format!("{} {unit}", digits(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::metric;

    const NOW: u64 = 1_700_000_000_000;

    fn minutes(count: u64, value: impl Fn(f64) -> f64) -> Vec<HistoryPoint> {
        let point = |back: u64| {
            let mean = value(-(back as f64) / 60.0);
            HistoryPoint { at_ms: NOW - back * 60_000, min: mean, mean, max: mean, samples: 4 }
        };
        (0..count).rev().map(point).collect()
    }

    fn of(name: &str, points: &[HistoryPoint]) -> Option<Trend> {
        trend(metric(name).expect("known"), points, NOW)
    }

    #[test]
    fn a_line_is_found_exactly() {
        let got = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).expect("a line");
        assert_eq!(got, Line { at_zero: 1.0, per_hour: 2.0, fit: 1.0 });
        assert_eq!(line(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(line(&[]), None);
        // Four points of a square: no direction at all.
        let square = line(&[(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]).expect("a line");
        assert_eq!((square.per_hour, square.fit), (0.0, 0.0));
    }

    #[test]
    fn a_steady_rise_reaches_its_limit() {
        let got = of("memory_usage", &minutes(180, |hours| 80.0 + 10.0 * hours)).expect("a trend");
        assert_eq!((got.text.as_str(), got.limit), ("memory reaches its limit in 2 h", Some(100.0)));
        let at = got.reaches_at_ms.expect("reached") as i64 - NOW as i64;
        assert!((at - 2 * HOUR_MS as i64).abs() < 1_000, "{at}");
        assert!((got.per_hour - 10.0).abs() < 1e-6 && got.fit > 0.999);
    }

    #[test]
    fn nothing_is_predicted_without_fit_limit_or_direction() {
        let wild = minutes(180, |hours| 50.0 + 40.0 * (hours * 37.0).sin() + hours);
        let falling = minutes(180, |hours| 50.0 - 5.0 * hours);
        let slow = minutes(180, |hours| 10.0 + 0.2 * hours);
        let beyond = minutes(180, |hours| 120.0 + hours);
        for (name, points, text) in [
            ("memory_usage", &wild, "memory has no clear direction"),
            ("memory_usage", &falling, "memory falls by 5.0 % an hour"),
            ("memory_usage", &slow, "memory rises by 0.200 % an hour"),
            ("memory_usage", &beyond, "memory rises by 1.0 % an hour"),
            ("memory_usage", &minutes(180, |_| 42.0), "memory is steady"),
            ("load", &minutes(180, |hours| 20.0 + 2.0 * hours), "load rises by 2.0 an hour"),
        ] {
            let got = of(name, points).expect("a trend");
            assert_eq!((got.text.as_str(), got.limit, got.reaches_at_ms), (text, None, None));
        }
        let memory = minutes(180, |hours| 5e8 + 12e6 * hours);
        assert_eq!(
            of("qemu_memory", &memory).map(|t| t.text).as_deref(),
            Some("QEMU's memory rises by 12.0 MB an hour")
        );
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(of("load", &[]), None);
        assert_eq!(of("load", &minutes(19, |hours| hours)), None);
        assert_eq!(of("load", &minutes(25, |hours| hours)), None, "25 minutes");
        assert!(of("load", &minutes(40, |hours| hours)).is_some());
    }
}
