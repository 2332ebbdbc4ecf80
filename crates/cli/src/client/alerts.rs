//! `loco alerts`.

use super::connect::ConnectArgs;
use super::out;
use super::status::refusals;
use loco_model::api::{Alert, DiscoveryInfo, Severity};
use std::process::ExitCode;

/// Arguments of `loco alerts`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let alerts: Vec<Alert> = connection.get("/api/alerts").await?;
    if args.connect.json {
        out::json(&alerts)?;
        return Ok(ExitCode::SUCCESS);
    }
    if alerts.is_empty() {
        out::line("no alerts")?;
    } else {
        let now = out::now_ms();
        let rows: Vec<_> = alerts.iter().map(|alert| row(alert, now)).collect();
        out::print_table(HEADS, &rows)?;
    }
    // No alert, since the others are used: but whoever asks what is wrong wants to know of them.
    let discovery: Option<DiscoveryInfo> = connection.get_if_known("/api/instances/discovery-info").await?;
    refusals(discovery.as_ref()).iter().try_for_each(|text| out::line(text))?;
    Ok(ExitCode::SUCCESS)
}

/// What stands above [`row`]s.
pub(super) const HEADS: &[&str] = &["SINCE", "UNTIL", "SEVERITY", "INSTANCE", "WHAT"];

/// An alert in a table.
pub(super) fn row(alert: &Alert, now: u64) -> Vec<String> {
    let severity = match alert.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let detail = alert.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    vec![
        out::moment(alert.at_ms, now),
        alert.ended_at_ms.map_or_else(|| "lasts".to_owned(), |at| out::moment(at, now)),
        severity.to_owned(),
        out::or_dash(alert.instance_id.map(|id| format!("#{}", id.number()))),
        out::plain(&format!("{}{detail}", alert.title)),
    ]
}
