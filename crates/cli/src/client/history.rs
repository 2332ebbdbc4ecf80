//! `loco history`.

use super::connect::{ConnectArgs, parse_instance};
use super::out;
use loco_model::InstanceId;
use loco_model::api::{History, RecoveryStatus, Trend};
use loco_model::recovery::{AFTERWARDS, Attempt, Initiator, Outcome};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// Most points that a table has: what is older is put together.
const MOST_POINTS: u64 = 60;

/// Arguments of `loco history`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// Which instance: its id (instance-3, counted from 0) or the number on its tile (4)
    #[arg(value_name = "ID", value_parser = parse_instance)]
    id: InstanceId,

    /// A measurement over time, such as frame_rate, qemu_cpu, memory_usage or rtt (a wrong name is answered with all of
    /// them) [default: the attempts to repair it, and where its measurements go]
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,

    /// How far back, such as 30s, 15m, 2h or 1d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    since: Duration,
}

/// What happened, as `--json` prints it.
#[derive(Serialize)]
struct Story {
    attempts: Vec<Attempt>,
    trends: Vec<Trend>,
}

pub(super) async fn run(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let now = out::now_ms();
    let since_ms = u64::try_from(args.since.as_millis())?;
    let from = now.saturating_sub(since_ms);
    if let Some(metric) = &args.metric {
        let step = (since_ms / MOST_POINTS).max(1_000);
        let path = format!(
            "/api/history/{}?metric={}&from_ms={from}&to_ms={now}&step_ms={step}",
            args.id,
            query_value(metric)
        );
        let history: History = connection.get(&path).await?;
        if args.connect.json {
            out::json(&history)?;
        } else {
            show(&history, now)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let status: RecoveryStatus = connection.get("/api/quality/recovery-status").await?;
    let attempts = status.attempts.into_iter();
    let attempts: Vec<_> = attempts.filter(|a| a.instance_id == args.id && a.started_at_ms >= from).collect();
    let trends = connection.get_if_known(&format!("/api/trends/{}", args.id)).await?.unwrap_or_default();
    let story = Story { attempts, trends };
    if args.connect.json {
        out::json(&story)?;
    } else {
        tell(&story, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(history: &History, now: u64) -> anyhow::Result<()> {
    if history.points.is_empty() {
        return out::line("nothing was measured in this time");
    }
    let most = history.points.iter().map(|point| point.max).fold(f64::MIN_POSITIVE, f64::max);
    let rows = history.points.iter().map(|point| {
        let bar = "▇".repeat((point.mean.max(0.0) / most * 30.0).round() as usize);
        vec![out::moment(point.at_ms, now), number(point.min), number(point.mean), number(point.max), bar]
    });
    let rows: Vec<_> = rows.collect();
    let head = format!("{} ({})", history.metric, history.unit);
    out::print_table(&["FROM", "LEAST", "MEAN", "MOST", &head], &rows)
}

fn tell(story: &Story, now: u64) -> anyhow::Result<()> {
    if story.attempts.is_empty() {
        out::line("no attempts to repair it in this time")?;
    } else {
        let rows: Vec<_> = story.attempts.iter().rev().map(|attempt| row(attempt, now)).collect();
        out::print_table(&["AT", "TOOK", "CLASS", "ACTION", "BY", "RESULT", "EVIDENCE", "WHY"], &rows)?;
    }
    story.trends.iter().try_for_each(|trend| out::line(&out::plain(&trend.text)))
}

fn row(attempt: &Attempt, now: u64) -> Vec<String> {
    let took = attempt.ended_at_ms.map(|end| end.saturating_sub(attempt.started_at_ms));
    let by = match &attempt.initiator {
        Initiator::Agent => "agent".to_owned(),
        Initiator::Policy { .. } => "policy".to_owned(),
        Initiator::Person { name } => name.clone(),
    };
    let result = match attempt.outcome {
        Outcome::Running => "running",
        Outcome::Repaired => "repaired",
        Outcome::InVain => "in vain",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
    };
    vec![
        out::moment(attempt.started_at_ms, now),
        out::or_dash(took.map(|ms| format!("{:.1} s", ms as f64 / 1_000.0))),
        attempt.class.to_string(),
        attempt.action.to_string(),
        out::plain(&by),
        format!("{result}{}", if attempt.is_override { " (override)" } else { "" }),
        out::or_dash(attempt.evidence.as_deref().map(out::plain)),
        out::plain(&why(attempt)),
    ]
}

/// Why it was made, and what came of it. What was wrong before and is wrong still is told once.
fn why(attempt: &Attempt) -> String {
    let detail = attempt.detail.as_deref().map(|detail| match (&attempt.reason, detail.split_once(AFTERWARDS)) {
        (Some(reason), Some((before, still))) if reason == still => format!("{before}{AFTERWARDS}the same"),
        _ => detail.to_owned(),
    });
    attempt.reason.iter().cloned().chain(detail).collect::<Vec<_>>().join("; ")
}

/// As many digits as tell something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

/// A value as it stands in a query: everything but letters, digits and a few signs as its bytes (RFC 3986, 2.1).
fn query_value(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// Longest time that is taken: ten years.
const LONGEST: u64 = 3_650 * 86_400;

fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: give a number with s, m, h or d, such as 30s, 15m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).filter(|s| (1..=LONGEST).contains(s)).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::failure::{FailureClass, Remedy};

    #[test]
    fn times() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "h", "2", "-1h", "0s", "2 h", "1w", "99999999999999999999d", "9999999d", "2ü"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_still_is_told_once() {
        let id = InstanceId::try_new(1).expect("index");
        let begun = Attempt::begun("a", id, 1, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent);
        for (reason, detail, want) in [
            (None, None, ""),
            (Some("no picture"), None, "no picture"),
            (Some("no picture"), Some("no disk"), "no picture; no disk"),
            (Some("no picture"), Some("afterwards: no picture"), "no picture; afterwards: the same"),
            (Some("no picture"), Some("it runs; afterwards: no picture"), "no picture; it runs; afterwards: the same"),
            (Some("no picture"), Some("afterwards: no sound"), "no picture; afterwards: no sound"),
        ] {
            let (reason, detail) = (reason.map(str::to_owned), detail.map(str::to_owned));
            assert_eq!(why(&Attempt { reason, detail, ..begun.clone() }), want);
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_query() {
        assert_eq!(query_value("qemu_cpu"), "qemu_cpu");
        assert_eq!(query_value("a&b=ü#"), "a%26b%3D%C3%BC%23");
    }

    #[test]
    fn numbers_have_as_many_digits_as_tell_something() {
        assert_eq!([0.0, 0.0312, 9.25, 512.4].map(number), ["0", "0.0312", "9.2", "512"]);
    }
}
