//! `loco history`.

use super::connect::{ConnectArgs, Connection, parse_instance};
use super::{alerts, out};
use anyhow::bail;
use loco_model::InstanceId;
use loco_model::api::{Alert, History, RecoveryStatus, Trend};
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
    /// them) [default: the attempts to repair it, its alerts, and where its measurements go]
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,

    /// How far back, such as 30s, 15m, 2h or 1d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    since: Duration,
}

/// What happened, as `--json` prints it.
#[derive(Serialize)]
struct Story {
    /// Newest first.
    attempts: Vec<Attempt>,
    /// Newest first.
    alerts: Vec<Alert>,
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
    check_known(&connection, args.id).await?;
    let status: RecoveryStatus = connection.get("/api/quality/recovery-status").await?;
    let alerts: Vec<Alert> = connection.get_if_known("/api/alerts").await?.unwrap_or_default();
    let trends = connection.get_if_known(&format!("/api/trends/{}", args.id)).await?.unwrap_or_default();
    let story = Story::of(args.id, from, status.attempts, alerts, trends);
    if args.connect.json {
        out::json(&story)?;
    } else {
        tell(&story, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Attempts and alerts name every instance: one that there is not would have had a quiet life.
async fn check_known(connection: &Connection, id: InstanceId) -> anyhow::Result<()> {
    let all = connection.instances().await?;
    if all.iter().any(|instance| instance.id == id) {
        return Ok(());
    }
    let numbers: Vec<_> = all.iter().map(|instance| format!("#{}", instance.id.number())).collect();
    let there =
        if numbers.is_empty() { "there is none".to_owned() } else { format!("there are {}", numbers.join(", ")) };
    bail!("{} has no {id} (#{}): {there}", connection.api, id.number())
}

impl Story {
    /// What of all that is about this instance, and did not end before `from`.
    fn of(id: InstanceId, from: u64, attempts: Vec<Attempt>, alerts: Vec<Alert>, trends: Vec<Trend>) -> Self {
        let attempts = attempts.into_iter().filter(|a| a.instance_id == id && a.started_at_ms >= from).collect();
        let lately = |alert: &Alert| alert.ended_at_ms.is_none_or(|end| end >= from) || alert.at_ms >= from;
        let alerts = alerts.into_iter().filter(|alert| alert.instance_id == Some(id) && lately(alert)).collect();
        Self { attempts, alerts, trends }
    }
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
    if !story.alerts.is_empty() {
        let rows: Vec<_> = story.alerts.iter().rev().map(|alert| alerts::row(alert, now)).collect();
        out::print_table(alerts::HEADS, &rows)?;
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
        Outcome::Yielded => "left to another",
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
    let allowed = count.checked_mul(seconds).filter(|s| (1..=LONGEST).contains(s)).map(Duration::from_secs);
    allowed.ok_or_else(|| format!("{text:?} is too short or too long: allowed are 1s to {}d", LONGEST / 86_400))
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
        assert!(parse_time("9999d").is_err_and(|why| why.contains("\"9999d\"") && why.contains("3650d")));
    }

    #[test]
    fn a_story_is_of_one_instance_and_one_time() {
        let (id, other) = (InstanceId::try_new(1).expect("index"), InstanceId::try_new(2).expect("index"));
        let attempt =
            |id, at_ms| Attempt::begun("a", id, at_ms, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent);
        let alert = |title: &str, of: Option<InstanceId>, at_ms, ended_at_ms| Alert {
            id: title.into(),
            at_ms,
            ended_at_ms,
            severity: loco_model::api::Severity::Info,
            instance_id: of,
            title: title.into(),
            detail: None,
        };
        let alerts = vec![
            alert("Agent ended", Some(id), 200, Some(201)),
            alert("lasts", Some(id), 1, None),
            alert("ended late", Some(id), 1, Some(150)),
            alert("ended early", Some(id), 1, Some(99)),
            alert("another's", Some(other), 200, None),
            alert("nobody's", None, 200, None),
        ];
        let attempts = vec![attempt(id, 100), attempt(id, 99), attempt(other, 100)];
        let story = Story::of(id, 100, attempts, alerts, Vec::new());
        assert_eq!(story.attempts, [attempt(id, 100)]);
        let titles: Vec<_> = story.alerts.iter().map(|alert| alert.title.as_str()).collect();
        assert_eq!(titles, ["Agent ended", "lasts", "ended late"]);
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
