//! Asks an agent that runs, from within its container or beside it: its report, and a test of it.

use crate::args::{AgentCommand, AskArgs};
use anyhow::Context as _;
use axum::http::Method;
use loco_http::{Client, TokenFile};
use loco_model::recovery::Ledger;
use loco_model::report::{HealthReport, OverallStatus};
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// One check: what, whether it is well, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    is_well: bool,
    seen: String,
}

/// Asks.
///
/// # Errors
/// When there is no agent to ask, or it does not answer.
pub(crate) fn run(command: &AgentCommand) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        match command {
            AgentCommand::Report(args) => {
                let (client, url) = client(args)?;
                let report: HealthReport = client.get_json(&format!("{url}/health")).await?;
                say(serde_json::to_string_pretty(&report)?)?;
                Ok(ExitCode::SUCCESS)
            }
            AgentCommand::Test(args) => {
                let (client, url) = client(args)?;
                let checks = test(&client, &url).await;
                for check in &checks {
                    let word = if check.is_well { "ok  " } else { "FAIL" };
                    say(format!("{word} {:<8} {}", check.name, check.seen))?;
                }
                let all_well = checks.iter().all(|check| check.is_well);
                Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
        }
    })
}

fn say(line: impl Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("the answer cannot be written")
}

fn client(args: &AskArgs) -> anyhow::Result<(Client, String)> {
    let url = match (&args.agent, args.listen) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(mut address)) if address.port() != 0 => {
            if address.ip().is_unspecified() {
                let loopback =
                    if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
                address.set_ip(loopback);
            }
            format!("http://{address}")
        }
        _ => anyhow::bail!("which agent? give its URL by --agent, or its address and port by --listen or LOCO_LISTEN"),
    };
    Ok((Client::new(TokenFile::open(&args.token_file)?)?, url))
}

async fn test(client: &Client, url: &str) -> Vec<Check> {
    let report: Result<HealthReport, _> = client.get_json(&format!("{url}/health")).await;
    let report = match report {
        Ok(report) => report,
        Err(error) => return vec![Check { name: "agent", is_well: false, seen: error.to_string() }],
    };
    let mut checks = vec![Check { name: "agent", is_well: true, seen: format!("{url} answers") }];
    let ledger: Result<Ledger, _> = client.get_json(&format!("{url}/ledger")).await;
    checks.push(match ledger {
        Ok(ledger) => {
            let seen = format!("the token is taken; {} attempts to repair are left in this hour", ledger.left);
            Check { name: "token", is_well: true, seen }
        }
        Err(error) => Check { name: "token", is_well: false, seen: error.to_string() },
    });
    for path in ["startup", "ready"] {
        let target = format!("{url}/{path}");
        let answer = client.send(client.request(Method::GET, &target), &target).await;
        let is_well = answer.is_ok();
        let seen = answer.err().map_or_else(|| "yes".to_owned(), |error| error.to_string());
        checks.push(Check { name: if path == "ready" { "ready" } else { "started" }, is_well, seen });
    }
    checks.extend(judge(&report));
    checks
}

/// What a report says, check for check. Pure.
fn judge(report: &HealthReport) -> Vec<Check> {
    let deep = &report.deep_health;
    let (video, audio) = (&deep.video, &deep.audio);
    let with = |text: String, reason: &Option<String>| match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    };
    let on = deep.accelerator.as_ref().map(|verdict| format!(" on {}", verdict.name)).unwrap_or_default();
    let size = video.width.zip(video.height).map(|(width, height)| format!("{width}x{height}"));
    let state = deep.guest_state.as_str();
    vec![
        Check {
            name: "guest",
            is_well: matches!(state, "running" | "paused"),
            seen: with(format!("{state}{on}"), &deep.guest_reason),
        },
        Check {
            name: "alive",
            // Unknown is no fault.
            is_well: deep.frozen != Some(true),
            seen: match deep.frozen {
                Some(true) => with("frozen".to_owned(), &deep.frozen_reason),
                Some(false) => "it goes on".to_owned(),
                None => with("unknown".to_owned(), &deep.frozen_reason),
            },
        },
        Check {
            name: "display",
            is_well: video.display_active == Some(true),
            seen: size.unwrap_or_else(|| "no picture".to_owned()),
        },
        Check {
            name: "sound",
            is_well: true,
            seen: audio.audio_backend.clone().unwrap_or_else(|| "none in the profile".to_owned()),
        },
        Check {
            name: "status",
            is_well: !matches!(report.overall_status, OverallStatus::Unhealthy | OverallStatus::Degraded),
            seen: if deep.faults.is_empty() { "no faults".to_owned() } else { deep.faults.join("; ") },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(report: &HealthReport) -> Vec<&'static str> {
        judge(report).into_iter().filter(|check| !check.is_well).map(|check| check.name).collect()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut report = HealthReport { overall_status: OverallStatus::Healthy, ..HealthReport::default() };
        "running".clone_into(&mut report.deep_health.guest_state);
        report.deep_health.video.display_active = Some(true);
        assert_eq!(failing(&report), <[&str; 0]>::default());
        report.deep_health.frozen = Some(true);
        report.overall_status = OverallStatus::Unhealthy;
        assert_eq!(failing(&report), ["alive", "status"]);
        "failed".clone_into(&mut report.deep_health.guest_state);
        report.deep_health.video.display_active = None;
        assert_eq!(failing(&report), ["guest", "alive", "display", "status"]);
    }
}
